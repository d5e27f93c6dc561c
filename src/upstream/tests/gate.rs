//! Several targets: the cap, the tiers, panic, and what a target says about itself.

use std::time::Duration;

use http::HeaderValue;

use crate::clock::Clock;
use crate::config::spec::{PanicSpec, PoolSpec};
use crate::model::health::{Circuit, HealthView};
use crate::model::rejection::Rejection;
use crate::upstream::testing::{Origin, Reply, checked, eventually, millis, nobody, put, registry, unchecked};
use crate::upstream::{Demand, FailureKind, Observed, Pool, Registry, Tried};

const FAILED: Observed = Observed::Failure(FailureKind::Reset);

async fn pool_of(targets: usize) -> PoolSpec {
    let mut urls = Vec::new();
    for _ in 0..targets {
        urls.push(nobody().await);
    }
    unchecked(&urls)
}

fn circuits(registry: &Registry) -> Vec<Circuit> {
    registry.pools()[0].targets.iter().map(|target| target.circuit).collect()
}

/// Requests until each of the targets named had so many, each with the outcome of its target.
fn ask(pool: &Pool, clock: &Clock, requests: usize, fails: impl Fn(&str) -> bool) -> Vec<String> {
    let one = |_| {
        let mut attempt = pool.pick_any(clock.now()).unwrap();
        let label = attempt.target().label().to_string();
        attempt.observe(if fails(&label) { FAILED } else { Observed::Success }, clock.now());
        label
    };
    (0..requests).map(one).collect()
}

#[tokio::test]
async fn no_more_than_the_cap_are_ejected_and_the_next_one_when_there_is_room() {
    use Circuit::{Closed, HalfOpen, Open};
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let spec = pool_of(3).await;
    let pool = put(&registry, &spec);
    ask(&pool, &clock, 60, |_| true);
    let open = circuits(&registry).into_iter().filter(|circuit| *circuit == Open).count();
    assert_eq!(open, 1, "half of three, rounded down");

    // A reload changes neither circuits nor cap.
    let mut other = spec.clone();
    other.timeouts.read = millis(29_000);
    let pool = put(&registry, &other);
    ask(&pool, &clock, 60, |_| true);
    assert_eq!(circuits(&registry).into_iter().filter(|circuit| *circuit == Open).count(), 1);
    let first = circuits(&registry).into_iter().position(|circuit| circuit == Open).unwrap();
    let label = format!("target-{}", first + 1);
    assert!(!registry.pools()[0].panic);

    // It recovers, and then another one has its place.
    hand.advance(Duration::from_secs(70));
    assert_eq!(circuits(&registry)[first], HalfOpen);
    ask(&pool, &clock, 6, |_| false);
    assert_eq!(circuits(&registry), [Closed; 3]);
    ask(&pool, &clock, 12, |failing| failing != label);
    assert_eq!(circuits(&registry)[first], Closed);
    assert_eq!(circuits(&registry).into_iter().filter(|circuit| *circuit == Open).count(), 1);
}

#[tokio::test]
async fn the_backup_tier_serves_when_the_other_cannot_and_draining_targets_never() {
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let mut spec = pool_of(3).await;
    spec.targets[1].backup = true;
    spec.targets[2].drain = true;
    let pool = put(&registry, &spec);
    assert_eq!(ask(&pool, &clock, 3, |_| true), ["target-1"; 3]);
    assert_eq!(circuits(&registry)[0], Circuit::Open);
    assert_eq!(ask(&pool, &clock, 20, |_| false), ["target-2"; 20]);
    hand.advance(Duration::from_secs(70));
    assert_eq!(ask(&pool, &clock, 20, |_| false), ["target-1"; 20]);
    let report = registry.pools()[0].targets.clone();
    assert_eq!(report.iter().map(|target| target.draining).collect::<Vec<_>>(), [false, false, true]);
}

#[tokio::test]
async fn a_second_try_sooner_goes_to_the_backup_than_to_the_same_target() {
    let (clock, _hand) = Clock::manual();
    let registry = registry(&clock);
    let mut spec = pool_of(2).await;
    spec.targets[1].backup = true;
    let pool = put(&registry, &spec);
    let mut tried = Tried::default();
    for expected in ["target-1", "target-2", "target-1"] {
        let attempt = pool.pick(&Demand { tried: &tried, key: None }, clock.now()).unwrap();
        assert_eq!(&**attempt.target().label(), expected);
        tried.note(attempt.target());
    }
}

#[tokio::test]
async fn panic_goes_to_all_that_were_probed_or_nowhere() {
    let origins = [Origin::start().await, Origin::start().await, Origin::start().await, Origin::start().await];
    let clock = Clock::system();
    for panic in [PanicSpec::RouteAll, PanicSpec::FailFast] {
        for origin in &origins {
            origin.script("/health", Reply::status(200));
        }
        origins[3].script("/health", Reply::Hang);
        let registry = registry(&clock);
        let mut spec = checked(&origins.each_ref().map(|origin| origin.url()));
        spec.panic = panic;
        spec.health.as_mut().unwrap().timeout = millis(600_000);
        let pool = put(&registry, &spec);
        eventually("three serve", || ask_labels(&pool, &clock).len() == 3).await;
        assert!(!registry.pools()[0].panic, "the one that was never probed is as if it were not there");
        for origin in &origins[..2] {
            origin.script("/health", Reply::status(500));
        }
        eventually("panic", || registry.pools()[0].panic).await;
        match (panic, pool.pick_any(clock.now())) {
            (PanicSpec::RouteAll, Ok(_)) => assert_eq!(ask_labels(&pool, &clock).len(), 3),
            (PanicSpec::FailFast, Err(Rejection::ServiceUnavailable(..))) => {}
            (_, other) => panic!("{panic:?}: {other:?}"),
        }
        origins[0].script("/health", Reply::status(200));
        eventually("no panic any more", || !registry.pools()[0].panic).await;
        assert_eq!(ask_labels(&pool, &clock).len(), 2);
    }
}

fn ask_labels(pool: &Pool, clock: &Clock) -> std::collections::BTreeSet<String> {
    let picks = (0..40).filter_map(|_| pool.pick_any(clock.now()).ok());
    picks.map(|attempt| attempt.target().label().to_string()).collect()
}

#[tokio::test]
async fn in_panic_open_circuits_are_passed_and_still_find_back() {
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let mut spec = pool_of(2).await;
    spec.breaker.max_ejected = 100;
    let pool = put(&registry, &spec);
    ask(&pool, &clock, 20, |_| true);
    assert_eq!(circuits(&registry), [Circuit::Open; 2]);
    assert!(registry.pools()[0].panic);
    let failures = || registry.pools()[0].targets.iter().map(|target| target.failures).sum::<u64>();
    let before = failures();
    ask(&pool, &clock, 20, |_| true);
    assert_eq!(failures(), before, "what was forced through says nothing");
    hand.advance(Duration::from_secs(70));
    ask(&pool, &clock, 8, |_| false);
    assert_eq!(circuits(&registry), [Circuit::Closed; 2]);
    assert!(!registry.pools()[0].panic);

    spec.panic = PanicSpec::FailFast;
    let pool = put(&registry, &spec);
    ask(&pool, &clock, 4, |_| true);
    while let Ok(mut attempt) = pool.pick_any(clock.now()) {
        attempt.observe(FAILED, clock.now());
    }
    let Err(Rejection::CircuitOpen(_, wait)) = pool.pick_any(clock.now()) else { panic!("picked") };
    assert!(wait.as_secs() >= 60, "{wait:?}");
}

#[tokio::test]
async fn what_counts_is_the_pools_to_say_and_retry_after_the_services() {
    let (clock, _hand) = Clock::manual();
    let registry = registry(&clock);
    let mut spec = pool_of(1).await;
    spec.breaker.statuses = serde_json::from_str("[404, 503]").unwrap();
    spec.breaker.failures = 1;
    // The manual clock's wall time starts with the year 2026.
    for (status, retry_after, waits) in [
        (200, None, None),
        (500, Some("200"), None),
        (404, None, Some(60)),
        (503, Some("200"), Some(200)),
        (503, Some("Thu, 01 Jan 2026 00:03:00 GMT"), Some(180)),
        (503, Some("86400"), Some(300)),
        (503, Some("soon"), Some(60)),
    ] {
        let pool = put(&registry, &spec);
        let retry_after = retry_after.map(HeaderValue::from_static);
        pool.pick_any(clock.now()).unwrap().answered(status, retry_after.as_ref(), &clock);
        match (pool.pick_any(clock.now()), waits) {
            (Ok(_), None) => {}
            (Err(Rejection::CircuitOpen(_, wait)), Some(least)) => {
                assert!((least..=least * 11 / 10).contains(&wait.as_secs()), "{status} {retry_after:?}: {wait:?}");
            }
            (other, _) => panic!("{status} {retry_after:?}: {other:?}"),
        }
        // Another address is another target, with a circuit of its own.
        spec.targets = pool_of(1).await.targets;
    }
}

#[tokio::test]
async fn passing_checks_close_a_circuit_without_any_request() {
    let origin = Origin::start().await;
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let pool = put(&registry, &checked(&[origin.url()]));
    eventually("available", || registry.first_round_done()).await;
    for _ in 0..3 {
        pool.pick_any(clock.now()).unwrap().observe(FAILED, clock.now());
    }
    let probes = origin.count("/health");
    eventually("more probes", || origin.count("/health") > probes + 3).await;
    assert_eq!(circuits(&registry), [Circuit::Open], "not before its time");
    hand.advance(Duration::from_secs(70));
    eventually("closed", || circuits(&registry) == [Circuit::Closed]).await;
    // Its share of the requests grows from here.
    let target = pool.pick_any(clock.now()).unwrap();
    assert!(target.target().memory().ramp.permille(Duration::from_secs(10), clock.now()) < 1_000);
}
