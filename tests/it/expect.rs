//! `Expect: 100-continue` (RFC 9110 §10.1.1): the gateway answers it, alone and once.

use crate::harness::{Answer, Gateway, GatewayConfig, Hold, Origin, table};

const ROUTES: &str = "  - { name: echo, match: { prefix: /echo, methods: [GET, POST] }, to: { pool: echo }, auth: public }
  - { name: json, match: { path: /json, methods: [POST] }, to: { pool: echo }, auth: public, body: { json: true } }
  - { name: upload, match: { path: /upload, methods: [POST] }, to: { pool: echo }, auth: public, body: { content_types: [multipart/form-data], max: 1KiB } }
  - { name: private, match: { path: /private, methods: [POST] }, to: { pool: echo } }";

async fn started() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&origin.url()], "", ROUTES))).await;
    (origin, gateway)
}

const JSON: &str = "application/json";
const FORM: &str = "multipart/form-data; boundary=it";

fn head(path: &str, content_type: &str, framing: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn the_client_is_told_to_go_on_once_and_the_service_is_not_asked() {
    let (origin, gateway) = started().await;
    for (path, content_type, body) in [
        ("/echo", "text/plain", "some text"),
        ("/upload", FORM, "--it\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--it--\r\n"),
        ("/json", JSON, "{\"a\":[1,2,3]}"),
    ] {
        let sized = (format!("Content-Length: {}", body.len()), body.to_owned());
        let chunked = ("Transfer-Encoding: chunked".to_owned(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
        for (framing, sent) in [sized, chunked] {
            let mut raw = gateway.raw().await;
            for round in 0..2 {
                raw.send(&head(path, content_type, &framing)).await;
                // Not a byte of the body is on its way before this.
                let interim = raw
                    .response()
                    .await
                    .unwrap_or_else(|| panic!("{path} {framing} in round {round}: no interim answer"));
                assert_eq!(interim.status(), 100, "{path} {framing}");
                raw.send(sent.as_bytes()).await;
                let last = raw.response().await.expect("an answer");
                assert_eq!(last.status(), 200, "{path} {framing} in round {round}: {}", last.body.text());
                assert_eq!(origin.last().body.text(), body, "{path} {framing}");
                assert_eq!(origin.last().head.all("expect"), Vec::<&str>::new(), "{path} {framing}");
            }
        }
    }
    assert_eq!(origin.count(), 12);
}

#[tokio::test]
async fn a_silent_service_keeps_nobody_waiting_for_the_word() {
    let (origin, gateway) = started().await;
    let hold = Hold::new();
    origin.on("/echo", Answer::json(200, serde_json::json!({})).held(&hold));
    let mut raw = gateway.raw().await;
    raw.send(&head("/echo", "text/plain", "Content-Length: 4")).await;
    assert_eq!(raw.response().await.expect("an interim answer").status(), 100);
    raw.send(b"body").await;
    origin.wait_count(1).await;
    hold.release();
    assert_eq!(raw.response().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_refusal_comes_instead_of_the_word() {
    let (origin, gateway) = started().await;
    for (path, content_type, framing, status) in [
        ("/private", JSON, "Content-Length: 4", 401),
        ("/private", JSON, "Transfer-Encoding: chunked", 401),
        ("/none", JSON, "Content-Length: 4", 404),
        ("/upload", FORM, "Content-Length: 1025", 413),
        ("/upload", JSON, "Content-Length: 4", 415),
        ("/json", JSON, "Content-Length: 99000000", 413),
    ] {
        let mut raw = gateway.raw().await;
        raw.send(&head(path, content_type, framing)).await;
        let answer = raw.response().await.expect("a refusal");
        assert_eq!(answer.status(), status, "{path} {content_type} {framing}");
    }
    assert_eq!(origin.count(), 0);
}
