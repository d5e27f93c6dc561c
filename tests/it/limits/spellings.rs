//! Attempts to ask for the same thing so that it counts as another, or so fast that it does not count at all. None of them
//! may be worth a token.

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::client::RawResponse;
use crate::harness::http2::{H2Client, answer};
use crate::harness::{Answer, Client, Gateway, GatewayConfig, Origin, send, table};

/// Nothing flows in during a case.
const LIMITS: &str = "limits:
  few: { by: address, rate: 5/day, burst: 0 }
flood_guard: { rate: 50/day, burst: 0 }";

const ROUTES: &str = "  - { name: a, match: { path: /a, methods: [GET, POST, PUT, PATCH, DELETE] }, to: { pool: echo }, auth: public, limits: [few], body: { max: 10B, json: true } }
  - { name: offer, match: { path: '/offers/{id}', methods: [GET] }, to: { pool: echo }, auth: public, limits: [few] }
  - { name: files, match: { prefix: /files, methods: [GET] }, to: { pool: echo }, auth: public, limits: [few] }";

const CAPACITY: usize = 5;

async fn started() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let text = table::with_top(&table::table(&[&origin.url()], "", ROUTES), LIMITS);
    let config = GatewayConfig::table(&text)
        .setting("trusted_proxies", json!(["127.0.0.1/32"]))
        .setting("listen", json!({ "http2": true }));
    let gateway = Gateway::start(config).await;
    (origin, gateway)
}

/// A request of this client, written as it is.
async fn raw(gateway: &Gateway, client: &str, line: &str, more: &str) -> RawResponse {
    let mut raw = gateway.raw().await;
    let head = format!("{line} HTTP/1.1\r\nHost: g\r\nX-Forwarded-For: {client}\r\n{more}\r\n");
    raw.send(head.as_bytes()).await;
    raw.response_to(line.split(' ').next().unwrap_or_default()).await.expect("an answer")
}

fn remaining(answer: &RawResponse) -> Option<&str> {
    answer.head.header("x-ratelimit-remaining")
}

#[tokio::test]
async fn each_spelling_of_a_path_is_the_route_s_or_refused() {
    let (origin, gateway) = started().await;
    for (index, (path, status)) in [
        ("/a", 200),
        ("/a/", 200),
        ("/%61", 200),
        ("/a?", 200),
        ("/a?x=1", 200),
        ("/a/?x=%2F", 200),
        ("http://g/a", 200),
        ("http://elsewhere:99/a", 400),
        ("//a", 400),
        ("/a//", 400),
        ("/./a", 400),
        ("/a/.", 400),
        ("/b/../a", 400),
        ("/%2e/a", 400),
        ("/a%2F", 400),
        ("/%2561", 404),
        ("/a%00", 400),
        ("/a\\", 400),
        ("/A", 404),
        ("/%41", 404),
        ("/a;x=1", 404),
        ("/a%20", 404),
        ("/a%3Fx", 404),
        ("/a.json", 404),
    ]
    .into_iter()
    .enumerate()
    {
        let client = format!("198.51.100.{index}");
        let got = raw(&gateway, &client, &format!("GET {path}"), "").await;
        assert_eq!(got.status(), status, "{path}: {}", got.body.text());
        assert_eq!(remaining(&got), (status == 200).then_some("4"), "{path}");
        // The same bucket: the next request as the route is written finds one token less.
        let plain = raw(&gateway, &client, "GET /a", "").await;
        assert_eq!(remaining(&plain), Some(if status == 200 { "3" } else { "4" }), "{path}");
    }
    assert!(origin.received().iter().all(|one| one.path().starts_with("/a")), "nothing else reached the service");
}

#[tokio::test]
async fn paths_below_a_prefix_and_parameters_share_the_route_s_bucket() {
    let (_origin, gateway) = started().await;
    for (client, paths) in [
        (
            "198.51.100.1",
            ["/offers/1", "/offers/2", "/offers/%33", "/offers/4/", "/offers/5?x", "/offers/6", "/offers/-"],
        ),
        ("198.51.100.2", ["/files", "/files/", "/files/a", "/files/a/b", "/files/%41", "/files/A?x", "/files/z"]),
    ] {
        for (round, path) in paths.into_iter().enumerate() {
            let got = raw(&gateway, client, &format!("GET {path}"), "").await;
            assert_eq!(got.status(), if round < CAPACITY { 200 } else { 429 }, "{path}");
        }
    }
}

#[tokio::test]
async fn methods_of_a_route_share_its_bucket() {
    let (_origin, gateway) = started().await;
    let body = "Content-Length: 2\r\n\r\n{}";
    let asked =
        [("GET", ""), ("HEAD", ""), ("POST", body), ("PUT", body), ("DELETE", body), ("PATCH", body), ("HEAD", "")];
    for (round, (method, more)) in asked.into_iter().enumerate() {
        let mut connection = gateway.raw().await;
        let more = if more.is_empty() { "\r\n" } else { more };
        let head = format!(
            "{method} /a HTTP/1.1\r\nHost: g\r\nX-HTTP-Method-Override: TRACE\r\nX-Forwarded-For: 198.51.100.1\r\n{more}"
        );
        connection.send(head.as_bytes()).await;
        let got = connection.response_to(method).await.expect("an answer");
        assert_eq!(got.status(), if round < CAPACITY { 200 } else { 429 }, "{method}");
    }
    for method in ["get", "Get", "TRACE", "OPTIONS", "FOO", "CONNECT"] {
        let got = raw(&gateway, "198.51.100.1", &format!("{method} /a"), "").await;
        assert!(matches!(got.status(), 400 | 405), "{method}: {}", got.status());
    }
}

#[tokio::test]
async fn what_fails_later_has_cost_its_token() {
    let (origin, gateway) = started().await;
    origin.on("/a", Answer::json(500, json!({})));
    let client = "198.51.100.1";
    for (line, more, status) in [
        ("GET /a", "", 500),
        ("POST /a", "Content-Length: 11\r\n", 413),
        ("POST /a", "Content-Length: 1\r\n\r\n{", 400),
        ("POST /a", "Content-Length: 0\r\n", 400),
        ("POST /a", "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{}", 100),
        ("GET /a", "", 429),
    ] {
        let mut connection = gateway.raw().await;
        let end = if more.contains("\r\n\r\n") { "" } else { "\r\n" };
        connection
            .send(format!("{line} HTTP/1.1\r\nHost: g\r\nX-Forwarded-For: {client}\r\n{more}{end}").as_bytes())
            .await;
        let got = connection.response().await.expect("an answer");
        assert_eq!(got.status(), status, "{line} {more}: {}", got.body.text());
    }
}

#[tokio::test]
async fn parallel_connections_get_what_one_would() {
    let (_origin, gateway) = started().await;
    let ask = || async {
        let client = Client::new(gateway.address); // with a connection of its own
        send(client.request("GET", "/a").header("x-forwarded-for", "198.51.100.1")).await.status
    };
    let statuses = join_all((0..40).map(|_| ask())).await;
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!((passed, statuses.iter().filter(|status| **status == 429).count()), (CAPACITY, 35), "{statuses:?}");
}

#[tokio::test]
async fn pipelined_requests_are_counted_one_by_one() {
    let (_origin, gateway) = started().await;
    let mut raw = gateway.raw().await;
    raw.send("GET /a HTTP/1.1\r\nHost: g\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n".repeat(20).as_bytes()).await;
    for round in 0..20 {
        let got = raw.response().await.expect("an answer");
        assert_eq!(got.status(), if round < CAPACITY { 200 } else { 429 }, "request {round}");
    }
}

#[tokio::test]
async fn streams_of_http2_in_parallel_get_what_one_would() {
    let (_origin, gateway) = started().await;
    let mut clients = [H2Client::connect(gateway.address).await, H2Client::connect(gateway.address).await];
    let mut streams = Vec::new();
    for round in 0..30 {
        let path = ["/a", "/a/", "/%61", "/a?x"][round % 4];
        let method = ["GET", "HEAD"][round % 2];
        let headers = [("x-forwarded-for", "198.51.100.1")];
        streams.push(clients[round % 2].begin(method, path, &headers, true).await.0);
    }
    let statuses = join_all(streams.into_iter().map(answer)).await;
    let statuses: Vec<u16> = statuses.into_iter().map(|got| got.expect("an answer").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), CAPACITY, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
}

#[tokio::test]
async fn whatever_is_refused_earlier_counts_for_the_flood_guard() {
    let (origin, gateway) = started().await;
    let variants = ["GET //a", "GET /./a", "GET /A", "GET /%2561", "TRACE /a", "GET /nowhere", "OPTIONS /a", "GET /a"];
    let mut answered = 0;
    for round in 0..60 {
        let got = raw(&gateway, "198.51.100.1", variants[round % variants.len()], "").await;
        let spent = got.status() == 429 && remaining(&got).is_none(); // by no policy of the route
        answered += usize::from(!spent);
        if spent {
            // 50/day: a token each 1728 s.
            let wait: u64 = got.head.header("retry-after").expect("a wait").parse().expect("seconds");
            assert!((1_728 - 60..=1_728).contains(&wait), "{wait}");
            assert_eq!(got.body.json()["retry_after"], json!(wait));
        }
    }
    assert_eq!(answered, 50);
    assert_eq!(origin.count(), CAPACITY);
}
