//! Upgraded connections: they come to be however fast the service is, live while anybody talks, and end in silence.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::client::RawClient;
use crate::harness::wire::read_head;
use crate::harness::{Answer, Gateway, GatewayConfig, Hold, Origin, soon, table};

const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// When the service answers.
#[derive(Clone, Copy)]
enum Eager {
    /// Before it was asked, so that the answer is there when the gateway first looks.
    AtOnce,
    /// As soon as the first byte has come.
    FirstByte,
    /// When the head has come.
    Head,
}

/// A service that switches to an echo.
struct Service {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    async fn start(eager: Eager) -> Service {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, eager));
            }
        });
        Service { address, task }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(stream: TcpStream, eager: Eager) {
    let mut stream = BufReader::new(stream);
    let switched = async {
        match eager {
            Eager::AtOnce => {}
            Eager::FirstByte => drop(stream.get_mut().readable().await),
            Eager::Head => drop(read_head(&mut stream).await),
        }
        stream.get_mut().write_all(SWITCHED).await?;
        if !matches!(eager, Eager::Head) {
            read_head(&mut stream).await?;
        }
        std::io::Result::Ok(())
    };
    if switched.await.is_ok() {
        let (mut from, mut to) = tokio::io::split(stream);
        // Ends when either side does.
        let _ = tokio::io::copy(&mut from, &mut to).await;
    }
}

const ROUTES: &str = "  - { name: ws, match: { path: /ws, methods: [GET] }, to: { pool: echo }, auth: public, timeout: 1s, websocket: { idle: 3s } }
  - { name: short, match: { path: /short, methods: [GET] }, to: { pool: echo }, auth: public, timeout: 20s, websocket: { idle: 200ms } }
  - { name: long, match: { path: /long, methods: [GET] }, to: { pool: echo }, auth: public, timeout: 1s, websocket: { idle: 1h } }
  - { name: private, match: { path: /private, methods: [GET] }, to: { pool: echo } }";

async fn started(url: &str) -> Gateway {
    let pool = "    breaker: { failures: 0 }";
    Gateway::start(GatewayConfig::table(&table::table(&[url], pool, ROUTES))).await
}

async fn ask(gateway: &Gateway, path: &str) -> RawClient {
    let mut raw = gateway.raw().await;
    let head = format!("GET {path} HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    raw.send(head.as_bytes()).await;
    raw
}

/// A tunnel, or how the handshake ended.
async fn tunnel(gateway: &Gateway, path: &str) -> Result<RawClient, Option<u16>> {
    let mut raw = ask(gateway, path).await;
    match raw.response().await.map(|answer| answer.status()) {
        Some(101) => Ok(raw),
        other => Err(other),
    }
}

async fn echoes(raw: &mut RawClient, text: &[u8]) -> bool {
    raw.send(text).await && raw.take(text.len()).await.as_deref() == Some(text)
}

/// Without the turns that the first read waits, 1 to 4 % of the first kind are torn down.
#[tokio::test]
async fn no_tunnel_is_torn_down_however_fast_the_service_is() {
    for (eager, handshakes) in [(Eager::AtOnce, 400), (Eager::FirstByte, 100), (Eager::Head, 100)] {
        let service = Service::start(eager).await;
        let gateway = started(&service.url()).await;
        let mut lost = 0;
        for _ in 0..handshakes / 10 {
            let ten = futures_util::future::join_all((0..10).map(|_| tunnel(&gateway, "/long")));
            for made in ten.await {
                let echoed = match made {
                    Ok(mut raw) => echoes(&mut raw, b"a message").await && echoes(&mut raw, b"and more").await,
                    Err(_) => false,
                };
                lost += usize::from(!echoed);
            }
        }
        assert_eq!(lost, 0, "of {handshakes}");
    }
}

#[tokio::test]
async fn a_tunnel_lives_while_one_side_talks_and_ends_in_silence() {
    let service = Service::start(Eager::Head).await;
    let gateway = started(&service.url()).await;
    // Far longer than the route's `timeout`, which is for the handshake: the wait between two messages is below `idle`.
    let mut raw = tunnel(&gateway, "/ws").await.expect("a tunnel");
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(500));
    for _ in 0..5 {
        ticks.tick().await;
        assert!(echoes(&mut raw, b"still here").await);
    }
    let mut raw = tunnel(&gateway, "/short").await.expect("a tunnel");
    // Nobody talks: it is ended long before the test's patience.
    assert!(raw.ends().await);
}

#[tokio::test]
async fn a_side_that_only_listens_keeps_its_tunnel() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
    let gateway = started(&format!("http://{}", listener.local_addr().unwrap())).await;
    let service = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        read_head(&mut stream).await.unwrap();
        let stream = stream.get_mut();
        stream.write_all(SWITCHED).await.unwrap();
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(500));
        // Together twice the time that both may be silent.
        for _ in 0..12 {
            ticks.tick().await;
            stream.write_all(b"tick").await.unwrap();
        }
        let mut end = [0; 3];
        stream.read_exact(&mut end).await.unwrap();
        end
    });
    let mut raw = tunnel(&gateway, "/ws").await.expect("a tunnel");
    for _ in 0..12 {
        assert_eq!(raw.take(4).await.as_deref(), Some(&b"tick"[..]));
    }
    raw.send(b"end").await;
    assert_eq!(&soon("the last word", service).await.unwrap(), b"end");
}

#[tokio::test]
async fn the_route_s_time_bounds_the_handshake() {
    let origin = Origin::start().await;
    let hold = Hold::new();
    origin.on("/long", Answer::bare(200).held(&hold));
    let gateway = started(&origin.url()).await;
    let mut raw = ask(&gateway, "/long").await;
    let late = raw.response().await.expect("an answer");
    assert_eq!((late.status(), &late.body.json()["code"]), (504, &"UPSTREAM_TIMEOUT".into()));
    hold.release();
}

#[tokio::test]
async fn a_refused_upgrade_passes_and_the_connection_goes_on() {
    let origin = Origin::start().await;
    origin.on("/ws", Answer::new(403, "text/plain", "not you"));
    let gateway = started(&origin.url()).await;
    let mut raw = ask(&gateway, "/ws").await;
    for _ in 0..3 {
        let refused = raw.response().await.expect("an answer");
        assert_eq!((refused.status(), refused.body.text().as_str()), (403, "not you"));
        raw.send(b"GET /long HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!(raw.response().await.expect("an answer on the same connection").status(), 200);
        raw.send(b"GET /ws HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    }
    let mut raw = ask(&gateway, "/private").await;
    assert_eq!(raw.response().await.expect("an answer").status(), 401);
}
