//! `Idempotency-Key` in one process: what was done once is not done again.

use reqwest::RequestBuilder;
use serde_json::json;

use crate::harness::gateway::sum;
use crate::harness::{
    Answer, Gateway, GatewayConfig, Got, Hold, Origin, PATIENCE, Reloaded, multipart, send, table, until,
};

const ROUTES: &str = "  - { name: orders, match: { path: /orders, methods: [GET, POST, PUT] }, to: { pool: echo }, auth: public, idempotency: {}, body: { max: 1MiB } }
  - { name: others, match: { path: /others, methods: [POST] }, to: { pool: echo }, auth: public, idempotency: { required: true, ttl: 1h } }
  - { name: own, match: { path: /own, methods: [POST] }, to: { pool: echo }, auth: required, limits: [few], idempotency: {} }
  - { name: json, match: { path: /json, methods: [POST] }, to: { pool: echo }, auth: public, body: { json: true }, idempotency: {} }
  - { name: large, match: { path: /large, methods: [POST] }, to: { pool: echo }, auth: public, idempotency: { max_answer: 4MiB } }
  - { name: upload, match: { path: /upload, methods: [POST] }, to: { pool: echo }, auth: public, body: { max: 50MiB }, idempotency: {} }
  - { name: plain, match: { path: /plain, methods: [POST] }, to: { pool: echo }, auth: public }
limits: { few: { by: user, rate: 100/min, burst: 0 } }";

async fn started() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let pool = "    breaker: { failures: 0 }";
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&origin.url()], pool, ROUTES))).await;
    (origin, gateway)
}

fn post(gateway: &Gateway, path: &str, key: &str, body: &str) -> RequestBuilder {
    let request = gateway.client.request("POST", path).header("idempotency-key", key);
    request.header("content-type", "application/json").body(body.to_owned())
}

async fn order(gateway: &Gateway, key: &str) -> Got {
    send(post(gateway, "/orders", key, "{\"n\":1}")).await
}

async fn counted(gateway: &Gateway, route: &str, result: &str) -> f64 {
    let labels = [("route", route), ("result", result)];
    gateway.metric("gateway_idempotency_total", &labels).await.unwrap_or(-1.0)
}

fn replayed(got: &Got) -> bool {
    got.header("idempotency-replayed") == Some("true")
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_with_headers_of_its_own() {
    let (origin, gateway) = started().await;
    let answer = Answer::json(201, json!({"order": 7})).header("Set-Cookie", "a=1").header("Set-Cookie", "b=2");
    origin.on("/own", answer.header("Location", "/orders/7").header("X-Powered-By", "inner"));
    let user = gateway.user("candidat").await;
    let ask = || {
        let request = gateway.client.as_user(&user, "POST", "/own").header("origin", "http://localhost:3000");
        send(request.header("idempotency-key", "\"8e03978e\"").json(&json!({"n": 1})))
    };
    let (first, second) = (ask().await.expect(201), ask().await.expect(201));
    assert_eq!(origin.count(), 1);
    assert_eq!(origin.last().header("idempotency-key"), Some("\"8e03978e\""));
    assert!(!replayed(&first) && replayed(&second));
    assert_eq!(first.body, second.body);
    for name in ["content-type", "location", "content-length"] {
        assert_eq!(first.header(name), second.header(name), "{name}");
    }
    let cookies: Vec<_> = second.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(second.header("x-powered-by"), None);
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    assert_eq!(second.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert!(second.header("access-control-expose-headers").unwrap().contains("Idempotency-Replayed"));
    assert_eq!(first.number("x-ratelimit-remaining"), 1 + second.number("x-ratelimit-remaining"));
    assert_eq!(second.header("cache-control"), Some("no-store"));
    assert_eq!((counted(&gateway, "own", "stored").await, counted(&gateway, "own", "replayed").await), (1.0, 1.0));
    let line = gateway.access_line(|line| line["request_id"] == second.header("x-request-id").unwrap()).await;
    assert!(line["upstream"].is_null(), "{line}");
}

#[tokio::test]
async fn keys_that_are_none_are_refused_and_other_methods_need_none() {
    let (origin, gateway) = started().await;
    let long = "k".repeat(256);
    for wrong in ["", "a b", "a,b", "\"open", long.as_str()] {
        assert_eq!(order(&gateway, wrong).await.refusal(), (400, "INVALID_IDEMPOTENCY_KEY".into()), "{wrong}");
    }
    let twice = post(&gateway, "/orders", "a", "").header("idempotency-key", "a");
    assert_eq!(send(twice).await.refusal(), (400, "INVALID_IDEMPOTENCY_KEY".into()));
    let missing = send(gateway.client.request("POST", "/others").header("accept-language", "en")).await;
    assert_eq!(missing.refusal(), (400, "MISSING_IDEMPOTENCY_KEY".into()));
    assert_eq!(missing.json()["message"], "Idempotency-Key header required");
    assert_eq!(origin.count(), 0);
    for _ in 0..2 {
        send(gateway.client.request("POST", "/orders")).await.expect(200);
        send(gateway.client.request("GET", "/orders").header("idempotency-key", "a b")).await.expect(200);
        send(post(&gateway, "/plain", "same", "")).await.expect(200);
    }
    assert_eq!(origin.count(), 6);
}

#[tokio::test]
async fn a_duplicate_in_flight_is_refused_at_once() {
    let (origin, gateway) = started().await;
    let hold = Hold::new();
    origin.on("/orders", Answer::json(200, json!({})).held(&hold));
    let first = tokio::spawn(send(post(&gateway, "/orders", "k", "{\"n\":1}")));
    origin.wait_count(1).await;
    let second = order(&gateway, "k").await;
    assert_eq!(second.refusal(), (409, "IDEMPOTENCY_IN_FLIGHT".into()));
    assert!(second.number("retry-after") >= 1);
    // Without a byte of its body: nobody needs that to know.
    let mut raw = gateway.raw().await;
    raw.send(b"POST /orders HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: 7\r\n\r\n").await;
    assert_eq!(raw.response().await.unwrap().status(), 409);
    hold.release();
    first.await.unwrap().expect(200);
    assert!(replayed(&order(&gateway, "k").await.expect(200)));
    assert_eq!((origin.count(), counted(&gateway, "orders", "in_flight").await), (1, 2.0));
}

#[tokio::test]
async fn twenty_at_once_are_done_once() {
    let (origin, gateway) = started().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        tasks.spawn(send(post(&gateway, "/orders", "k", "{\"n\":1}")));
    }
    let answers = tasks.join_all().await;
    assert_eq!(origin.count(), 1);
    assert!(answers.iter().all(|got| got.status == 409 || got.status == 200), "{answers:?}");
    assert_eq!(answers.iter().filter(|got| got.status == 200 && !replayed(got)).count(), 1);
}

#[tokio::test]
async fn another_payload_under_the_key_is_422() {
    let (origin, gateway) = started().await;
    order(&gateway, "k").await.expect(200);
    let others = [
        post(&gateway, "/orders", "k", "{\"n\":2}"),
        post(&gateway, "/orders", "k", ""),
        post(&gateway, "/orders?x=1", "k", "{\"n\":1}"),
        gateway.client.request("POST", "/orders").header("idempotency-key", "k").body("{\"n\":1}"),
        gateway.client.request("PUT", "/orders").header("idempotency-key", "k").json(&json!({"n": 1})),
    ];
    for other in others {
        let got = send(other.header("accept-language", "fr")).await;
        assert_eq!(got.refusal(), (422, "IDEMPOTENCY_MISMATCH".into()));
        assert!(got.json()["message"].as_str().unwrap().starts_with("Clé d'idempotence"));
    }
    assert!(replayed(&order(&gateway, "k").await.expect(200)));
    assert_eq!((origin.count(), counted(&gateway, "orders", "mismatch").await), (1, 5.0));
}

#[tokio::test]
async fn nobody_gets_the_answer_of_another() {
    let (origin, gateway) = started().await;
    let (one, two) = (gateway.fresh_user("candidat").await, gateway.fresh_user("candidat").await);
    for user in [&one, &two] {
        let request = gateway.client.as_user(user, "POST", "/own").header("idempotency-key", "k");
        assert!(!replayed(&send(request.json(&json!({}))).await.expect(200)));
    }
    assert_eq!(origin.count(), 2);
    send(post(&gateway, "/orders", "k", "{}")).await.expect(200);
    assert!(!replayed(&send(post(&gateway, "/others", "k", "{}")).await.expect(200)));
    assert_eq!(origin.count(), 4);
}

#[tokio::test]
async fn what_failed_may_be_tried_again() {
    let (origin, gateway) = started().await;
    let failures =
        [(Answer::bare(500), 500), (Answer::bare(503), 503), (Answer::bare(429), 429), (Answer::bare(408), 408)];
    for (answer, status) in failures {
        origin.on("/orders", answer);
        order(&gateway, "k").await.expect(status);
    }
    origin.on("/orders", Answer::json(404, json!({"none": true})));
    let last = until("the key to be free", PATIENCE, || async {
        let got = order(&gateway, "k").await;
        (got.status != 409).then_some(got)
    })
    .await;
    assert!(!replayed(&last.expect(404)));
    assert!(replayed(&order(&gateway, "k").await.expect(404)));
    // A key makes a POST one that is sent again: after 503, twice.
    assert_eq!((origin.count(), counted(&gateway, "orders", "freed").await), (5 + 2, 4.0));
}

#[tokio::test]
async fn what_was_sent_whole_and_never_answered_whole_is_not_done_again() {
    let (origin, gateway) = started().await;
    origin.on("/orders", Answer::raw(b"nonsense\r\n\r\n"));
    order(&gateway, "nonsense").await.expect(502);
    origin.on("/orders", Answer::cut(100, b"half"));
    assert!(crate::harness::try_send(post(&gateway, "/orders", "cut", "{\"n\":1}")).await.is_err());
    until("both ends", PATIENCE, || async { (counted(&gateway, "orders", "unknown").await >= 2.0).then_some(()) })
        .await;
    let count = origin.count();
    origin.on("/orders", Answer::json(200, json!({})));
    for key in ["nonsense", "cut"] {
        let got = order(&gateway, key).await;
        assert_eq!(got.refusal(), (409, "IDEMPOTENCY_IN_FLIGHT".into()), "{key}");
        assert!(got.number("retry-after") >= 1);
    }
    assert_eq!((origin.count(), counted(&gateway, "orders", "freed").await), (count, 0.0));
}

#[tokio::test]
async fn a_request_that_reached_no_target_frees_its_key() {
    let nobody = crate::harness::gateway::free_port();
    let pool = "    breaker: { failures: 0 }";
    let url = format!("http://127.0.0.1:{nobody}");
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&url], pool, ROUTES))).await;
    for _ in 0..2 {
        let got = order(&gateway, "k").await;
        assert!(got.status >= 502, "{}", got.status);
    }
    assert_eq!((counted(&gateway, "orders", "freed").await, counted(&gateway, "orders", "unknown").await), (2.0, 0.0));
}

#[tokio::test]
async fn strangers_behind_one_address_have_keys_of_their_own() {
    let (origin, gateway) = started().await;
    let by =
        |name: &'static str, value: &'static str| send(post(&gateway, "/orders", "k", "{\"n\":1}").header(name, value));
    assert!(!replayed(&by("cookie", "session=one").await.expect(200)));
    assert!(!replayed(&by("cookie", "session=two").await.expect(200)));
    assert_eq!(origin.count(), 2);
    assert!(replayed(&by("cookie", "session=one").await.expect(200)));
    assert!(!replayed(&by("authorization", "Basic b25lOm9uZQ==").await.expect(200)));
    assert!(!replayed(&order(&gateway, "k").await.expect(200)));
    assert_eq!(origin.count(), 4);
}

#[tokio::test]
async fn a_client_that_left_during_its_upload_frees_its_key() {
    let (_origin, gateway) = started().await;
    let mut raw = gateway.raw().await;
    raw.send(b"POST /orders HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: 9\r\n\r\nhi").await;
    drop(raw);
    gateway.access_line(|line| line["status"] == 499).await;
    let got = until("the key to be free", PATIENCE, || async {
        let got = order(&gateway, "k").await;
        (got.status != 409).then_some(got)
    })
    .await;
    assert!(!replayed(&got.expect(200)));
    assert_eq!((counted(&gateway, "orders", "freed").await, counted(&gateway, "orders", "unknown").await), (1.0, 0.0));
}

#[tokio::test]
async fn a_client_that_left_after_its_whole_request_leaves_its_key_in_flight() {
    let (origin, gateway) = started().await;
    let hold = Hold::new();
    origin.on("/orders", Answer::json(200, json!({})).held(&hold));
    let mut raw = gateway.raw().await;
    raw.send(b"POST /orders HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: 2\r\n\r\nhi").await;
    origin.wait_count(1).await;
    assert_eq!(order(&gateway, "k").await.status, 409);
    drop(raw);
    gateway.access_line(|line| line["status"] == 499).await;
    until("its end", PATIENCE, || async { (counted(&gateway, "orders", "unknown").await >= 1.0).then_some(()) }).await;
    assert_eq!(order(&gateway, "k").await.refusal(), (409, "IDEMPOTENCY_IN_FLIGHT".into()));
    hold.release();
    let late = order(&gateway, "k").await;
    assert_eq!(late.refusal(), (409, "IDEMPOTENCY_IN_FLIGHT".into()));
    assert!(late.number("retry-after") >= 1);
    assert_eq!((origin.count(), counted(&gateway, "orders", "freed").await), (1, 0.0));
}

#[tokio::test]
async fn answers_of_every_form_are_repeated_whole() {
    let (origin, gateway) = started().await;
    let long = "x".repeat(200 << 10);
    let forms = [
        Answer::bare(204),
        Answer::new(200, "text/plain", ""),
        Answer::chunked(&[b"one ", b"two"]),
        Answer::new(200, "text/plain", long.as_str()).closing(),
        Answer::raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end"),
    ];
    for (number, form) in forms.into_iter().enumerate() {
        origin.on("/orders", form);
        let key = format!("k{number}");
        let (first, second) = (order(&gateway, &key).await, order(&gateway, &key).await);
        assert_eq!((first.status, &first.body), (second.status, &second.body));
        assert!(!replayed(&first) && replayed(&second), "{number}");
        let zipped = post(&gateway, "/orders", &key, "{\"n\":1}").header("accept-encoding", "gzip");
        let zipped = send(zipped).await;
        assert_eq!(zipped.header("content-encoding").is_some(), first.body.len() > 1024, "{number}");
    }
    assert_eq!(origin.count(), 5);
}

#[tokio::test]
async fn too_long_an_answer_is_neither_repeated_nor_made_again() {
    let (origin, gateway) = started().await;
    origin.on("/orders", Answer::new(200, "text/plain", "x".repeat(300 << 10)));
    assert_eq!(order(&gateway, "k").await.expect(200).body.len(), 300 << 10);
    assert_eq!(order(&gateway, "k").await.refusal(), (409, "IDEMPOTENCY_ANSWER_TOO_LONG".into()));
    let other = send(post(&gateway, "/orders", "k", "{}")).await;
    assert_eq!(other.refusal(), (422, "IDEMPOTENCY_MISMATCH".into()));
    assert_eq!((origin.count(), counted(&gateway, "orders", "too_long").await), (1, 1.0));
}

#[tokio::test]
async fn the_memory_for_answers_is_bounded() {
    let (origin, gateway) = started().await;
    origin.on("/large", Answer::new(200, "text/plain", vec![b'x'; 4_000_000]));
    // The seventeenth is beyond 64 MiB.
    for number in 0..17 {
        send(post(&gateway, "/large", &format!("k{number}"), "")).await.expect(200);
    }
    let page = gateway.metrics().await;
    assert_eq!(sum(&page, "gateway_idempotency_evicted_total", &[]), Some(1.0));
    assert!(replayed(&send(post(&gateway, "/large", "k16", "")).await.expect(200)));
    assert!(!replayed(&send(post(&gateway, "/large", "k0", "")).await.expect(200)));
    assert_eq!(origin.count(), 18);
}

#[tokio::test]
async fn a_reload_forgets_nothing() {
    let (origin, gateway) = started().await;
    order(&gateway, "k").await.expect(200);
    let pool = "    breaker: { failures: 0 }\n    service: other";
    assert_eq!(gateway.reload(&table::table(&[&origin.url()], pool, ROUTES)).await, Reloaded::Published);
    assert!(replayed(&order(&gateway, "k").await.expect(200)));
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn uploads_stream_and_are_compared() {
    let (origin, gateway) = started().await;
    let (content_type, body) = multipart(&vec![b'u'; (50 << 20) - 1024]);
    let (_, other) = multipart(&vec![b'v'; (50 << 20) - 1024]);
    let body = bytes::Bytes::from(body);
    let upload = |body: bytes::Bytes| {
        let request = gateway.client.request("POST", "/upload").header("idempotency-key", "k");
        send(request.header("content-type", &content_type).body(body))
    };
    // What every upload needs once.
    send(gateway.client.request("POST", "/upload").body(body.clone())).await.expect(200);
    let before = gateway.rss();
    assert!(!replayed(&upload(body.clone()).await.expect(200)));
    assert_eq!(origin.last().body.length, body.len() as u64);
    assert!(replayed(&upload(body.clone()).await.expect(200)));
    assert_eq!(upload(other.into()).await.refusal(), (422, "IDEMPOTENCY_MISMATCH".into()));
    let grown = gateway.rss().saturating_sub(before) >> 20;
    assert!(grown < 24, "grew by {grown} MiB");
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn json_bodies_are_compared_in_all_the_ways_they_are_held() {
    let (origin, gateway) = started().await;
    let text = |length: usize| format!("\"{}\"", "j".repeat(length));
    for (key, length, chunked) in [("a", 10, false), ("b", 200_000, false), ("c", 10, true), ("d", 200_000, true)] {
        let ask = |last: &str| {
            let body = text(length) + last;
            let body = match chunked {
                false => format!("Content-Length: {}\r\n\r\n{body}", body.len()),
                true => format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            };
            format!("POST /json HTTP/1.1\r\nHost: g\r\nIdempotency-Key: {key}\r\n{body}")
        };
        let mut raw = gateway.raw().await;
        for (last, expected) in [("", 200), ("", 200), (" ", 422)] {
            raw.send(ask(last).as_bytes()).await;
            let got = raw.response().await.expect("an answer");
            assert_eq!(got.status(), expected, "{key} {last:?}: {}", got.body.text());
        }
    }
    assert_eq!(origin.count(), 4);
    // A bad one takes no key.
    let bad = send(post(&gateway, "/json", "bad", "{")).await;
    assert_eq!(bad.refusal(), (400, "INVALID_JSON".into()));
    assert!(!replayed(&send(post(&gateway, "/json", "bad", "{}")).await.expect(200)));
}

#[tokio::test]
async fn a_repeat_keeps_to_the_rules_for_bodies() {
    let (origin, gateway) = started().await;
    order(&gateway, "k").await.expect(200);
    let mut raw = gateway.raw().await;
    let head = "POST /orders HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\n";
    raw.send(format!("{head}Content-Length: 7\r\nExpect: 100-continue\r\n\r\n").as_bytes()).await;
    assert_eq!(raw.response().await.expect("an interim answer").status(), 100);
    raw.send(b"{\"n\":1}").await;
    let got = raw.response().await.expect("an answer");
    assert_eq!((got.status(), got.head.header("idempotency-replayed")), (200, Some("true")));
    // The connection goes on.
    raw.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n7\r\n{{\"n\":1}}\r\n0\r\n\r\n").as_bytes()).await;
    assert_eq!(raw.response().await.expect("an answer").status(), 200);
    raw.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await;
    let block = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let refused = raw.drip(block.as_bytes()).await;
    assert!(refused.is_none_or(|got| got.status() == 413));
    assert_eq!(origin.count(), 1);
}
