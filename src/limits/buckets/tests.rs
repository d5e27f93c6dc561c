//! Tests of the table of buckets.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::*;
use crate::limits::Policy;
use crate::model::gcra::Quota;
use crate::model::identity::UserId;
use crate::model::units::Rate;

fn quota(limit: u32, seconds: u64, burst: u32) -> Quota {
    Quota::new(Rate { limit, period: Duration::from_secs(seconds) }, burst)
}

/// A check of a policy that lives as long as the tests.
fn check(buckets: &Buckets, policy: &str, subject: Subject, quota: Quota) -> Check<'static> {
    Check::single(Box::leak(Box::new(Policy::alone(policy, buckets))), subject, quota, 1)
}

fn verdict(buckets: &Buckets, now: Tick, checks: &[Check<'_>]) -> Verdict {
    let checks: Vec<_> = checks.iter().enumerate().map(|(index, check)| Check { index, ..*check }).collect();
    buckets.decide_all(now, &checks).unwrap()
}

fn passes(buckets: &Buckets, now: Tick, checks: &[Check<'_>]) -> bool {
    verdict(buckets, now, checks).is_allowed()
}

/// The index of the tightest policy, and its decision.
fn tightest(verdict: &Verdict) -> (usize, Decision) {
    verdict.tightest.map(|tightest| (tightest.index, tightest.decision)).unwrap()
}

#[test]
fn scopes_keep_their_numbers() {
    let buckets = Buckets::new(100);
    let (one, two) = (buckets.scope_id("one"), buckets.scope_id("two"));
    assert_ne!(one, two);
    assert_eq!((buckets.scope_id("two"), buckets.scope_id("one")), (two, one));
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
    let passed = verdict(&buckets, now, &checks);
    let (index, decision) = tightest(&passed);
    assert_eq!((passed.is_allowed(), index, decision.remaining), (true, 1, 1));
    assert!((0..3).all(|index| !passed.refuses(index)));
    assert!(passes(&buckets, now, &checks));
    let refused = verdict(&buckets, now, &checks);
    let (index, decision) = tightest(&refused);
    assert_eq!((index, decision.outcome), (2, Outcome::Denied(Duration::from_secs(1800))));
    assert_eq!([0, 1, 2].map(|index| refused.refuses(index)), [false, true, true]);
    assert!(!refused.is_allowed());
    assert_eq!(verdict(&buckets, now, &[]), Verdict::OPEN);
}

#[test]
fn closest_to_exhaustion_is_what_lets_the_fewest_such_requests_pass() {
    let buckets = Buckets::new(100);
    let user = Subject::User(UserId(1));
    let many = check(&buckets, "many", user, quota(30, 60, 0));
    let dear = Check { cost: 10, ..check(&buckets, "dear", user, quota(50, 60, 0)) };
    let (index, decision) = tightest(&verdict(&buckets, Tick(1), &[many, dear]));
    assert_eq!((index, decision.remaining), (1, 40));
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
        tightest(&verdict(&buckets, Tick(5), &[Check { cost: 0, ..own }])).1.remaining
    };
    let charged: u64 = (0..THREADS).map(|thread| 100_000 - left(thread)).sum();
    assert_eq!(charged, 1_000, "a refused request must charge nobody");
}

#[test]
fn the_table_is_bounded_never_refuses_and_keeps_spent_buckets() {
    let buckets = Buckets::new(128 * 32);
    let quota = quota(10, 3600, 0);
    let now = Tick(1_000_000);
    let spent: Vec<Check<'_>> = (0..50).map(|user| check(&buckets, "p", Subject::User(UserId(user)), quota)).collect();
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

/// A bucket that lacks one token of 100 a day is full much later than one that is spent and fills in a minute.
#[test]
fn a_slow_policy_does_not_push_out_spent_buckets_of_a_fast_one() {
    let buckets = Buckets::new(128 * 32);
    let (fast, slow) = (quota(10, 60, 0), quota(100, 86_400, 0));
    let now = Tick(1_000_000);
    let spent: Vec<_> = (0..50).map(|user| check(&buckets, "fast", Subject::User(UserId(user)), fast)).collect();
    for one in &spent {
        while passes(&buckets, now, &[*one]) {}
    }
    for address in 0..50_000 {
        assert!(passes(&buckets, now, &[check(&buckets, "slow", Subject::V4(address), slow)]));
    }
    assert!(buckets.evicted_early() > 0);
    assert_eq!(spent.iter().filter(|one| passes(&buckets, now, &[**one])).count(), 0);
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
fn no_part_of_a_microsecond_is_lost() {
    let buckets = Buckets::new(1_000);
    let one = check(&buckets, "p", Subject::V4(1), quota(7, 1, 0)); // a token each 142 857 1/7 µs
    (0..7).for_each(|_| assert!(passes(&buckets, Tick(0), &[one])));
    assert!(!passes(&buckets, Tick(142_857), &[one]));
    assert!(passes(&buckets, Tick(142_858), &[one]));
}

#[test]
fn a_changed_quota_rescales_the_bucket_when_it_is_touched() {
    let buckets = Buckets::new(1_000);
    let before = check(&buckets, "p", Subject::V4(1), quota(20, 60, 0));
    (0..20).for_each(|_| assert!(passes(&buckets, Tick(5), &[before])));
    let after = Check { quota: quota(40, 3_600, 0), ..before };
    let half = Tick(30_000_005); // by the old quota, under which it was touched last
    assert!(!passes(&buckets, half, &[Check { cost: 21, ..after }]));
    assert!(passes(&buckets, half, &[Check { cost: 20, ..after }]));
    assert!(!passes(&buckets, half, &[after]));
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

#[test]
fn a_refused_bucket_goes_on_at_its_new_speed() {
    let buckets = Buckets::new(1_000);
    let policy: &'static Policy = Box::leak(Box::new(Policy::alone("p", &buckets)));
    let at = |quota| Check::single(policy, Subject::V4(1), quota, 1);
    let (slow, fast) = (quota(1, 86_400, 0), quota(60, 60, 0));
    let start = Tick(1_000_000);
    assert!(passes(&buckets, start, &[at(slow)]));
    assert!(!passes(&buckets, start, &[at(fast)]), "spent before, spent after");
    assert!(passes(&buckets, start.after(Duration::from_secs(1)), &[at(fast)]));
}
