//! Every kind of policy, end to end: whose bucket it is, what it spans, what a request costs, what a reload does.

use serde_json::json;
use ssm_gateway::clock::Clock;

use crate::harness::limits::{decisions, passes_before_429};
use crate::harness::{Gateway, GatewayConfig, Got, Origin, P, Reloaded, Session, send, table};

/// Nothing flows in during a case.
const LIMITS: &str = "limits:
  user: { by: user, rate: 3/day, burst: 0 }
  key: { by: api_key, rate: 3/day, burst: 0 }
  role: { by: role, roles: { anonymous: 2/day, candidat: 3/day, recruteur: 4/day, admin: 5/day }, burst: 0 }
  address: { by: address, rate: 3/day, burst: 0 }
  everyone: { by: everyone, rate: 3/day, burst: 0 }
  tenant: { by: { header: X-Tenant }, rate: 2/day, burst: 0 }
  heavy: { by: address, over: group, rate: 4/day, burst: 0 }
  dear: { by: address, over: all_routes, rate: 10/day, burst: 0, cost: 3 }
  dark: { by: address, over: all_routes, rate: 2/day, burst: 0, shadow: true }
  wide: { by: address, over: all_routes, rate: 6/day, burst: 0 }
  second: { by: address, rate: 7/s, burst: 0 }
  minute: { by: address, rate: 8/min, burst: 0 }
  hour: { by: address, rate: 9/h, burst: 0 }";

const ROUTES: &str = "  - { name: user, match: { path: /user, methods: [GET] }, to: { pool: echo }, auth: optional, limits: [user] }
  - { name: key, match: { path: /key, methods: [GET] }, to: { pool: echo }, auth: { api_keys: true }, limits: [key] }
  - { name: role, match: { path: /role, methods: [GET] }, to: { pool: echo }, auth: optional, limits: [role] }
  - { name: address, match: { path: /address, methods: [GET] }, to: { pool: echo }, auth: optional, limits: [address] }
  - { name: everyone, match: { path: /everyone, methods: [GET] }, to: { pool: echo }, auth: optional, limits: [everyone] }
  - { name: tenant, match: { path: /tenant, methods: [GET] }, to: { pool: echo }, auth: public, limits: [tenant] }
  - { name: one, match: { path: /one, methods: [GET] }, to: { pool: echo }, auth: public, limits: [heavy], group: heavy }
  - { name: two, match: { path: /two, methods: [GET] }, to: { pool: echo }, auth: public, limits: [heavy], group: heavy }
  - { name: heavy, match: { path: /three, methods: [GET] }, to: { pool: echo }, auth: public, limits: [heavy] }
  - { name: cost, match: { path: /cost, methods: [GET] }, to: { pool: echo }, auth: public, limits: [dear] }
  - { name: costs, match: { path: /costs, methods: [GET] }, to: { pool: echo }, auth: public, limits: [{ policy: dear, cost: 4 }] }
  - { name: dark, match: { path: /dark, methods: [GET] }, to: { pool: echo }, auth: public, limits: [dark, wide] }
  - { name: both, match: { path: /both, methods: [GET] }, to: { pool: echo }, auth: public, limits: [wide, address] }
  - { name: wide, match: { path: /wide, methods: [GET] }, to: { pool: echo }, auth: public, limits: [wide] }
  - { name: second, match: { path: /second, methods: [GET] }, to: { pool: echo }, auth: public, limits: [second] }
  - { name: minute, match: { path: /minute, methods: [GET] }, to: { pool: echo }, auth: public, limits: [minute] }
  - { name: hour, match: { path: /hour, methods: [GET] }, to: { pool: echo }, auth: public, limits: [hour] }
  - { name: keys, match: { path: /api/gateway/admin/api-keys, methods: [POST] }, to: { builtin: api_key_create }, auth: { roles: [admin] } }";

fn routes(origin: &Origin) -> String {
    table::with_top(&table::table(&[&origin.url()], "", ROUTES), LIMITS)
}

/// Behind a proxy that says who the client is.
async fn started() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&routes(&origin)).setting("trusted_proxies", json!(["127.0.0.1/32"]));
    let gateway = Gateway::start(config).await;
    (origin, gateway)
}

/// Who asks.
#[derive(Clone, Copy, Default)]
struct Who<'a> {
    address: &'a str,
    session: Option<&'a Session>,
    headers: &'a [(&'a str, &'a str)],
}

fn from(address: &str) -> Who<'_> {
    Who { address, ..Who::default() }
}

async fn ask(gateway: &Gateway, who: Who<'_>, path: &str) -> Got {
    let mut request = gateway.client.request("GET", path).header("x-forwarded-for", who.address);
    if let Some(session) = who.session {
        request = request.header("authorization", session.bearer());
    }
    send(who.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

async fn spend(gateway: &Gateway, who: Who<'_>, path: &str) -> usize {
    passes_before_429(async || ask(gateway, who, path).await).await
}

#[tokio::test]
async fn by_user_counts_the_account_wherever_it_is() {
    let (_origin, gateway) = started().await;
    let (one, other) = (gateway.fresh_user("candidat").await, gateway.fresh_user("candidat").await);
    let here = Who { session: Some(&one), ..from("198.51.100.1") };
    assert_eq!(spend(&gateway, here, "/user").await, 3);
    assert_eq!(spend(&gateway, Who { address: "198.51.100.2", ..here }, "/user").await, 0);
    assert_eq!(spend(&gateway, Who { session: Some(&other), ..here }, "/user").await, 3);
    assert_eq!(spend(&gateway, from("198.51.100.1"), "/user").await, 3, "nobody is proven: the address");
    assert_eq!(spend(&gateway, from("198.51.100.1"), "/user").await, 0);
}

#[tokio::test]
async fn by_api_key_counts_the_key_and_without_one_the_user() {
    let (_origin, gateway) = started().await;
    let (admin, bot) = (gateway.user("admin").await, gateway.fresh_user("candidat").await);
    let mut keys = Vec::new();
    for name in ["one", "two"] {
        let body = json!({"name": name, "user_id": bot.id});
        let made = gateway.client.post_as(&admin, &format!("{P}/admin/api-keys"), &body).await.expect(201);
        keys.push(made.json()["key"].as_str().unwrap().to_owned());
    }
    for key in &keys {
        let headers = [("x-api-key", key.as_str())];
        let who = Who { headers: &headers, ..from("198.51.100.1") };
        assert_eq!(spend(&gateway, who, "/key").await, 3);
        assert_eq!(spend(&gateway, Who { address: "198.51.100.2", ..who }, "/key").await, 0);
    }
    assert_eq!(spend(&gateway, Who { session: Some(&bot), ..from("198.51.100.1") }, "/key").await, 3);
}

#[tokio::test]
async fn by_role_all_who_have_it_share_one_bucket() {
    let (_origin, gateway) = started().await;
    for (role, capacity) in [("candidat", 3), ("recruteur", 4), ("admin", 5)] {
        let (one, other) = (gateway.fresh_user(role).await, gateway.fresh_user(role).await);
        ask(&gateway, Who { session: Some(&one), ..from("198.51.100.1") }, "/role").await.expect(200);
        let who = Who { session: Some(&other), ..from("198.51.100.2") };
        assert_eq!(spend(&gateway, who, "/role").await, capacity - 1, "{role}");
    }
    ask(&gateway, from("198.51.100.1"), "/role").await.expect(200);
    assert_eq!(spend(&gateway, from("198.51.100.2"), "/role").await, 1, "who proves nothing");
}

#[tokio::test]
async fn by_address_and_by_everyone_do_not_look_at_who_it_is() {
    let (_origin, gateway) = started().await;
    let user = gateway.user("candidat").await;
    let known = Who { session: Some(&user), ..from("198.51.100.1") };
    ask(&gateway, known, "/address").await.expect(200);
    assert_eq!(spend(&gateway, from("198.51.100.1"), "/address").await, 2);
    assert_eq!(spend(&gateway, known, "/address").await, 0);
    assert_eq!(spend(&gateway, Who { address: "198.51.100.2", ..known }, "/address").await, 3);
    ask(&gateway, known, "/everyone").await.expect(200);
    assert_eq!(spend(&gateway, from("198.51.100.2"), "/everyone").await, 2);
    assert_eq!(spend(&gateway, from("2001:db8::1"), "/everyone").await, 0);
}

#[tokio::test]
async fn by_header_counts_what_it_says_and_without_it_the_address() {
    let (_origin, gateway) = started().await;
    let with = |headers: &'static [(&'static str, &'static str)]| Who { headers, ..from("198.51.100.1") };
    assert_eq!(spend(&gateway, with(&[("x-tenant", "a")]), "/tenant").await, 2);
    assert_eq!(spend(&gateway, Who { address: "198.51.100.2", ..with(&[("x-tenant", "a")]) }, "/tenant").await, 0);
    assert_eq!(spend(&gateway, with(&[("x-tenant", "b")]), "/tenant").await, 2);
    assert_eq!(spend(&gateway, with(&[("x-tenant", "a"), ("x-tenant", "b")]), "/tenant").await, 2, "two lines");
    assert_eq!(spend(&gateway, with(&[("x-tenant", "a"), ("x-tenant", "")]), "/tenant").await, 0, "one is empty");
    assert_eq!(spend(&gateway, with(&[]), "/tenant").await, 2, "no header: the address");
    assert_eq!(spend(&gateway, with(&[("x-tenant", "")]), "/tenant").await, 0, "an empty one: the address");
    assert_eq!(spend(&gateway, from("198.51.100.2"), "/tenant").await, 2);
}

#[tokio::test]
async fn a_group_has_one_bucket_and_a_route_of_its_name_another() {
    let (_origin, gateway) = started().await;
    ask(&gateway, from("198.51.100.1"), "/one").await.expect(200);
    assert_eq!(spend(&gateway, from("198.51.100.1"), "/two").await, 3);
    assert_eq!(spend(&gateway, from("198.51.100.1"), "/one").await, 0);
    assert_eq!(spend(&gateway, from("198.51.100.1"), "/three").await, 4, "a route named like the group, without one");
}

#[tokio::test]
async fn a_cost_is_the_policy_s_or_the_route_s() {
    let (_origin, gateway) = started().await;
    let who = from("198.51.100.1");
    assert_eq!(ask(&gateway, who, "/cost").await.expect(200).number("x-ratelimit-remaining"), 7);
    assert_eq!(ask(&gateway, who, "/costs").await.expect(200).number("x-ratelimit-remaining"), 3);
    let refused = ask(&gateway, who, "/costs").await;
    assert_eq!((refused.status, refused.number("x-ratelimit-remaining")), (429, 3), "3 are left, 4 are needed");
    assert_eq!(ask(&gateway, who, "/cost").await.expect(200).number("x-ratelimit-remaining"), 0);
    assert_eq!(ask(&gateway, who, "/cost").await.status, 429);
    // A token is worth 8640 s: three are missing for the one, less for neither.
    assert!((3 * 8_640 - 60..=3 * 8_640).contains(&ask(&gateway, who, "/cost").await.number("retry-after")));
}

#[tokio::test]
async fn a_shadow_is_counted_and_neither_felt_nor_told_of() {
    let (_origin, gateway) = started().await;
    let who = from("198.51.100.1");
    for left in [5, 4, 3, 2, 1, 0] {
        let got = ask(&gateway, who, "/dark").await.expect(200);
        assert_eq!((got.number("x-ratelimit-limit"), got.number("x-ratelimit-remaining")), (6, left));
        assert_eq!(got.header("ratelimit-policy"), Some("\"wide\";q=6;w=86400"));
    }
    assert_eq!(ask(&gateway, who, "/dark").await.status, 429);
    let shadow = [decisions(&gateway, "dark", "allowed").await, decisions(&gateway, "dark", "would_deny").await];
    assert_eq!((shadow, decisions(&gateway, "dark", "denied").await), ([2.0, 4.0], 0.0));
    let wide = [decisions(&gateway, "wide", "allowed").await, decisions(&gateway, "wide", "denied").await];
    assert_eq!(wide, [6.0, 1.0]);
}

#[tokio::test]
async fn what_one_policy_refuses_no_other_charges() {
    let (_origin, gateway) = started().await;
    let who = from("198.51.100.1");
    assert_eq!(spend(&gateway, who, "/both").await, 3);
    for _ in 0..10 {
        let refused = ask(&gateway, who, "/both").await;
        assert_eq!((refused.status, refused.header("x-ratelimit-limit")), (429, Some("3")));
        assert_eq!(refused.header("ratelimit-policy"), Some("\"wide\";q=6;w=86400, \"address\";q=3;w=86400"));
    }
    assert_eq!(spend(&gateway, who, "/wide").await, 3, "ten refusals took nothing of the other policy");
}

#[tokio::test]
async fn rates_are_per_second_minute_hour_and_day() {
    let (_origin, gateway) = started().await;
    for (path, limit, window) in [("/second", 7, 1), ("/minute", 8, 60), ("/hour", 9, 3_600), ("/wide", 6, 86_400)] {
        let got = ask(&gateway, from("198.51.100.1"), path).await.expect(200);
        assert_eq!((got.number("x-ratelimit-limit"), got.number("x-ratelimit-window")), (limit, window));
        assert_eq!(got.number("x-ratelimit-remaining"), limit - 1);
        if window > 60 {
            assert_eq!(spend(&gateway, from("198.51.100.1"), path).await as u64, limit - 1);
            let wait = ask(&gateway, from("198.51.100.1"), path).await.number("retry-after");
            assert!((window / limit - 60..=window / limit).contains(&wait), "{path}: {wait}");
        }
    }
}

#[tokio::test]
async fn a_changed_limit_rescales_what_is_left_and_refills_nothing() {
    let origin = Origin::start().await;
    let of =
        |count: u32| routes(&origin).replace("rate: 6/day, burst: 0", &format!("rate: {count}/day, burst: {count}"));
    let config = GatewayConfig::table(&of(20)).setting("trusted_proxies", json!(["127.0.0.1/32"]));
    let gateway = Gateway::start(config).await;
    let (half, empty) = (from("198.51.100.1"), from("198.51.100.2"));
    for _ in 0..20 {
        ask(&gateway, half, "/wide").await.expect(200);
    }
    for _ in 0..40 {
        ask(&gateway, empty, "/wide").await.expect(200);
    }
    let unrelated = of(20).replace("rate: 9/h", "rate: 10/h");
    assert_eq!(gateway.reload(&unrelated).await, Reloaded::Published);
    assert_eq!(ask(&gateway, empty, "/wide").await.status, 429, "an unrelated change refills nothing");
    assert_eq!(gateway.reload(&of(40)).await, Reloaded::Published);
    assert_eq!(ask(&gateway, empty, "/wide").await.status, 429, "nor does a higher limit");
    for _ in 0..40 {
        ask(&gateway, half, "/wide").await.expect(200);
    }
    assert_eq!(ask(&gateway, half, "/wide").await.status, 429, "half of 40 were left, so half of 80 are");
    assert_eq!(gateway.reload(&of(20)).await, Reloaded::Published);
    assert_eq!(ask(&gateway, half, "/wide").await.status, 429);
    for _ in 0..40 {
        ask(&gateway, from("198.51.100.3"), "/wide").await.expect(200);
    }
    assert_eq!(ask(&gateway, from("198.51.100.3"), "/wide").await.status, 429);
}

#[tokio::test]
async fn the_form_of_the_headers_changes_with_the_table() {
    let (origin, gateway) = started().await;
    let who = Who { headers: &[("origin", "http://localhost:3000")], ..from("198.51.100.1") };
    let with = |line: &str| table::with_top(&routes(&origin), &format!("limit_headers: {line}"));
    let first = ask(&gateway, who, "/wide").await.expect(200);
    assert!(first.header("ratelimit").is_some_and(|value| value.starts_with("\"wide\";r=5;t=")), "{:?}", first.headers);
    let exposed = first.header("access-control-expose-headers").unwrap();
    for name in ["X-RateLimit-Limit", "X-RateLimit-Reset", "RateLimit", "RateLimit-Policy", "Retry-After"] {
        assert!(exposed.split(", ").any(|known| known == name), "{exposed}");
    }
    assert_eq!(gateway.reload(&with("{ ietf: draft_11, x_ratelimit: false }")).await, Reloaded::Published);
    let next = ask(&gateway, who, "/wide").await.expect(200);
    assert!(next.header("ratelimit").is_some_and(|value| value.starts_with("\"wide\";a=4;w=")), "{:?}", next.headers);
    assert_eq!(next.header("ratelimit-policy"), Some("\"wide\";q=6;w=86400"));
    assert!(next.headers.keys().all(|name| !name.as_str().starts_with("x-ratelimit")), "{:?}", next.headers);
    assert_eq!(gateway.reload(&with("{ ietf: off, jitter: 1h }")).await, Reloaded::Published);
    assert_eq!(spend(&gateway, who, "/wide").await, 4);
    let refused = ask(&gateway, who, "/wide").await;
    assert_eq!((refused.header("ratelimit"), refused.header("ratelimit-policy")), (None, None));
    let wait = refused.number("retry-after");
    assert!((14_400 - 60..=14_400 + 3_600).contains(&wait), "{wait}");
    assert_eq!(refused.json()["retry_after"], json!(wait));
    let reset = refused.number("x-ratelimit-reset").abs_diff(u64::try_from(Clock::system().unix_seconds()).unwrap());
    assert!(reset.abs_diff(wait) <= 60, "{reset} is not {wait}");
}
