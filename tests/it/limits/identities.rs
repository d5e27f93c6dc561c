//! Attempts to be somebody else, or several, in the eyes of rate limits. None of them may be worth a token.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};

use http::HeaderValue;
use serde_json::json;

use crate::harness::client::RawClient;
use crate::harness::{Gateway, GatewayConfig, Got, Origin, P, Session, send, table};

/// Nothing flows in during a case.
const LIMITS: &str = "limits:
  few: { by: address, rate: 5/day, burst: 0 }
  mine: { by: user, rate: 5/day, burst: 0 }
  tenant: { by: { header: X-Tenant }, rate: 2/day, burst: 0 }
  ceiling: { by: address, over: all_routes, rate: 6/day, burst: 0 }";

const ROUTES: &str = "  - { name: open, match: { path: /open, methods: [GET] }, to: { pool: echo }, auth: public, limits: [few] }
  - { name: public, match: { path: /public, methods: [GET] }, to: { pool: echo }, auth: public, limits: [mine] }
  - { name: mine, match: { path: /mine, methods: [GET] }, to: { pool: echo }, auth: { api_keys: true }, limits: [mine] }
  - { name: tenant, match: { path: /tenant, methods: [GET] }, to: { pool: echo }, auth: public, limits: [tenant, ceiling] }
  - { name: refresh, match: { path: /api/gateway/auth/refresh, methods: [POST] }, to: { builtin: auth_refresh }, auth: public }
  - { name: keys, match: { path: /api/gateway/admin/api-keys, methods: [POST] }, to: { builtin: api_key_create }, auth: { roles: [admin] } }";

const CAPACITY: usize = 5;

/// Headers in which proxies say, or clients claim, where a request came from.
const CLAIMS: [&str; 20] = [
    "x-forwarded-for",
    "x-real-ip",
    "forwarded",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-envoy-external-address",
    "x-forwarded",
    "forwarded-for",
    "x-originating-ip",
    "x-remote-addr",
    "x-ssm-client",
    "client-ip",
];

fn config(origin: &Origin) -> GatewayConfig {
    GatewayConfig::table(&table::with_top(&table::table(&[&origin.url()], "", ROUTES), LIMITS))
}

async fn started() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(config(&origin)).await;
    (origin, gateway)
}

async fn behind_a_proxy() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(config(&origin).setting("trusted_proxies", json!(["127.0.0.1/32"]))).await;
    (origin, gateway)
}

/// Whether a request passed; anything but that and a spent limit fails the case.
fn passed(got: &Got) -> bool {
    assert!(matches!(got.status, 200 | 429), "{} {}", got.status, got.text());
    got.status == 200
}

async fn via(gateway: &Gateway, path: &str, hops: &str) -> bool {
    passed(&send(gateway.client.request("GET", path).header("x-forwarded-for", hops)).await)
}

#[tokio::test]
async fn no_header_makes_another_client() {
    let (_origin, gateway) = started().await;
    let mut all = 0;
    for (round, name) in CLAIMS.into_iter().enumerate() {
        for value in [format!("198.51.100.{round}"), format!("for=198.51.100.{round}"), format!("2001:db8:{round}::1")]
        {
            all += usize::from(passed(&send(gateway.client.request("GET", "/open").header(name, value)).await));
        }
    }
    assert_eq!(all, CAPACITY);
}

#[tokio::test]
async fn no_header_claims_an_identity() {
    let (_origin, gateway) = started().await;
    let mut all = 0;
    for round in 0..10 {
        let request = gateway.client.request("GET", "/public");
        let names =
            ["x-user-id", "x-user-email", "x-user-role", "x-api-key", "authorization", "cookie", "x-ssm-session"];
        let request = names.into_iter().fold(request, |request, name| request.header(name, format!("Bearer {round}")));
        all += usize::from(passed(&send(request).await));
    }
    assert_eq!(all, CAPACITY);
}

#[tokio::test]
async fn behind_a_trusted_proxy_only_what_it_wrote_counts() {
    let (_origin, gateway) = behind_a_proxy().await;
    let mut all = 0;
    for (round, name) in CLAIMS.into_iter().enumerate() {
        // What the client sent before the proxy added its own entry, on the same line or on one of its own.
        let claimed = format!("198.51.100.{round}");
        let request = gateway.client.request("GET", "/open").header(name, &claimed);
        all += usize::from(passed(&send(request.header("x-forwarded-for", "203.0.113.7")).await));
        all += usize::from(via(&gateway, "/open", &format!("{claimed}, 203.0.113.7")).await);
        all += usize::from(via(&gateway, "/open", &format!("{claimed}, nonsense, 203.0.113.7")).await);
    }
    assert_eq!(all, CAPACITY);
}

#[tokio::test]
async fn a_line_that_is_no_text_hides_nothing() {
    let (origin, gateway) = behind_a_proxy().await;
    let mut all = 0;
    for round in 0..10 {
        // A line of the client's own, and another whose bytes make the proxy's entry on it unreadable as text.
        let unreadable = HeaderValue::from_bytes(b"\xff, 203.0.113.7").expect("a header");
        let request = gateway.client.request("GET", "/open").header("x-forwarded-for", format!("198.51.100.{round}"));
        all += usize::from(passed(&send(request.header("x-forwarded-for", unreadable)).await));
    }
    assert_eq!(all, CAPACITY);
    assert!(origin.last().header("x-forwarded-for").is_some_and(|chain| chain.ends_with(", 203.0.113.7, 127.0.0.1")));
}

#[tokio::test]
async fn what_is_no_address_is_counted_as_the_proxy_itself() {
    let (_origin, gateway) = behind_a_proxy().await;
    let mut all = 0;
    for hops in
        ["", "unknown", "_hidden", "198.51.100", "198.051.100.1", "0x7f.1", "fe80::1%eth0", "198.51.100.1:99999", ","]
    {
        all += usize::from(via(&gateway, "/open", hops).await);
        all += usize::from(via(&gateway, "/open", &format!("198.51.100.1, {hops}")).await);
    }
    assert_eq!(all, CAPACITY);
}

#[tokio::test]
async fn hopping_inside_a_network_of_64_bits_is_one_client() {
    let (_origin, gateway) = behind_a_proxy().await;
    let mut all = 0;
    for round in 0..40_u32 {
        let address =
            Ipv6Addr::from_bits((0x2001_0db8_0001_0002_u128 << 64) | u128::from(round.wrapping_mul(0x9e37_79b9)));
        let forms = [
            address.to_string(),
            format!("[{address}]"),
            format!("[{address}]:443"),
            address.to_string().to_uppercase(),
        ];
        all += usize::from(via(&gateway, "/open", &forms[round as usize % forms.len()]).await);
    }
    assert_eq!(all, CAPACITY);
    assert!(via(&gateway, "/open", "2001:db8:1:3::1").await, "the next network is another");
}

#[tokio::test]
async fn an_address_is_one_client_however_it_is_written() {
    let (_origin, gateway) = behind_a_proxy().await;
    let forms = [
        "198.51.100.1",
        "198.51.100.1:4711",
        "::ffff:198.51.100.1",
        "::FFFF:198.51.100.1",
        "::ffff:c633:6401",
        "0:0:0:0:0:ffff:c633:6401",
        "[::ffff:198.51.100.1]",
        "[::ffff:198.51.100.1]:80",
        "  198.51.100.1  ",
        "203.0.113.1,198.51.100.1",
    ];
    let mut all = 0;
    for form in forms.into_iter().cycle().take(30) {
        all += usize::from(via(&gateway, "/open", form).await);
    }
    assert_eq!(all, CAPACITY);
}

/// A raw request from an address of this machine.
async fn from(local: IpAddr, gateway: SocketAddr) -> u16 {
    let client = reqwest::Client::builder().no_proxy().local_address(local).build().expect("a client");
    let answer = client.get(format!("http://{gateway}/open")).header("connection", "close").send().await;
    answer.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn both_families_on_one_port_are_counted_alike() {
    let Ok(probe) = TcpListener::bind("[::1]:0") else { return println!("this machine has no IPv6") };
    drop(probe);
    let origin = Origin::start().await;
    let config = config(&origin).setting("listen", json!({ "address": "::" }));
    let gateway = Gateway::start(config).await;
    let port = gateway.address.port();
    let mut counts = Vec::new();
    for (local, at) in [("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "127.0.0.1"), ("::1", "::1")] {
        let (local, at) = (local.parse().expect("an address"), SocketAddr::new(at.parse().expect("an address"), port));
        let mut all = 0;
        for _ in 0..8 {
            all += usize::from(from(local, at).await == 200);
        }
        counts.push(all);
    }
    assert_eq!(counts, [CAPACITY; 3], "IPv4 clients, who come as IPv4-mapped ones here, are kept apart, too");
    let mapped = "::ffff:127.0.0.1".parse().expect("an address");
    let mut raw = RawClient::connect(SocketAddr::new(mapped, port)).await;
    raw.send(b"GET /open HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(raw.response().await.expect("an answer").status(), 429, "127.0.0.1 by another name");
}

#[tokio::test]
async fn a_header_s_subject_does_not_lift_the_cap_beside_it() {
    let (_origin, gateway) = started().await;
    let mut same = 0;
    for name in ["X-Tenant", "x-tenant", "X-TENANT", "x-Tenant"] {
        for value in ["a", " a", "a ", "\ta\t"] {
            let mut raw = gateway.raw().await;
            raw.send(format!("GET /tenant HTTP/1.1\r\nHost: g\r\n{name}:{value}\r\n\r\n").as_bytes()).await;
            same += usize::from(raw.response().await.expect("an answer").status() == 200);
        }
    }
    assert_eq!(same, 2, "neither the case of its name nor space around its value is another subject");
    let mut all = same;
    for round in 0..10 {
        let request = gateway.client.request("GET", "/tenant").header("x-tenant", format!("other-{round}"));
        all += usize::from(passed(&send(request.header("x-tenant", "more")).await));
    }
    assert_eq!(all, 6, "whoever chooses their subject still has only one address");
}

#[tokio::test]
async fn a_user_s_tokens_log_ins_and_keys_share_one_bucket() {
    let (_origin, gateway) = started().await;
    let (admin, user) = (gateway.user("admin").await, gateway.fresh_user("candidat").await);
    let mut tokens = vec![user.access.clone()];
    for _ in 0..2 {
        let again = gateway.client.login(&user.email, &user.password).await.expect(200);
        tokens.push(Session::of(&again, &user.password).access);
    }
    let refreshed = gateway.client.refresh(&user.refresh).await.expect(200);
    tokens.push(refreshed.json()["access_token"].as_str().unwrap().to_owned());
    let mut keys = Vec::new();
    for name in ["one", "two"] {
        let body = json!({"name": name, "user_id": user.id});
        let made = gateway.client.post_as(&admin, &format!("{P}/admin/api-keys"), &body).await.expect(201);
        keys.push(made.json()["key"].as_str().unwrap().to_owned());
    }
    let mut all = 0;
    for _ in 0..3 {
        for token in &tokens {
            let request = gateway.client.request("GET", "/mine").header("authorization", format!("Bearer {token}"));
            all += usize::from(passed(&send(request).await));
        }
        for key in &keys {
            all += usize::from(passed(&send(gateway.client.request("GET", "/mine").header("x-api-key", key)).await));
        }
    }
    assert_eq!(all, CAPACITY);
}
