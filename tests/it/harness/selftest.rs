//! The harness against itself: the origin and the clients.

use super::client::{Client, RawClient, send, try_send};
use super::origin::{Answer, Hold, Origin};
use super::page::sum;
use super::wire::sha256;

#[tokio::test]
async fn the_origin_records_what_was_sent() {
    let origin = Origin::start().await;
    let client = Client::new(origin.address());
    let body = vec![7_u8; 3 << 20];
    let got = send(client.request("PUT", "/a/b?c=d").header("X-Own", "1").body(body.clone())).await;
    assert_eq!(got.json()["path"], "/a/b?c=d");
    let last = origin.last();
    assert_eq!((last.method.as_str(), last.path(), last.header("x-own")), ("PUT", "/a/b", Some("1")));
    assert_eq!((last.body.length, last.body.sha256), (body.len() as u64, sha256(&body)));
    assert_eq!((origin.count(), origin.probes()), (1, 0));
    assert_eq!(client.get("/health").await.status, 200);
    assert_eq!((origin.count(), origin.probes(), origin.connections()), (1, 1, 1));
}

#[tokio::test]
async fn chunked_bodies_are_put_together() {
    let origin = Origin::start().await;
    let mut raw = RawClient::connect(origin.address()).await;
    raw.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
        .await;
    assert_eq!(raw.response().await.unwrap().status(), 200);
    assert_eq!(origin.last().body.text(), "abcde");
    origin.on("/chunks", Answer::chunked(&[b"one", b"two"]));
    assert_eq!(Client::new(origin.address()).get("/chunks").await.text(), "onetwo");
}

#[tokio::test]
async fn scripted_misbehaviour_is_seen_by_the_client() {
    let origin = Origin::start().await;
    let client = Client::new(origin.address());
    origin.on("/cut", Answer::cut(100, b"only this"));
    assert!(try_send(client.request("GET", "/cut")).await.is_err());
    origin.on("/garbage", Answer::raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n"));
    assert!(try_send(client.request("GET", "/garbage")).await.is_err());
    origin.on("/cookies", Answer::bare(204).header("Set-Cookie", "a=1").header("Set-Cookie", "b=2").closing());
    let got = client.get("/cookies").await;
    assert_eq!((got.status, got.headers.get_all("set-cookie").iter().count()), (204, 2));
}

#[tokio::test]
async fn a_held_answer_comes_when_released() {
    let origin = Origin::start().await;
    let hold = Hold::new();
    origin.on("/later", Answer::json(200, serde_json::json!({})).held(&hold));
    let client = Client::new(origin.address());
    let asked = tokio::spawn(async move { client.get("/later").await.status });
    origin.wait_count(1).await;
    assert!(!asked.is_finished());
    hold.release();
    assert_eq!(asked.await.unwrap(), 200);
}

#[tokio::test]
async fn an_early_answer_comes_before_the_body() {
    let origin = Origin::start().await;
    origin.on("/early", Answer::json(500, serde_json::json!({})).early());
    let mut raw = RawClient::connect(origin.address()).await;
    raw.send(b"POST /early HTTP/1.1\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(raw.response().await.unwrap().status(), 500);
    raw.send(b"12345").await;
    raw.send(b"GET /next HTTP/1.1\r\n\r\n").await;
    assert_eq!(raw.response().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_killed_origin_breaks_its_connections_and_can_come_back() {
    let origin = Origin::start().await;
    let mut raw = RawClient::connect(origin.address()).await;
    raw.send(b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(raw.response().await.is_some());
    let port = origin.kill().await;
    assert!(raw.ends().await);
    let again = Origin::start_at(port).await;
    assert_eq!(Client::new(again.address()).get("/").await.status, 200);
}

#[test]
fn series_are_summed_by_label() {
    let page = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4\nab 9\nb 0.5\n";
    assert_eq!(sum(page, "a", &[]), Some(7.0));
    assert_eq!(sum(page, "a", &[("y", "3")]), Some(4.0));
    assert_eq!(sum(page, "b", &[]), Some(0.5));
    assert_eq!(sum(page, "c", &[]), None);
}
