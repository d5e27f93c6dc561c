//! Tests of buckets that outlive the process.

use std::time::Duration;

use super::*;
use crate::clock::{Clock, Hand};
use crate::limits::{Check, Policy, Subject};
use crate::model::identity::UserId;
use crate::model::role::Role;

fn quota(limit: u32, seconds: u64, burst: u32) -> Quota {
    Quota::new(Rate { limit, period: Duration::from_secs(seconds) }, burst)
}

/// A process: its buckets, and a monotonic clock that began at another time than that of any other.
struct Process {
    limits: Limits,
    clock: Clock,
    hand: Hand,
}

impl Process {
    fn started(after: Duration) -> Process {
        let (clock, hand) = Clock::manual();
        hand.advance(after);
        Process { limits: Limits::local(10_000), clock, hand }
    }

    /// Tokens left after so many were taken.
    fn take(&self, policy: &str, subject: Subject, quota: Quota, cost: u32) -> u64 {
        let policy = Policy::alone(policy, self.limits.buckets());
        let check = Check { policy: &policy, subject, quota, cost };
        let verdict = self.limits.decide_here(self.clock.now(), std::iter::once(check)).unwrap();
        verdict.tightest.unwrap().1.remaining
    }

    fn left(&self, policy: &str, subject: Subject, quota: Quota) -> u64 {
        self.take(policy, subject, quota, 0)
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn subjects() -> Vec<Subject> {
    vec![
        Subject::User(UserId(7)),
        Subject::address("192.0.2.1".parse().unwrap()),
        Subject::address("2001:db8::1".parse().unwrap()),
        Subject::Role(Some(Role::Admin)),
        Subject::Role(None),
        Subject::Header(u64::MAX),
        Subject::Everyone,
    ]
}

#[test]
fn what_is_left_is_the_same_and_what_flows_in_meanwhile_flows_in() {
    let minute = quota(60, 60, 4);
    let before = Process::started(Duration::from_secs(5_000));
    for subject in subjects() {
        before.take("a", subject, minute, 64);
        before.take("b", subject, minute, 10);
    }
    before.take("full", Subject::Everyone, minute, 1);
    before.hand.advance(Duration::from_secs(1));
    let kept = before.limits.keep(before.clock.now(), at(0));
    assert_eq!(kept.buckets, 2 * subjects().len(), "a full bucket needs no place");
    for (down, left_a, left_b) in [(0, 1, 55), (8, 9, 63), (9, 10, 64), (60, 61, 64), (1_000_000, 64, 64)] {
        let after = Process::started(Duration::ZERO);
        let _ = after.limits.buckets().slot("another:all"); // numbers are the process's own
        let restored = after.limits.restore(&kept.bytes, after.clock.now(), at(down)).unwrap();
        assert!(restored <= kept.buckets);
        for subject in subjects() {
            let left = (after.left("a", subject, minute), after.left("b", subject, minute));
            assert_eq!(left, (left_a, left_b), "{subject} after {down} s");
        }
        assert_eq!(after.left("a", Subject::User(UserId(8)), minute), 64);
        assert_eq!(after.left("another", Subject::Everyone, minute), 64);
    }
}

#[test]
fn a_wall_clock_that_stepped_back_grants_nothing() {
    let minute = quota(60, 60, 0);
    let before = Process::started(Duration::ZERO);
    before.take("a", Subject::Everyone, minute, 60);
    let kept = before.limits.keep(before.clock.now(), at(0));
    let after = Process::started(Duration::from_secs(900));
    assert_eq!(after.limits.restore(&kept.bytes, after.clock.now(), at(-3_600)), Ok(1));
    assert_eq!(after.left("a", Subject::Everyone, minute), 0);
    after.hand.advance(Duration::from_secs(1));
    assert_eq!(after.left("a", Subject::Everyone, minute), 1);
}

#[test]
fn a_quota_that_changed_meanwhile_rescales_the_bucket_and_nothing_is_rounded() {
    let before = Process::started(Duration::ZERO);
    before.take("a", Subject::Everyone, quota(20, 60, 0), 10);
    before.take("b", Subject::Everyone, quota(7, 3_600, 0).holding_back(Duration::from_millis(200)), 1);
    let kept = before.limits.keep(before.clock.now(), at(0));
    let after = Process::started(Duration::ZERO);
    assert_eq!(after.limits.restore(&kept.bytes, after.clock.now(), at(0)), Ok(2));
    assert_eq!(after.left("a", Subject::Everyone, quota(40, 3_600, 0)), 20);
    let lacking = |limits: &Limits| {
        let slot = limits.buckets().slot("b:all");
        limits.buckets().look(before.clock.now(), slot, Subject::Everyone).unwrap()
    };
    assert_eq!(lacking(&after.limits), lacking(&before.limits));
}

#[test]
fn other_bytes_are_left_out() {
    let minute = quota(60, 60, 0);
    let before = Process::started(Duration::ZERO);
    before.take("a", Subject::Everyone, minute, 60);
    let kept = before.limits.keep(before.clock.now(), at(0)).bytes;
    let restore = |bytes: &[u8]| {
        let after = Process::started(Duration::ZERO);
        let outcome = after.limits.restore(bytes, after.clock.now(), at(0));
        assert_eq!(after.left("a", Subject::Everyone, minute), if outcome.is_ok() { 0 } else { 60 });
        outcome
    };
    assert_eq!(restore(&kept), Ok(1));
    for foreign in [&b""[..], b"{}", b"ssm-gateway limits 2\n"] {
        assert_eq!(restore(foreign), Err(UnusableLimits::Foreign));
    }
    for length in HEAD.len()..kept.len() {
        assert_eq!(restore(&kept[..length]), Err(UnusableLimits::Damaged), "{length}");
    }
    for place in HEAD.len()..kept.len() {
        let mut other = kept.clone();
        other[place] ^= 1;
        assert_eq!(restore(&other), Err(UnusableLimits::Damaged), "{place}");
    }
    let mut nested = HEAD.to_vec();
    nested.extend([0xff; 64]); // a count that promises more than there is
    nested.extend(Sha256::digest(&nested));
    assert_eq!(restore(&nested), Err(UnusableLimits::Damaged));
}
