//! Switched protocols (RFC 9110 §7.8) and other interim answers. What goes over a tunnel is in `tunnels.rs`.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::client::RawClient;
use crate::harness::wire::{Head, read_head};
use crate::harness::{Answer, Gateway, GatewayConfig, Origin, table};

/// A service that switches to an echo, and says more about itself than clients should learn.
pub struct Echo {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Echo {
    pub async fn start() -> Echo {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Echo { address, task }
    }
}

async fn serve(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(head)) = read_head(&mut stream).await {
        if switches(&head) {
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nServer: inner/1\r\n\
                          Access-Control-Allow-Origin: *\r\nX-Powered-By: inner\r\n\r\n";
            if stream.get_mut().write_all(answer.as_bytes()).await.is_ok() {
                let (mut from, mut to) = tokio::io::split(stream);
                // Ends when either side does.
                let _ = tokio::io::copy(&mut from, &mut to).await;
            }
            return;
        }
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        if stream.get_mut().write_all(plain).await.is_err() {
            return;
        }
    }
}

fn switches(head: &Head) -> bool {
    let names_it = head.all("connection").iter().any(|value| value.to_ascii_lowercase().contains("upgrade"));
    names_it && head.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

const POOL: &str = "    breaker: { failures: 1, open_for: 60s }";

const ROUTES: &str = "  - { name: open, match: { path: /open, methods: [GET] }, to: { pool: echo }, auth: public, timeout: 1s, body: { max: 1KiB } }
  - { name: private, match: { path: /private, methods: [GET] }, to: { pool: echo }, timeout: 1s, body: { max: 1KiB } }";

async fn started(url: &str) -> Gateway {
    Gateway::start(GatewayConfig::table(&table::table(&[url], POOL, ROUTES))).await
}

async fn ask(gateway: &Gateway, path: &str, more: &str) -> (RawClient, Head, String) {
    let mut raw = gateway.raw().await;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: g\r\nOrigin: http://localhost:3000\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    );
    raw.send(head.as_bytes()).await;
    let answer = raw.response().await.expect("an answer");
    (raw, answer.head, answer.body.text())
}

#[tokio::test]
async fn the_head_of_an_upgrade_is_ours_and_no_failure() {
    let echo = Echo::start().await;
    let gateway = started(&format!("http://{}", echo.address)).await;
    let user = gateway.user("candidat").await;
    let bearer = format!("Authorization: {}\r\n", user.bearer());
    for (path, more) in [("/open", ""), ("/private", bearer.as_str())] {
        let (_raw, head, text) = ask(&gateway, path, more).await;
        assert_eq!(head.status(), 101, "{path}: {} {text}", head.start);
        assert!(switches(&head), "{head:?}");
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(head.header("x-request-id").is_some_and(|id| !id.is_empty()), "{head:?}");
        assert!(!head.all("server").iter().any(|value| value.contains("inner")), "{head:?}");
        assert!(head.all("access-control-allow-origin").iter().all(|value| *value != "*"), "{head:?}");
    }
    assert_eq!(gateway.metric("supersmartmatch_circuit_breaker_failures", &[]).await, Some(0.0));
    gateway.client.get("/open").await.expect(200);
}

#[tokio::test]
async fn an_upgrade_needs_a_token_where_the_route_does() {
    let echo = Echo::start().await;
    let gateway = started(&format!("http://{}", echo.address)).await;
    let (_raw, head, text) = ask(&gateway, "/private", "").await;
    assert!(head.status() == 401 && text.contains("MISSING_TOKEN"), "{} {text}", head.start);
}

#[tokio::test]
async fn early_hints_say_nothing_about_the_service() {
    let origin = Origin::start().await;
    let hints = b"HTTP/1.1 103 Early Hints\r\nServer: inner/1\r\nLink: </a.css>; rel=preload\r\n\r\n\
                  HTTP/1.1 200 OK\r\nServer: inner/1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";
    origin.on("/open", Answer::raw(hints));
    let gateway = started(&origin.url()).await;
    let mut raw = gateway.raw().await;
    raw.send(b"GET /open HTTP/1.1\r\nHost: g\r\n\r\n").await;
    loop {
        let answer = raw.response().await.expect("an answer");
        assert!(!answer.head.all("server").iter().any(|value| value.contains("inner")), "{:?}", answer.head);
        if answer.status() >= 200 {
            assert_eq!((answer.status(), answer.body.text().as_str()), (200, "ok"));
            break;
        }
    }
}
