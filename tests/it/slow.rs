//! Clients that take their time: their own loss, never the service's.

use serde_json::json;
use tokio::time::{Duration, Instant};

use crate::harness::{Answer, Gateway, GatewayConfig, Hold, Origin, P, multipart, send, soon, table};

/// What a second of deadline may come to on a busy machine.
const A_SECOND_OR_SO: Duration = Duration::from_secs(6);

const POOL: &str = "    breaker: { failures: 2, open_for: 60s }";

const ROUTES: &str = "  - { name: echo, match: { prefix: /echo, methods: [GET] }, to: { pool: echo }, auth: public }
  - { name: json, match: { path: /json, methods: [POST] }, to: { pool: echo }, auth: public, timeout: 1s, body: { json: true } }
  - { name: upload, match: { path: /upload, methods: [POST] }, to: { pool: echo }, auth: public, timeout: 1s, body: { max: 50MiB, content_types: [multipart/form-data] } }
  - { name: large, match: { path: /large, methods: [GET] }, to: { pool: echo }, auth: public, timeout: 1s }";

fn config(origin: &Origin) -> GatewayConfig {
    GatewayConfig::table(&table::table(&[&origin.url()], POOL, ROUTES))
}

async fn started() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(config(&origin)).await;
    (origin, gateway)
}

/// Failures that the breaker counted.
async fn failures(gateway: &Gateway) -> Option<f64> {
    gateway.metric("supersmartmatch_circuit_breaker_failures", &[]).await
}

const CHUNKED_JSON: &str =
    "POST /json HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n";
const SIZED_JSON: &str =
    "POST /json HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n[";

/// Three at once of a request that never ends: each is refused as the client's fault, or its connection is closed.
async fn three_drips(gateway: &Gateway, head: &'static str, piece: &'static [u8]) {
    let mut dripping = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let mut raw = gateway.raw().await;
        dripping.spawn(async move {
            raw.send(head.as_bytes()).await;
            raw.drip(piece).await
        });
    }
    for answer in dripping.join_all().await.into_iter().flatten() {
        assert!((400..500).contains(&answer.status()), "{} {}", answer.head.start, answer.body.text());
        if answer.status() == 400 {
            assert_eq!(answer.body.json()["code"], "BAD_REQUEST");
        }
    }
}

#[tokio::test]
async fn dripping_json_in_chunks_opens_no_circuit() {
    let (origin, gateway) = started().await;
    three_drips(&gateway, CHUNKED_JSON, b"1\r\n \r\n").await;
    assert_eq!(failures(&gateway).await, Some(0.0));
    gateway.client.post("/json", &json!({"a": 1})).await.expect(200);
    assert!(origin.received().iter().all(|one| one.body.text() == "{\"a\":1}"), "{:?}", origin.received());
}

#[tokio::test]
async fn slow_uploads_open_no_circuit() {
    let (origin, gateway) = started().await;
    let head = "POST /upload HTTP/1.1\r\nHost: g\r\nContent-Type: multipart/form-data; boundary=it\r\n\
                Content-Length: 1000000\r\n\r\n--it\r\n";
    three_drips(&gateway, head, b"x").await;
    let head = "POST /upload HTTP/1.1\r\nHost: g\r\nContent-Type: multipart/form-data; boundary=it\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    three_drips(&gateway, head, b"1\r\nx\r\n").await;
    assert_eq!(failures(&gateway).await, Some(0.0));
    let (content_type, body) = multipart(b"hello");
    let request = gateway.client.request("POST", "/upload").header("content-type", content_type);
    send(request.body(body)).await.expect(200);
    assert!(origin.last().body.complete);
}

#[tokio::test]
async fn slow_readers_open_no_circuit() {
    let (origin, gateway) = started().await;
    origin.on("/large", Answer::new(200, "application/octet-stream", vec![b'x'; 48 << 20]));
    let mut reading = tokio::task::JoinSet::new();
    for number in 0..3 {
        let mut raw = gateway.raw().await;
        let client = gateway.client.clone();
        reading.spawn(async move {
            raw.send(format!("GET /large HTTP/1.1\r\nHost: g\r\nX-Request-Id: reader-{number:04}\r\n\r\n").as_bytes())
                .await;
            assert_eq!(raw.take(12).await.as_deref(), Some(b"HTTP/1.1 200".as_slice()));
            // A little at a time, at the pace of other requests, for longer than the deadline.
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(1500) && raw.take(1024).await.is_some() {
                client.get("/echo").await.expect(200);
            }
            // Then all that is left, at full speed: the answer ends here if it did not before.
            raw.ends().await;
        });
    }
    soon("the readers to end", reading.join_all()).await;
    for number in 0..3 {
        let id = format!("reader-{number:04}");
        gateway.access_line(|line| line["request_id"] == id.as_str()).await;
    }
    assert_eq!(failures(&gateway).await, Some(0.0));
    gateway.client.get("/echo").await.expect(200);
}

#[tokio::test]
async fn a_service_that_has_the_whole_body_and_does_not_answer_is_at_fault() {
    let (origin, gateway) = started().await;
    origin.on("/json", Answer::silence());
    let got = gateway.client.post("/json", &json!({"a": 1})).await;
    assert_eq!(got.refusal(), (504, "UPSTREAM_TIMEOUT".to_owned()));
    assert_eq!(failures(&gateway).await, Some(1.0));
    assert_eq!(gateway.client.post("/json", &json!({})).await.status, 504);
    let got = gateway.client.get("/echo").await;
    assert_eq!(got.refusal(), (503, "CIRCUIT_OPEN".to_owned()));
    assert_eq!(origin.received().len(), 2);
}

#[tokio::test]
async fn the_same_goes_for_an_upload_that_arrived_whole() {
    let (origin, gateway) = started().await;
    let hold = Hold::new();
    origin.on("/upload", Answer::json(200, json!({})).held(&hold));
    let (content_type, body) = multipart(b"hello");
    let request = gateway.client.request("POST", "/upload").header("content-type", content_type);
    assert_eq!(send(request.body(body)).await.refusal(), (504, "UPSTREAM_TIMEOUT".to_owned()));
    assert_eq!(failures(&gateway).await, Some(1.0));
    hold.release();
}

#[tokio::test]
async fn dripping_json_with_a_length_ends_at_the_deadline() {
    let (origin, gateway) = started().await;
    let mut raw = gateway.raw().await;
    let began = Instant::now();
    raw.send(SIZED_JSON.replace("Host: g", "Host: g\r\nX-Request-Id: drip-0001").as_bytes()).await;
    let answer = raw.drip(b" ").await.expect("a refusal");
    assert!(began.elapsed() < A_SECOND_OR_SO, "{:?}", began.elapsed());
    assert_eq!((answer.status(), &answer.body.json()["code"]), (400, &json!("BAD_REQUEST")));
    assert!(raw.ends().await);
    let line = gateway.access_line(|line| line["request_id"] == "drip-0001").await;
    assert_eq!((&line["status"], &line["upstream"]), (&json!(400), &json!(null)), "{line}");
    assert_eq!((origin.count(), origin.connections()), (0, 0));
}

#[tokio::test]
async fn a_stalled_json_body_is_the_clients_fault() {
    let (origin, gateway) = started().await;
    for (id, head) in [("stall-0001", SIZED_JSON), ("stall-0002", CHUNKED_JSON)] {
        let mut raw = gateway.raw().await;
        let began = Instant::now();
        raw.send(head.replace("Host: g", &format!("Host: g\r\nX-Request-Id: {id}")).as_bytes()).await;
        let answer = raw.response().await.expect("a refusal");
        assert!(began.elapsed() < A_SECOND_OR_SO, "{id}: {:?}", began.elapsed());
        assert_eq!((answer.status(), &answer.body.json()["code"]), (400, &json!("BAD_REQUEST")), "{id}");
        assert!(raw.ends().await);
        let line = gateway.access_line(|line| line["request_id"] == id).await;
        assert_eq!((&line["status"], &line["upstream"]), (&json!(400), &json!(null)), "{line}");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn sigterm_does_not_wait_for_a_dripping_client_longer_than_its_deadline() {
    let origin = Origin::start().await;
    let config = config(&origin).setting("drain", json!({"delay": "0s", "grace": "300s"}));
    let mut gateway = Gateway::start(config).await;
    let mut raw = gateway.raw().await;
    raw.send(SIZED_JSON.as_bytes()).await;
    // Served after the dripping request was sent: that one is on its way.
    gateway.client.get("/echo").await.expect(200);
    let dripping = tokio::spawn(async move { raw.drip(b" ").await.map(|answer| answer.status()) });
    let began = Instant::now();
    assert_eq!(gateway.terminate().await.code(), Some(0), "{}", gateway.said());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let status = soon("the end of the dripping", dripping).await.expect("a task");
    assert!(matches!(status, None | Some(400)), "{status:?}");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_json_is_499() {
    let (origin, gateway) = started().await;
    for (id, head) in [("leaves-0001", SIZED_JSON), ("leaves-0002", CHUNKED_JSON)] {
        let mut raw = gateway.raw().await;
        raw.send(head.replace("Host: g", &format!("Host: g\r\nX-Request-Id: {id}")).as_bytes()).await;
        drop(raw);
        let line = gateway.access_line(|line| line["request_id"] == id).await;
        assert_eq!((&line["status"], &line["upstream"]), (&json!(499), &json!(null)), "{line}");
    }
    assert_eq!((origin.count(), failures(&gateway).await), (0, Some(0.0)));
    let page = gateway.metrics().await;
    assert!(!page.contains("BAD_GATEWAY"), "{page}");
}

#[tokio::test]
async fn an_absent_body_is_a_bad_request() {
    let (_origin, gateway) = started().await;
    for length in ["", "Content-Length: 0\r\n"] {
        let mut raw = gateway.raw().await;
        raw.send(
            format!("POST {P}/auth/login HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n{length}\r\n")
                .as_bytes(),
        )
        .await;
        let answer = raw.response().await.expect("an answer");
        assert_eq!(answer.status(), 400, "{length:?}: {}", answer.body.text());
    }
}
