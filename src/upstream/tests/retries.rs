//! Leave to try again: other targets first, what a target asks for, time, budget, reloads.

use std::time::Duration;

use crate::clock::{Clock, Hand, Tick};
use crate::config::spec::{PoolSpec, RetriesSpec};
use crate::model::rejection::Rejection;
use crate::model::retry::{Failure, Request};
use crate::upstream::outcome::{FailureKind, Observed};
use crate::upstream::retries::{Failed, Leave};
use crate::upstream::testing::{millis, put, registry, unchecked};
use crate::upstream::{Attempt, Demand, Pool, Registry, Tried};

const SECOND: Duration = Duration::from_secs(1);

/// Pools whose retries come at once, so that waits are exact; there are as many targets as said.
fn spec(targets: u8) -> PoolSpec {
    let urls: Vec<String> = (1..=targets).map(|n| format!("http://127.0.0.{n}:9")).collect();
    PoolSpec { retries: RetriesSpec { backoff: millis(0), ..RetriesSpec::default() }, ..unchecked(&urls) }
}

async fn pool(targets: u8) -> (std::sync::Arc<Pool>, std::sync::Arc<Registry>, Clock, Hand) {
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    (put(&registry, &spec(targets)), registry, clock, hand)
}

/// A GET that got 503 there.
fn refused(attempt: &Attempt, asked: Option<Duration>) -> Failed<'_> {
    Failed {
        failure: Failure::Status(503),
        request: Request { repeatable: true, replayable: true, answered: false },
        asked,
        retries: 0,
        most: 2,
        remaining: 10 * SECOND,
        target: attempt.target(),
    }
}

const AT_ONCE: Leave = Leave { wait: Duration::ZERO, only_others: false };

fn next(pool: &Pool, tried: &Tried, now: Tick) -> Result<Attempt, Rejection> {
    pool.pick(&Demand { tried, key: None }, now)
}

fn open(mut attempt: Attempt, pool: &Pool, now: Tick) {
    let label = attempt.target().label().clone();
    for _ in 0..20 {
        if *attempt.target().label() == label {
            attempt.observe(Observed::Failure(FailureKind::Reset), now);
        }
        match pool.pick_any(now) {
            Ok(next) => attempt = next,
            Err(_) => return,
        }
    }
}

#[tokio::test]
async fn every_other_target_comes_before_one_that_was_tried() {
    let (pool, _registry, clock, _) = pool(3).await;
    let mut tried = Tried::default();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let attempt = next(&pool, &tried, clock.now()).unwrap();
        assert_eq!(pool.leave_to_retry(&refused(&attempt, None), &tried, clock.now()), Some(AT_ONCE));
        tried.note(attempt.target());
        seen.push(attempt.target().label().clone());
    }
    seen.sort();
    assert_eq!(seen.iter().map(|label| &**label).collect::<Vec<_>>(), ["target-1", "target-2", "target-3"]);
    assert!(next(&pool, &tried, clock.now()).is_ok(), "one that was tried, when that is all there is");
    tried.bar();
    assert!(next(&pool, &tried, clock.now()).is_err());
}

#[tokio::test]
async fn who_says_when_to_come_back_is_not_asked_before() {
    let (pool, _registry, clock, _) = pool(2).await;
    let mut tried = Tried::default();
    let first = next(&pool, &tried, clock.now()).unwrap();
    let leave = pool.leave_to_retry(&refused(&first, Some(60 * SECOND)), &tried, clock.now());
    assert_eq!(leave, Some(Leave { only_others: true, ..AT_ONCE }), "there is another");
    tried.note(first.target());
    tried.bar();
    let second = next(&pool, &tried, clock.now()).unwrap();
    assert_eq!(pool.leave_to_retry(&refused(&second, None), &tried, clock.now()), None, "the first is barred");
}

#[tokio::test]
async fn the_only_target_is_waited_for_within_the_deadline() {
    let (pool, _registry, clock, _) = pool(1).await;
    let tried = Tried::default();
    let attempt = next(&pool, &tried, clock.now()).unwrap();
    for (asked, expected) in [(0, Some(0)), (9, Some(9)), (10, None), (3_600, None)] {
        let leave = pool.leave_to_retry(&refused(&attempt, Some(asked * SECOND)), &tried, clock.now());
        assert_eq!(leave.map(|leave| leave.wait), expected.map(|seconds: u32| seconds * SECOND), "{asked}");
    }
}

#[tokio::test]
async fn there_is_no_leave_without_a_target() {
    let (pool, _registry, clock, _) = pool(1).await;
    let attempt = pool.pick_any(clock.now()).unwrap();
    open(pool.pick_any(clock.now()).unwrap(), &pool, clock.now());
    assert!(pool.pick_any(clock.now()).is_err());
    assert_eq!(pool.leave_to_retry(&refused(&attempt, None), &Tried::default(), clock.now()), None);
}

#[tokio::test]
async fn tries_are_counted_once_and_most_of_them_is_the_most() {
    let (pool, _registry, clock, _) = pool(1).await;
    let attempt = pool.pick_any(clock.now()).unwrap();
    let leave = |failed: Failed<'_>| pool.leave_to_retry(&failed, &Tried::default(), clock.now());
    assert_eq!(leave(Failed { retries: 2, ..refused(&attempt, None) }), None);
    assert_eq!(leave(Failed { most: 0, ..refused(&attempt, None) }), None);
    assert_eq!(leave(Failed { failure: Failure::Status(500), ..refused(&attempt, None) }), None);
    assert_eq!(leave(refused(&attempt, None)), Some(AT_ONCE));
}

#[tokio::test]
async fn the_budget_survives_reloads() {
    let (pool, registry, clock, hand) = pool(1).await;
    let now = clock.now();
    (0..50).for_each(|_| pool.count_request(now));
    let attempt = pool.pick_any(now).unwrap();
    let granted = |pool: &Pool| {
        let now = clock.now();
        (0..100).filter(|_| pool.leave_to_retry(&refused(&attempt, None), &Tried::default(), now).is_some()).count()
    };
    assert_eq!(granted(&pool), 10 + 10, "a fifth, and the floor");
    let reloaded = put(&registry, &PoolSpec { resolve_every: millis(1_000), ..spec(1) });
    assert_eq!(granted(&reloaded), 0);
    let doubled = RetriesSpec { budget: 40, ..spec(1).retries };
    assert_eq!(granted(&put(&registry, &PoolSpec { retries: doubled, ..spec(1) })), 10, "requests are remembered too");
    hand.advance(SECOND);
    assert_eq!(granted(&reloaded), 10);
}
