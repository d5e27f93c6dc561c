//! Accounts, log-in, sessions, and the `users` verb.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::gateway::{Folder, PASSWORD, run_in};
use crate::harness::table::unlimited;
use crate::harness::tokens::claims;
use crate::harness::{Gateway, Origin, P, Services, Session, send};

#[tokio::test]
async fn a_life_of_an_account() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let registered = client.register("Camille.Martin@Example.com", PASSWORD, "recruteur").await.expect(201);
    assert_eq!(registered.header("cache-control"), Some("no-store"));
    let body = registered.json();
    assert_eq!((&body["token_type"], &body["user"]["role"]), (&json!("bearer"), &json!("recruteur")));
    assert_eq!(body["user"]["full_name"], "Camille Test");
    assert!(body["expires_in"].as_u64().is_some_and(|seconds| seconds > 0) && body["user"]["id"].is_i64(), "{body}");

    let login = client.login("camille.martin@example.COM", PASSWORD).await.expect(200);
    let session = Session::of(&login, PASSWORD);
    assert_eq!(json!(session.id), body["user"]["id"]);
    let me = client.me(&session).await.expect(200).json();
    assert_eq!((&me["id"], &me["role"], &me["is_active"]), (&json!(session.id), &json!("recruteur"), &json!(true)));
    let created: jiff::Timestamp = me["created_at"].as_str().unwrap().parse().expect("RFC 3339 with an offset");
    assert!(created.as_second() > 1_700_000_000);

    let refreshed = Session::of(&client.refresh(&session.refresh).await.expect(200), PASSWORD);
    assert_ne!((&refreshed.access, &refreshed.refresh), (&session.access, &session.refresh));
    client.me(&refreshed).await.expect(200);
    assert_eq!(client.logout(&refreshed).await.expect(200).json(), json!({"message": "Déconnexion réussie"}));
    assert_eq!(client.me(&refreshed).await.refusal(), (401, "TOKEN_REVOKED".to_owned()));
    assert_eq!(client.refresh(&refreshed.refresh).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
}

#[tokio::test]
async fn the_claims_are_the_contract_s() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let user = gateway.user("candidat").await;
    let claims = claims(&user.access);
    for name in ["iss", "sub", "email", "role", "sid", "jti"] {
        assert!(claims[name].as_str().is_some_and(|text| !text.is_empty()), "{name} in {claims}");
    }
    assert_eq!((&claims["sub"], &claims["type"]), (&json!(user.id.to_string()), &json!("access")));
    assert!(claims["exp"].as_i64() > claims["iat"].as_i64());
}

#[tokio::test]
async fn one_account_per_address() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    client.register("one@example.com", PASSWORD, "candidat").await.expect(201);
    // The last one is the first in full-width letters: the same after NFKC.
    for same in ["one@example.com", "ONE@Example.COM", " one@example.com ", "\u{ff4f}ne@example.com"] {
        let got = client.register(same, PASSWORD, "candidat").await;
        assert!(matches!(got.refusal(), (400, code) if code == "EMAIL_ALREADY_USED") || got.status == 422, "{same:?}");
    }
    assert_eq!(client.register("two@example.com", PASSWORD, "admin").await.refusal(), (403, "ROLE_NOT_ALLOWED".into()));
    assert_eq!(client.register("two@example.com", PASSWORD, "king").await.refusal(), (422, "VALIDATION_ERROR".into()));
    let without_role = json!({"email": "three@example.com", "password": PASSWORD, "full_name": "Trois"});
    let got = client.post(&format!("{P}/auth/register"), &without_role).await.expect(201);
    assert_eq!(got.json()["user"]["role"], "candidat");
}

#[tokio::test]
async fn a_422_names_the_field_and_echoes_nothing() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(unlimited(&origin)).await;
    let good = json!({"email": "a@example.com", "password": PASSWORD, "full_name": "A"});
    let cases: Vec<(&str, Value)> = vec![
        ("email", json!("no-address-VALUE")),
        ("email", json!(77_777_777)),
        ("email", json!("")),
        ("password", json!("VALUE")),
        ("password", json!("VALUE".repeat(30))),
        ("password", json!(null)),
        ("password", json!(["VALUE"])),
        ("full_name", json!({"VALUE": 1})),
        ("role", json!("VALUE")),
        ("is_admin", json!(true)),
    ];
    for (field, value) in cases {
        let mut body = good.clone();
        body[field] = value.clone();
        let got = gateway.client.post(&format!("{P}/auth/register"), &body).await;
        assert_eq!(got.refusal(), (422, "VALIDATION_ERROR".to_owned()), "{body}");
        let details = got.json()["details"].clone();
        assert!(details.as_array().unwrap().iter().any(|one| one["field"] == field), "{field}: {details}");
        assert!(!got.text().contains("VALUE") && !got.text().contains("77777777"), "echoed: {}", got.text());
    }
    for field in ["email", "password", "full_name"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        let got = gateway.client.post(&format!("{P}/auth/register"), &body).await;
        assert_eq!(got.refusal(), (422, "VALIDATION_ERROR".to_owned()), "without {field}");
        assert_eq!(got.json()["details"][0]["field"], field);
    }
    for body in ["[]", "3", "null", "\"x\""] {
        let request =
            gateway.client.request("POST", &format!("{P}/auth/login")).header("content-type", "application/json");
        assert_eq!(send(request.body(body)).await.status, 422, "{body}");
    }
}

#[tokio::test]
async fn passwords_of_any_length_are_handled() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(unlimited(&origin)).await;
    for (length, status) in [(9, 422), (10, 201), (72, 201), (73, 201), (128, 201), (129, 422)] {
        let password: String = "aé7z".chars().cycle().take(length).collect();
        let email = format!("p{length}@example.com");
        assert_eq!(gateway.client.register(&email, &password, "candidat").await.status, status, "{length} characters");
        if status == 201 {
            gateway.client.login(&email, &password).await.expect(200);
            let shorter: String = password.chars().take(length - 1).collect();
            gateway.client.login(&email, &shorter).await.expect(401);
        }
    }
}

#[tokio::test]
async fn two_log_ins_in_one_second_differ() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(unlimited(&origin)).await;
    let user = gateway.user("candidat").await;
    let logins = (0..4).map(|_| gateway.client.login(&user.email, PASSWORD));
    let mut seen = HashSet::new();
    for got in futures(logins).await {
        let session = Session::of(&got.expect(200), PASSWORD);
        assert!(seen.insert(session.access.clone()) && seen.insert(session.refresh.clone()));
        gateway.client.logout(&session).await.expect(200);
    }
    gateway.client.me(&user).await.expect(200);
}

/// Runs them at the same time.
async fn futures<T: Send + 'static>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = all.map(Box::pin).collect();
    let mut done = Vec::new();
    while !running.is_empty() {
        let (value, index) = std::future::poll_fn(|context| {
            running
                .iter_mut()
                .enumerate()
                .find_map(|(index, one)| match one.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => Some(std::task::Poll::Ready((value, index))),
                    std::task::Poll::Pending => None,
                })
                .unwrap_or(std::task::Poll::Pending)
        })
        .await;
        drop(running.swap_remove(index));
        done.push(value);
    }
    done
}

#[tokio::test]
async fn wrong_log_ins_are_all_the_same() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(unlimited(&origin)).await;
    let user = gateway.user("candidat").await;
    let known = gateway.client.login(&user.email, "not the password").await;
    let unknown = gateway.client.login("nobody@example.com", "not the password").await;
    assert_eq!(known.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    assert_eq!(unknown.refusal(), known.refusal());
    assert_eq!(unknown.json()["message"], known.json()["message"]);
}

#[tokio::test]
async fn a_refresh_token_used_again_ends_the_session() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(unlimited(&origin)).await;
    let client = &gateway.client;
    let first = gateway.user("candidat").await;
    let second = Session::of(&client.refresh(&first.refresh).await.expect(200), PASSWORD);
    let third = Session::of(&client.refresh(&second.refresh).await.expect(200), PASSWORD);
    // Two turns old: nobody honest still has it.
    assert_eq!(client.refresh(&first.refresh).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
    assert_eq!(client.me(&third).await.refusal(), (401, "TOKEN_REVOKED".to_owned()));
    assert_eq!(client.refresh(&third.refresh).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
    assert_eq!(client.refresh(&third.access).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
}

#[tokio::test]
async fn log_out_and_accounts_survive_a_restart() {
    let origin = Origin::start().await;
    let config = unlimited(&origin);
    let gateway = Gateway::start(config.clone()).await;
    let stays = gateway.user("candidat").await;
    let leaves = gateway.user("recruteur").await;
    gateway.client.logout(&leaves).await.expect(200);
    let gateway = gateway.restart(&config).await;
    gateway.client.me(&stays).await.expect(200);
    assert_eq!(gateway.client.me(&leaves).await.refusal(), (401, "TOKEN_REVOKED".to_owned()));
    assert_eq!(gateway.client.refresh(&leaves.refresh).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
    gateway.client.refresh(&stays.refresh).await.expect(200);
    gateway.client.login(&leaves.email, PASSWORD).await.expect(200);
}

#[tokio::test]
async fn users_are_added_on_the_command_line() {
    let origin = Origin::start().await;
    let config = unlimited(&origin);
    let gateway = Gateway::start(config.clone()).await;
    let added = gateway.users_add("root@example.com", "admin", PASSWORD);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let session = Session::of(&gateway.client.login("root@example.com", PASSWORD).await.expect(200), PASSWORD);
    assert_eq!(session.role, "admin");
    for (email, role, password) in [
        ("root@example.com", "admin", PASSWORD),
        ("no address", "admin", PASSWORD),
        ("x@example.com", "king", PASSWORD),
        ("x@example.com", "admin", "short"),
    ] {
        let refused = gateway.users_add(email, role, password);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && !said.is_empty() && !said.contains("panicked"), "{email} {role}: {said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }
    let folder = Folder::new(&config);
    let unknown = run_in(&folder, &["users", "none"], &config);
    assert!(!unknown.status.success());
}

#[tokio::test]
async fn a_busy_store_is_503_and_tokens_keep_working() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(unlimited(&origin)).await;
    let user = gateway.user("candidat").await;
    let file = database(&gateway.data_dir()).expect("a SQLite file in the data folder");
    let lock = rusqlite::Connection::open(file).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let got = gateway.client.login(&user.email, PASSWORD).await;
    assert_eq!(got.refusal(), (503, "AUTH_UNAVAILABLE".to_owned()));
    got.number("retry-after");
    gateway.client.me(&user).await.expect(200);
    lock.execute_batch("ROLLBACK").unwrap();
    gateway.client.login(&user.email, PASSWORD).await.expect(200);
}

fn database(folder: &Path) -> Option<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    files
        .filter(|file| file.is_file())
        .find(|file| std::fs::read(file).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0")))
}
