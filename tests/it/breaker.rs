//! Circuits of targets through the real program: what opens them, what clients see meanwhile, how they close.

use serde_json::json;

use crate::harness::{Answer, Gateway, GatewayConfig, Origin, PATIENCE, table, until};

async fn gateway(origins: &[&Origin], pool: &str) -> Gateway {
    let urls: Vec<String> = origins.iter().map(|origin| origin.url()).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    Gateway::start(GatewayConfig::table(&table::table(&urls, pool, table::ECHO))).await
}

/// POST, which nothing repeats: one request of a client is one at a service.
async fn post(gateway: &Gateway, path: &str) -> u16 {
    gateway.client.post(path, &json!({})).await.status
}

async fn changes(gateway: &Gateway, to: &str) -> Option<f64> {
    gateway.metric("gateway_circuit_transitions_total", &[("pool", "echo"), ("to", to)]).await
}

async fn until_state(gateway: &Gateway, state: f64) {
    until(&format!("circuit state {state}"), PATIENCE, || async {
        (gateway.metric("gateway_circuit_state", &[("pool", "echo")]).await == Some(state)).then_some(())
    })
    .await;
}

async fn is_open_for(gateway: &Gateway, seconds: std::ops::RangeInclusive<u64>) {
    let got = gateway.client.post("/echo", &json!({})).await;
    assert_eq!(got.refusal(), (503, "CIRCUIT_OPEN".to_owned()));
    let wait = got.number("retry-after");
    assert!(seconds.contains(&wait), "{wait} not in {seconds:?}");
}

#[tokio::test]
async fn too_few_that_go_well_open_it_and_429_counts_there() {
    const POOL: &str = "    breaker: { failures: 1000, success_percent: 50, min_requests: 10, window: 10m }";
    for (status, opens) in [(500, true), (429, true), (404, false)] {
        let origin = Origin::start().await;
        origin.on("/echo/bad", Answer::json(status, json!({"own": "body"})));
        let gateway = gateway(&[&origin], POOL).await;
        for _ in 0..4 {
            assert_eq!(post(&gateway, "/echo/ok").await, 200);
            assert_eq!(post(&gateway, "/echo/bad").await, status);
        }
        assert_eq!(post(&gateway, "/echo/bad").await, status, "nine are too few");
        assert_eq!(post(&gateway, "/echo/bad").await, status);
        if opens {
            is_open_for(&gateway, 59..=66).await;
            assert_eq!((origin.count(), changes(&gateway, "open").await), (10, Some(1.0)));
        } else {
            assert_eq!(post(&gateway, "/echo/ok").await, 200);
            assert_eq!(changes(&gateway, "open").await, Some(0.0));
        }
    }
}

#[tokio::test]
async fn which_statuses_are_failures_is_the_tables_to_say() {
    let origin = Origin::start().await;
    for status in [500, 418] {
        origin.on(&format!("/echo/{status}"), Answer::bare(status));
    }
    let gateway = gateway(&[&origin], "    breaker: { failures: 2, success_percent: 0, statuses: [418] }").await;
    for _ in 0..5 {
        assert_eq!(post(&gateway, "/echo/500").await, 500);
    }
    for _ in 0..2 {
        assert_eq!(post(&gateway, "/echo/418").await, 418);
    }
    is_open_for(&gateway, 59..=66).await;
}

#[tokio::test]
async fn a_service_that_says_when_it_is_back_is_left_alone_until_then() {
    let date = jiff::Timestamp::from_second(in_seconds(200)).unwrap().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (retry_after, seconds) in [("120", 119..=132), ("86400", 299..=330), (date.as_str(), 150..=220)] {
        let origin = Origin::start().await;
        origin.on("/echo", Answer::bare(503).header("Retry-After", retry_after));
        let gateway = gateway(&[&origin], "    breaker: { failures: 1, open_for: 1s }").await;
        let got = gateway.client.post("/echo", &json!({})).await.expect(503);
        assert_eq!(got.header("retry-after"), Some(retry_after), "the client hears the service's own word");
        is_open_for(&gateway, seconds).await;
        assert_eq!(origin.count(), 1);
    }
}

fn in_seconds(seconds: i64) -> i64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    i64::try_from(now.as_secs()).expect("before the end of time") + seconds
}

#[tokio::test]
async fn of_three_targets_the_bad_one_alone_is_ejected() {
    let (one, bad, three) = (Origin::start().await, Origin::start().await, Origin::start().await);
    bad.on("/echo", Answer::bare(500));
    let gateway = gateway(&[&one, &bad, &three], "    breaker: { failures: 4 }").await;
    let mut failed = 0;
    while failed < 4 {
        failed += usize::from(post(&gateway, "/echo").await == 500);
    }
    let before = (one.count(), three.count());
    for _ in 0..30 {
        assert_eq!(post(&gateway, "/echo").await, 200);
    }
    assert!(one.count() > before.0 && three.count() > before.1);
    assert_eq!(bad.count(), 4);
    for (target, state) in [("target-1", 0.0), ("target-2", 2.0), ("target-3", 0.0)] {
        let labels = [("pool", "echo"), ("target", target)];
        assert_eq!(gateway.metric("gateway_circuit_state", &labels).await, Some(state), "{target}");
        let labels = [("pool", "echo"), ("target", target), ("to", "open")];
        let opened = gateway.metric("gateway_circuit_transitions_total", &labels).await;
        assert_eq!(opened, Some(if state > 0.0 { 1.0 } else { 0.0 }), "{target}");
    }
    assert_eq!(gateway.metric("gateway_pool_panic", &[("pool", "echo")]).await, Some(0.0));
}

#[tokio::test]
async fn all_of_them_bad_and_only_half_are_ejected() {
    let origins = [Origin::start().await, Origin::start().await, Origin::start().await, Origin::start().await];
    for origin in &origins {
        origin.on("/echo", Answer::bare(500));
    }
    let all = origins.each_ref();
    let gateway = gateway(&all, "    breaker: { failures: 2 }").await;
    for _ in 0..40 {
        assert_eq!(post(&gateway, "/echo").await, 500, "their own answers, not the gateway's");
    }
    assert_eq!(changes(&gateway, "open").await, Some(2.0));
}

#[tokio::test]
async fn it_opens_and_half_opens_and_closes_by_requests_alone() {
    let origin = Origin::start().await;
    origin.on("/echo/bad", Answer::bare(500));
    let gateway = gateway(&[&origin], "    breaker: { failures: 2, open_for: 500ms, close_after: 2 }").await;
    for _ in 0..2 {
        assert_eq!(post(&gateway, "/echo/bad").await, 500);
    }
    until_state(&gateway, 1.0).await;
    assert_eq!(changes(&gateway, "half_open").await, Some(0.0), "nobody asked yet");
    // The probe request fails: open again, for longer.
    assert_eq!(post(&gateway, "/echo/bad").await, 500);
    assert_eq!(changes(&gateway, "open").await, Some(2.0));
    until_state(&gateway, 1.0).await;
    for _ in 0..2 {
        assert_eq!(post(&gateway, "/echo").await, 200);
    }
    until_state(&gateway, 0.0).await;
    for (to, times) in [("open", 2.0), ("half_open", 2.0), ("closed", 1.0)] {
        assert_eq!(changes(&gateway, to).await, Some(times), "{to}");
    }
    for _ in 0..10 {
        assert_eq!(post(&gateway, "/echo").await, 200);
    }
}

#[tokio::test]
async fn passing_checks_close_it_without_a_request() {
    const POOL: &str = "    health: { path: /health, every: 100ms, timeout: 5s }
    breaker: { failures: 2, open_for: 500ms, close_after: 2 }";
    let origin = Origin::start().await;
    origin.on("/echo", Answer::bare(500));
    let gateway = gateway(&[&origin], POOL).await;
    for _ in 0..2 {
        assert_eq!(post(&gateway, "/echo").await, 500);
    }
    until_state(&gateway, 0.0).await;
    assert_eq!(origin.count(), 2);
    for to in ["open", "half_open", "closed"] {
        assert_eq!(changes(&gateway, to).await, Some(1.0), "{to}");
    }
}

async fn until_panic(gateway: &Gateway, panic: f64) {
    until(&format!("panic {panic}"), PATIENCE, || async {
        (gateway.metric("gateway_pool_panic", &[("pool", "echo")]).await == Some(panic)).then_some(())
    })
    .await;
}

const CHECKS: &str = "    health: { path: /health, every: 200ms, timeout: 5s, rise: 1, fall: 1 }";

#[tokio::test]
async fn in_panic_everybody_serves() {
    let origins = [Origin::start().await, Origin::start().await, Origin::start().await];
    let all = origins.each_ref();
    let gateway = gateway(&all, CHECKS).await;
    until_panic(&gateway, 0.0).await;
    all[0].set_healthy(false);
    all[1].set_healthy(false);
    until_panic(&gateway, 1.0).await;
    let before = all.map(Origin::count);
    for _ in 0..30 {
        assert_eq!(post(&gateway, "/echo").await, 200, "the checks are wrong: they all work");
    }
    for (origin, before) in all.iter().zip(before) {
        assert!(origin.count() > before);
    }
    all[1].set_healthy(true);
    until_panic(&gateway, 0.0).await;
    let before = all[0].count();
    for _ in 0..10 {
        assert_eq!(post(&gateway, "/echo").await, 200);
    }
    assert_eq!(all[0].count(), before);
}

#[tokio::test]
async fn in_panic_nobody_serves_where_the_table_says_so() {
    let origins = [Origin::start().await, Origin::start().await, Origin::start().await];
    let all = origins.each_ref();
    let gateway = gateway(&all, &format!("{CHECKS}\n    panic: fail_fast")).await;
    all[0].set_healthy(false);
    all[1].set_healthy(false);
    until_panic(&gateway, 1.0).await;
    let before = all.map(Origin::count);
    let got = gateway.client.post("/echo", &json!({})).await;
    assert_eq!(got.refusal(), (503, "SERVICE_UNAVAILABLE".to_owned()));
    assert!(got.number("retry-after") >= 1);
    assert_eq!(all.map(Origin::count), before);
    all[1].set_healthy(true);
    until_panic(&gateway, 0.0).await;
    assert_eq!(post(&gateway, "/echo").await, 200);
}
