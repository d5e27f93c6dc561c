//! API keys of machine clients: made by admins, used on the routes that take them, refused everywhere else.

use std::time::Duration;

use serde_json::{Value, json};
use ssm_gateway::clock::Clock;

use crate::harness::{Database, Gateway, GatewayConfig, Got, P, PATIENCE, Services, Session, send, until};

const ADMIN: &str = "/api/gateway/admin/api-keys";
const MATCH: &str = "/api/gateway/match";
const BATCH: &str = "/api/gateway/match/batch";

/// A key and its number.
struct Made {
    id: i64,
    key: String,
}

async fn post_key(gateway: &Gateway, body: &Value) -> Got {
    gateway.client.post_as(&gateway.user("admin").await, ADMIN, body).await
}

async fn make(gateway: &Gateway, user: &Session, more: Value) -> Made {
    let mut body = json!({"name": "Nightly import", "user_id": user.id});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    made(&post_key(gateway, &body).await.expect(201))
}

fn made(got: &Got) -> Made {
    let body = got.json();
    Made { id: body["id"].as_i64().unwrap(), key: body["key"].as_str().unwrap().to_owned() }
}

fn with_key(gateway: &Gateway, path: &str, key: &str) -> reqwest::RequestBuilder {
    gateway.client.request("POST", path).header("x-api-key", key).json(&json!({}))
}

async fn use_key(gateway: &Gateway, path: &str, key: &str) -> Got {
    send(with_key(gateway, path, key)).await
}

async fn list(gateway: &Gateway) -> Vec<Value> {
    let got = gateway.client.get_as(&gateway.user("admin").await, ADMIN).await.expect(200);
    got.json()["api_keys"].as_array().unwrap().clone()
}

async fn revoke(gateway: &Gateway, id: &str) -> Got {
    send(gateway.client.as_user(&gateway.user("admin").await, "DELETE", &format!("{ADMIN}/{id}"))).await
}

/// The shipped table, with limits that let a test look again and again.
fn patient(services: &Services) -> GatewayConfig {
    services.config().env("RATE_LIMIT_BURST", "1000000")
}

/// Waits for an answer with this status.
async fn until_status(gateway: &Gateway, path: &str, key: &str, status: u16) -> Got {
    until(&format!("a {status}"), PATIENCE, || async {
        let got = use_key(gateway, path, key).await;
        (got.status == status).then_some(got)
    })
    .await
}

fn invalid() -> (u16, String) {
    (401, "INVALID_API_KEY".to_owned())
}

#[tokio::test]
async fn a_key_lives_its_life() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let bot = gateway.fresh_user("recruteur").await;
    let body = json!({"name": "Nightly import", "user_id": bot.id, "routes": ["match", "match-batch"],
        "role": "recruteur", "expires_at": "2090-01-01T00:00:00+01:00"});
    let got = post_key(&gateway, &body).await.expect(201);
    assert_eq!(got.header("cache-control"), Some("no-store"));
    let Made { id, key } = made(&got);
    let about = got.json();
    assert_eq!((&about["routes"], &about["expires_at"]), (&body["routes"], &json!("2089-12-31T23:00:00+00:00")));
    assert_eq!((about["prefix"].as_str(), key.len()), (key.get(4..12), 62));
    assert_eq!((&about["last_used_at"], &about["revoked_at"]), (&Value::Null, &Value::Null));

    let request = with_key(&gateway, BATCH, &key).header("x-user-role", "admin").header("x-request-id", "use-of-key");
    send(request).await.expect(200);
    let last = services.matching.last();
    let told = ["x-user-id", "x-user-email", "x-user-role", "x-api-key"].map(|name| last.header(name));
    assert_eq!(told, [Some(bot.id.to_string().as_str()), Some(bot.email.as_str()), Some("recruteur"), None]);
    assert!(!format!("{:?}", last.head).contains(&key));
    let line = gateway.access_line(|line| line["request_id"] == "use-of-key").await;
    assert_eq!((&line["api_key"], &line["user"], &line["sid"]), (&json!(id), &json!(bot.id), &Value::Null));

    let listed = list(&gateway).await;
    assert_eq!((listed.len(), &listed[0]["id"], listed[0].get("key")), (1, &json!(id), None));
    until("the time of the last use", PATIENCE, || async {
        list(&gateway).await[0]["last_used_at"].is_string().then_some(())
    })
    .await;

    for other in [format!("+{id}"), format!("0{id}")] {
        assert_eq!(revoke(&gateway, &other).await.refusal(), (404, "NOT_FOUND".to_owned()), "{other}");
    }
    let admin = gateway.user("admin").await;
    let asked = gateway.client.as_user(&admin, "DELETE", &format!("{ADMIN}/{id}")).header("accept-language", "en");
    assert_eq!(send(asked).await.expect(200).json(), json!({"message": "API key revoked"}));
    let refused = use_key(&gateway, BATCH, &key).await;
    assert_eq!(refused.refusal(), invalid());
    assert!(refused.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer ")));
    assert!(list(&gateway).await[0]["revoked_at"].is_string());
    for id in [id.to_string().as_str(), "999", "0", "-1", "x", "9223372036854775808"] {
        assert_eq!(revoke(&gateway, id).await.refusal(), (404, "NOT_FOUND".to_owned()), "{id}");
    }
    assert_eq!(services.matching.count(), 1);
    for event in ["authn_api_key_created", "authn_api_key_revoked"] {
        assert_eq!(gateway.metric("gateway_auth_events_total", &[("event", event)]).await, Some(1.0), "{event}");
    }
    let written = format!("{}\n{}\n{}", gateway.written(), gateway.said(), gateway.metrics().await);
    assert!(!written.contains(&key) && !written.contains(&key[13..40]), "the key is in a log or metric");
}

#[tokio::test]
async fn a_key_opens_no_more_than_its_role_and_routes() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let bot = gateway.fresh_user("recruteur").await;
    let lower = make(&gateway, &bot, json!({"role": "candidat"})).await;
    use_key(&gateway, MATCH, &lower.key).await.expect(200);
    assert_eq!(use_key(&gateway, BATCH, &lower.key).await.refusal(), (403, "FORBIDDEN_ROLE".to_owned()));
    let scoped = make(&gateway, &bot, json!({"routes": ["match"]})).await;
    use_key(&gateway, MATCH, &scoped.key).await.expect(200);
    let refused = send(with_key(&gateway, BATCH, &scoped.key).header("accept-language", "en")).await;
    assert_eq!(refused.refusal(), (403, "FORBIDDEN_SCOPE".to_owned()));
    assert_eq!(refused.json()["message"], "Route outside the API key's scope");
    let line = gateway.access_line(|line| line["code"] == "FORBIDDEN_SCOPE").await;
    assert_eq!(line["api_key"], json!(scoped.id));
    assert_eq!(services.matching.count(), 2);

    // Keys are the account's, and count as its requests do.
    let free = make(&gateway, &bot, json!({})).await;
    let left = [&scoped.key, &free.key].map(|key| use_key(&gateway, MATCH, key));
    let [first, second] = left;
    assert!(first.await.number("x-ratelimit-remaining") > second.await.number("x-ratelimit-remaining"));
}

#[tokio::test]
async fn routes_that_take_no_keys_do_not_see_them() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let admin = gateway.user("admin").await;
    let key = make(&gateway, &admin, json!({})).await.key;
    let explain = format!("{P}/match/explain");
    assert_eq!(use_key(&gateway, &explain, &key).await.refusal(), (401, "MISSING_TOKEN".to_owned()));
    for (path, method) in [
        (ADMIN, "GET"),
        (ADMIN, "POST"),
        ("/api/gateway/admin/api-keys/1", "DELETE"),
        ("/api/gateway/auth/me", "GET"),
        ("/api/gateway/auth/logout", "POST"),
        ("/api/gateway/health/detailed/all", "GET"),
        ("/api/gateway/match/calibrate", "POST"),
    ] {
        let got = send(gateway.client.request(method, path).header("x-api-key", &key)).await;
        assert_eq!(got.refusal(), (401, "MISSING_TOKEN".to_owned()), "{method} {path}");
    }
    // The header is the client's secret wherever it is sent: it goes to no service.
    send(with_key(&gateway, &explain, &key).header("authorization", admin.bearer())).await.expect(200);
    assert_eq!(services.matching.last().header("x-api-key"), None);
    let stats = gateway.client.as_user(&admin, "GET", &format!("{P}/parsers/stats")).header("x-api-key", &key);
    send(stats).await.expect(200);
    assert_eq!(services.cv_parser.last().header("x-api-key"), None);
    send(gateway.client.request("GET", &format!("{P}/status")).header("x-api-key", "nonsense")).await.expect(200);
    use_key(&gateway, MATCH, &key).await.expect(200);
}

#[tokio::test]
async fn attacks_are_refused() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let bot = gateway.fresh_user("recruteur").await;
    let (own, other) = (make(&gateway, &bot, json!({})).await.key, make(&gateway, &bot, json!({})).await.key);
    let ask = || gateway.client.request("POST", MATCH).json(&json!({}));
    let bytes = |value: &[u8]| reqwest::header::HeaderValue::from_bytes(value).unwrap();
    let altered =
        |at: usize| format!("{}{}{}", &own[..at], if &own[at..=at] == "a" { "b" } else { "a" }, &own[at + 1..]);
    for (what, value) in [
        ("empty", String::new()),
        ("prefix only", own[..12].to_owned()),
        ("truncated", own[..61].to_owned()),
        ("extended", format!("{own}0")),
        ("wrong checksum", altered(61)),
        ("other secret", altered(20)),
        ("other prefix", altered(5)),
        ("prefix of another key", format!("{}{}", &other[..13], &own[13..])),
        ("both in one", format!("{own}, {other}")),
        ("quoted", format!("\"{own}\"")),
        ("with a scheme", format!("ApiKey {own}")),
        ("huge", own.repeat(100)),
        ("a token", bot.access.clone()),
    ] {
        assert_eq!(send(ask().header("x-api-key", &value)).await.refusal(), invalid(), "{what}");
    }
    for value in [&b"ssm_\xc3\xa9\xff"[..], &[0xff; 62]] {
        assert_eq!(send(ask().header("x-api-key", bytes(value))).await.refusal(), invalid(), "{value:?}");
    }
    let twice = ask().header("x-api-key", &own).header("x-api-key", &own);
    assert_eq!(send(twice).await.refusal(), invalid());
    let both = ask().header("x-api-key", &own).header("authorization", bot.bearer());
    assert_eq!(send(both).await.refusal(), (400, "BAD_REQUEST".to_owned()));
    for scheme in ["ApiKey", "Bearer", "Basic"] {
        let got = send(ask().header("authorization", format!("{scheme} {own}"))).await;
        assert_eq!(got.refusal(), (401, "INVALID_TOKEN_FORMAT".to_owned()), "{scheme}");
    }
    for (name, value) in [("x_api_key", &own), ("api-key", &own), ("cookie", &format!("x-api-key={own}"))] {
        assert_eq!(send(ask().header(name, value)).await.refusal(), (401, "MISSING_TOKEN".to_owned()), "{name}");
    }
    for query in ["api_key", "x-api-key", "X-API-Key"] {
        let got = gateway.client.post(&format!("{MATCH}?{query}={own}"), &json!({})).await;
        assert_eq!(got.refusal(), (401, "MISSING_TOKEN".to_owned()), "{query}");
    }
    assert_eq!(services.count(), 0);
    assert!(!gateway.written().contains(&own) && !gateway.said().contains(&own));
}

#[tokio::test]
async fn only_admins_make_keys_and_only_good_ones() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let bot = gateway.user("recruteur").await;
    let good = json!({"name": "n", "user_id": bot.id});
    for role in ["candidat", "recruteur"] {
        let user = gateway.user(role).await;
        assert_eq!(gateway.client.post_as(&user, ADMIN, &good).await.refusal(), (403, "FORBIDDEN_ROLE".to_owned()));
        assert_eq!(gateway.client.get_as(&user, ADMIN).await.status, 403);
    }
    assert_eq!(gateway.client.post(ADMIN, &good).await.status, 401);
    let many: Vec<String> = (0..65).map(|n| format!("r{n}")).collect();
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("x".repeat(101))),
        ("name", json!("a\u{7}b")),
        ("name", json!(null)),
        ("user_id", json!(999_999)),
        ("user_id", json!("1")),
        ("user_id", json!(1.5)),
        ("role", json!("admin")),
        ("role", json!("king")),
        ("routes", json!("match")),
        ("routes", json!(many)),
        ("routes", json!([1])),
        ("routes[1]", json!(["match", "NOSUCH"])),
        ("routes[0]", json!(["match-explain"])),
        ("routes[1]", json!(["match", "match"])),
        ("expires_at", json!("2020-01-01T00:00:00Z")),
        ("expires_at", json!("tomorrow")),
        ("expires_at", json!("2090-01-01T00:00:00")),
        ("expires_at", json!(4_000_000_000_u32)),
        ("key", json!("mine")),
    ] {
        let mut body = good.clone();
        let key = field.split('[').next().unwrap();
        body[key] = value.clone();
        let got = post_key(&gateway, &body).await;
        assert_eq!(got.refusal(), (422, "VALIDATION_ERROR".to_owned()), "{body}");
        assert_eq!(got.json()["details"][0]["field"], field, "{body}");
        assert!(!got.text().contains("NOSUCH") && !got.text().contains("tomorrow"), "echoed: {}", got.text());
    }
    assert!(list(&gateway).await.is_empty());
    for count in 1..=3 {
        assert_eq!(make(&gateway, &bot, json!({})).await.id, count);
    }
    let admin = gateway.user("admin").await;
    let page = async |query: &str| gateway.client.get_as(&admin, &format!("{ADMIN}?{query}")).await;
    let first = page("limit=2").await.expect(200).json();
    assert_eq!((first["api_keys"].as_array().unwrap().len(), &first["next_after"]), (2, &json!(2)));
    let second = page("after=2&limit=2").await.expect(200).json();
    assert_eq!((&second["api_keys"][0]["id"], &second["next_after"]), (&json!(3), &Value::Null));
    assert_eq!(page("limit=3").await.expect(200).json()["next_after"], Value::Null, "a full last page is the last one");
    assert_eq!(page("limit=0").await.refusal(), (422, "VALIDATION_ERROR".to_owned()));
}

#[tokio::test]
async fn keys_end_on_time_and_survive_a_restart() {
    let services = Services::start().await;
    let config = patient(&services);
    let gateway = Gateway::start(config.clone()).await;
    let bot = gateway.fresh_user("recruteur").await;
    let stays = make(&gateway, &bot, json!({})).await.key;
    let gone = make(&gateway, &bot, json!({})).await;
    let soon = Clock::system().wall() + Duration::from_secs(8);
    let brief = make(&gateway, &bot, json!({"expires_at": soon.to_string()})).await.key;
    use_key(&gateway, MATCH, &brief).await.expect(200);
    revoke(&gateway, &gone.id.to_string()).await.expect(200);
    assert_eq!(until_status(&gateway, MATCH, &brief, 401).await.refusal(), invalid());
    let gateway = gateway.restart(&config).await;
    use_key(&gateway, MATCH, &stays).await.expect(200);
    for key in [&gone.key, &brief] {
        assert_eq!(use_key(&gateway, MATCH, key).await.refusal(), invalid());
    }
}

#[tokio::test]
async fn processes_and_the_command_line_share_keys() {
    let services = Services::start().await;
    let database = Database::create().await;
    let config = patient(&services).env("DATABASE_URL", &database.url());
    let first = Gateway::start(config.clone()).await;
    let bot = first.fresh_user("recruteur").await;
    let second = Gateway::start(config).await;
    let Made { id, key } = make(&first, &bot, json!({})).await;
    until_status(&second, MATCH, &key, 200).await;
    revoke(&first, &id.to_string()).await.expect(200);
    assert_eq!(until_status(&second, MATCH, &key, 401).await.refusal(), invalid());

    let verb = |verb: &[&str]| {
        let output = first.run_verb(verb);
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let create = ["api-keys", "create", "--email", &bot.email, "--name", "by hand", "--route", "match"];
    let (made, said) = verb(&create);
    assert!(made, "{said}");
    let (id, key) = said.trim_end().split_once('\t').unwrap();
    until_status(&first, MATCH, key, 200).await;
    assert_eq!(use_key(&first, BATCH, key).await.refusal(), (403, "FORBIDDEN_SCOPE".to_owned()));
    let (_, listed) = verb(&["api-keys", "list"]);
    assert!(listed.contains("by hand") && listed.contains("revoked") && !listed.contains(key), "{listed}");
    assert!(verb(&["api-keys", "revoke", id]).0);
    assert_eq!(until_status(&first, MATCH, key, 401).await.refusal(), invalid());

    let last = make(&first, &bot, json!({})).await.key;
    use_key(&first, MATCH, &last).await.expect(200);
    assert!(verb(&["users", "deactivate", "--email", &bot.email]).0);
    for gateway in [&first, &second] {
        assert_eq!(until_status(gateway, MATCH, &last, 401).await.refusal(), invalid());
    }
    assert!(verb(&["users", "activate", "--email", &bot.email]).0);
    assert!(!verb(&create[..4]).0, "a name is needed");
}
