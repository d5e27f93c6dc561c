//! Malformed and hostile requests: a 4xx or a closed connection, never a 500, and the gateway goes on.

use serde_json::json;

use crate::harness::{Gateway, GatewayConfig, Origin, table};

async fn started(listen: serde_json::Value) -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let routes = table::table(&[&origin.url()], "", table::ECHO);
    let gateway = Gateway::start(GatewayConfig::table(&routes).setting("listen", listen)).await;
    (origin, gateway)
}

/// Sends bytes on a connection of their own; the status of the first answer, if there is one.
async fn status_of(gateway: &Gateway, bytes: &[u8]) -> Option<u16> {
    let mut raw = gateway.raw().await;
    raw.send(bytes).await;
    raw.finish_sending().await;
    raw.response().await.map(|response| response.status())
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n").into_bytes()
}

fn with(headers: &str) -> Vec<u8> {
    format!("GET /echo HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{headers}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn ambiguous_paths_are_refused() {
    let (origin, mut gateway) = started(json!({})).await;
    for path in [
        "/a/../echo",
        "/echo/..",
        "/echo/../x",
        "/echo/./x",
        "/%2e%2e/echo",
        "/echo/%2e%2e/x",
        "/echo/.%2E/x",
        "/echo/%2E/x",
        "/echo%2Fx",
        "/echo%2fx",
        "/echo%5Cx",
        "/echo\\x",
        "/echo/%00",
        "/echo/%0d%0ax",
        "/echo/%zz",
        "/echo/%",
        "/echo/%c0%ae",
        "/echo/%ff",
        "/echo/%252e%252e%252f",
        "//echo",
        "/echo//x",
        "echo",
        "",
    ] {
        let status = status_of(&gateway, &get(path)).await;
        let refused = status.is_none_or(|status| (400..500).contains(&status));
        // A second decoding is nobody's business: a literal percent sign is a character like others.
        let literal = status == Some(200) && path.contains("%25");
        assert!(refused || literal, "{path}: {status:?}");
    }
    for received in origin.received() {
        assert!(received.target.contains("%25"), "forwarded: {}", received.target);
    }
    assert!(gateway.alive());
    gateway.client.get("/echo").await.expect(200);
}

/// Heads that no server should take, by what is wrong with them.
#[allow(clippy::too_many_lines, reason = "one list")]
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let long = |length: usize| "a".repeat(length);
    vec![
        ("no host", b"GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec()),
        ("two hosts", with("Host: other")),
        ("host with a comma", b"GET /echo HTTP/1.1\r\nHost: a, b\r\nConnection: close\r\n\r\n".to_vec()),
        ("host with a slash", b"GET /echo HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n".to_vec()),
        ("host with a space", b"GET /echo HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n".to_vec()),
        ("host with a query", b"GET /echo HTTP/1.1\r\nHost: a?b\r\nConnection: close\r\n\r\n".to_vec()),
        ("host with a user", b"GET /echo HTTP/1.1\r\nHost: u@b\r\nConnection: close\r\n\r\n".to_vec()),
        (
            "host too long",
            format!("GET /echo HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", long(5000)).into_bytes(),
        ),
        ("two lengths", [with("Content-Length: 4\r\nContent-Length: 5"), b"abcde".to_vec()].concat()),
        ("two equal lengths", [with("Content-Length: 4\r\nContent-Length: 4"), b"abcd".to_vec()].concat()),
        ("a list of lengths", [with("Content-Length: 4, 4"), b"abcd".to_vec()].concat()),
        ("negative length", with("Content-Length: -1")),
        ("signed length", with("Content-Length: +4")),
        ("word for a length", with("Content-Length: four")),
        ("hexadecimal length", with("Content-Length: 0x4")),
        ("huge length", with("Content-Length: 9223372036854775808")),
        ("length beyond 64 bits", with("Content-Length: 99999999999999999999999")),
        ("unknown coding", with("Transfer-Encoding: cow")),
        ("coding before chunked", with("Transfer-Encoding: gzip, chunked")),
        ("chunked twice", with("Transfer-Encoding: chunked, chunked")),
        ("space before the colon", with("X-A : 1")),
        ("folded line", with("X-A: 1\r\n  2")),
        ("no colon", with("nonsense")),
        ("empty name", with(": 1")),
        ("control character", with("X-A: a\u{1}b")),
        ("NUL in a value", with("X-A: a\0b")),
        ("huge header", with(&format!("X-A: {}", long(256 << 10)))),
        ("many headers", with(&(0..400).map(|index| format!("X-{index}: 1")).collect::<Vec<_>>().join("\r\n"))),
        ("huge target", get(&format!("/echo/{}", long(64 << 10)))),
        ("NUL in the target", get("/echo/\0")),
        ("long method", format!("{} /echo HTTP/1.1\r\nHost: g\r\n\r\n", long(100_000)).into_bytes()),
        ("lower-case method", b"get /echo HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n".to_vec()),
        ("unknown method", b"BREW /echo HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n".to_vec()),
        ("TRACE", b"TRACE /echo HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n".to_vec()),
        ("CONNECT", b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n".to_vec()),
        ("asterisk", b"GET * HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n".to_vec()),
        (
            "absolute form of another host",
            b"GET http://evil.example/echo HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n".to_vec(),
        ),
        ("HTTP/3.0", b"GET /echo HTTP/3.0\r\nHost: g\r\n\r\n".to_vec()),
        ("HTTP/0.9", b"GET /echo\r\n".to_vec()),
        ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("nothing but line ends", b"\r\n\r\n\r\n\r\n".to_vec()),
        ("binary", (0..=255).collect()),
    ]
}

#[tokio::test]
async fn malformed_heads_are_refused() {
    let (origin, mut gateway) = started(json!({})).await;
    let mut problems = Vec::new();
    for (name, bytes) in malformed() {
        let before = origin.count();
        let status = status_of(&gateway, &bytes).await;
        if status.is_some_and(|status| !matches!(status, 400..=499 | 501 | 505)) {
            problems.push(format!("{name}: {status:?}"));
        }
        if origin.count() != before {
            problems.push(format!("{name} reached the service"));
        }
        assert!(gateway.alive(), "{name}: {}", gateway.said());
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    gateway.client.get("/echo").await.expect(200);
    assert!(!gateway.said().contains("panicked"), "{}", gateway.said());
}

#[tokio::test]
async fn a_target_that_is_tolerated_arrives_in_its_sound_form() {
    let (origin, gateway) = started(json!({})).await;
    for path in ["/echo/a b", "/echo/é", "/echo#x", "/echo?a b", "/echo?é", "/echo/\"<>^`{|}"] {
        let status = status_of(&gateway, &get(path)).await;
        assert!(status.is_none_or(|status| status == 200 || (400..500).contains(&status)), "{path}: {status:?}");
    }
    for received in origin.received() {
        // A query is handed on as it is; only what would break the request line may not be in it.
        let (path, query) = received.target.split_once('?').unwrap_or((&received.target, ""));
        let sound = path.chars().all(|c| c.is_ascii_graphic() && c != '#' && c != '"' && c != '\\');
        assert!(sound && !query.contains(|c: char| c.is_ascii_control() || c == '#'), "forwarded: {}", received.target);
        assert_eq!(received.head.start.split(' ').count(), 3, "forwarded: {}", received.head.start);
    }
}

#[tokio::test]
async fn underscored_names_are_refused_or_dropped() {
    let (origin, gateway) = started(json!({})).await;
    for header in ["X_User_Role: admin", "Transfer_Encoding: chunked", "Content_Length: 3", "X-Forwarded_For: 10.0.0.1"]
    {
        let status = status_of(&gateway, &with(header)).await;
        assert!(status.is_none_or(|status| status == 200 || (400..500).contains(&status)), "{header}: {status:?}");
    }
    for received in origin.received() {
        assert!(received.head.headers.iter().all(|(name, _)| !name.contains('_')), "{:?}", received.head);
    }
}

#[tokio::test]
async fn a_length_beside_chunks_is_refused_or_ignored_and_ends_the_connection() {
    // RFC 9112 §6.1: reject, or go by the coding alone; in both cases close after the answer.
    let (origin, gateway) = started(json!({})).await;
    let mut raw = gateway.raw().await;
    raw.send(
        b"POST /echo HTTP/1.1\r\nHost: g\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n\
          3\r\nabc\r\n0\r\n\r\nGET /echo/smuggled HTTP/1.1\r\nHost: g\r\n\r\n",
    )
    .await;
    let status = raw.response().await.map(|response| response.status());
    assert!(status.is_none_or(|status| status == 200 || (400..500).contains(&status)), "{status:?}");
    assert!(raw.ends().await);
    for received in origin.received() {
        assert_eq!(received.target, "/echo");
        assert!(received.body.text() == "abc" || !received.body.complete, "{received:?}");
        assert!(received.header("content-length").is_none() || received.header("transfer-encoding").is_none());
    }
}

#[tokio::test]
async fn malformed_chunks_never_look_like_a_whole_body() {
    let (origin, mut gateway) = started(json!({})).await;
    let head = "POST /echo HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    for chunks in [
        "zz\r\nabc\r\n0\r\n\r\n",
        "-1\r\na\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\na\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nab",
        "3",
    ] {
        let status = status_of(&gateway, format!("{head}{chunks}").as_bytes()).await;
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "{chunks:?}: {status:?}");
    }
    assert!(origin.received().iter().all(|one| !one.body.complete), "{:?}", origin.received());
    assert!(gateway.alive());
    gateway.client.get("/echo").await.expect(200);
}

#[tokio::test]
async fn a_second_request_is_not_smuggled_in_a_body() {
    let (origin, gateway) = started(json!({})).await;
    let mut raw = gateway.raw().await;
    let inner = "GET /echo/smuggled HTTP/1.1\r\nHost: g\r\n\r\n";
    let outer = format!("POST /none HTTP/1.1\r\nHost: g\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
    raw.send(outer.as_bytes()).await;
    assert_eq!(raw.response().await.expect("a refusal").status(), 404);
    raw.send(b"GET /echo/next HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n").await;
    if let Some(next) = raw.response().await {
        assert_eq!(next.body.json()["path"], "/echo/next");
    }
    assert!(origin.received().iter().all(|one| one.target != "/echo/smuggled"));
}

#[tokio::test]
async fn a_head_that_drips_is_cut_off() {
    let (_origin, gateway) = started(json!({"header_timeout": "1s", "keepalive": "1s"})).await;
    let mut drip = gateway.raw().await;
    drip.send(b"GET /echo HTTP/1.1\r\nX-Drip: ").await;
    // One byte at a time for as long as the gateway listens; the requests between set the pace, and must be served.
    crate::harness::soon("the dripping connection to be closed", async {
        while drip.send(b"x").await {
            gateway.client.get("/echo").await.expect(200);
        }
    })
    .await;
    let mut idle = gateway.raw().await;
    idle.send(b"GET /echo HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(idle.response().await.expect("an answer").status(), 200);
    assert!(idle.ends().await, "an idle connection is closed in the end");
    let mut silent = gateway.raw().await;
    assert!(silent.ends().await, "a connection that says nothing is closed in the end");
    gateway.client.get("/echo").await.expect(200);
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let (_origin, gateway) = started(json!({"max_connections_per_address": 8})).await;
    let mut held = Vec::new();
    for _ in 0..40 {
        let mut raw = gateway.raw().await;
        raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\n\r\n").await;
        if raw.response().await.is_some_and(|response| response.status() == 200) {
            held.push(raw);
        }
    }
    assert!((1..=8).contains(&held.len()), "{} connections at once", held.len());
    drop(held);
    crate::harness::until("room for a new connection", crate::harness::PATIENCE, || async {
        crate::harness::try_send(gateway.client.request("GET", "/echo")).await.ok().filter(|got| got.status == 200)
    })
    .await;
}
