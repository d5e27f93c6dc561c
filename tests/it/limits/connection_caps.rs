//! Caps on connections: per address, also when they stay silent, and not for proxies that bring many clients.

use serde_json::json;

use crate::harness::client::RawClient;
use crate::harness::{Gateway, GatewayConfig, Origin, PATIENCE, table, until};

const CAP: usize = 4;

async fn started(trusted: serde_json::Value) -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let routes = table::table(&[&origin.url()], "", table::ECHO);
    // Clients come from 127.0.0.2; tests look at the metrics from 127.0.0.1, which has a cap of its own.
    let config = GatewayConfig::table(&routes)
        .setting("listen", json!({ "max_connections_per_address": CAP }))
        .setting("trusted_proxies", trusted);
    let gateway = Gateway::start(config).await;
    (origin, gateway)
}

/// A connection from 127.0.0.2.
async fn connect(gateway: &Gateway) -> RawClient {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.2:0".parse().expect("an address")).expect("a loopback address");
    RawClient::over(socket.connect(gateway.address).await.expect("a connection"))
}

/// Whether a request on it is answered.
async fn serves(raw: &mut RawClient) -> bool {
    raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n").await;
    raw.response().await.is_some_and(|got| got.status() == 200)
}

async fn refused(gateway: &Gateway) -> f64 {
    gateway.metric("gateway_connections_refused_total", &[("reason", "per_address")]).await.unwrap_or(0.0)
}

/// Waits until so many refused connections are counted: a moment after they are closed.
async fn until_refused(gateway: &Gateway, count: u32) {
    until("the refused to be counted", PATIENCE, || async {
        (refused(gateway).await >= f64::from(count)).then_some(())
    })
    .await;
    assert_eq!(refused(gateway).await, f64::from(count));
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let (_origin, gateway) = started(json!([])).await;
    let mut held = Vec::new();
    for round in 0..CAP + 6 {
        let mut raw = connect(&gateway).await;
        assert_eq!(serves(&mut raw).await, round < CAP, "connection {round}");
        held.push(raw);
    }
    until_refused(&gateway, 6).await;
    gateway.client.get("/echo").await.expect(200); // another address
    held.remove(0);
    let mut next = until("room", PATIENCE, || async {
        let mut raw = connect(&gateway).await;
        serves(&mut raw).await.then_some(raw)
    })
    .await;
    assert!(serves(&mut next).await, "it stays");
}

#[tokio::test]
async fn silent_connections_count() {
    let (_origin, gateway) = started(json!([])).await;
    let mut silent = Vec::new();
    for _ in 0..CAP {
        silent.push(connect(&gateway).await);
    }
    until("their places to be taken", PATIENCE, || async {
        // Beside that over which the metrics are read.
        (gateway.metric("gateway_connections", &[]).await == Some((CAP + 1) as f64)).then_some(())
    })
    .await;
    assert!(!serves(&mut connect(&gateway).await).await);
    until_refused(&gateway, 1).await;
}

#[tokio::test]
async fn a_trusted_proxy_is_not_capped_as_if_it_were_a_client() {
    let (_origin, gateway) = started(json!(["127.0.0.2/32"])).await;
    let mut held = Vec::new();
    for round in 0..3 * CAP {
        let mut raw = connect(&gateway).await;
        assert!(serves(&mut raw).await, "connection {round}");
        held.push(raw);
    }
    assert_eq!(refused(&gateway).await, 0.0);
}
