//! Health, as pages show it and as routing uses it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::harness::client::RawClient;
use crate::harness::{Gateway, GatewayConfig, Origin, P, PATIENCE, Services, table, until};

async fn until_overall(gateway: &Gateway, status: &str) -> serde_json::Value {
    until(&format!("overall {status}"), PATIENCE, || async {
        let body = gateway.client.health().await.expect(200).json();
        (body["status"] == status).then_some(body)
    })
    .await
}

#[tokio::test]
async fn the_aggregate_tells_all_some_none() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let body = until_overall(&gateway, "healthy").await;
    for service in ["cv_parser", "job_parser", "matching"] {
        let one = &body["services"][service];
        assert_eq!((&one["service_name"], &one["status"]), (&service.into(), &"healthy".into()), "{body}");
        assert!(one["response_time"].as_f64().is_some_and(|seconds| (0.0..5.0).contains(&seconds)), "{one}");
        assert!(one["last_check"].is_string() && one["error"].is_null(), "{one}");
        assert_eq!(one["version"], "1.2.3");
    }
    for field in ["name", "version", "environment", "debug_mode", "services_managed"] {
        assert!(!body["gateway_info"][field].is_null(), "{field} in {body}");
    }
    assert_eq!(body["performance_metrics"]["healthy_services_ratio"].as_f64(), Some(1.0));
    assert!(body["performance_metrics"]["gateway_uptime"].as_f64().is_some_and(|seconds| seconds < 300.0));
    assert!(body["timestamp"].is_string());

    services.matching.set_healthy(false);
    let body = until_overall(&gateway, "degraded").await;
    assert_eq!(
        (&body["services"]["matching"]["status"], &body["services"]["cv_parser"]["status"]),
        (&"unhealthy".into(), &"healthy".into())
    );
    services.cv_parser.set_healthy(false);
    services.job_parser.set_healthy(false);
    until_overall(&gateway, "unhealthy").await;
    gateway.client.status().await.expect(200);
    for origin in [&services.matching, &services.cv_parser, &services.job_parser] {
        origin.set_healthy(true);
    }
    until_overall(&gateway, "healthy").await;
}

#[tokio::test]
async fn each_service_has_its_page_without_addresses() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let address = services.cv_parser.address().to_string();
    let got = gateway.client.get(&format!("{P}/health/cv_parser")).await.expect(200);
    let body = got.json();
    assert_eq!(body["service"], "cv_parser");
    let (label, target) = body["health"].as_object().and_then(|all| all.iter().next()).expect("a target");
    assert!(!label.contains("127.0.0.1"), "{label}");
    assert_eq!(
        (&target["status"], &target["status_code"], &target["circuit_breaker"]),
        (&"healthy".into(), &200.into(), &"closed".into())
    );
    for path in ["/health", "/health/cv_parser", "/status", ""] {
        let text = gateway.client.get(&format!("{P}{path}")).await.text();
        assert!(!text.contains(&address) && !text.contains("127.0.0.1"), "{path}: {text}");
    }
    let admin = gateway.user("admin").await;
    let detailed = gateway.client.get_as(&admin, &format!("{P}/health/detailed/all")).await.expect(200);
    assert!(detailed.text().contains(&address), "{}", detailed.text());

    services.cv_parser.kill().await;
    // The aggregate has no limit that looking again would spend.
    until_overall(&gateway, "degraded").await;
    let got = gateway.client.get(&format!("{P}/health/cv_parser")).await.expect(503);
    assert!(!got.text().contains(&address), "{}", got.text());
    gateway.client.get(&format!("{P}/health/nobody")).await.expect(404);
    let history = gateway.client.get_as(&admin, &format!("{P}/health/history")).await.expect(200);
    assert!(history.text().contains("cv_parser"), "{}", history.text());
}

#[tokio::test]
async fn probes_are_really_sent_and_pages_send_none() {
    let (services, gateway) = Services::behind_a_gateway().await;
    assert!(services.cv_parser.probes() > 0 && services.job_parser.probes() > 0 && services.matching.probes() > 0);
    let before = services.cv_parser.probes();
    until("three more probes", PATIENCE, || async { (services.cv_parser.probes() >= before + 3).then_some(()) }).await;

    let quiet = Origin::start().await;
    let pool = "    health: { path: /health, every: 60s, timeout: 2s }";
    let gateway_two = Gateway::start(GatewayConfig::table(&table::table(&[&quiet.url()], pool, table::ECHO))).await;
    for _ in 0..5 {
        gateway_two.client.health().await.expect(200);
        gateway_two.metrics().await;
    }
    assert_eq!(quiet.probes(), 1, "a page asked the service");
    drop(gateway);
}

#[tokio::test]
async fn a_new_round_can_be_asked_for() {
    let services = Services::start().await;
    let gateway = Gateway::start(services.config().env("HEALTH_CHECK_INTERVAL", "60")).await;
    let admin = gateway.user("admin").await;
    let before = services.matching.probes();
    gateway.client.post_as(&admin, &format!("{P}/health/reset-cache"), &serde_json::json!({})).await.expect(200);
    until("a new probe", PATIENCE, || async { (services.matching.probes() > before).then_some(()) }).await;
}

#[tokio::test]
async fn the_gateway_starts_and_answers_with_every_service_down() {
    let services = Services::start().await;
    let config = services.config();
    for origin in [services.cv_parser, services.job_parser, services.matching] {
        origin.kill().await;
    }
    let gateway = Gateway::start(config).await;
    gateway.client.status().await.expect(200);
    gateway.admin.get("/livez").await.expect(200);
    until_overall(&gateway, "unhealthy").await;
    let user = gateway.user("candidat").await;
    let got = gateway.client.algorithms(&user).await;
    assert_eq!(got.refusal(), (503, "SERVICE_UNAVAILABLE".to_owned()));
}

#[tokio::test]
async fn a_dead_target_is_taken_out_and_comes_back() {
    let (stays, dies) = (Origin::start().await, Origin::start().await);
    let pool = "    health: { path: /health, every: 200ms, timeout: 1s, rise: 1, fall: 2 }";
    let gateway =
        Gateway::start(GatewayConfig::table(&table::table(&[&stays.url(), &dies.url()], pool, table::ECHO))).await;
    for _ in 0..10 {
        gateway.client.get("/echo").await.expect(200);
    }
    assert_eq!((stays.count(), dies.count()), (5, 5), "round robin");
    let port = dies.kill().await;
    until("the dead target to be out", PATIENCE, || async {
        (gateway.metric("gateway_target_healthy", &[("pool", "echo")]).await == Some(1.0)).then_some(())
    })
    .await;
    for _ in 0..20 {
        gateway.client.get("/echo").await.expect(200);
    }
    let back = Origin::start_at(port).await;
    until("traffic at the target that came back", PATIENCE, || async {
        gateway.client.get("/echo").await.expect(200);
        (back.count() > 0).then_some(())
    })
    .await;
}

/// What one sender of the case below has seen.
#[derive(Default)]
struct Seen {
    before: Mutex<Vec<String>>,
    after: Mutex<Vec<String>>,
    good_after: AtomicUsize,
    out: AtomicBool,
    stop: AtomicBool,
}

/// GETs one after the other on a connection until told to stop; a lost connection is a failure, and replaced.
async fn keep_asking(address: std::net::SocketAddr, seen: Arc<Seen>) {
    let mut raw = RawClient::connect(address).await;
    while !seen.stop.load(Ordering::SeqCst) {
        // Judged by when it was sent: one sent before may still meet the dead target after.
        let after = seen.out.load(Ordering::SeqCst);
        raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let answer = raw.response().await;
        match &answer {
            Some(answer) if answer.status() == 200 => {
                seen.good_after.fetch_add(usize::from(after), Ordering::SeqCst);
            }
            other => {
                let failures = if after { &seen.after } else { &seen.before };
                let said =
                    other.as_ref().map_or("closed".to_owned(), |one| format!("{} {}", one.status(), one.body.text()));
                failures.lock().unwrap().push(said);
            }
        }
        let goes_on = answer.is_some_and(|answer| !answer.head.all("connection").contains(&"close"));
        if !goes_on {
            raw = RawClient::connect(address).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_killed_under_load_fails_few_requests_and_none_once_it_is_out() {
    const SENDERS: usize = 16;
    let (stays, dies) = (Origin::start().await, Origin::start().await);
    let pool = "    health: { path: /health, every: 200ms, timeout: 1s, rise: 1, fall: 2 }\n    breaker: { failures: 5 }\n    retries: { max: 0 }";
    let gateway =
        Gateway::start(GatewayConfig::table(&table::table(&[&stays.url(), &dies.url()], pool, table::ECHO))).await;
    let seen = Arc::new(Seen::default());
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..SENDERS {
        senders.spawn(keep_asking(gateway.address, seen.clone()));
    }
    dies.wait_count(200).await;
    dies.kill().await;
    until("the dead target to be out", PATIENCE, || async {
        (gateway.metric("gateway_target_healthy", &[("pool", "echo")]).await == Some(1.0)).then_some(())
    })
    .await;
    seen.out.store(true, Ordering::SeqCst);
    until("many requests after that", PATIENCE, || async {
        (seen.good_after.load(Ordering::SeqCst) + seen.after.lock().unwrap().len() >= 1000).then_some(())
    })
    .await;
    seen.stop.store(true, Ordering::SeqCst);
    senders.join_all().await;
    let (before, after) = (seen.before.lock().unwrap().clone(), seen.after.lock().unwrap().clone());
    println!("failures before the checks took the target out: {} {before:?}", before.len());
    assert!(after.is_empty(), "failures after the target was out: {after:?}");
    // Without retries: the breaker's five, and what the senders had on its way there when it opened.
    assert!(before.len() <= SENDERS + 5, "{} failures: {before:?}", before.len());
    for _ in 0..20 {
        gateway.client.get("/echo").await.expect(200);
    }
}
