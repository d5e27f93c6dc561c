//! JSON bodies: capped on their own, checked under any name, checked whole before a service hears of them.

use serde_json::json;

use crate::harness::{Answer, Gateway, GatewayConfig, Got, Hold, Origin, multipart, send, table};

const ROUTES: &str = "  - { name: echo, match: { prefix: /echo, methods: [GET] }, to: { pool: echo }, auth: public }
  - { name: json, match: { path: /json, methods: [POST] }, to: { pool: echo }, auth: public, body: { json: true } }
  - { name: both, match: { path: /both, methods: [POST] }, to: { pool: echo }, auth: public, body: { max: 50MiB, json: true, content_types: [application/json, multipart/form-data] } }";

/// A route whose cap for JSON is not the default one.
const SMALL: &str = "\n  - { name: small, match: { path: /small, methods: [POST] }, to: { pool: echo }, auth: public, body: { max: 50MiB, json: true, json_max: 1KiB, content_types: [application/json, multipart/form-data] } }";

async fn started(more: &str) -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let routes = table::table(&[&origin.url()], "", &format!("{ROUTES}{more}"));
    let gateway = Gateway::start(GatewayConfig::table(&routes)).await;
    (origin, gateway)
}

/// A JSON text of exactly this length.
fn json_of(length: usize) -> Vec<u8> {
    format!("[\"{}\"]", "x".repeat(length - 4)).into_bytes()
}

async fn post(gateway: &Gateway, path: &str, content_type: &str, body: Vec<u8>) -> Got {
    send(gateway.client.request("POST", path).header("content-type", content_type).body(body)).await
}

/// A request with these chunks; the answer's status and text, if there is an answer.
async fn post_chunks(gateway: &Gateway, path: &str, chunks: &[&[u8]]) -> Option<(u16, String)> {
    let mut raw = gateway.raw().await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    raw.send(head.as_bytes()).await;
    for chunk in chunks {
        let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        // A refusal may come before the end.
        if !raw.send(&framed).await {
            break;
        }
    }
    raw.send(b"0\r\n\r\n").await;
    raw.response().await.map(|answer| (answer.status(), answer.body.text()))
}

#[tokio::test]
async fn json_has_a_cap_of_its_own_beside_the_cap_of_uploads() {
    const MIB: usize = 1 << 20;
    let (origin, gateway) = started("").await;
    post(&gateway, "/both", "application/json", json_of(MIB)).await.expect(200);
    assert_eq!(origin.last().body.length, MIB as u64);
    // Not a byte over the cap was sent: the announced length is enough.
    let mut raw = gateway.raw().await;
    let head = format!(
        "POST /both HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        MIB + 1
    );
    raw.send(head.as_bytes()).await;
    let refused = raw.response().await.expect("an answer before the body");
    assert_eq!((refused.status(), &refused.body.json()["code"]), (413, &json!("PAYLOAD_TOO_LARGE")));
    let over = json_of(MIB + 1);
    let chunks: Vec<&[u8]> = over.chunks(64 << 10).collect();
    if let Some((status, text)) = post_chunks(&gateway, "/both", &chunks).await {
        assert_eq!(status, 413, "{text}");
    }
    assert_eq!(origin.received().iter().filter(|received| received.body.complete).count(), 1);

    let (content_type, body) = multipart(&vec![b'x'; 2 * MIB]);
    post(&gateway, "/both", &content_type, body.clone()).await.expect(200);
    assert_eq!((origin.last().body.length, origin.last().body.complete), (body.len() as u64, true));
}

#[tokio::test]
async fn the_cap_of_json_can_be_set() {
    let (origin, gateway) = started(SMALL).await;
    post(&gateway, "/small", "application/json", json_of(1024)).await.expect(200);
    let got = post(&gateway, "/small", "application/json", json_of(1025)).await;
    assert_eq!(got.refusal(), (413, "PAYLOAD_TOO_LARGE".to_owned()));
    let over = json_of(1025);
    if let Some((status, text)) = post_chunks(&gateway, "/small", &[&over]).await {
        assert_eq!(status, 413, "{text}");
    }
    assert_eq!(origin.count(), 1);
    let (content_type, body) = multipart(&[b'x'; 4096]);
    post(&gateway, "/small", &content_type, body).await.expect(200);
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn many_json_bodies_at_once_are_not_held_without_bound() {
    const LENGTH: usize = 16 << 20;
    let route = SMALL.replace("json_max: 1KiB", "json_max: 16MiB");
    let (_origin, gateway) = started(&route).await;
    let before = gateway.rss();
    let head = format!(
        "POST /small HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nContent-Length: {LENGTH}\r\n\r\n["
    );
    let almost = vec![b' '; LENGTH - 2];
    let mut held = Vec::new();
    let mut refused = 0;
    // Twelve bodies that are whole but for their last byte are 192 MiB, if they were all held.
    for _ in 0..12 {
        let mut raw = gateway.raw().await;
        raw.send(head.as_bytes()).await;
        if raw.send(&almost).await {
            held.push(raw);
        } else {
            refused += 1;
        }
    }
    let grown = gateway.rss().saturating_sub(before) >> 20;
    for raw in &mut held {
        raw.send(b"]").await;
        match raw.response().await.map(|answer| answer.status()) {
            Some(200) => {}
            Some(429 | 503) | None => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    // The budget (64 MiB), what refused bodies had before the allocator gave it back, and some room; 192 without a bound.
    assert!(grown < 160, "grew by {grown} MiB");
    assert!((1..12).contains(&refused), "{refused} of 12 were refused");
    gateway.client.get("/echo").await.expect(200);
    post(&gateway, "/small", "application/json", json_of(LENGTH)).await.expect(200);
}

#[tokio::test]
async fn small_bodies_of_unknown_length_take_nothing_from_the_budget() {
    let route = SMALL.replace("json_max: 1KiB", "json_max: 16MiB");
    let (origin, gateway) = started(&route).await;
    let hold = Hold::new();
    origin.on("/small", Answer::json(200, json!({})).held(&hold));
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut raw = gateway.raw().await;
        let head =
            "POST /small HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        raw.send(format!("{head}2\r\n{{}}\r\n0\r\n\r\n").as_bytes()).await;
        waiting.push(raw);
    }
    origin.wait_count(8).await;
    hold.release();
    for raw in &mut waiting {
        assert_eq!(raw.response().await.expect("an answer").status(), 200);
    }
}

#[tokio::test]
async fn no_other_name_slips_past_the_check() {
    let (origin, gateway) = started("").await;
    for content_type in [
        "Content-Type: text/plain",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: multipart/form-data; boundary=it",
        "Content-Type: \"application/json\"",
        "Content-Type: 'application/json'",
        "Content-Type: application/json, text/plain",
        "Content-Type: text/plain, application/json",
        "Content-Type: text/plain\r\nContent-Type: application/json",
        "Content-Type: application/json\r\nContent-Type: text/plain",
    ] {
        for framing in
            ["Content-Length: 8\r\n\r\nnot json", "Transfer-Encoding: chunked\r\n\r\n8\r\nnot json\r\n0\r\n\r\n"]
        {
            let mut raw = gateway.raw().await;
            raw.send(format!("POST /json HTTP/1.1\r\nHost: g\r\n{content_type}\r\n{framing}").as_bytes()).await;
            let answer = raw.response().await.expect("a refusal");
            assert_eq!(answer.status(), 400, "{content_type:?}: {}", answer.body.text());
            assert_eq!(answer.body.json()["code"], "INVALID_JSON");
        }
    }
    assert_eq!((origin.count(), origin.connections()), (0, 0));
    for content_type in ["application/json", "Application/JSON ; charset=utf-8", "application/problem+json"] {
        post(&gateway, "/json", content_type, b"{}".to_vec()).await.expect(200);
    }
}

#[tokio::test]
async fn a_type_that_the_route_lists_passes_unchecked() {
    let (origin, gateway) = started("").await;
    let (content_type, body) = multipart(b"not json");
    post(&gateway, "/both", &content_type, body.clone()).await.expect(200);
    assert_eq!(origin.last().body.kept, body);
    let got = post(&gateway, "/both", "application/json", b"not json".to_vec()).await;
    assert_eq!(got.refusal(), (400, "INVALID_JSON".to_owned()));
    assert_eq!(post(&gateway, "/both", "text/plain", b"{}".to_vec()).await.status, 415);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn invalid_json_in_chunks_is_never_heard_of_by_the_service() {
    let (origin, gateway) = started("").await;
    let long = vec![b'x'; 100_000];
    for chunks in [&[b"{".as_slice()][..], &[b"{\"a\"", b":1"], &[b"nope"], &[b"{}", b" {}"], &[]] {
        let answer = post_chunks(&gateway, "/json", chunks).await;
        let (status, text) = answer.expect("a refusal");
        assert!(status == 400 && text.contains("INVALID_JSON"), "{status} {text}");
    }
    assert_eq!((origin.count(), origin.connections()), (0, 0));

    // Longer than what can be replayed: the head goes ahead, but never a body.
    let answer = post_chunks(&gateway, "/json", &[&long, b"]"]).await;
    assert_eq!(answer.expect("a refusal").0, 400);
    assert!(origin.received().iter().all(|received| !received.body.complete && received.body.length == 0));
}

#[tokio::test]
async fn valid_json_in_chunks_arrives_unchanged() {
    let (origin, gateway) = started("").await;
    for length in [10, 64 << 10, (64 << 10) + 1, 300 << 10] {
        let body = json_of(length);
        for size in [1021, length] {
            // One byte per chunk would be slow and shows nothing more.
            let chunks: Vec<&[u8]> = body.chunks(size).collect();
            let (status, text) = post_chunks(&gateway, "/json", &chunks).await.expect("an answer");
            assert_eq!(status, 200, "{length} in {size}: {text}");
            assert_eq!((origin.last().body.kept == body, origin.last().body.complete), (true, true), "{length}");
        }
    }
}
