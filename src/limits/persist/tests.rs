//! Tests of buckets that outlive the process.

use std::time::Duration;

use super::*;
use crate::clock::{Clock, Hand};
use crate::limits::{Check, Policy, Subject};
use crate::model::identity::UserId;
use crate::model::role::Role;
use crate::model::units::Rate;

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
        let check = Check::single(&policy, subject, quota, cost);
        let verdict = self.limits.buckets().decide_all(self.clock.now(), &[check]).unwrap();
        verdict.tightest.unwrap().decision.remaining
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
    let saved = before.limits.save(before.clock.now(), at(0)).unwrap();
    assert_eq!(saved.buckets, 2 * subjects().len(), "a full bucket needs no place");
    for (down, left_a, left_b) in [(0, 1, 55), (8, 9, 63), (9, 10, 64), (60, 61, 64), (1_000_000, 64, 64)] {
        let after = Process::started(Duration::ZERO);
        let _ = after.limits.buckets().scope_id("another:all"); // numbers are the process's own
        let restored = after.limits.restore(&saved.bytes, after.clock.now(), at(down)).unwrap();
        assert!(restored <= saved.buckets);
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
    let saved = before.limits.save(before.clock.now(), at(0)).unwrap();
    let after = Process::started(Duration::from_secs(900));
    assert_eq!(after.limits.restore(&saved.bytes, after.clock.now(), at(-3_600)), Ok(1));
    assert_eq!(after.left("a", Subject::Everyone, minute), 0);
    after.hand.advance(Duration::from_secs(1));
    assert_eq!(after.left("a", Subject::Everyone, minute), 1);
}

#[test]
fn a_quota_that_changed_meanwhile_rescales_the_bucket_and_nothing_is_rounded() {
    let before = Process::started(Duration::ZERO);
    before.take("a", Subject::Everyone, quota(20, 60, 0), 10);
    before.take("b", Subject::Everyone, quota(7, 3_600, 0).holding_back(Duration::from_millis(200)), 1);
    let saved = before.limits.save(before.clock.now(), at(0)).unwrap();
    let after = Process::started(Duration::ZERO);
    assert_eq!(after.limits.restore(&saved.bytes, after.clock.now(), at(0)), Ok(2));
    assert_eq!(after.left("a", Subject::Everyone, quota(40, 3_600, 0)), 20);
    let debt = |limits: &Limits| {
        let scope = limits.buckets().scope_id("b:all");
        limits.buckets().peek(before.clock.now(), scope, Subject::Everyone).unwrap()
    };
    assert_eq!(debt(&after.limits), debt(&before.limits));
}

#[test]
fn other_bytes_are_left_out() {
    let minute = quota(60, 60, 0);
    let before = Process::started(Duration::ZERO);
    before.take("a", Subject::Everyone, minute, 60);
    let saved = before.limits.save(before.clock.now(), at(0)).unwrap().bytes;
    let restore = |bytes: &[u8]| {
        let after = Process::started(Duration::ZERO);
        let outcome = after.limits.restore(bytes, after.clock.now(), at(0));
        assert_eq!(after.left("a", Subject::Everyone, minute), if outcome.is_ok() { 0 } else { 60 });
        outcome
    };
    assert_eq!(restore(&saved), Ok(1));
    for foreign in [&b""[..], b"{}", b"ssm-gateway limits 1\n", b"ssm-gateway limits 3\n"] {
        assert_eq!(restore(foreign), Err(RestoreError::Foreign));
    }
    for length in HEAD.len()..saved.len() {
        assert_eq!(restore(&saved[..length]), Err(RestoreError::Damaged), "{length}");
    }
    for place in HEAD.len()..saved.len() {
        let mut other = saved.clone();
        other[place] ^= 1;
        assert_eq!(restore(&other), Err(RestoreError::Damaged), "{place}");
    }
    // Bytes that nobody wrote, with the hash that they should have: counts that promise more than there is, numbers that
    // no type holds, something left over.
    let (body, most) = (&saved[HEAD.len()..saved.len() - HASH_BYTES], [&[0xff; 9][..], &[1]].concat());
    let promises = [vec![0], vec![0, 0], vec![0, 0, 0]].map(|before| [before, most.clone()].concat());
    let odd = [vec![0xff; 64], [body, &[0]].concat(), body[..body.len() - 1].to_vec(), Vec::new()];
    for body in promises.iter().chain(&odd) {
        assert_eq!(restore(&hashed(body)), Err(RestoreError::Damaged), "{body:?}");
    }
    assert_eq!(restore(&hashed(body)), Ok(1));
}

/// A file of these contents.
fn hashed(body: &[u8]) -> Vec<u8> {
    let mut bytes = [HEAD, body].concat();
    bytes.extend(Sha256::digest(&bytes));
    bytes
}

/// Who changes a type that is in files finds out here, and gives [`HEAD`] another number.
#[test]
fn files_of_this_version_look_so() {
    let before = Process::started(Duration::ZERO);
    let quota = quota(7, 60, 4).holding_back(Duration::from_millis(200));
    before.take("a", Subject::User(UserId(300)), quota, 1);
    let saved = before.limits.save(before.clock.now(), at(0)).unwrap().bytes;
    let body = [
        &[0x80, 0x80, 0xc4, 0x89, 0xe5, 0xc5, 0xb2, 0x06][..], // 1_800_000_000_000_000 µs, zigzag
        &[1, 0, 5],
        b"a:all",
        &[1, 7, 4, 0x80, 0x8e, 0xce, 0x1c, 0xc0, 0x9a, 0x0c], // 60_000_000 and 200_000 µs
        &[1, 0, 0, 0xac, 0x02, 0xa4, 0x94, 0x8b, 0x04, 4, 0], // user 300, 8_571_428 µs and 4/7
    ]
    .concat();
    assert_eq!(saved, hashed(&body));
}
