//! Who was refused a moment ago, and until when: asking the shared store again would only say the same. A fixed table of
//! small sets, so bounded by construction; what is pushed out is asked for again.

use std::time::Duration;

use ahash::RandomState;
use parking_lot::Mutex;

use crate::clock::Tick;
use crate::limits::{Check, Key, Verdict, shard_index};
use crate::model::gcra::{self, Debt, Decision, Outcome, Quota, Tat};
use crate::model::lease::is_leased;

/// 4096 sets of 4 places, about 2 MiB when full.
const SETS: usize = 4_096;
const WAYS: usize = 4;

/// The store is asked again after so long, however long the wait is: somebody may have made the bucket full by hand.
const RECHECK: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Refused {
    key: Key,
    quota: Quota,
    /// Cost of the refused request.
    cost: u32,
    /// The shared bucket, on the clock of this process. Others may have charged it since; a lease may hold tokens besides.
    bucket: Tat,
    /// Until then requests of this cost or more are refused even if the bucket has refilled.
    paused_until: Tick,
    /// When the store is asked again.
    recheck: Tick,
}

impl Refused {
    /// What is said about a request; `None` when that has to be found out.
    fn about(&self, now: Tick, check: &Check<'_>) -> Option<Decision> {
        if self.key != check.key() || self.quota != check.quota || now >= self.recheck {
            return None;
        }
        if check.cost < self.cost && is_leased(self.quota) {
            return None; // a lease may still pay what costs less
        }
        let decision = gcra::decide(self.bucket, now.0, self.quota, check.cost);
        let pause = if self.cost <= check.cost { self.paused_until.since(now) } else { Duration::ZERO };
        match decision.outcome {
            Outcome::Denied(wait) => Some(Decision { outcome: Outcome::Denied(wait.max(pause)), ..decision }),
            Outcome::Allowed(_) if pause.is_zero() => None,
            Outcome::Allowed(_) => {
                let uncharged = gcra::decide(self.bucket, now.0, self.quota, 0);
                Some(Decision { outcome: Outcome::Denied(pause), ..uncharged })
            }
        }
    }
}

/// The memory.
pub(super) struct DenialCache {
    sets: Box<[Mutex<[Option<Refused>; WAYS]>]>,
    hasher: RandomState,
}

impl DenialCache {
    pub(super) fn new() -> DenialCache {
        DenialCache { sets: (0..SETS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// What is remembered about a request's policies: [`Verdict::OPEN`], or a refusal.
    pub(super) fn verdict(&self, now: Tick, checks: &[Check<'_>]) -> Verdict {
        let mut verdict = Verdict::OPEN;
        for check in checks.iter().filter(|check| check.policy.is_shared() && !check.policy.shadow) {
            let Some(set) = self.set(check.key()) else { continue };
            let known = set.lock().iter().flatten().find_map(|refused| refused.about(now, check));
            if let Some(decision) = known {
                verdict = verdict.with(check, decision);
            }
        }
        verdict
    }

    /// Remembers a refusal. The store saw `debt` after `now`: counted from `now`, every wait told is at most the true one. For
    /// `pause`, requests of this cost or more are refused without asking.
    pub(super) fn note(&self, now: Tick, check: &Check<'_>, debt: Debt, pause: Duration) {
        let Outcome::Denied(wait) = debt.decide(now.0, check.quota, check.cost).outcome else { return };
        let refused = Refused {
            key: check.key(),
            quota: check.quota,
            cost: check.cost,
            bucket: debt.due(now.0),
            paused_until: now.after(pause),
            recheck: now.after(wait.max(pause).min(RECHECK)),
        };
        let Some(set) = self.set(refused.key) else { return };
        let mut ways = set.lock();
        // That of the same bucket, else an empty one, else that which is asked for first.
        let best = ways.iter_mut().min_by_key(|way| match way {
            Some(known) if known.key == refused.key => (0, Tick(0)),
            None => (1, Tick(0)),
            Some(known) => (2, known.recheck),
        });
        if let Some(way) = best {
            *way = Some(refused);
        }
    }

    /// Forgets the refusals of a bucket.
    pub(super) fn forget(&self, key: Key) {
        let Some(set) = self.set(key) else { return };
        for way in set.lock().iter_mut() {
            *way = way.take().filter(|refused| refused.key != key);
        }
    }

    fn set(&self, key: Key) -> Option<&Mutex<[Option<Refused>; WAYS]>> {
        self.sets.get(shard_index(self.hasher.hash_one(key), SETS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::Sharing;
    use crate::limits::{Buckets, Policy, PolicyOptions, Scope, Subject};
    use crate::model::units::Rate;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(shadow: bool, sharing: Sharing) -> Policy {
        let options = PolicyOptions { shadow, sharing, ..PolicyOptions::default() };
        Policy::new("p", Scope::AllRoutes, options, &Buckets::new(100))
    }

    /// Of a policy of 60 per minute: a token each second.
    fn check(policy: &Policy, user: u32, cost: u32) -> Check<'_> {
        let quota = Quota::new(Rate { limit: 60, period: SECOND * 60 }, 0);
        Check { index: 0, policy, subject: Subject::V4(user), quota, cost }
    }

    /// A bucket with so many tokens.
    fn with(tokens: u64) -> Debt {
        Debt { micros: (60 - tokens) * 1_000_000, part: 0 }
    }

    fn note(denied: &DenialCache, now: Tick, check: &Check<'_>) {
        denied.note(now, check, with(0), Duration::ZERO);
    }

    fn wait(denied: &DenialCache, now: Tick, check: Check<'_>) -> Option<Duration> {
        denied.verdict(now, &[check]).tightest.and_then(|tightest| match tightest.decision.outcome {
            Outcome::Denied(wait) => Some(wait),
            Outcome::Allowed(_) => None,
        })
    }

    #[test]
    fn the_wait_grows_shorter_and_is_looked_at_again_after_a_second() {
        let (denied, policy, now) = (DenialCache::new(), policy(false, Sharing::Exact), Tick(1_000_000));
        let check = check(&policy, 1, 30);
        assert_eq!(wait(&denied, now, check), None);
        denied.note(now, &check, with(0), Duration::ZERO);
        assert_eq!(wait(&denied, now.after(SECOND / 2), check), Some(SECOND * 30 - SECOND / 2));
        let decision = denied.verdict(now.after(SECOND / 2), &[check]).tightest.unwrap().decision;
        assert_eq!((decision.remaining, decision.reset_after), (0, SECOND * 60 - SECOND / 2));
        assert_eq!(wait(&denied, now.after(SECOND), check), None);
    }

    #[test]
    fn a_bucket_that_was_made_full_is_asked_for_again() {
        let (denied, policy, now) = (DenialCache::new(), policy(false, Sharing::Exact), Tick(1_000_000));
        let (one, other) = (check(&policy, 1, 1), check(&policy, 2, 1));
        note(&denied, now, &one);
        note(&denied, now, &other);
        denied.forget(one.key());
        assert_eq!((wait(&denied, now, one), wait(&denied, now, other)), (None, Some(SECOND)));
    }

    #[test]
    fn each_cost_has_its_own_wait() {
        let (denied, policy, now) = (DenialCache::new(), policy(false, Sharing::Exact), Tick(1_000_000));
        denied.note(now, &check(&policy, 1, 5), with(3), Duration::ZERO);
        let of = |cost| wait(&denied, now, check(&policy, 1, cost));
        assert_eq!([4, 5, 6, 60].map(of), [1, 2, 3, 57].map(|seconds| Some(SECOND * seconds)));
        assert_eq!(of(3), None, "it fits, as far as is known");
        assert_eq!(denied.verdict(now, &[check(&policy, 1, 4)]).tightest.unwrap().decision.remaining, 3);
    }

    /// The tokens of a lease are not in the shared bucket any more.
    #[test]
    fn a_lease_is_asked_about_what_costs_less() {
        let (denied, policy, now) = (DenialCache::new(), policy(false, Sharing::Lease), Tick(1_000_000));
        let leased = |cost| {
            let check = check(&policy, 1, cost);
            Check { quota: check.quota.holding_back(SECOND / 5), ..check }
        };
        note(&denied, now, &leased(3));
        assert!(wait(&denied, now, leased(3)).is_some() && wait(&denied, now, leased(4)).is_some());
        assert_eq!(wait(&denied, now, leased(2)), None);
    }

    #[test]
    fn for_a_pause_the_same_is_refused_whatever_flows_in() {
        let (denied, policy, now) = (DenialCache::new(), policy(false, Sharing::Lease), Tick(1_000_000));
        let (short, pause) = (Debt { micros: 58_001_000, part: 0 }, SECOND / 20);
        denied.note(now, &check(&policy, 1, 2), short, pause);
        let later = now.after(SECOND / 100);
        assert_eq!(wait(&denied, later, check(&policy, 1, 2)), Some(SECOND / 25));
        assert_eq!(wait(&denied, later, check(&policy, 1, 1)), None, "what costs less may pass");
        assert_eq!(wait(&denied, now.after(pause), check(&policy, 1, 2)), None);
    }

    #[test]
    fn it_speaks_of_the_same_bucket_only_and_of_refusals() {
        let (denied, policy, now) = (DenialCache::new(), policy(false, Sharing::Exact), Tick(1_000_000));
        let one = check(&policy, 1, 5);
        denied.note(now, &one, with(5), SECOND);
        assert_eq!(wait(&denied, now, one), None, "it was not refused");
        note(&denied, now, &one);
        assert!(wait(&denied, now, one).is_some());
        assert!(wait(&denied, now, check(&policy, 2, 5)).is_none(), "another user");
        assert!(wait(&denied, now, Check { quota: one.quota.share_of(2), ..one }).is_none(), "another quota");
    }

    #[test]
    fn shadows_and_policies_of_this_process_are_not_asked_for() {
        let (denied, now) = (DenialCache::new(), Tick(1_000_000));
        for policy in [policy(true, Sharing::Exact), policy(false, Sharing::None)] {
            note(&denied, now, &check(&policy, 1, 1));
            assert_eq!(denied.verdict(now, &[check(&policy, 1, 1)]), Verdict::OPEN);
        }
    }

    #[test]
    fn it_never_grows_and_keeps_the_latest() {
        let (denied, policy, now) = (DenialCache::new(), policy(false, Sharing::Exact), Tick(1_000_000));
        for user in 0..100_000 {
            let check = check(&policy, user, 1);
            note(&denied, now.after(Duration::from_micros(u64::from(user))), &check);
            assert!(wait(&denied, now.after(Duration::from_micros(u64::from(user))), check).is_some());
        }
        let kept: usize = denied.sets.iter().map(|set| set.lock().iter().flatten().count()).sum();
        assert!(kept <= SETS * WAYS && kept > SETS * WAYS / 2, "{kept}");
    }
}
