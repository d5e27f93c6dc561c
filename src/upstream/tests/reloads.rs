//! What survives a reload, and what must not.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::spec::TargetSpec;
use crate::model::health::{Circuit, Health, HealthView};
use crate::model::rejection::Rejection;
use crate::upstream::testing::{Origin, Reply, checked, eventually, millis, put, registry, unchecked};
use crate::upstream::{FailureKind, Observed};

#[tokio::test]
async fn an_unchanged_pool_is_the_very_same() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let before = put(&registry, &checked(&[origin.url()]));
    assert!(Arc::ptr_eq(&before, &put(&registry, &checked(&[origin.url()]))));
    let mut other = checked(&[origin.url()]);
    other.timeouts.read = millis(1);
    assert!(!Arc::ptr_eq(&before, &put(&registry, &other)));
}

#[tokio::test]
async fn what_is_known_about_a_target_survives_a_change_of_its_pool() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let (clock, _hand) = Clock::manual();
    let registry = registry(&clock);
    let mut spec = checked(&[one.url()]);
    let pool = put(&registry, &spec);
    eventually("healthy", || registry.first_round_done()).await;
    let in_flight = pool.pick_any(clock.now()).unwrap();
    for _ in 0..3 {
        pool.pick_any(clock.now()).unwrap().observe(Observed::Failure(FailureKind::Status), clock.now());
    }
    assert!(matches!(pool.pick_any(clock.now()), Err(Rejection::CircuitOpen(..))));

    spec.targets = [two.url(), one.url()].iter().map(|url| TargetSpec::at(url)).collect();
    spec.timeouts.read = millis(7_000);
    two.script("/health", Reply::Hang);
    let pool = put(&registry, &spec);
    let targets = registry.pools()[0].targets.clone();
    assert_eq!((targets[0].health, targets[0].circuit), (Health::Unknown, Circuit::Closed), "new: no probe yet");
    assert_eq!((targets[1].health, targets[1].circuit), (Health::Healthy, Circuit::Open));
    assert_eq!((targets[1].failures, targets[1].in_flight), (3, 1));
    assert!(matches!(pool.pick_any(clock.now()), Err(Rejection::CircuitOpen(..))));
    drop(in_flight);
    assert_eq!(registry.pools()[0].targets[1].in_flight, 0);
}

#[tokio::test]
async fn another_check_keeps_the_verdict_until_its_first_probe_which_decides() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let clock = Clock::system();
    let mut spec = checked(&[origin.url()]);
    put(&registry, &spec);
    eventually("healthy", || registry.first_round_done()).await;
    origin.script("/ready", Reply::Hang);
    let check = spec.health.as_mut().unwrap();
    check.path = Some("/ready".to_owned());
    check.fall = 1_000;
    let pool = put(&registry, &spec);
    eventually("the new check asks", || origin.count("/ready") == 1).await;
    assert!(pool.pick_any(clock.now()).is_ok());
    eventually("its first probe decides", || pool.pick_any(clock.now()).is_err()).await;
}

#[tokio::test]
async fn a_reload_that_fails_leaves_nothing_behind() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let registry = registry(&Clock::system());
    two.script("/health", Reply::Hang);
    let before = put(&registry, &checked(&[one.url()]));
    let mut spec = checked(&[two.url()]);
    spec.health.as_mut().unwrap().timeout = millis(60_000);
    let built = registry.build(&BTreeMap::from([("p".to_owned(), spec)]));
    eventually("it is being checked", || two.open() == 1 && two.count("/health") == 1).await;
    assert_eq!(registry.pools()[0].targets[0].address.as_ref(), one.addr.to_string(), "not reported on");
    drop(built);
    eventually("its checks end", || two.open() == 0).await;
    assert_eq!(two.count("/health"), 1);
    assert!(Arc::ptr_eq(&before, &put(&registry, &checked(&[one.url()]))));
}

#[tokio::test]
async fn tasks_are_as_many_after_a_thousand_reloads() {
    let origin = Origin::start().await;
    // Probes that hang keep the number of tasks still: no connection comes or goes.
    origin.script("/health", Reply::Hang);
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let base = alive();
    let registry = registry(&Clock::system());
    let spec = |n: u64| {
        let mut spec = checked(&[origin.url()]);
        spec.timeouts.read = millis(10_000 + n);
        spec.health.as_mut().unwrap().timeout = millis(60_000);
        spec
    };
    put(&registry, &spec(0));
    // The keeper, the prober, and the origin's connection.
    eventually("steady", || origin.open() == 1 && alive() == base + 3).await;
    let mut held = Vec::new();
    for n in 1..=1_000 {
        // A request that outlives the reload does not keep the old checks alive.
        held.push(put(&registry, &spec(n)));
        tokio::task::yield_now().await;
    }
    eventually("as many as before", || origin.open() == 1 && alive() == base + 3).await;
    registry.publish(&BTreeMap::new());
    drop(held);
    eventually("none without pools", || origin.open() == 0 && alive() == base).await;
}

#[tokio::test]
async fn the_turn_survives_a_change() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let registry = registry(&Clock::system());
    let clock = Clock::system();
    let mut spec = unchecked(&[one.url(), two.url()]);
    let mut last = put(&registry, &spec).pick_any(clock.now()).unwrap().target().socket();
    for n in 1..10 {
        spec.timeouts.read = millis(n);
        let next = put(&registry, &spec).pick_any(clock.now()).unwrap().target().socket();
        assert_ne!(next, last);
        last = next;
    }
}
