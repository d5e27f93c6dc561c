//! Clients that speak HTTP/2: the rules hold for them as for others, and gRPC passes end to end.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::client::RawClient;
use crate::harness::http2::{H2Client, H2Origin, next};
use crate::harness::pki::Authority;
use crate::harness::{Gateway, GatewayConfig, Origin, P, soon, table};

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc"), ("te", "trailers")];

const ROUTES: &str = "  - { name: echo, match: { prefix: /echo, methods: [GET, HEAD, POST] }, to: { pool: echo }, auth: public, body: { max: 1KiB } }
  - { name: typed, match: { path: /typed, methods: [POST] }, to: { pool: echo }, auth: public, body: { content_types: [application/json] } }
  - { name: json, match: { path: /json, methods: [POST] }, to: { pool: echo }, auth: public, body: { json: true } }
  - { name: mine, match: { path: /mine, methods: [GET, POST] }, to: { pool: echo }, auth: required }
  - { name: merged, match: { path: /merged, methods: [GET] }, to: { aggregate: { parts: { one: { pool: echo, path: /one } } } }, auth: public }";

fn spoken(config: GatewayConfig) -> GatewayConfig {
    config.setting("listen", json!({ "http2": true, "header_timeout": "2s", "keepalive": "2s" }))
}

async fn started() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&table::table(&[&origin.url()], "", ROUTES));
    let gateway = Gateway::start(spoken(config)).await;
    (origin, gateway)
}

#[tokio::test]
async fn requests_of_http2_pass_and_name_their_host() {
    let (origin, gateway) = started().await;
    let mut client = H2Client::connect(gateway.address).await;
    let got = client.ask("POST", "/echo/x?y=1", &[], b"hello").await;
    assert_eq!(got.status, 200);
    let last = origin.last();
    assert_eq!((last.target.as_str(), last.body.text().as_str()), ("/echo/x?y=1", "hello"));
    assert_eq!(last.header("x-forwarded-host"), Some(&*gateway.address.to_string()));
    assert_eq!(last.header("host"), Some(&*origin.address().to_string()));
    let (page, head) =
        (client.ask("GET", &format!("{P}/status"), &[], b"").await, client.ask("HEAD", "/nowhere", &[], b"").await);
    assert_eq!((page.status, head.status, head.body.len()), (200, 404, 0));
    let merged = client.ask("GET", "/merged", &[], b"").await;
    assert!(merged.status == 200 && merged.body.starts_with(b"{\"one\""), "{merged:?}");
    let session = gateway.user("candidat").await;
    let bearer = session.bearer();
    assert_eq!(client.ask("GET", "/mine", &[("authorization", &bearer)], b"").await.status, 200);
    let line = gateway.access_line(|line| line["route"] == "mine").await;
    assert_eq!((&line["status"], &line["client"]), (&200.into(), &"127.0.0.1".into()), "{line}");
    // Clients of HTTP/1.1 are served at the same port, and the shortest request of all is not waited on.
    gateway.client.get("/echo").await.expect(200);
    let mut raw = gateway.raw().await;
    raw.send(b"GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(soon("an answer", raw.response()).await.expect("an answer").status(), 404);
}

#[tokio::test]
async fn refusals_are_answers_and_the_connection_goes_on() {
    let (origin, gateway) = started().await;
    let mut client = H2Client::connect(gateway.address).await;
    let big = vec![b'x'; 300_000];
    for (method, path, headers, body, status, code) in [
        ("POST", "/mine", &[][..], &big[..], 401, "MISSING_TOKEN"),
        ("POST", "/echo", &[], &big, 413, "PAYLOAD_TOO_LARGE"),
        ("POST", "/echo", &[("content-length", "300000")], &big, 413, "PAYLOAD_TOO_LARGE"),
        ("POST", "/typed", &[("content-type", "text/plain")], b"x", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/json", &[("content-type", "application/json")], b"{", 400, "INVALID_JSON"),
        ("POST", "/json", &[("content-type", "application/json")], b"", 400, "INVALID_JSON"),
        ("GET", "/%00", &[], b"", 400, "BAD_REQUEST"),
        ("GET", "/nowhere", &[], b"", 404, "NOT_FOUND"),
    ] {
        let got = client.ask(method, path, headers, body).await;
        assert_eq!((got.status, got.code().as_str()), (status, code), "{method} {path}: {got:?}");
    }
    let json = client.ask("POST", "/json", &[("content-type", "application/json")], b"{\"a\":1}").await;
    assert_eq!((json.status, origin.last().body.text().as_str()), (200, "{\"a\":1}"));
    let long = format!("[\"{}\"]", "x".repeat(150_000));
    let sized = long.len().to_string();
    let json = [("content-type", "application/json"), ("content-length", sized.as_str())];
    assert_eq!(client.ask("POST", "/json", &json, long.as_bytes()).await.status, 200);
    assert_eq!(origin.last().body.text(), long);
}

/// A gateway before an origin of gRPC, and a client of it.
async fn grpc() -> (H2Origin, Gateway, H2Client) {
    let origin = H2Origin::start().await;
    let route =
        "  - { name: grpc, match: { prefix: /, methods: [POST] }, to: { pool: echo }, auth: public, timeout: 60s }";
    let config = GatewayConfig::table(&table::table(&[&origin.url()], "    http2: true", route));
    let gateway = Gateway::start(spoken(config)).await;
    let client = H2Client::connect(gateway.address).await;
    (origin, gateway, client)
}

#[tokio::test]
async fn calls_of_grpc_pass_with_their_trailers() {
    let (origin, _gateway, mut client) = grpc().await;
    let got = client.ask("POST", "/pkg.Service/Unary", GRPC, b"\0\0\0\0\x02hi").await;
    assert_eq!((got.status, got.grpc_status(), &got.body[..]), (200, "0", &b"\0\0\0\0\x02hi"[..]));
    let asked = origin.asked("/pkg.Service/Unary").pop().unwrap();
    assert_eq!(asked.headers.get("te").map(|te| te.as_bytes()), Some(&b"trailers"[..]));
    assert!(!asked.headers.contains_key("transfer-encoding"));
    // An error that comes before the request is read.
    assert_eq!(client.ask("POST", "/refuse", GRPC, &vec![0; 100_000]).await.grpc_status(), "7");
}

#[tokio::test]
async fn calls_of_grpc_stream_both_ways_at_once() {
    let (_origin, _gateway, mut client) = grpc().await;
    let (response, mut send) = client.begin("POST", "/bidi", GRPC, false).await;
    let mut body = soon("a head", response).await.expect("a head").into_body();
    for message in ["one", "two", "three"] {
        send.send_data(Bytes::from_static(message.as_bytes()), false).unwrap();
        let echoed = soon("its echo", next(&mut body)).await.expect("a message").expect("a message");
        assert_eq!(echoed, message.as_bytes());
    }
    send.send_data(Bytes::new(), true).unwrap();
    while let Some(rest) = soon("the end", next(&mut body)).await {
        assert!(rest.unwrap().is_empty());
    }
    let trailers = soon("trailers", body.trailers()).await.unwrap().expect("trailers");
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
}

#[tokio::test]
async fn what_goes_wrong_behind_the_gateway_is_an_http_status() {
    let (_origin, gateway, mut client) = grpc().await;
    let got = client.ask("POST", "/reset", GRPC, b"x").await;
    assert_eq!((got.status, got.trailers.is_none()), (502, true), "{got:?}");
    let (response, mut send) = client.begin("POST", "/bidi", GRPC, false).await;
    let body = soon("a head", response).await.expect("a head").into_body();
    send.send_reset(h2::Reason::CANCEL);
    drop(body);
    // A client that leaves takes nothing with it.
    assert_eq!(soon("an answer", client.ask("POST", "/x", GRPC, b"y")).await.grpc_status(), "0");
    let line = gateway.access_line(|line| line["path"] == "/bidi").await;
    assert_eq!(line["outcome"], "client_gone", "{line}");
}

#[tokio::test]
async fn http2_over_tls_is_negotiated_beside_http1() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let identity = authority.issue(&["127.0.0.1"]);
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let tls = json!({ "cert": write("g.pem", &identity.cert), "key": write("g.key", &identity.key) });
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&table::table(&[&origin.url()], "", ROUTES));
    let gateway = Gateway::start(config.setting("listen", json!({ "http2": true, "tls": tls }))).await;
    let (stream, negotiated) = authority.client(gateway.address, &[b"h2", b"http/1.1"]).await;
    assert_eq!(negotiated.as_deref(), Some(&b"h2"[..]));
    let mut client = H2Client::over(stream, &gateway.address.to_string()).await;
    assert_eq!(client.ask("GET", "/echo", &[], b"").await.status, 200);
    assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let (mut stream, negotiated) = authority.client(gateway.address, alpn).await;
        assert_eq!(negotiated.as_deref(), alpn.first().copied());
        stream.write_all(b"GET /echo HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let _ = soon("an answer", stream.read_to_string(&mut answer)).await;
        assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 "), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_begins_slowly_or_says_nothing_more_is_not_waited_for_long() {
    let (_origin, gateway) = started().await;
    for start in [&b"P"[..], b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        let mut rest = Vec::new();
        soon("the end of a connection", async { stream.read_to_end(&mut rest).await }).await.ok();
    }
    let mut raw: RawClient = gateway.raw().await;
    raw.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    assert!(soon("the end", raw.ends()).await);
    // An idle connection ends after its keep-alive; one with a request on it does not.
    let mut client = H2Client::connect(gateway.address).await;
    client.ask("GET", "/echo", &[], b"").await;
    client.ended().await;
}

#[tokio::test]
async fn a_call_that_lasts_longer_than_the_waiting_times_of_connections_goes_on() {
    let (_origin, _gateway, mut client) = grpc().await;
    let (response, mut send) = client.begin("POST", "/bidi", GRPC, false).await;
    let mut body = soon("a head", response).await.expect("a head").into_body();
    // Longer than header_timeout and keepalive together: what would be cut off is cut off by then.
    let silence = tokio::time::timeout(Duration::from_secs(6), next(&mut body)).await;
    assert!(silence.is_err(), "{silence:?}");
    send.send_data(Bytes::from_static(b"still here"), false).unwrap();
    assert_eq!(soon("its echo", next(&mut body)).await.unwrap().unwrap(), "still here");
}

#[tokio::test]
async fn without_the_setting_nobody_speaks_http2() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&origin.url()], "", ROUTES))).await;
    let mut raw = gateway.raw().await;
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let answer = soon("an answer or the end", raw.response()).await;
    assert!(answer.is_none_or(|answer| (400..506).contains(&answer.status())));
}
