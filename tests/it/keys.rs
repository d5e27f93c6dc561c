//! Keys of access tokens: key files, the published set, rotation and revocation while the gateway runs, secrets that
//! change; and tokens in places where none is looked for.

use std::collections::HashSet;
use std::fs;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};

use crate::harness::gateway::{PASSWORD, run_to_end};
use crate::harness::table::unlimited;
use crate::harness::tokens::{forged, with_token};
use crate::harness::{Gateway, GatewayConfig, Origin, P, PATIENCE, Session, send, until};

const SET: &str = "/.well-known/jwks.json";

/// The auth routes without limits, and the key set.
fn with_set(origin: &Origin) -> GatewayConfig {
    let mut config = unlimited(origin);
    config.routes += "\n  - { name: jwks, match: { path: /.well-known/jwks.json, methods: [GET] }, to: { builtin: jwks }, \
                      auth: public, cache_control: 'public, max-age=300' }\n";
    config
}

fn header(session: &Session) -> Value {
    let header = session.access.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

async fn log_in(gateway: &Gateway, of: &Session) -> Session {
    Session::of(&gateway.client.login(&of.email, PASSWORD).await.expect(200), PASSWORD)
}

/// Names in the published set, in its order.
async fn published(gateway: &Gateway) -> Vec<String> {
    let set = gateway.client.get(SET).await.expect(200).json();
    let keys = set["keys"].as_array().unwrap();
    for key in keys {
        assert!(key["d"].is_null() && key["use"] == "sig" && key["alg"].is_string(), "{key}");
    }
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// `keys` with these arguments, on the gateway's own keys and store.
fn keys(gateway: &Gateway, arguments: &[&str]) -> Output {
    gateway.run_verb(&[&["keys"], arguments].concat())
}

#[track_caller]
fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

/// Waits until `count` reloads of the keys ended with this message.
async fn reloaded(gateway: &Gateway, message: &str, count: usize) {
    gateway.signal("HUP");
    until(message, PATIENCE, || async { (gateway.said().matches(message).count() == count).then_some(()) }).await;
}

#[tokio::test]
async fn a_service_verifies_tokens_with_the_published_keys_alone() {
    let origin = Origin::start().await;
    for (name, algorithm) in [("EdDSA", Algorithm::EdDSA), ("ES256", Algorithm::ES256)] {
        let config = with_set(&origin).env("JWT_ALGORITHM", name).without_env("JWT_SECRET");
        let gateway = Gateway::start(config).await;
        assert!(gateway.said().contains("there were no keys: new ones were made"), "{}", gateway.said());
        let user = gateway.user("candidat").await;
        gateway.client.me(&user).await.expect(200);
        let got = gateway.client.get(SET).await.expect(200);
        assert_eq!(got.header("content-type"), Some("application/jwk-set+json"));
        assert_eq!(got.header("cache-control"), Some("public, max-age=300"));
        let set: JwkSet = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(set.keys.len(), 2, "active and next");

        let (head, kid) = (header(&user), header(&user)["kid"].as_str().unwrap().to_owned());
        assert_eq!((&head["alg"], &head["typ"]), (&json!(name), &json!("JWT")));
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&["supersmartmatch-gateway"]);
        let key = DecodingKey::from_jwk(set.find(&kid).unwrap()).unwrap();
        let read = decode::<Value>(&user.access, &key, &validation).unwrap();
        assert_eq!(read.claims["sub"], user.id.to_string());
        // The next key has signed nothing yet.
        let other = set.keys.iter().find(|key| key.common.key_id.as_deref() != Some(&kid)).unwrap();
        assert!(decode::<Value>(&user.access, &DecodingKey::from_jwk(other).unwrap(), &validation).is_err());
    }
}

#[tokio::test]
async fn a_secret_publishes_nothing() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(with_set(&origin)).await;
    let got = gateway.client.get(SET).await.expect(200);
    assert_eq!(got.json(), json!({"keys": []}));
    let user = gateway.user("candidat").await;
    let head = header(&user);
    assert_eq!(head["alg"], "HS256");
    assert!(head["kid"].as_str().is_some_and(|kid| kid.len() == 22 && !gateway.secret.contains(kid)), "{head}");
    // Tokens of the version before had no name of a key.
    let before = forged(&user, &gateway.secret, |_| {});
    assert_eq!(header(&before).get("kid"), None);
    gateway.client.me(&before).await.expect(200);
}

#[tokio::test]
async fn keys_rotate_while_the_gateway_runs() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(with_set(&origin).env("JWT_ALGORITHM", "EdDSA")).await;
    let first = gateway.user("candidat").await;
    let before = published(&gateway).await;
    assert_eq!((before.len(), &header(&first)["kid"]), (2, &json!(before[1])));

    let soon = keys(&gateway, &["rotate"]);
    assert!(!soon.status.success() && String::from_utf8_lossy(&soon.stderr).contains("--now"), "{soon:?}");
    reloaded(&gateway, "keys unchanged", 1).await;
    let list = said(&keys(&gateway, &["rotate", "--now", "--algorithm", "ES256"]));
    assert!(list.contains("ES256\tnext") && list.contains("EdDSA\tretiring"), "{list}");
    assert_eq!(published(&gateway).await, before, "nothing changes before it is told to");
    reloaded(&gateway, "keys reloaded", 1).await;

    let after = published(&gateway).await;
    assert_eq!(after[1..], before[..], "next signs, active retires");
    let second = log_in(&gateway, &first).await;
    assert_eq!(header(&second)["kid"], json!(before[0]));
    gateway.client.me(&first).await.expect(200);
    gateway.client.me(&second).await.expect(200);

    // The retiring key leaves: what it signed is refused at once, though it was verified a moment ago.
    said(&keys(&gateway, &["retire", &before[1]]));
    gateway.client.me(&first).await.expect(200);
    reloaded(&gateway, "keys reloaded", 2).await;
    assert_eq!(gateway.client.me(&first).await.refusal(), (401, "INVALID_TOKEN".to_owned()));
    gateway.client.me(&second).await.expect(200);
    assert_eq!(published(&gateway).await.len(), 2);

    until("the audit records", PATIENCE, || async {
        let trail = said(&gateway.run_verb(&["audit", "tail"]));
        (trail.matches("keys_changed").count() == 2).then_some(())
    })
    .await;

    let again = Session::of(&gateway.client.refresh(&first.refresh).await.expect(200), PASSWORD);
    gateway.client.me(&again).await.expect(200);
    assert_eq!(said(&keys(&gateway, &["list"])).lines().count(), 3, "two key files and the secret");
}

#[tokio::test]
async fn a_broken_folder_keeps_the_keys_in_force() {
    let origin = Origin::start().await;
    let config = with_set(&origin).env("JWT_ALGORITHM", "EdDSA").without_env("JWT_SECRET");
    let gateway = Gateway::start(config).await;
    let user = gateway.user("candidat").await;
    let before = published(&gateway).await;
    let manifest = gateway.data_dir().join("keys/keys.json");
    let good = fs::read_to_string(&manifest).unwrap();
    for (count, text) in [(1, "{"), (2, ""), (3, "{\"version\":1,\"keys\":[]}")] {
        fs::write(&manifest, text).unwrap();
        reloaded(&gateway, "keys refused, those in force stay", count).await;
        assert_eq!(published(&gateway).await, before);
        gateway.client.me(&user).await.expect(200);
        log_in(&gateway, &user).await;
    }
    fs::remove_file(&manifest).unwrap();
    reloaded(&gateway, "keys refused, those in force stay", 4).await;
    assert!(gateway.said().contains("ssm-gateway keys generate"), "no new keys are made in the place of lost ones");
    fs::write(&manifest, good).unwrap();
    reloaded(&gateway, "keys unchanged", 1).await;
    gateway.client.me(&user).await.expect(200);
}

#[tokio::test]
async fn a_revoked_key_is_refused_and_signs_no_more_without_a_signal() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(with_set(&origin).env("JWT_ALGORITHM", "ES256").without_env("JWT_SECRET")).await;
    let user = gateway.user("candidat").await;
    let before = published(&gateway).await;
    let told = said(&keys(&gateway, &["revoke", &before[1]]));
    assert!(told.contains("is revoked"), "{told}");
    until("the refusal", PATIENCE, || async {
        (gateway.client.me(&user).await.refusal() == (401, "TOKEN_REVOKED".to_owned())).then_some(())
    })
    .await;
    let next = log_in(&gateway, &user).await;
    assert_eq!(header(&next)["kid"], json!(before[0]));
    gateway.client.me(&next).await.expect(200);
    gateway.client.refresh(&user.refresh).await.expect(200);
    reloaded(&gateway, "keys reloaded", 1).await;
    gateway.client.me(&next).await.expect(200);
    assert!(!published(&gateway).await.contains(&before[1]));
    assert_eq!(gateway.client.me(&user).await.refusal(), (401, "INVALID_TOKEN".to_owned()));
}

#[tokio::test]
async fn a_new_secret_ends_nothing_while_the_one_before_is_known() {
    let origin = Origin::start().await;
    let config = with_set(&origin);
    let gateway = Gateway::start(config.clone()).await;
    let old = gateway.user("candidat").await;
    let unnamed = forged(&old, &gateway.secret, |_| {});
    let secret = gateway.secret.clone();
    let next = "kX2v9Qm4Lr7TzBn1Wc8Yp5Hd3Jf6Gs0A";

    let config = config.env("JWT_SECRET", next).env("JWT_SECRET_PREVIOUS", &secret);
    let gateway = gateway.restart(&config).await;
    for session in [&old, &unnamed] {
        gateway.client.me(session).await.expect(200);
    }
    let new = log_in(&gateway, &old).await;
    assert_ne!(header(&new)["kid"], header(&old)["kid"]);

    // To key files: a secret that stays set still verifies; one that is taken away does not.
    let config = config.env("JWT_ALGORITHM", "EdDSA");
    let gateway = gateway.restart(&config).await;
    for session in [&old, &unnamed, &new] {
        gateway.client.me(session).await.expect(200);
    }
    assert!(gateway.said().contains("HS256 tokens of JWT_SECRET are still taken"), "{}", gateway.said());
    let filed = log_in(&gateway, &old).await;
    assert_eq!(header(&filed)["alg"], "EdDSA");
    let config = config.without_env("JWT_SECRET_PREVIOUS").without_env("JWT_SECRET");
    let gateway = gateway.restart(&config).await;
    for session in [&old, &unnamed, &new] {
        assert_eq!(gateway.client.me(session).await.refusal(), (401, "INVALID_TOKEN".to_owned()));
    }
    gateway.client.me(&filed).await.expect(200);
    gateway.client.refresh(&old.refresh).await.expect(200);

    // And back: the key files that are there still verify.
    let config = config.env("JWT_ALGORITHM", "HS256").env("JWT_SECRET", next);
    let gateway = gateway.restart(&config).await;
    gateway.client.me(&filed).await.expect(200);
    gateway.client.me(&new).await.expect(200);
    assert_eq!(header(&log_in(&gateway, &old).await)["alg"], "HS256");
}

#[tokio::test]
async fn production_with_key_files_needs_them_and_no_secret() {
    let origin = Origin::start().await;
    let config = with_set(&origin).env("ENVIRONMENT", "production").env("JWT_ALGORITHM", "EdDSA");
    let config = config.without_env("JWT_SECRET");
    let refused = run_to_end(&["run"], &config);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("ssm-gateway keys generate"), "{words}");

    let keys = tempfile::tempdir().unwrap();
    let folder = keys.path().join("keys").display().to_string();
    let made = run_to_end(&["keys", "generate", "--keys-dir", &folder], &config);
    assert!(said(&made).contains("EdDSA\tactive"));
    let config = config.setting("tokens", json!({"keys_dir": folder}));
    let gateway = Gateway::start(config).await;
    let user = gateway.user("candidat").await;
    gateway.client.me(&user).await.expect(200);
    assert!(!gateway.data_dir().join("keys").exists() && !gateway.data_dir().join("jwt_secret").exists());
}

#[tokio::test]
async fn tokens_count_in_one_place_only() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(with_set(&origin).env("JWT_ALGORITHM", "EdDSA")).await;
    let user = gateway.user("candidat").await;
    let (me, token) = (format!("{P}/auth/me"), user.access.as_str());
    let get = |path: &str| gateway.client.request("GET", path);
    let missing = (401, "MISSING_TOKEN".to_owned());
    for name in ["access_token", "token", "jwt", "authorization", "Authorization", "bearer"] {
        assert_eq!(send(get(&format!("{me}?{name}={token}"))).await.refusal(), missing, "query {name}");
        let cookie = get(&me).header("cookie", format!("{name}={token}"));
        assert_eq!(send(cookie).await.refusal(), missing, "cookie {name}");
    }
    for name in
        ["x-access-token", "x-auth-token", "x-authorization", "proxy-authorization", "x-forwarded-authorization"]
    {
        assert_eq!(send(get(&me).header(name, user.bearer())).await.refusal(), missing, "header {name}");
    }
    let body = get(&me).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(send(body.body(format!("access_token={token}"))).await.refusal(), missing, "body");

    let malformed = (401, "INVALID_TOKEN_FORMAT".to_owned());
    let mut values = HashSet::new();
    for values_of_one in [
        vec![user.bearer(), user.bearer()],
        vec![user.bearer(), "Bearer a.b.c".to_owned()],
        vec!["Basic dXNlcjpwYXNz".to_owned(), user.bearer()],
        vec![format!("{}, {}", user.bearer(), user.bearer())],
        vec![format!("Basic {}", URL_SAFE_NO_PAD.encode(format!("user:{token}")))],
        vec![format!("Bearer {}", user.refresh).replace('.', "")[..40].to_owned()],
        vec![format!("Bearer {token}.{token}")],
    ] {
        assert!(values.insert(values_of_one.clone()));
        let request = values_of_one.iter().fold(get(&me), |request, value| request.header("authorization", value));
        assert_eq!(send(request).await.refusal(), malformed, "{values_of_one:.40?}");
    }
    let refresh = gateway.client.me(&with_token(&user, &user.refresh)).await;
    assert_eq!(refresh.refusal(), (401, "WRONG_TOKEN_TYPE".to_owned()));
    // The secret is set, so HS256 is known: but not with what everybody may read.
    let set = gateway.client.get(SET).await.expect(200).text();
    let confused = forged(&user, &set, |claims| claims["role"] = json!("admin"));
    assert_eq!(gateway.client.me(&confused).await.refusal(), (401, "INVALID_TOKEN".to_owned()));
    gateway.client.me(&user).await.expect(200);
}
