//! The end by SIGTERM: what was accepted is finished, what is idle does not hold it up.

use serde_json::json;

use crate::harness::{Answer, Gateway, GatewayConfig, Hold, Origin, PATIENCE, table, until};

fn routes(origin: &Origin) -> String {
    table::table(&[&origin.url()], "", table::ECHO)
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_end_up() {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&routes(&origin)).setting("drain", json!({"delay": "0s", "grace": "300s"}));
    let mut gateway = Gateway::start(config).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut raw = gateway.raw().await;
        raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!(raw.response().await.expect("an answer").head.header("connection"), Some("keep-alive"));
        idle.push(raw);
    }
    let silent = gateway.raw().await;
    // Far below the grace, at whose end the harness would have given up.
    assert_eq!(gateway.terminate().await.code(), Some(0), "{}", gateway.said());
    drop(silent);
    for mut raw in idle {
        assert!(raw.ends().await);
    }
}

/// Requests of the burst that SIGTERM meets, of every kind.
const BURST: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_finishes_every_request_it_has_accepted() {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&routes(&origin)).setting("drain", json!({"delay": "1s", "grace": "30s"}));
    let mut gateway = Gateway::start(config).await;
    let (mut unread, mut kept, mut uploads) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..BURST {
        unread.push(gateway.raw().await);
        let mut raw = gateway.raw().await;
        raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!(raw.response().await.expect("an answer").status(), 200);
        kept.push(raw);
        let mut raw = gateway.raw().await;
        raw.send(b"POST /echo/upload HTTP/1.1\r\nHost: g\r\nContent-Length: 200000\r\n\r\n").await;
        raw.send(&[b'x'; 100_000]).await;
        uploads.push(raw);
    }
    origin.wait_count(2 * BURST).await;
    gateway.signal("TERM");
    until("readiness to end", PATIENCE, || async {
        let got = crate::harness::try_send(gateway.admin.request("GET", "/readyz")).await;
        got.map_or(true, |got| got.status == 503).then_some(())
    })
    .await;
    // What was accepted and not read, what was kept, and what is half-way: every one is answered, and told to go.
    for raw in unread.iter_mut().chain(&mut kept) {
        raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\n\r\n").await;
    }
    for raw in unread.iter_mut().chain(&mut kept) {
        let answer = raw.response().await.expect("an answer");
        assert_eq!((answer.status(), answer.head.header("connection")), (200, Some("close")));
        assert!(raw.ends().await);
    }
    until("the end of accepting", PATIENCE, || async {
        tokio::net::TcpStream::connect(gateway.address).await.is_err().then_some(())
    })
    .await;
    assert!(gateway.alive(), "uploads are under way");
    for raw in &mut uploads {
        raw.send(&[b'x'; 100_000]).await;
        let answer = raw.response().await.expect("an answer");
        assert_eq!((answer.status(), answer.head.header("connection")), (200, Some("close")));
    }
    assert_eq!(gateway.exit().await.code(), Some(0));
    gateway.wait_said("\"requests_cut_off\":0").await;
    assert!(origin.received().iter().all(|request| request.body.complete));
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once() {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&routes(&origin)).setting("drain", json!({"delay": "0s", "grace": "300s"}));
    for second in ["TERM", "INT", "QUIT"] {
        let hold = Hold::new();
        origin.on("/echo", Answer::json(200, json!({})).held(&hold));
        let mut gateway = Gateway::start(config.clone()).await;
        let (client, before) = (gateway.client.clone(), origin.count());
        let asked = tokio::spawn(async move { crate::harness::try_send(client.request("GET", "/echo")).await });
        origin.wait_count(before + 1).await;
        gateway.signal("TERM");
        gateway.wait_said("draining").await;
        assert!(gateway.alive());
        gateway.signal("HUP"); // means nothing now
        gateway.signal(second);
        assert_eq!(gateway.exit().await.code(), Some(0), "{second}");
        gateway.wait_said("second signal, ending at once").await;
        gateway.wait_said("\"requests_cut_off\":1").await;
        assert!(asked.await.expect("the client").is_err());
        hold.release();
    }
}

#[tokio::test]
async fn a_tunnel_is_carried_until_the_grace_is_over() {
    let (address, _echo) = echo().await;
    let pool = table::table(&[&format!("http://{address}")], "", table::ECHO);
    let config = GatewayConfig::table(&pool).setting("drain", json!({"delay": "0s", "grace": "2s"}));
    let mut gateway = Gateway::start(config).await;
    let mut raw = gateway.raw().await;
    let upgrade = "GET /echo HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    raw.send(upgrade.as_bytes()).await;
    assert_eq!(raw.response().await.expect("an answer").status(), 101);
    raw.send(b"one").await;
    assert_eq!(raw.take(3).await.as_deref(), Some(&b"one"[..]));
    gateway.signal("TERM");
    gateway.wait_said("draining").await;
    raw.send(b"two").await;
    assert_eq!(raw.take(3).await.as_deref(), Some(&b"two"[..]), "it is carried during the drain");
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(raw.ends().await);
    gateway.wait_said("\"requests_cut_off\":1").await;
}

/// A service whose first connection becomes an echo.
async fn echo() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut stream = tokio::io::BufReader::new(listener.accept().await.unwrap().0);
        crate::harness::wire::read_head(&mut stream).await.unwrap();
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.get_mut().write_all(head).await.unwrap();
        let (mut from, mut to) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    (address, task)
}
