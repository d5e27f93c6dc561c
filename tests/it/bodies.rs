//! Request bodies on their way: checked, capped, refused early, answered early.

use serde_json::json;

use crate::harness::{Answer, send, try_send};
use crate::proxying::started;

#[tokio::test]
async fn json_is_checked_before_any_service_is_called() {
    let (origin, gateway) = started().await;
    let post = |body: Vec<u8>| {
        let request = gateway.client.request("POST", "/json").header("content-type", "application/json; charset=utf-8");
        send(request.body(body))
    };
    for body in ["", "{", "{\"a\":}", "nope", "{} {}", "[1,]", "\u{feff}{}", "\"\u{0}\""] {
        let got = post(body.as_bytes().to_vec()).await;
        assert_eq!(got.refusal(), (400, "INVALID_JSON".to_owned()), "{body:?}");
    }
    assert_eq!(post(b"{\"a\":\"\xff\"}".to_vec()).await.refusal(), (400, "INVALID_JSON".to_owned()));
    assert_eq!(post("[".repeat(100_000).into_bytes()).await.status, 400);
    assert_eq!(origin.count(), 0);

    let large = json!({"text": "é\n\"".repeat(40_000)}).to_string();
    assert!(large.len() > 64 * 1024);
    post(large.clone().into_bytes()).await.expect(200);
    assert_eq!(origin.last().body.text(), large);

    let mut raw = gateway.raw().await;
    raw.send(b"POST /json HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for piece in ["4\r\n{\"a\"\r\n", "3\r\n:1}\r\n", "0\r\n\r\n"] {
        raw.send(piece.as_bytes()).await;
    }
    assert_eq!(raw.response().await.expect("an answer").status(), 200);
    assert_eq!(origin.last().body.text(), "{\"a\":1}");
}

#[tokio::test]
async fn a_body_over_the_cap_is_413_and_not_forwarded_whole() {
    let (origin, gateway) = started().await;
    let post = |length: usize| send(gateway.client.request("POST", "/capped").body(vec![b'x'; length]));
    post(1024).await.expect(200);
    assert_eq!(post(1025).await.refusal(), (413, "PAYLOAD_TOO_LARGE".to_owned()));
    let mut raw = gateway.raw().await;
    raw.send(b"POST /capped HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..3 {
        raw.send(format!("200\r\n{}\r\n", "x".repeat(512)).as_bytes()).await;
    }
    raw.send(b"0\r\n\r\n").await;
    assert_eq!(raw.response().await.expect("an answer").status(), 413);
    assert!(origin.received().iter().all(|one| one.body.length <= 1024));
}

#[tokio::test]
async fn an_early_refusal_leaves_the_connection_usable() {
    let (origin, gateway) = started().await;
    let mut raw = gateway.raw().await;
    for _ in 0..3 {
        raw.send(b"POST /private HTTP/1.1\r\nHost: g\r\nContent-Length: 11\r\n\r\nhello world").await;
        assert_eq!(raw.response().await.expect("a refusal").status(), 401);
        raw.send(b"POST /echo HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\nhi").await;
        assert_eq!(raw.response().await.expect("the same connection still works").status(), 200);
        assert_eq!(origin.last().body.text(), "hi");
    }
}

#[tokio::test]
async fn a_large_unread_body_never_leaves_the_client_hanging() {
    let (origin, gateway) = started().await;
    let got = try_send(gateway.client.request("POST", "/private").body(vec![b'x'; 8 << 20])).await;
    if let Ok(got) = got {
        assert_eq!(got.refusal(), (401, "MISSING_TOKEN".to_owned()));
    }
    assert_eq!(origin.count(), 0);
    gateway.client.get("/echo").await.expect(200);
}

#[tokio::test]
async fn expect_100_continue_is_honoured() {
    let (origin, gateway) = started().await;
    let mut raw = gateway.raw().await;
    raw.send(b"POST /echo HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    let interim = raw.response().await.expect("an interim answer");
    assert_eq!(interim.status(), 100);
    raw.send(b"body").await;
    let mut last = raw.response().await.expect("an answer");
    while last.status() == 100 {
        last = raw.response().await.expect("an answer");
    }
    assert_eq!((last.status(), origin.last().body.text().as_str()), (200, "body"));

    let mut raw = gateway.raw().await;
    raw.send(b"POST /private HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    assert_eq!(raw.response().await.expect("a refusal without the body").status(), 401);
}

#[tokio::test]
async fn an_early_answer_of_the_service_reaches_the_client() {
    let (origin, gateway) = started().await;
    origin.on("/echo", Answer::json(507, json!({"early": true})).early());
    let mut raw = gateway.raw().await;
    raw.send(b"POST /echo HTTP/1.1\r\nHost: g\r\nContent-Length: 100000\r\n\r\npart").await;
    assert_eq!(raw.response().await.expect("the early answer").status(), 507);
}
