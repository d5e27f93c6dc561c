//! What operators see: metrics and the access log.

use serde_json::json;

use crate::harness::{Gateway, P, Services, send};

/// Names of the contract, section 8, and the ones that this stage adds.
const KEPT: [&str; 6] = [
    "supersmartmatch_gateway_up",
    "supersmartmatch_service_up",
    "supersmartmatch_service_response_time",
    "supersmartmatch_gateway_health_check_duration",
    "supersmartmatch_gateway_healthy_services_ratio",
    "supersmartmatch_circuit_breaker_failures",
];
const NEW: [&str; 6] = [
    "http_server_request_duration_seconds",
    "gateway_requests_total",
    "gateway_rejections_total",
    "gateway_target_healthy",
    "gateway_config_generation",
    "gateway_config_last_reload_successful",
];

#[tokio::test]
async fn the_metrics_are_there_with_help_and_type() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let user = gateway.user("candidat").await;
    gateway.client.algorithms(&user).await.expect(200);
    gateway.client.get(&format!("{P}/auth/me")).await.expect(401);
    let got = gateway.client.get(&format!("{P}/metrics")).await.expect(200);
    assert!(got.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    let page = got.text();
    for name in KEPT.iter().chain(&NEW) {
        assert!(page.contains(&format!("# HELP {name} ")) && page.contains(&format!("# TYPE {name} ")), "{name}");
    }
    for service in ["cv_parser", "job_parser", "matching"] {
        assert_eq!(gateway.metric("supersmartmatch_service_up", &[("service", service)]).await, Some(1.0), "{service}");
    }
    assert_eq!(gateway.metric("supersmartmatch_gateway_up", &[]).await, Some(1.0));
    assert_eq!(gateway.metric("supersmartmatch_gateway_healthy_services_ratio", &[]).await, Some(1.0));
    assert_eq!(gateway.metric("gateway_rejections_total", &[("code", "MISSING_TOKEN")]).await, Some(1.0));
    let before = services.count();
    for _ in 0..3 {
        gateway.metrics().await;
    }
    assert_eq!(services.count(), before, "a scrape called a service");
    for secret in [user.email.as_str(), user.access.as_str()] {
        assert!(!page.contains(secret));
    }
}

#[tokio::test]
async fn no_label_comes_from_traffic() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    for path in ["/invented-1", "/invented-2", "/api/gateway/match/invented-3"] {
        gateway.client.get(path).await.expect(404);
        send(gateway.client.request("BREW", path)).await;
    }
    let page = gateway.metrics().await;
    assert!(!page.contains("invented") && !page.contains("BREW"), "{page}");
}

#[tokio::test]
async fn metrics_are_only_for_known_networks() {
    let services = Services::start().await;
    let config = services.config().setting("trusted_proxies", json!(["127.0.0.1/32"]));
    let gateway = Gateway::start(config).await;
    let ask = |from: &'static str| {
        send(gateway.client.request("GET", &format!("{P}/metrics")).header("x-forwarded-for", from))
    };
    assert_eq!(ask("203.0.113.9").await.status, 403);
    assert_eq!(ask("2001:db8::9").await.status, 403);
    for private in ["10.1.2.3", "192.168.0.9", "172.20.0.1", "127.0.0.9"] {
        assert_eq!(ask(private).await.status, 200, "{private}");
    }
}

#[tokio::test]
async fn one_line_per_request_and_nothing_secret() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let user = gateway.user("candidat").await;
    let ask = |path: &str, id: &str| gateway.client.as_user(&user, "GET", path).header("x-request-id", id);
    send(ask(&format!("{P}/match/algorithms?password=hunter2&token=abc"), "line-0001")).await.expect(200);
    send(ask(&format!("{P}/match/none?password=hunter2"), "line-0002")).await.expect(404);
    send(gateway.client.request("GET", &format!("{P}/auth/me?password=hunter2")).header("x-request-id", "line-0003"))
        .await
        .expect(401);
    let line = gateway.access_line(|line| line["request_id"] == "line-0001").await;
    assert_eq!((&line["method"], &line["status"]), (&json!("GET"), &json!(200)));
    assert_eq!(line["path"], format!("{P}/match/algorithms"));
    assert!(line["route"].is_string() && line["ts"].is_string(), "{line}");
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["upstream"]["pool"], "matching");
    assert_eq!(line["upstream"]["status"], 200);
    assert!(line.to_string().contains("candidat"), "no role in {line}");
    let missed = gateway.access_line(|line| line["request_id"] == "line-0002").await;
    assert_eq!((&missed["status"], &missed["code"]), (&json!(404), &json!("NOT_FOUND")));
    let refused = gateway.access_line(|line| line["request_id"] == "line-0003").await;
    assert_eq!((&refused["status"], &refused["code"]), (&json!(401), &json!("MISSING_TOKEN")));
    for id in ["line-0001", "line-0002", "line-0003"] {
        let lines = gateway.access_log().into_iter().filter(|line| line["request_id"] == id).count();
        assert_eq!(lines, 1, "{id}");
    }
    everything_is_discreet(
        &gateway,
        &[&user.access, &user.refresh, &user.password, "hunter2", &gateway.secret, "token=abc"],
    );
}

fn everything_is_discreet(gateway: &Gateway, secrets: &[&str]) {
    let written = format!("{}\n{}", gateway.written(), gateway.said());
    for secret in secrets {
        assert!(!written.contains(secret), "{secret} was logged");
    }
}

#[tokio::test]
async fn a_line_cannot_be_forged() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let mut raw = gateway.raw().await;
    raw.send(
        b"GET /x%0A%7B%22forged%22:1%7D HTTP/1.1\r\nHost: g\r\nUser-Agent: a\"b\\\r\nX-Request-Id: forge-0001\r\n\r\n",
    )
    .await;
    let status = raw.response().await.expect("an answer").status();
    assert!((400..500).contains(&status));
    gateway.client.status().await.expect(200);
    gateway.access_line(|line| line["path"] == format!("{P}/status")).await;
    for line in gateway.written().lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line.get("forged").is_none()),
            "{line}"
        );
    }
}
