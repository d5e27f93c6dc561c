//! The one availability gate.

use std::time::Duration;

use crate::clock::Clock;
use crate::model::health::{Circuit, HealthView};
use crate::model::rejection::Rejection;
use crate::upstream::testing::{Origin, checked, eventually, millis, nobody, put, registry, unchecked};
use crate::upstream::{FailureKind, Observed, Pool};

const FAILED: Observed = Observed::Failure(FailureKind::Reset);

fn fail(pool: &Pool, clock: &Clock, times: usize) {
    for _ in 0..times {
        pool.pick_any(clock.now()).unwrap().observe(FAILED, clock.now());
    }
}

fn refused_for(pool: &Pool, clock: &Clock) -> Duration {
    match pool.pick_any(clock.now()) {
        Err(Rejection::CircuitOpen(service, wait)) => {
            assert_eq!(&*service, "p");
            wait
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn open_half_open_closed_with_and_without_active_checks() {
    for with_checks in [false, true] {
        let origin = Origin::start().await;
        let (clock, hand) = Clock::manual();
        let registry = registry(&clock);
        let mut spec = if with_checks { checked(&[origin.url()]) } else { unchecked(&[origin.url()]) };
        if let Some(check) = &mut spec.health {
            // One probe only: passing ones would close the circuit, too.
            check.every = millis(600_000);
        }
        let pool = put(&registry, &spec);
        eventually("available", || registry.first_round_done()).await;
        let circuit = || registry.pools()[0].targets[0].circuit;

        fail(&pool, &clock, 3);
        assert_eq!(circuit(), Circuit::Open);
        let wait = refused_for(&pool, &clock);
        assert!((60..=66).contains(&wait.as_secs()), "{wait:?}");
        hand.advance(Duration::from_secs(20));
        assert_eq!(refused_for(&pool, &clock), wait - Duration::from_secs(20));

        hand.advance(wait);
        assert_eq!(circuit(), Circuit::HalfOpen);
        let mut probe = pool.pick_any(clock.now()).unwrap();
        assert_eq!(refused_for(&pool, &clock), Duration::from_secs(1), "one at a time");
        probe.observe(Observed::Success, clock.now());
        drop(probe);
        pool.pick_any(clock.now()).unwrap().observe(Observed::Success, clock.now());
        assert_eq!(circuit(), Circuit::Closed);
        assert_eq!(registry.pools()[0].targets[0].failures, 3);
    }
}

#[tokio::test]
async fn a_half_open_place_comes_back_however_the_attempt_ends() {
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let pool = put(&registry, &unchecked(&[nobody().await]));
    fail(&pool, &clock, 3);
    hand.advance(Duration::from_secs(70));

    drop(pool.pick_any(clock.now()).unwrap());
    pool.pick_any(clock.now()).unwrap().observe(Observed::Neutral, clock.now());
    let panicking = pool.clone();
    let now = clock.now();
    let task = tokio::spawn(async move {
        let _attempt = panicking.pick_any(now).unwrap();
        panic!("in a request task");
    });
    assert!(task.await.is_err());
    let mut probe = pool.pick_any(clock.now()).unwrap();
    probe.observe(Observed::Success, clock.now());
    let _second = pool.pick_any(clock.now()).unwrap();
    drop(probe);
    refused_for(&pool, &clock);
    assert_eq!(registry.pools()[0].targets[0].in_flight, 1);
}

#[tokio::test]
async fn a_slow_client_keeps_the_half_open_place_for_the_read_timeout_at_most() {
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let pool = put(&registry, &unchecked(&[nobody().await]));
    let circuit = || registry.pools()[0].targets[0].circuit;
    fail(&pool, &clock, 3);
    hand.advance(Duration::from_secs(70));
    let mut slow = pool.pick_any(clock.now()).unwrap();
    assert_eq!(refused_for(&pool, &clock), Duration::from_secs(1));
    hand.advance(pool.read_timeout());
    let mut probe = pool.pick_any(clock.now()).unwrap();
    slow.observe(FAILED, clock.now());
    drop(slow);
    assert_eq!(circuit(), Circuit::HalfOpen);
    refused_for(&pool, &clock);
    probe.observe(Observed::Success, clock.now());
    pool.pick_any(clock.now()).unwrap().observe(Observed::Success, clock.now());
    assert_eq!(circuit(), Circuit::Closed);
}

#[tokio::test]
async fn a_neutral_probe_frees_the_place_at_once_and_changes_nothing() {
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let pool = put(&registry, &unchecked(&[nobody().await]));
    fail(&pool, &clock, 3);
    hand.advance(Duration::from_secs(70));
    let mut neutral = pool.pick_any(clock.now()).unwrap();
    neutral.observe(Observed::Neutral, clock.now());
    assert_eq!(registry.pools()[0].targets[0].circuit, Circuit::HalfOpen);
    let _next = pool.pick_any(clock.now()).unwrap();
    drop(neutral);
    refused_for(&pool, &clock);
}

#[tokio::test]
async fn only_the_first_observation_counts_and_in_flight_ends_at_drop() {
    let (clock, _hand) = Clock::manual();
    let registry = registry(&clock);
    let pool = put(&registry, &unchecked(&[nobody().await]));
    let mut attempt = pool.pick_any(clock.now()).unwrap();
    for _ in 0..10 {
        attempt.observe(FAILED, clock.now());
    }
    let report = || registry.pools()[0].targets[0].clone();
    assert_eq!((report().failures, report().in_flight, report().circuit), (1, 1, Circuit::Closed));
    drop(attempt);
    assert_eq!(report().in_flight, 0);
}

#[tokio::test]
async fn an_open_target_leaves_the_traffic_to_the_others() {
    let (clock, _hand) = Clock::manual();
    let registry = registry(&clock);
    let pool = put(&registry, &unchecked(&[nobody().await, nobody().await]));
    let bad = pool.pick_any(clock.now()).unwrap().target().socket();
    let mut failures = 0;
    while failures < 3 {
        let mut attempt = pool.pick_any(clock.now()).unwrap();
        if attempt.target().socket() == bad {
            attempt.observe(FAILED, clock.now());
            failures += 1;
        }
    }
    assert!((0..10).all(|_| pool.pick_any(clock.now()).unwrap().target().socket() != bad));
}

#[tokio::test]
async fn many_requests_at_once_find_one_half_open_place() {
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let pool = put(&registry, &unchecked(&[nobody().await]));
    fail(&pool, &clock, 3);
    hand.advance(Duration::from_secs(70));
    let now = clock.now();
    let picks: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..100).filter_map(|_| pool.pick_any(now).ok()).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(picks.len(), 1);
}

#[tokio::test]
async fn peers_carry_every_timeout() {
    let registry = registry(&Clock::system());
    let spec = unchecked(&[nobody().await]);
    let pool = put(&registry, &spec);
    let attempt = pool.pick_any(Clock::system().now()).unwrap();
    let options = attempt.peer().options;
    assert_eq!(options.connection_timeout, Some(spec.timeouts.connect.0));
    assert_eq!(options.total_connection_timeout, Some(spec.timeouts.connect.0));
    assert_eq!(options.read_timeout, Some(spec.timeouts.read.0));
    assert_eq!(options.write_timeout, Some(spec.timeouts.write.0));
    assert_eq!(options.idle_timeout, Some(spec.timeouts.idle.0));
    assert_eq!(pool.read_timeout(), spec.timeouts.read.0);
}
