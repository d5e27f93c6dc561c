//! Edges of HTTP/1.1 at both sides: many headers, pipelines, half-closed clients, chains of proxies, redirects.

use serde_json::json;

use crate::harness::{Answer, Gateway, GatewayConfig, Origin, P, send, table};

const ROUTES: &str = "  - { name: echo, match: { prefix: /echo, methods: [GET, POST] }, to: { pool: echo }, auth: public }
  - { name: moved, match: { prefix: /public, methods: [GET] }, to: { pool: echo, path: /internal }, auth: public }
  - { name: private, match: { prefix: /private, methods: [GET] }, to: { pool: echo } }
  - { name: json, match: { path: /json, methods: [POST] }, to: { pool: echo }, auth: public, body: { json: true, content_types: [application/json] } }
  - { name: capped, match: { path: /capped, methods: [POST] }, to: { pool: echo }, auth: public, body: { max: 1KiB } }";

async fn started() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&origin.url()], "", ROUTES))).await;
    (origin, gateway)
}

#[tokio::test]
async fn as_many_headers_as_are_allowed_are_served_by_own_pages_too() {
    let (origin, gateway) = started().await;
    // With `Host` and the two that tests of a browser would have: 95 lines, and all that are allowed by default.
    for count in [95, 100] {
        let lines: String = (3..count).map(|index| format!("X-{index}: 1\r\n")).collect();
        for path in [&format!("{P}/status"), &format!("{P}/health"), "/echo"] {
            let mut raw = gateway.raw().await;
            let own = "Host: g\r\nAccept: */*\r\nUser-Agent: it\r\n";
            raw.send(format!("GET {path} HTTP/1.1\r\n{own}{lines}\r\n").as_bytes()).await;
            let answer = raw.response().await.expect("an answer");
            assert_eq!(answer.status(), 200, "{path} with {count}: {:?}", answer.head);
            assert!(answer.head.header("x-request-id").is_some(), "{path}: {:?}", answer.head);
        }
    }
    assert_eq!(origin.last().header("x-99"), Some("1"));
}

#[tokio::test]
async fn no_redirect_shows_an_internal_host() {
    let (origin, other) = (Origin::start().await, Origin::start().await);
    let second = format!("  other:\n    targets: [{:?}]", other.url());
    let routes = format!(
        "{ROUTES}\n  - {{ name: other, match: {{ prefix: /other, methods: [GET] }}, to: {{ pool: other }}, auth: public }}"
    );
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&origin.url()], &second, &routes))).await;
    let (own, strange) = (origin.address(), other.address());
    for location in [
        format!("http://{own}/internal/x"),
        format!("HTTP://{own}/internal/x"),
        format!("//{own}/internal/x"),
        format!("http://user@{own}/internal/x"),
        format!("http://user:word@{own}/internal/x?q=1"),
        format!("//user@{own}/internal/x"),
        format!("http://{own}"),
        format!("http://{strange}/other/x"),
        format!("http://{strange}/nowhere/x"),
        format!("//{strange}/other/x"),
        format!("http://user@{strange}/other/x"),
    ] {
        origin.on("/internal/old", Answer::bare(302).header("Location", &location));
        let got = gateway.client.get("/public/old").await.expect(302);
        let shown = format!("{:?}", got.headers);
        assert!(
            !shown.contains(&own.to_string()) && !shown.contains(&strange.to_string()) && !shown.contains("user"),
            "{location}: {shown}"
        );
        let sent = got.header("location").unwrap_or("/");
        assert!(sent.starts_with('/') && !sent.starts_with("//"), "{location}: {sent}");
    }
    origin.on("/internal/old", Answer::bare(302).header("Location", "https://elsewhere.example/x"));
    let got = gateway.client.get("/public/old").await.expect(302);
    assert_eq!(got.header("location"), Some("https://elsewhere.example/x"));
}

#[tokio::test]
async fn what_a_service_says_of_its_own_network_or_of_the_user_does_not_come_back() {
    let (origin, gateway) = started().await;
    let answer = Answer::json(200, json!({})).header("Via", "1.1 inner-cache").header("X-User-Id", "7");
    let answer = answer.header("X-User-Email", "a@example.com").header("X-User-Role", "admin").header("X-Own", "yes");
    origin.on("/echo", answer);
    let got = gateway.client.get("/echo").await.expect(200);
    assert!(got.headers.get_all("via").iter().all(|value| !value.to_str().unwrap().contains("inner")), "{got:?}");
    for name in ["x-user-id", "x-user-email", "x-user-role"] {
        assert_eq!(got.header(name), None, "{name}");
    }
    assert_eq!(got.header("x-own"), Some("yes"));
}

#[tokio::test]
async fn every_refusal_forbids_guessing_its_type() {
    let (origin, gateway) = started().await;
    let post = |path: &str, kind: &str, body: Vec<u8>| {
        send(gateway.client.request("POST", path).header("content-type", kind).body(body))
    };
    let refusals = [
        (404, gateway.client.get("/none").await),
        (400, gateway.client.get("/echo%2Fx").await),
        (405, send(gateway.client.request("PUT", "/json")).await),
        (401, gateway.client.get("/private").await),
        (401, gateway.client.get(&format!("{P}/auth/me")).await),
        (415, post("/json", "text/plain", b"x".to_vec()).await),
        (400, post("/json", "application/json", b"{".to_vec()).await),
        (413, post("/capped", "text/plain", vec![b'x'; 1025]).await),
        (422, post(&format!("{P}/auth/register"), "application/json", b"{\"email\":\"no\"}".to_vec()).await),
    ];
    origin.kill().await;
    for (status, got) in refusals.into_iter().chain([(503, gateway.client.get("/echo").await)]) {
        assert_eq!((got.status, got.header("x-content-type-options")), (status, Some("nosniff")), "{}", got.text());
    }
}

#[tokio::test]
async fn requests_in_a_row_get_their_answers_in_order() {
    let (origin, gateway) = started().await;
    let mut raw = gateway.raw().await;
    raw.send(b"GET /echo/one HTTP/1.1\r\nHost: g\r\n\r\nGET /echo/two HTTP/1.1\r\nHost: g\r\n\r\n").await;
    for path in ["/echo/one", "/echo/two"] {
        let answer = raw.response().await.unwrap_or_else(|| panic!("no answer to {path}"));
        assert_eq!((answer.status(), &answer.body.json()["path"]), (200, &json!(path)));
    }
    raw.send(
        b"POST /echo/three HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\n\r\nthreeGET /none HTTP/1.1\r\nHost: g\r\n\r\n\
          GET /echo/four HTTP/1.1\r\nHost: g\r\n\r\n",
    )
    .await;
    for (path, status) in [("/echo/three", 200), ("/none", 404), ("/echo/four", 200)] {
        let answer = raw.response().await.unwrap_or_else(|| panic!("no answer to {path}"));
        assert_eq!((answer.status(), &answer.body.json()["path"]), (status, &json!(path)));
    }
    assert_eq!(origin.count(), 4);
}

#[tokio::test]
async fn a_chain_of_proxies_on_several_lines_is_one_chain() {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&table::table(&[&origin.url()], "", ROUTES));
    let gateway = Gateway::start(config.setting("trusted_proxies", json!(["127.0.0.1/32"]))).await;
    let mut raw = gateway.raw().await;
    raw.send(
        b"GET /echo HTTP/1.1\r\nHost: g\r\nX-Request-Id: chain-0001\r\nX-Forwarded-For: 192.0.2.1, 203.0.113.5\r\n\
          X-Forwarded-For: 198.51.100.7\r\n\r\n",
    )
    .await;
    assert_eq!(raw.response().await.expect("an answer").status(), 200);
    let seen = origin.last().header("x-forwarded-for").map(str::to_owned);
    assert_eq!(seen.as_deref(), Some("192.0.2.1, 203.0.113.5, 198.51.100.7, 127.0.0.1"));
    let line = gateway.access_line(|line| line["request_id"] == "chain-0001").await;
    assert_eq!(line["client"], "198.51.100.7", "{line}");
}

#[tokio::test]
async fn two_lengths_are_refused_and_end_the_connection() {
    let (origin, gateway) = started().await;
    for lengths in [
        "Content-Length: 4\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 0\r\nContent-Length: 4",
    ] {
        let mut raw = gateway.raw().await;
        let smuggled = "GET /echo/smuggled HTTP/1.1\r\nHost: g\r\n\r\n";
        let request = format!("POST /echo HTTP/1.1\r\nHost: g\r\n{lengths}\r\n\r\nbody{smuggled}");
        raw.send(request.as_bytes()).await;
        assert_eq!(raw.response().await.expect("a refusal").status(), 400, "{lengths}");
        assert!(raw.response().await.is_none(), "{lengths}: the connection goes on");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn the_flood_guard_counts_what_no_route_takes() {
    let origin = Origin::start().await;
    let routes = table::table(&[&origin.url()], "", ROUTES);
    let routes = table::with_top(&routes, "flood_guard: { rate: 5/min, burst: 0 }");
    let gateway = Gateway::start(GatewayConfig::table(&routes)).await;
    for request in 0..5 {
        assert_eq!(gateway.client.get("/nope").await.status, 404, "request {request}");
    }
    let got = gateway.client.get("/nope").await;
    assert_eq!(got.refusal(), (429, "RATE_LIMIT_EXCEEDED".to_owned()));
    assert!((1..=60).contains(&got.number("retry-after")), "{:?}", got.headers);
    assert_eq!(gateway.client.get("/echo").await.status, 429);
    assert_eq!(origin.count(), 0);
}
