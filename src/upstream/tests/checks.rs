//! Active checks.

use std::time::Duration;

use crate::clock::Clock;
use crate::model::health::{Health, HealthView};
use crate::model::rejection::Rejection;
use crate::upstream::testing::{Origin, Reply, checked, eventually, millis, nobody, put, registry, unchecked};

#[tokio::test]
async fn probes_reach_the_origin_with_host_and_user_agent() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let _pool = put(&registry, &checked(&[origin.url()]));
    eventually("three probes", || origin.count("/health") >= 3).await;
    let head = origin.last().to_ascii_lowercase();
    assert!(head.contains(&format!("\r\nhost: {}\r\n", origin.addr)), "{head}");
    assert!(head.contains("\r\nuser-agent: ssm-gateway-health\r\n"), "{head}");
}

#[tokio::test]
async fn no_traffic_before_the_first_probe_which_decides_alone() {
    let origin = Origin::start().await;
    origin.script("/health", Reply::Hang);
    let registry = registry(&Clock::system());
    let mut spec = checked(&[origin.url()]);
    spec.health.as_mut().unwrap().timeout = millis(60_000);
    let clock = Clock::system();
    let pool = put(&registry, &spec);
    eventually("the probe is there", || origin.count("/health") == 1).await;
    assert!(matches!(pool.pick_any(clock.now()), Err(Rejection::ServiceUnavailable(..))));
    assert!(!registry.first_round_done());
    assert_eq!(registry.pools()[0].targets[0].health, Health::Unknown);

    let (bad, good) = (Origin::start().await, Origin::start().await);
    bad.script("/health", Reply::status(503));
    good.script("/health", Reply::Json(200, r#"{"version":"2.0.1","uptime_seconds":42}"#.to_owned()));
    let mut spec = checked(&[bad.url(), good.url()]);
    spec.health.as_mut().unwrap().every = millis(3_600_000);
    let pool = put(&registry, &spec);
    eventually("both were probed once", || registry.first_round_done()).await;
    assert_eq!((bad.count("/health"), good.count("/health")), (1, 1));
    for _ in 0..4 {
        assert_eq!(pool.pick_any(clock.now()).unwrap().target().socket(), good.addr);
    }
    let targets = &registry.pools()[0].targets;
    assert_eq!((&*targets[0].label, &*targets[1].label), ("target-1", "target-2"));
    assert_eq!((targets[0].health, targets[1].health), (Health::Unhealthy, Health::Healthy));
    let probe = targets[0].last_probe.clone().unwrap();
    assert_eq!((probe.status, probe.error.as_deref()), (Some(503), Some("status 503")));
    let probe = targets[1].last_probe.clone().unwrap();
    assert_eq!((probe.version.as_deref(), probe.uptime), (Some("2.0.1"), Some(42.0)));
}

#[tokio::test]
async fn a_target_falls_and_rises_and_the_other_goes_on() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let registry = registry(&Clock::system());
    let clock = Clock::system();
    let pool = put(&registry, &checked(&[one.url(), two.url()]));
    eventually("both are healthy", || registry.first_round_done()).await;
    let mut seen: Vec<_> = (0..4).map(|_| pool.pick_any(clock.now()).unwrap().target().socket()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 2, "both get traffic");

    one.script("/health", Reply::Close);
    let only_two =
        || (0..4).all(|_| pool.pick_any(clock.now()).is_ok_and(|attempt| attempt.target().socket() == two.addr));
    eventually("the first is out", only_two).await;
    let change = registry.history().last().cloned().unwrap();
    assert_eq!((&*change.target, change.health), ("target-1", Health::Unhealthy));
    assert_eq!(change.reason.as_deref(), Some("connection closed before the end of the answer"));

    one.script("/health", Reply::status(200));
    eventually("the first is back", || registry.history().last().unwrap().health == Health::Healthy).await;
    assert_eq!(registry.history().len(), 4);
}

#[tokio::test]
async fn a_killed_target_is_taken_out() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let registry = registry(&Clock::system());
    let clock = Clock::system();
    let pool = put(&registry, &checked(&[one.url(), two.url()]));
    eventually("both are healthy", || registry.first_round_done()).await;
    drop(one);
    eventually("the first is out", || registry.pools()[0].targets[0].health == Health::Unhealthy).await;
    assert!((0..4).all(|_| pool.pick_any(clock.now()).unwrap().target().socket() == two.addr));
    let probe = registry.pools()[0].targets[0].last_probe.clone().unwrap();
    assert_eq!((probe.status, probe.error.as_deref()), (None, Some("connection refused")));
}

#[tokio::test]
async fn a_slow_target_does_not_delay_the_others_probes() {
    for slow in [Reply::Hang, Reply::Drip] {
        let (hangs, works) = (Origin::start().await, Origin::start().await);
        hangs.script("/health", slow);
        let registry = registry(&Clock::system());
        let mut spec = checked(&[hangs.url(), works.url()]);
        spec.health.as_mut().unwrap().timeout = millis(2_000);
        let _pool = put(&registry, &spec);
        eventually("ten probes of the other", || works.count("/health") >= 10).await;
        assert_eq!(hangs.count("/health"), 1);
        eventually("the slow one is unhealthy", || registry.pools()[0].targets[0].health == Health::Unhealthy).await;
        let probe = registry.pools()[0].targets[0].last_probe.clone().unwrap();
        assert_eq!(probe.error.as_deref(), Some("no answer within 2s"));
        assert!(probe.took >= Duration::from_secs(2));
    }
}

#[tokio::test]
async fn answers_that_are_not_a_2xx_over_http_fail() {
    for (reply, error) in [
        (Reply::Garbage, "the answer is not valid HTTP"),
        (Reply::Cut, "connection closed before the end of the answer"),
        (Reply::status(404), "status 404"),
        (Reply::status(302), "status 302"),
    ] {
        let origin = Origin::start().await;
        origin.script("/health", reply);
        let registry = registry(&Clock::system());
        let _pool = put(&registry, &checked(&[origin.url()]));
        eventually("a probe", || registry.first_round_done()).await;
        let target = registry.pools()[0].targets[0].clone();
        assert_eq!((target.health, target.last_probe.unwrap().error.as_deref()), (Health::Unhealthy, Some(error)));
    }
}

#[tokio::test]
async fn when_none_is_healthy_the_wait_is_the_time_to_the_next_probe() {
    let registry = registry(&Clock::system());
    let mut spec = checked(&[nobody().await]);
    spec.health.as_mut().unwrap().every = millis(60_000);
    let clock = Clock::system();
    let pool = put(&registry, &spec);
    eventually("the first probe", || registry.first_round_done()).await;
    let waits = |wait: Duration| (50..=66).contains(&wait.as_secs());
    let until = || matches!(pool.pick_any(clock.now()), Err(Rejection::ServiceUnavailable(_, wait)) if waits(wait));
    eventually("a true wait", until).await;
    assert_eq!(pool.pick_any(clock.now()).unwrap_err().code(), "SERVICE_UNAVAILABLE");
}

#[tokio::test]
async fn asking_for_probes_forgets_the_last_ones_and_keeps_the_verdict() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let mut spec = checked(&[origin.url()]);
    spec.health.as_mut().unwrap().every = millis(3_600_000);
    spec.health.as_mut().unwrap().timeout = millis(60_000);
    let clock = Clock::system();
    let pool = put(&registry, &spec);
    eventually("the first probe", || registry.first_round_done()).await;
    origin.script("/health", Reply::Hang);
    registry.probe_now();
    eventually("the second probe", || origin.count("/health") == 2).await;
    let target = registry.pools()[0].targets[0].clone();
    assert!(target.last_probe.is_none() && target.health == Health::Healthy);
    assert!(pool.pick_any(clock.now()).is_ok());
}

#[tokio::test]
async fn without_checks_a_target_gets_traffic_at_once() {
    let registry = registry(&Clock::system());
    assert!(!registry.first_round_done(), "nothing is published yet");
    let pool = put(&registry, &unchecked(&[nobody().await]));
    assert!(registry.first_round_done());
    assert!(pool.pick_any(Clock::system().now()).is_ok());
}
