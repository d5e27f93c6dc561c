//! Who was refused a moment ago, and until when: asking the shared store again would only say the same. A fixed table of
//! small sets, so bounded by construction; what is pushed out is asked for again.

use std::time::Duration;

use ahash::RandomState;
use parking_lot::Mutex;

use crate::clock::Tick;
use crate::limits::{Check, Key, Verdict};
use crate::model::gcra::{Decision, Outcome, Quota};

/// 4096 sets of 4 places, about 2 MiB when full.
const SETS: usize = 4_096;
const WAYS: usize = 4;

/// The store is asked again after so long, however long the wait is: somebody may have made the bucket full by hand.
const RECHECK: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Refused {
    key: Key,
    /// What it was refused: less may pass, and so may the same under another quota.
    quota: Quota,
    cost: u32,
    /// When the store is asked again, when the request can pass, and when the bucket is full.
    recheck: Tick,
    until: Tick,
    full: Tick,
    remaining: u64,
}

impl Refused {
    /// What is said about the same request again; `None` when that has to be found out.
    fn about(&self, now: Tick, check: &Check<'_>) -> Option<Decision> {
        let same = self.key == check.key() && self.quota == check.quota && self.cost <= check.cost;
        (same && now < self.recheck && now < self.until).then(|| Decision {
            outcome: Outcome::Denied(self.until.since(now)),
            remaining: self.remaining,
            reset_after: self.full.since(now),
        })
    }
}

/// The memory.
pub(super) struct Denied {
    sets: Box<[Mutex<[Option<Refused>; WAYS]>]>,
    hasher: RandomState,
}

impl Denied {
    pub(super) fn new() -> Denied {
        Denied { sets: (0..SETS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// The refusal of a request by what is remembered, if anything is.
    pub(super) fn verdict(&self, now: Tick, checks: &[Check<'_>]) -> Option<Verdict> {
        let mut verdict = Verdict::OPEN;
        for (place, check) in checks.iter().enumerate() {
            if !check.policy.is_shared() || check.policy.shadow {
                continue;
            }
            let known = self.set(check.key())?.lock().iter().flatten().find_map(|refused| refused.about(now, check));
            if let Some(decision) = known {
                verdict = verdict.with(place, check, decision);
            }
        }
        (!verdict.allowed).then_some(verdict)
    }

    /// Remembers a decision made after `now`, if it refused. Its wait counts from `now`, so it is never too long.
    pub(super) fn note(&self, now: Tick, check: &Check<'_>, decision: &Decision) {
        let Outcome::Denied(wait) = decision.outcome else { return };
        let refused = Refused {
            key: check.key(),
            quota: check.quota,
            cost: check.cost,
            recheck: now.after(RECHECK),
            until: now.after(wait),
            full: now.after(decision.reset_after),
            remaining: decision.remaining,
        };
        let Some(set) = self.set(refused.key) else { return };
        let mut places = set.lock();
        // The place of the same bucket, else an empty one, else that which is asked for first.
        let best = places.iter_mut().min_by_key(|place| match place {
            Some(known) if known.key == refused.key => Tick(0),
            Some(known) => known.recheck.min(known.until),
            None => Tick(1),
        });
        if let Some(place) = best {
            *place = Some(refused);
        }
    }

    /// Forgets the refusals of a bucket.
    pub(super) fn forget(&self, key: Key) {
        let Some(set) = self.set(key) else { return };
        for place in set.lock().iter_mut() {
            *place = place.take().filter(|refused| refused.key != key);
        }
    }

    fn set(&self, key: Key) -> Option<&Mutex<[Option<Refused>; WAYS]>> {
        let spread = usize::try_from(self.hasher.hash_one(key) >> 32).ok()? % SETS;
        self.sets.get(spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::{OnStoreFailure, Sharing};
    use crate::limits::{Buckets, Policy, Reach, Subject};
    use crate::model::units::Rate;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(shadow: bool, sharing: Sharing) -> Policy {
        Policy::new("p", Reach::AllRoutes, (shadow, sharing, OnStoreFailure::Local), &Buckets::new(100))
    }

    fn check(policy: &Policy, user: u32, cost: u32) -> Check<'_> {
        let quota = Quota::new(Rate { limit: 1, period: SECOND * 60 }, 9);
        Check { policy, subject: Subject::V4(user), quota, cost }
    }

    fn refusal(wait: Duration) -> Decision {
        Decision { outcome: Outcome::Denied(wait), remaining: 1, reset_after: SECOND * 90 }
    }

    fn wait(denied: &Denied, now: Tick, check: Check<'_>) -> Option<Duration> {
        denied.verdict(now, &[check])?.tightest.and_then(|(_, decision)| match decision.outcome {
            Outcome::Denied(wait) => Some(wait),
            Outcome::Allowed(_) => None,
        })
    }

    #[test]
    fn the_wait_grows_shorter_and_is_looked_at_again_after_a_second() {
        let (denied, policy, now) = (Denied::new(), policy(false, Sharing::Exact), Tick(1_000_000));
        let check = check(&policy, 1, 2);
        assert_eq!(wait(&denied, now, check), None);
        denied.note(now, &check, &refusal(SECOND * 30));
        assert_eq!(wait(&denied, now.after(SECOND / 2), check), Some(SECOND * 30 - SECOND / 2));
        assert_eq!(wait(&denied, now.after(SECOND), check), None);
        denied.note(now, &check, &refusal(SECOND / 4));
        assert_eq!(wait(&denied, now.after(SECOND / 4), check), None);
        let verdict = denied.verdict(now.after(SECOND / 8), &[check]).unwrap();
        let decision = verdict.tightest.unwrap().1;
        assert_eq!((verdict.refused, decision.reset_after), (1, SECOND * 90 - SECOND / 8));
    }

    #[test]
    fn a_bucket_that_was_made_full_is_asked_for_again() {
        let (denied, policy, now) = (Denied::new(), policy(false, Sharing::Exact), Tick(1_000_000));
        let (one, other) = (check(&policy, 1, 1), check(&policy, 2, 1));
        denied.note(now, &one, &refusal(SECOND));
        denied.note(now, &other, &refusal(SECOND));
        denied.forget(one.key());
        assert_eq!((wait(&denied, now, one), wait(&denied, now, other)), (None, Some(SECOND)));
    }

    #[test]
    fn it_speaks_of_the_same_request_only() {
        let (denied, policy, now) = (Denied::new(), policy(false, Sharing::Exact), Tick(1_000_000));
        let five = check(&policy, 1, 5);
        denied.note(now, &five, &refusal(SECOND));
        assert!(wait(&denied, now, check(&policy, 1, 6)).is_some());
        assert!(wait(&denied, now, check(&policy, 1, 4)).is_none(), "less may pass");
        assert!(wait(&denied, now, check(&policy, 2, 5)).is_none(), "another user");
        assert!(wait(&denied, now, Check { quota: five.quota.shared_by(2), ..five }).is_none(), "another quota");
        denied.note(
            now,
            &five,
            &Decision { outcome: Outcome::Allowed(crate::model::gcra::Tat::FULL), ..refusal(SECOND) },
        );
        assert!(wait(&denied, now, five).is_some(), "only refusals are noted");
    }

    #[test]
    fn shadows_and_policies_of_this_process_are_not_asked_for() {
        let (denied, now) = (Denied::new(), Tick(1_000_000));
        for policy in [policy(true, Sharing::Exact), policy(false, Sharing::None)] {
            denied.note(now, &check(&policy, 1, 1), &refusal(SECOND));
            assert_eq!(denied.verdict(now, &[check(&policy, 1, 1)]), None);
        }
    }

    #[test]
    fn it_never_grows_and_keeps_the_latest() {
        let (denied, policy, now) = (Denied::new(), policy(false, Sharing::Exact), Tick(1_000_000));
        for user in 0..100_000 {
            let check = check(&policy, user, 1);
            denied.note(now.after(Duration::from_micros(u64::from(user))), &check, &refusal(SECOND * 60));
            assert!(wait(&denied, now.after(Duration::from_micros(u64::from(user))), check).is_some());
        }
        let kept: usize = denied.sets.iter().map(|set| set.lock().iter().flatten().count()).sum();
        assert!(kept <= SETS * WAYS && kept > SETS * WAYS / 2, "{kept}");
    }
}
