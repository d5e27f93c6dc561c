//! The token buckets of the process: exact, sharded, bounded. They outlive every reload, so that spending a
//! bucket and reloading does not refill it; a bucket whose quota changed is rescaled when it is next touched.
//!
//! A shard is chosen by the subject alone. All policies of one request are about one user or one address, so they
//! are nearly always decided under one small lock, and never under more than one lock per distinct subject.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use parking_lot::{Mutex, MutexGuard};

use super::shard::Shard;
use crate::clock::Tick;
use crate::model::forwarded;
use crate::model::gcra::{self, Decision, Outcome, Quota, Tat};
use crate::model::identity::UserId;

const SHARDS: usize = 128;

/// A policy or route name as a number, the same over every reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NameId(u32);

/// Whose bucket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A proven user.
    User(UserId),
    /// An IPv4 address, also one that came as IPv4-mapped IPv6.
    V4(u32),
    /// An IPv6 network, its upper 64 bits: one subscriber has all the addresses below it.
    V6(u64),
}

impl Subject {
    /// The subject that stands for a client address.
    pub fn address(address: IpAddr) -> Subject {
        match forwarded::subscriber(address) {
            IpAddr::V4(v4) => Subject::V4(v4.to_bits()),
            IpAddr::V6(v6) => Subject::V6(u64::try_from(v6.to_bits() >> 64).unwrap_or(u64::MAX)),
        }
    }
}

/// Which bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The policy.
    pub policy: NameId,
    /// The route; none when the bucket spans all routes.
    pub route: Option<NameId>,
    /// The subject.
    pub subject: Subject,
}

/// One policy's part in the decision on a request.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its bucket. No two checks of a request may have the same.
    pub key: Key,
    /// The quota in force.
    pub quota: Quota,
    /// Tokens that the request costs.
    pub cost: u32,
}

/// The decision on a request by all its policies.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// Whether every policy lets it pass; all are charged then, and none otherwise.
    pub allowed: bool,
    /// Index of the policy closest to exhaustion: the fewest tokens left, or on a refusal the longest wait.
    pub tightest: usize,
    /// That policy's decision.
    pub decision: Decision,
    /// Bit i is set when policy i refused; policies past the 64th have no bit.
    pub refused: u64,
}

/// All buckets of the process.
#[derive(Debug)]
pub struct Buckets {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    names: Mutex<HashMap<Box<str>, u32>>,
    max_per_shard: usize,
    evicted_early: AtomicU64,
}

impl Buckets {
    /// An empty store of at most `max_entries` buckets (spread over 128 shards, at least 16 in each).
    pub fn new(max_entries: usize) -> Buckets {
        let hasher = RandomState::new();
        let shard = || Shard::new(hasher.clone());
        Buckets {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            hasher: RandomState::new(),
            names: Mutex::default(),
            max_per_shard: (max_entries / SHARDS).max(16),
            evicted_early: AtomicU64::new(0),
        }
    }

    /// The number of a policy's or route's name. For building filters, not for requests.
    pub fn intern(&self, name: &str) -> NameId {
        let mut names = self.names.lock();
        if let Some(id) = names.get(name) {
            return NameId(*id);
        }
        let id = u32::try_from(names.len()).unwrap_or(u32::MAX);
        names.insert(name.into(), id);
        NameId(id)
    }

    /// How many buckets are kept.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many buckets were given up before they were full again, because the store was at its bound.
    pub fn evicted_early(&self) -> u64 {
        self.evicted_early.load(Ordering::Relaxed)
    }

    /// Decides a request by all its policies at once: when one refuses, none is charged. `None` when there is no
    /// check at all.
    pub fn decide_all(&self, now: Tick, checks: impl Iterator<Item = Check> + Clone) -> Option<Verdict> {
        let first = self.shard_of(checks.clone().next()?.key.subject);
        if checks.clone().all(|check| self.shard_of(check.key.subject) == first) {
            let mut one = [(first, self.shards.get(first)?.lock())];
            return self.decide_locked(&mut one, now, checks);
        }
        let mut indices: Vec<usize> = checks.clone().map(|check| self.shard_of(check.key.subject)).collect();
        indices.sort_unstable(); // every request locks in this order, so none can wait in a circle
        indices.dedup();
        let mut locked: Vec<_> =
            indices.into_iter().filter_map(|index| Some((index, self.shards.get(index)?.lock()))).collect();
        self.decide_locked(&mut locked, now, checks)
    }

    /// Decides one check. A bucket that is not kept, or is full, starts with `unseen` tokens missing; with `skip_new`
    /// it is left alone instead: nothing is charged or stored, and `None` comes back.
    pub(crate) fn decide_seeded(&self, now: Tick, check: Check, unseen: u64, skip_new: bool) -> Option<Decision> {
        let mut shard = self.shards.get(self.shard_of(check.key.subject))?.lock();
        let now = shard.advance(now);
        let kept = shard.bucket(&check, now);
        let tat = match kept {
            Some(tat) if !check.quota.is_full(tat, now) => tat,
            _ if skip_new => return None,
            _ => check.quota.lacking(unseen, now),
        };
        let decision = gcra::decide(tat, now, check.quota, check.cost);
        let after = if let Outcome::Allowed(after) = decision.outcome { after } else { tat };
        self.evicted_early.fetch_add(shard.put(&check, after, now, self.max_per_shard), Ordering::Relaxed);
        Some(decision)
    }

    fn shard_of(&self, subject: Subject) -> usize {
        usize::try_from(self.hasher.hash_one(subject) >> 32).unwrap_or(0) % SHARDS
    }

    fn decide_locked(
        &self,
        locked: &mut [(usize, MutexGuard<'_, Shard>)],
        now: Tick,
        checks: impl Iterator<Item = Check> + Clone,
    ) -> Option<Verdict> {
        // One time for all: the latest that any of these shards has seen.
        let now = locked.iter_mut().map(|(_, shard)| shard.advance(now)).max()?;
        for (_, shard) in locked.iter_mut() {
            shard.advance(Tick(now));
        }
        let mut verdict: Option<Verdict> = None;
        for (index, check) in checks.clone().enumerate() {
            let shard = self.find(locked, check.key.subject)?;
            let tat = shard.bucket(&check, now).unwrap_or(Tat::FULL);
            let decision = gcra::decide(tat, now, check.quota, check.cost);
            verdict = Some(tighter(verdict, index, decision));
        }
        if verdict?.allowed {
            for check in checks {
                let shard = self.find(locked, check.key.subject)?;
                let tat = shard.bucket(&check, now).unwrap_or(Tat::FULL);
                if let Outcome::Allowed(after) = gcra::decide(tat, now, check.quota, check.cost).outcome {
                    let early = shard.put(&check, after, now, self.max_per_shard);
                    self.evicted_early.fetch_add(early, Ordering::Relaxed);
                }
            }
        }
        verdict
    }

    fn find<'l>(&self, locked: &'l mut [(usize, MutexGuard<'_, Shard>)], subject: Subject) -> Option<&'l mut Shard> {
        let wanted = self.shard_of(subject);
        locked.iter_mut().find(|(index, _)| *index == wanted).map(|(_, shard)| &mut **shard)
    }
}

/// The verdict so far with one more decision.
fn tighter(so_far: Option<Verdict>, index: usize, decision: Decision) -> Verdict {
    let refusal = if matches!(decision.outcome, Outcome::Denied(_)) { bit(index) } else { 0 };
    let allowed = matches!(decision.outcome, Outcome::Allowed(_));
    let alone = Verdict { allowed, tightest: index, decision, refused: refusal };
    let Some(so_far) = so_far else { return alone };
    let closer = match (so_far.decision.outcome, decision.outcome) {
        (Outcome::Denied(longest), Outcome::Denied(wait)) => wait > longest,
        (Outcome::Allowed(_), Outcome::Allowed(_)) => decision.remaining < so_far.decision.remaining,
        (Outcome::Allowed(_), Outcome::Denied(_)) => true,
        (Outcome::Denied(_), Outcome::Allowed(_)) => false,
    };
    let base = if closer { alone } else { so_far };
    Verdict { allowed: so_far.allowed && allowed, refused: so_far.refused | refusal, ..base }
}

fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;
    use crate::model::units::Rate;

    fn quota(limit: u32, seconds: u64, burst: u32) -> Quota {
        Quota::new(Rate { limit, period: Duration::from_secs(seconds) }, burst)
    }

    fn check(buckets: &Buckets, policy: &str, subject: Subject, quota: Quota) -> Check {
        Check { key: Key { policy: buckets.intern(policy), route: None, subject }, quota, cost: 1 }
    }

    fn passes(buckets: &Buckets, now: Tick, checks: &[Check]) -> bool {
        buckets.decide_all(now, checks.iter().copied()).unwrap().allowed
    }

    #[test]
    fn names_keep_their_numbers() {
        let buckets = Buckets::new(100);
        let (one, two) = (buckets.intern("one"), buckets.intern("two"));
        assert_ne!(one, two);
        assert_eq!((buckets.intern("two"), buckets.intern("one")), (two, one));
    }

    #[test]
    fn addresses_stand_for_their_subscriber() {
        let subject = |text: &str| Subject::address(text.parse().unwrap());
        assert_eq!(subject("192.0.2.1"), subject("::ffff:192.0.2.1"));
        assert_ne!(subject("192.0.2.1"), subject("192.0.2.2"));
        assert_eq!(subject("2001:db8:1:2::1"), subject("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(subject("2001:db8:1:2::1"), subject("2001:db8:1:3::1"));
    }

    #[test]
    fn the_verdict_names_the_policy_that_counts() {
        let buckets = Buckets::new(100);
        let user = Subject::User(UserId(1));
        let checks = [
            check(&buckets, "wide", user, quota(100, 60, 0)),
            check(&buckets, "narrow", user, quota(2, 60, 0)),
            check(&buckets, "slow", Subject::V4(1), quota(2, 3600, 0)),
        ];
        let now = Tick(1_000_000);
        let verdict = buckets.decide_all(now, checks.iter().copied()).unwrap();
        assert_eq!((verdict.allowed, verdict.tightest, verdict.decision.remaining, verdict.refused), (true, 1, 1, 0));
        assert!(passes(&buckets, now, &checks));
        let verdict = buckets.decide_all(now, checks.iter().copied()).unwrap();
        assert_eq!((verdict.allowed, verdict.tightest, verdict.refused), (false, 2, 0b110));
        assert_eq!(verdict.decision.outcome, Outcome::Denied(Duration::from_secs(1800)));
        assert!(buckets.decide_all(now, std::iter::empty()).is_none());
    }

    #[test]
    fn under_contention_exactly_the_capacity_is_admitted() {
        const THREADS: usize = 8;
        let buckets = Buckets::new(10_000);
        let admitted = AtomicUsize::new(0);
        let shared = quota(700, 3600, 300);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (buckets, admitted) = (&buckets, &admitted);
                scope.spawn(move || {
                    // Two subjects, taken in both orders: a lock order mistake would hang here.
                    let by_user = check(buckets, "shared", Subject::User(UserId(1)), shared);
                    let own = check(buckets, "address", Subject::V4(thread as u32), quota(100_000, 60, 0));
                    for turn in 0..1_000 {
                        let checks = if turn % 2 == 0 { [by_user, own] } else { [own, by_user] };
                        if passes(buckets, Tick(5), &checks) {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.load(Ordering::Relaxed), 1_000);
        let left = |thread: usize| {
            let own = check(&buckets, "address", Subject::V4(thread as u32), quota(100_000, 60, 0));
            buckets.decide_all(Tick(5), std::iter::once(Check { cost: 0, ..own })).unwrap().decision.remaining
        };
        let charged: u64 = (0..THREADS).map(|thread| 100_000 - left(thread)).sum();
        assert_eq!(charged, 1_000, "a refused request must charge nobody");
    }

    #[test]
    fn the_table_is_bounded_never_refuses_and_keeps_spent_buckets() {
        let buckets = Buckets::new(128 * 32);
        let quota = quota(10, 3600, 0);
        let now = Tick(1_000_000);
        let spent: Vec<Check> = (0..50).map(|user| check(&buckets, "p", Subject::User(UserId(user)), quota)).collect();
        for one in &spent {
            while passes(&buckets, now, &[*one]) {}
        }
        for address in 0..50_000 {
            assert!(passes(&buckets, now, &[check(&buckets, "p", Subject::V4(address), quota)]));
        }
        assert!(buckets.len() <= 128 * 32, "{}", buckets.len());
        assert!(buckets.evicted_early() > 0);
        let refilled = spent.iter().filter(|one| passes(&buckets, now, &[**one])).count();
        assert_eq!(refilled, 0, "others are closer to full, so no spent bucket may go before them");
    }

    #[test]
    fn idle_buckets_are_forgotten_without_granting_anything() {
        let buckets = Buckets::new(1_000_000);
        let quota = quota(60, 60, 0);
        for address in 0..100_000_u32 {
            // Each bucket is full again a second later, and about 1000 are touched per second.
            let now = Tick(1_000_000 + u64::from(address) * 1_000);
            assert!(passes(&buckets, now, &[check(&buckets, "p", Subject::V4(address), quota)]));
        }
        assert!(buckets.len() <= 2 * SHARDS * 64, "{}", buckets.len());
        assert_eq!(buckets.evicted_early(), 0);
    }

    #[test]
    fn a_clock_that_steps_back_grants_nothing() {
        let buckets = Buckets::new(1_000);
        let one = check(&buckets, "p", Subject::V4(1), quota(1, 60, 0));
        assert!(passes(&buckets, Tick(600_000_000), &[one]));
        for now in [0, 1, 599_999_999, 600_000_000, 659_999_999] {
            assert!(!passes(&buckets, Tick(now), &[one]), "{now}");
        }
        assert!(passes(&buckets, Tick(660_000_000), &[one]));
    }

    #[test]
    fn a_thread_with_an_older_time_gains_nothing_from_an_eviction() {
        let buckets = Buckets::new(1_000_000);
        let quota = quota(1, 60, 0);
        let one = check(&buckets, "p", Subject::V4(u32::MAX), quota);
        assert!(passes(&buckets, Tick(1), &[one]));
        let late = Tick(600_000_000);
        for address in 0..100_000 {
            passes(&buckets, late, &[check(&buckets, "p", Subject::V4(address), quota)]);
        }
        // Full again at `late`, so it was forgotten there: one request passes, from whichever thread.
        assert!(passes(&buckets, Tick(2), &[one]));
        assert!(!passes(&buckets, late, &[one]));
    }
}
