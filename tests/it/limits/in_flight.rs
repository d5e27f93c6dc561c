//! Bounds on requests in flight: who gets a place, and that each comes back however its request ends.

use futures_util::future::join_all;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::harness::client::RawClient;
use crate::harness::http2::{H2Client, answer};
use crate::harness::limits::decisions;
use crate::harness::{
    Answer, Gateway, GatewayConfig, Got, Hold, Origin, PATIENCE, Reloaded, Session, send, table, until,
};
use crate::websocket::Echo;

const LIMITS: &str = "limits:
  two: { by: user, in_flight: 2, rate: 50/day, burst: 0 }
  one: { by: address, over: all_routes, in_flight: 1 }
  dark: { by: address, in_flight: 1, shadow: true }
  spent: { by: address, rate: 1/day, burst: 0 }";

const ROUTES: &str = "  - { name: two, match: { path: /two, methods: [GET, POST] }, to: { pool: echo }, limits: [two] }
  - { name: twin, match: { path: /twin, methods: [GET] }, to: { pool: echo }, limits: [two] }
  - { name: one, match: { path: /one, methods: [GET, POST] }, to: { pool: echo }, auth: public, limits: [one], timeout: 60s }
  - { name: dark, match: { path: /dark, methods: [GET] }, to: { pool: echo }, auth: public, limits: [dark] }
  - { name: spent, match: { path: /spent, methods: [GET] }, to: { pool: echo }, auth: public, limits: [one, spent] }
  - { name: free, match: { path: /free, methods: [GET] }, to: { pool: echo }, auth: public, limits: [one] }";

fn routes(origins: &[&Origin], pool: &str) -> String {
    let urls: Vec<String> = origins.iter().map(|origin| origin.url()).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    table::with_top(&table::table(&urls, pool, ROUTES), LIMITS)
}

async fn started() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(GatewayConfig::table(&routes(&[&origin], ""))).await;
    (origin, gateway)
}

fn full() -> (u16, String) {
    (429, "CONCURRENCY_LIMIT_EXCEEDED".to_owned())
}

/// A request in a task of its own.
fn begin(request: reqwest::RequestBuilder) -> JoinHandle<Got> {
    tokio::spawn(send(request))
}

fn as_user(gateway: &Gateway, user: &Session, path: &str) -> reqwest::RequestBuilder {
    gateway.client.as_user(user, "GET", path)
}

/// Waits until the place that `/one` and others share is free. A place is free a moment after the answer.
async fn until_free(gateway: &Gateway) {
    until("a free place", PATIENCE, || async { (gateway.client.get("/free").await.status == 200).then_some(()) }).await;
}

/// Sends this head until its request has a place, and is held by the origin.
async fn hold(gateway: &Gateway, origin: &Origin, head: &str) -> RawClient {
    until("a place", PATIENCE, || async {
        let (mut raw, before) = (gateway.raw().await, origin.count());
        raw.send(head.as_bytes()).await;
        tokio::select! {
            _ = raw.response() => return None,
            () = origin.wait_count(before + 1) => {}
        }
        Some(raw)
    })
    .await
}

#[tokio::test]
async fn beyond_the_bound_a_request_is_refused_and_charges_nothing() {
    let (origin, gateway) = started().await;
    let (hold, user) = (Hold::new(), gateway.user("candidat").await);
    origin.on("/two", Answer::json(200, json!({})).held(&hold));
    let held = [(); 2].map(|()| begin(as_user(&gateway, &user, "/two")));
    origin.wait_count(2).await;
    for (lang, message) in [("fr", "Trop de requêtes simultanées"), ("en", "Too many requests at once")] {
        let got = send(as_user(&gateway, &user, "/two").header("accept-language", lang)).await;
        assert_eq!(got.refusal(), full());
        assert_eq!((got.header("retry-after"), &got.json()["message"]), (Some("1"), &json!(message)));
        assert_eq!((&got.json()["retry_after"], got.header("ratelimit")), (&json!(1), None));
    }
    let other = gateway.user("recruteur").await;
    assert_eq!(gateway.client.get_as(&user, "/twin").await.status, 200, "another route");
    let others = begin(as_user(&gateway, &other, "/two"));
    origin.wait_count(4).await;
    assert_eq!((decisions(&gateway, "two", "denied").await, decisions(&gateway, "two", "allowed").await), (2.0, 4.0));
    hold.release();
    for got in join_all(held.into_iter().chain([others])).await {
        got.unwrap().expect(200);
    }
    let next = until("a free place", PATIENCE, || async {
        let got = gateway.client.get_as(&user, "/two").await;
        (got.status == 200).then_some(got)
    })
    .await;
    assert_eq!(next.number("x-ratelimit-remaining"), 47, "refused requests took no tokens");
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    let (origin, gateway) = started().await;
    origin.on("/one", Answer::silence());
    for head in ["GET /one HTTP/1.1\r\nHost: g\r\n\r\n", "POST /one HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\nab"]
    {
        let raw = hold(&gateway, &origin, head).await;
        assert_eq!(gateway.client.get("/free").await.refusal(), full());
        drop(raw);
        until_free(&gateway).await;
    }
}

#[tokio::test]
async fn failing_services_and_retries_give_the_place_back() {
    let (first, second) = (Origin::start().await, Origin::start().await);
    let pool = "    breaker: { failures: 0 }\n    retries: { backoff: 1ms, longest_backoff: 2ms }";
    let gateway = Gateway::start(GatewayConfig::table(&routes(&[&first, &second], pool))).await;
    for answer in [
        Answer::json(503, json!({})),
        Answer::reset(b""),
        Answer::cut(100, b"x"),
        Answer::raw(b"no HTTP\r\n\r\n"),
        Answer::bare(204),
    ] {
        first.on("/one", answer.clone());
        second.on("/one", answer);
        until("the service's answer", PATIENCE, || async {
            // Some of these answers break off.
            let got = crate::harness::try_send(gateway.client.request("GET", "/one")).await;
            got.map_or(Some(()), |got| (got.status != 429).then_some(()))
        })
        .await;
        until_free(&gateway).await;
    }
    // Targets take turns, and three requests later it is the other's: that one begins at the first, fails there, and is
    // held by the second.
    first.on("/one", Answer::json(503, json!({})));
    for _ in 0..2 {
        let held = Hold::new();
        second.on("/one", Answer::json(200, json!({})).held(&held));
        let mut raw = hold(&gateway, &second, "GET /one HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!(gateway.client.get("/free").await.refusal(), full());
        held.release();
        assert_eq!(raw.response().await.expect("an answer").status(), 200);
        until_free(&gateway).await;
        until_free(&gateway).await;
    }
    assert!(gateway.metric("gateway_retries_total", &[("result", "success")]).await > Some(0.0));
}

#[tokio::test]
async fn a_tunnel_holds_its_place_until_it_ends() {
    let echo = Echo::start().await;
    let text = table::with_top(&table::table(&[&format!("http://{}", echo.address)], "", ROUTES), LIMITS);
    let gateway = Gateway::start(GatewayConfig::table(&text)).await;
    let mut raw = gateway.raw().await;
    raw.send(
        b"GET /one HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .await;
    assert_eq!(raw.response().await.expect("an answer").status(), 101);
    for _ in 0..3 {
        raw.send(b"ping").await;
        assert_eq!(raw.take(4).await.as_deref(), Some(&b"ping"[..]));
        assert_eq!(gateway.client.get("/free").await.refusal(), full());
    }
    drop(raw);
    until_free(&gateway).await;
}

#[tokio::test]
async fn a_refusal_by_another_policy_gives_the_place_back_at_once() {
    let (_origin, gateway) = started().await;
    let mut raw = gateway.raw().await; // one connection: one after the other
    for round in 0..5 {
        raw.send(b"GET /spent HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let got = raw.response().await.expect("an answer");
        let code = got.body.json()["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!((got.status(), code.as_str()), if round == 0 { (200, "") } else { (429, "RATE_LIMIT_EXCEEDED") });
    }
}

#[tokio::test]
async fn a_shadow_counts_what_it_would_refuse_and_refuses_nothing() {
    let (origin, gateway) = started().await;
    let hold = Hold::new();
    origin.on("/dark", Answer::json(200, json!({})).held(&hold));
    let held = [(); 4].map(|()| begin(gateway.client.request("GET", "/dark")));
    origin.wait_count(4).await;
    hold.release();
    for got in join_all(held).await {
        assert_eq!(got.unwrap().expect(200).header("ratelimit-policy"), None);
    }
    let counted = ["allowed", "would_deny", "denied"].map(|decision| decisions(&gateway, "dark", decision));
    assert_eq!(join_all(counted).await, [1.0, 3.0, 0.0]);
}

#[tokio::test]
async fn streams_of_one_connection_are_bounded_and_a_reset_one_gives_its_place_back() {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&routes(&[&origin], "")).setting("listen", json!({ "http2": true }));
    let gateway = Gateway::start(config).await;
    let (hold, user) = (Hold::new(), gateway.user("candidat").await);
    origin.on("/two", Answer::json(200, json!({})).held(&hold));
    let (mut client, bearer) = (H2Client::connect(gateway.address).await, user.bearer());
    let headers = [("authorization", bearer.as_str())];
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(client.begin("GET", "/two", &headers, true).await);
    }
    origin.wait_count(2).await;
    let refused = client.ask("GET", "/two", &headers, b"").await;
    assert_eq!((refused.status, refused.code()), full());
    held.pop(); // resets the stream
    until("a free place", PATIENCE, || async {
        let mut client = H2Client::connect(gateway.address).await;
        let before = origin.count();
        let next = client.begin("GET", "/two", &headers, true).await;
        tokio::select! {
            _ = answer(next.0) => None,
            () = origin.wait_count(before + 1) => Some(()),
        }
    })
    .await;
    hold.release();
}

#[tokio::test]
async fn counts_survive_reloads() {
    let (origin, gateway) = started().await;
    let (hold, user) = (Hold::new(), gateway.user("candidat").await);
    origin.on("/two", Answer::json(200, json!({})).held(&hold));
    let mut held = Vec::from([(); 2].map(|()| begin(as_user(&gateway, &user, "/two"))));
    origin.wait_count(2).await;
    let more = "  - { name: more, match: { path: /more, methods: [GET] }, to: { pool: echo }, auth: public }\n";
    let unrelated = format!("{}{more}", routes(&[&origin], ""));
    assert_eq!(gateway.reload(&unrelated).await, Reloaded::Published);
    assert_eq!(gateway.client.get_as(&user, "/two").await.refusal(), full());
    let wider = unrelated.replace("in_flight: 2", "in_flight: 3");
    assert_eq!(gateway.reload(&wider).await, Reloaded::Published);
    held.push(begin(as_user(&gateway, &user, "/two")));
    origin.wait_count(3).await;
    assert_eq!(gateway.client.get_as(&user, "/two").await.refusal(), full());
    assert_eq!(gateway.reload(&unrelated).await, Reloaded::Published);
    assert_eq!(gateway.client.get_as(&user, "/two").await.refusal(), full());
    hold.release();
    for got in join_all(held).await {
        got.unwrap().expect(200);
    }
    until("a free place", PATIENCE, || async {
        (gateway.client.get_as(&user, "/two").await.status == 200).then_some(())
    })
    .await;
}
