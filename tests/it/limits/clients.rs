//! Rate limits as clients feel them.

use serde_json::json;
use tokio::time::{Duration, Instant};

use super::spend;
use crate::harness::{Client, Gateway, GatewayConfig, Got, Origin, P, PATIENCE, Reloaded, Session, send, table, until};

/// Twelve seconds per token: a slow machine does not earn one during a case.
const LIMITS: &str = "limits:
  few: { by: user, rate: 5/min, burst: 2 }
  tier: { by: user, over: all_routes, roles: { candidat: 5/min, recruteur: 6/min, admin: 7/min }, burst: 1 }
  address: { by: address, rate: 5/min, burst: 0 }
  quick: { by: address, rate: 1/s, burst: 1 }";

const ROUTES: &str = "  - { name: a, match: { path: /a, methods: [GET] }, to: { pool: echo }, limits: [few] }
  - { name: b, match: { path: /b, methods: [GET] }, to: { pool: echo }, limits: [few] }
  - { name: c, match: { path: /c, methods: [GET] }, to: { pool: echo }, limits: [tier] }
  - { name: d, match: { path: /d, methods: [GET] }, to: { pool: echo }, limits: [tier] }
  - { name: open, match: { path: /open, methods: [GET] }, to: { pool: echo }, auth: public, limits: [address] }
  - { name: quick, match: { path: /quick, methods: [GET] }, to: { pool: echo }, auth: public, limits: [quick] }";

fn routes(origin: &Origin) -> String {
    table::with_top(&table::table(&[&origin.url()], "", ROUTES), LIMITS)
}

async fn started() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(GatewayConfig::table(&routes(&origin))).await;
    (origin, gateway)
}

#[tokio::test]
async fn a_fresh_user_has_limit_and_burst_then_is_told_to_wait() {
    let (origin, gateway) = started().await;
    let user = gateway.user("candidat").await;
    // The burst is a reserve that is not announced: `Remaining` goes from the limit to 0 first.
    for expected in [4, 3, 2, 1, 0, 0, 0] {
        let got = gateway.client.get_as(&user, "/a").await.expect(200);
        assert_eq!((got.number("x-ratelimit-limit"), got.number("x-ratelimit-window")), (5, 60));
        assert_eq!(got.number("x-ratelimit-remaining"), expected);
    }
    let got = gateway.client.get_as(&user, "/a").await;
    assert_eq!(got.refusal(), (429, "RATE_LIMIT_EXCEEDED".to_owned()));
    let wait = got.number("retry-after");
    assert!((1..=12).contains(&wait), "{wait}");
    assert_eq!((got.json()["retry_after"].as_u64(), got.number("x-ratelimit-remaining")), (Some(wait), 0));
    assert!(got.header("ratelimit").is_some_and(|value| value.starts_with("\"few\";r=0")), "{:?}", got.headers);
    assert!(
        got.header("ratelimit-policy").is_some_and(|value| value.starts_with("\"few\";q=5;w=60")),
        "{:?}",
        got.headers
    );
    assert_eq!(origin.count(), 7);
}

#[tokio::test]
async fn the_wait_is_true() {
    let (_origin, gateway) = started().await;
    let ask = || gateway.client.get("/quick");
    let denied: Got = until("a 429", PATIENCE, || async { Some(ask().await).filter(|got| got.status == 429) }).await;
    let asked = Instant::now();
    let wait = Duration::from_secs(denied.number("retry-after"));
    until("a free token", PATIENCE, || async { (ask().await.status == 200).then_some(()) }).await;
    // Whole seconds rounded up; the second on top is for a busy machine.
    assert!(asked.elapsed() <= wait + Duration::from_secs(1), "{:?} instead of {wait:?}", asked.elapsed());
}

#[tokio::test]
async fn a_bucket_is_per_user_and_route() {
    let (_origin, gateway) = started().await;
    let (one, other) = (gateway.user("candidat").await, gateway.user("recruteur").await);
    assert_eq!(spend(&gateway, &one, "/a").await, 7);
    assert_eq!(spend(&gateway, &one, "/b").await, 7, "another route has its own bucket");
    assert_eq!(spend(&gateway, &other, "/a").await, 7, "another user has their own bucket");
    let again = Session { access: relogin(&gateway.client, &one).await, ..one };
    assert_eq!(spend(&gateway, &again, "/a").await, 0, "a new token is the same user");
}

async fn relogin(client: &Client, session: &Session) -> String {
    Session::of(&client.login(&session.email, &session.password).await.expect(200), &session.password).access
}

#[tokio::test]
async fn a_role_s_tier_spans_the_routes() {
    let (_origin, gateway) = started().await;
    for (role, capacity) in [("candidat", 6), ("recruteur", 7), ("admin", 8)] {
        let session = gateway.user(role).await;
        gateway.client.get_as(&session, "/c").await.expect(200);
        assert_eq!(spend(&gateway, &session, "/d").await, capacity - 1, "{role}");
        assert_eq!(gateway.client.get_as(&session, "/c").await.status, 429, "{role}");
    }
}

#[tokio::test]
async fn an_anonymous_client_is_its_address_and_cannot_invent_others() {
    let (_origin, gateway) = started().await;
    for round in 0..8 {
        let spoofed = format!("198.51.100.{round}");
        let request = gateway.client.request("GET", "/open");
        let request = ["x-forwarded-for", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"]
            .into_iter()
            .fold(request, |request, name| request.header(name, &spoofed))
            .header("forwarded", format!("for={spoofed}"));
        let got = send(request).await;
        assert_eq!(got.status, if round < 5 { 200 } else { 429 }, "request {round}");
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_counts() {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&routes(&origin)).setting("trusted_proxies", json!(["127.0.0.1/32"]));
    let gateway = Gateway::start(config).await;
    let ask = |hops: &'static str| send(gateway.client.request("GET", "/open").header("x-forwarded-for", hops));
    for _ in 0..5 {
        ask("198.51.100.1").await.expect(200);
    }
    ask("198.51.100.1").await.expect(429);
    ask("198.51.100.2").await.expect(200);
    // What stands to the left of the first untrusted hop is the client's own invention.
    ask("203.0.113.5, 198.51.100.1").await.expect(429);
    ask("203.0.113.6, 198.51.100.1").await.expect(429);
    for _ in 0..5 {
        ask("2001:db8::1").await.expect(200);
    }
    ask("2001:db8::ffff").await.expect(429);
    ask("2001:db8:0:1::1").await.expect(200);
}

#[tokio::test]
async fn an_unrelated_reload_keeps_the_bucket() {
    let (origin, gateway) = started().await;
    let user = gateway.user("candidat").await;
    assert_eq!(spend(&gateway, &user, "/a").await, 7);
    let more = "  - { name: more, match: { path: /more, methods: [GET] }, to: { pool: echo }, auth: public }\n";
    let next = format!("{}{more}", routes(&origin));
    assert_eq!(gateway.reload(&next).await, Reloaded::Published);
    gateway.client.get("/more").await.expect(200);
    assert_eq!(gateway.client.get_as(&user, "/a").await.status, 429);
}

#[tokio::test]
async fn the_flood_guard_counts_whatever_is_asked_but_probes() {
    let origin = Origin::start().await;
    let more =
        "  - { name: free, match: { path: /free, methods: [GET] }, to: { pool: echo }, auth: public, limits: [] }
  - { name: up, match: { path: /up, methods: [GET] }, to: { builtin: status }, auth: public, limits: [] }
  - { name: well, match: { path: /well, methods: [GET] }, to: { builtin: health }, auth: public, limits: [] }";
    let top = "flood_guard: { rate: 5/min, burst: 0 }\ncors: { origins: ['https://a.example'] }";
    let guarded = table::with_top(&table::table(&[&origin.url()], "", more), top);
    let config = GatewayConfig::table(&guarded).setting("trusted_proxies", json!(["127.0.0.1/32"]));
    let gateway = Gateway::start(config).await;
    let preflight = |request: reqwest::RequestBuilder| {
        request.header("origin", "https://a.example").header("access-control-request-method", "GET")
    };
    // One client per kind of request: each is counted alone.
    for (client, (method, path, passed)) in
        [("GET", "/free", 200), ("GET", "/nowhere", 404), ("POST", "/free", 405), ("OPTIONS", "/free", 204)]
            .into_iter()
            .enumerate()
    {
        for round in 0..7 {
            let request =
                gateway.client.request(method, path).header("x-forwarded-for", format!("198.51.100.{client}"));
            let got = send(if method == "OPTIONS" { preflight(request) } else { request }).await;
            assert_eq!(got.status, if round < 5 { passed } else { 429 }, "{method} {path}, request {round}");
            assert!(round < 5 || (1..=12).contains(&got.number("retry-after")), "{method} {path}");
        }
    }
    let spent = |path| gateway.client.request("GET", path).header("x-forwarded-for", "198.51.100.1");
    for _ in 0..10 {
        send(spent("/up")).await.expect(200);
        send(spent("/well")).await.expect(200);
    }
    assert_eq!(send(spent("/free")).await.refusal(), (429, "RATE_LIMIT_EXCEEDED".to_owned()));
}

#[tokio::test]
async fn the_default_limit_follows_the_environment() {
    let services = crate::harness::Services::start().await;
    let config = services.config().env("RATE_LIMIT_PER_MINUTE", "7").env("RATE_LIMIT_BURST", "3");
    let gateway = Gateway::start(config).await;
    let got = gateway.client.get(&format!("{P}/openapi.json")).await.expect(200);
    assert_eq!(got.number("x-ratelimit-limit"), 7);
    assert_eq!(got.number("x-ratelimit-remaining"), 6);
}
