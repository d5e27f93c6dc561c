//! Log-in under attack, on the real program: waits, alone and shared by replicas; hashes of the earlier gateway.

use serde_json::json;
use uuid::Uuid;

use crate::harness::PrivateRedis;
use crate::harness::client::Got;
use crate::harness::gateway::PASSWORD;
use crate::harness::{Gateway, GatewayConfig, Origin, P, PATIENCE, send, table, until};

/// bcrypt of [`PASSWORD`], cost 5, as the earlier gateway kept it (passlib 1.7.4).
const BCRYPT: &str = "$2b$05$sXuHqkYdyrNKYDWROh3/WOm2OF2LUE5NX/vuLf2S8DhAemmBNzpBe";

/// A gateway whose clients say in a trusted header who they are.
fn config(origin: &Origin) -> GatewayConfig {
    GatewayConfig::table(&table::table(&[&origin.url()], "", "")).setting("trusted_proxies", json!(["127.0.0.1/32"]))
}

async fn login(gateway: &Gateway, email: &str, password: &str, address: &str) -> Got {
    let body = json!({"email": email, "password": password});
    let request = gateway.client.request("POST", &format!("{P}/auth/login"));
    send(request.header("x-forwarded-for", address).json(&body)).await
}

/// Fails until it is told to wait, which five failures bring; a slow machine may spend a short wait within a try.
async fn fail_until_refused(gateway: &Gateway, email: &str) -> Got {
    for tries in 0..12 {
        let got = login(gateway, email, "not the password", &format!("192.0.2.{tries}")).await;
        if got.status == 429 {
            assert!(tries >= 5, "refused after {tries}");
            return got;
        }
        assert_eq!(got.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    }
    panic!("nothing is counted");
}

#[tokio::test]
async fn five_failures_bring_the_same_wait_with_and_without_an_account() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(config(&origin)).await;
    let user = gateway.user("candidat").await;
    let mut refusals = Vec::new();
    for email in [user.email.as_str(), "nobody@example.com"] {
        let refused = fail_until_refused(&gateway, email).await;
        assert_eq!(refused.refusal(), (429, "RATE_LIMIT_EXCEEDED".to_owned()));
        assert!(refused.number("retry-after") >= 1);
        let mut body = refused.json();
        for own in ["request_id", "retry_after"] {
            body[own] = json!("");
        }
        refusals.push(body);
    }
    assert_eq!(refusals[0], refusals[1]);
    assert_eq!(gateway.metric("gateway_auth_events_total", &[("event", "authn_login_lock")]).await, Some(2.0));
    // The account was made from here, so here its owner is let in at once.
    gateway.client.login(&user.email, PASSWORD).await.expect(200);
    // Elsewhere when the wait is over.
    until("the end of the wait", PATIENCE, || async {
        (login(&gateway, &user.email, PASSWORD, "198.51.100.1").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn replicas_count_failures_together_and_each_alone_without_redis() {
    let origin = Origin::start().await;
    let mut redis = PrivateRedis::start().await;
    let prefix = format!("it-{}:", Uuid::new_v4().simple());
    let config = config(&origin).setting("redis", json!({ "prefix": prefix })).env("REDIS_URL", &redis.url());
    let a = Gateway::start(config.clone()).await;
    let b = Gateway::start(config.clone()).await;
    for gateway in [&a, &b] {
        until("a connection to Redis", PATIENCE, || async {
            (gateway.metric("gateway_store_up", &[("store", "redis")]).await == Some(1.0)).then_some(())
        })
        .await;
    }
    fail_until_refused(&a, "shared@example.com").await;
    // Alone, this one would let five pass. Those that came after a short wait make the next one longer.
    let mut refused = false;
    for n in 0..4 {
        refused |= login(&b, "shared@example.com", "wrong", &format!("198.51.100.{n}")).await.status == 429;
    }
    assert!(refused);
    redis.stop();
    assert_eq!(fail_until_refused(&b, "alone@example.com").await.code(), "RATE_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn an_account_of_the_earlier_gateway_logs_in_and_its_hash_is_replaced() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(config(&origin)).await;
    let user = gateway.user("candidat").await;
    let store = rusqlite::Connection::open(gateway.data_dir().join("identity.db")).unwrap();
    store.execute("UPDATE users SET password_hash = ?1 WHERE email = ?2", [BCRYPT, user.email.as_str()]).unwrap();
    gateway.client.login(&user.email, "not the password").await.expect(401);
    gateway.client.login(&user.email, PASSWORD).await.expect(200);
    until("an Argon2id hash", PATIENCE, || async {
        let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let hash = store.query_row("SELECT password_hash FROM users WHERE email = ?1", [&user.email], read).unwrap();
        hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$").then_some(())
    })
    .await;
    gateway.client.login(&user.email, PASSWORD).await.expect(200);
}
