//! `/auth` through its router, without a network.

use axum::body::Body as AxumBody;
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::accounts::{AccountsConfig, HashCost};
use crate::audit::Audit;
use crate::clock::Clock;
use crate::store::embedded::EmbeddedStore;
use crate::telemetry::metrics::Metrics;

struct App {
    router: Router,
    accounts: Arc<Accounts>,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl App {
    async fn new() -> App {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(EmbeddedStore::open(&folder.path().join("identity.db")).unwrap());
        let config =
            AccountsConfig { hash_cost: HashCost { memory_kib: 8, passes: 1, lanes: 1 }, ..AccountsConfig::default() };
        let metrics = Metrics::new("9.9.9").unwrap();
        let accounts =
            Accounts::open(store, "secret".into(), config, Clock::manual().0, metrics, Audit::off()).await.unwrap();
        App { router: router(accounts.clone()), accounts, _folder: folder }
    }

    async fn send(&self, request: Request<AxumBody>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    async fn post(&self, page: &str, body: impl Into<String>) -> Answer {
        self.send(request("POST", page).header("content-type", "application/json").body(body.into().into()).unwrap())
            .await
    }

    async fn as_caller(&self, method: &str, page: &str, access: &str) -> Answer {
        self.send(self.by_caller(method, page, access).body(AxumBody::empty()).unwrap()).await
    }

    fn by_caller(&self, method: &str, page: &str, access: &str) -> http::request::Builder {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {access}").parse().unwrap());
        let identity = self.accounts.authenticator().authenticate(&headers, 1_767_225_600).unwrap();
        request(method, page)
            .header("x-user-id", identity.user.to_string())
            .header("x-ssm-session", identity.session().unwrap().to_string())
    }
}

fn request(method: &str, page: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("/builtin/auth_{page}"))
        .header("x-ssm-path", "/api/gateway/auth/test")
        .header("x-request-id", "rid-12345678")
}

fn anna() -> Value {
    json!({"email": "Anna@example.com", "password": "correct horse battery", "full_name": "Anna Martin"})
}

#[tokio::test]
async fn an_account_lives_its_life() {
    let app = App::new().await;
    let made = app.post("register", anna().to_string()).await;
    assert_eq!(made.status, 201);
    for (name, value) in
        [("cache-control", "no-store"), ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
    {
        assert_eq!(made.headers[name], value);
    }
    assert_eq!(
        made.body["user"],
        json!({"id": 1, "email": "Anna@example.com", "full_name": "Anna Martin", "role": "candidat"})
    );
    assert_eq!((&made.body["token_type"], &made.body["expires_in"]), (&json!("bearer"), &json!(86_400)));
    assert_eq!(made.body.as_object().unwrap().len(), 5);

    let login = json!({"email": "anna@EXAMPLE.com", "password": "correct horse battery"}).to_string();
    let logged_in = app.post("login", login).await;
    assert_eq!((logged_in.status, &logged_in.body["user"]["id"]), (StatusCode::OK, &json!(1)));

    let refreshed = app.post("refresh", json!({"refresh_token": logged_in.body["refresh_token"]}).to_string()).await;
    assert_eq!(refreshed.status, 200);
    let access = refreshed.body["access_token"].as_str().unwrap();

    let me = app.as_caller("GET", "me", access).await;
    assert_eq!(me.status, 200);
    assert_eq!(me.headers["cache-control"], "no-store");
    assert_eq!(
        me.body,
        json!({"id": 1, "email": "Anna@example.com", "full_name": "Anna Martin", "role": "candidat",
            "created_at": "2026-01-01T00:00:00+00:00", "is_active": true})
    );
    let out = app.as_caller("POST", "logout", access).await;
    assert_eq!((out.status, &out.body), (StatusCode::OK, &json!({"message": "Déconnexion réussie"})));
    let late = app.post("refresh", json!({"refresh_token": refreshed.body["refresh_token"]}).to_string()).await;
    assert_eq!((late.status, &late.body["code"]), (StatusCode::UNAUTHORIZED, &json!("INVALID_REFRESH_TOKEN")));
}

#[tokio::test]
async fn every_problem_of_a_body_is_named_and_no_value_repeated() {
    let app = App::new().await;
    let body =
        json!({"email": "not-an-address", "password": "secret-9", "full_name": 7, "role": "root", "is_admin": true});
    let refused = app.post("register", body.to_string()).await;
    assert_eq!(refused.status, 422);
    let details = refused.body["details"].as_array().unwrap();
    let fields: Vec<&str> = details.iter().map(|detail| detail["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["email", "password", "full_name", "role", "is_admin"]);
    let text = refused.body.to_string();
    assert!(!text.contains("secret-9") && !text.contains("not-an-address") && !text.contains("root"), "{text}");
    let empty = app.post("register", "{}").await;
    assert_eq!(empty.body["details"].as_array().unwrap().len(), 3);
    for page in ["login", "refresh"] {
        assert_eq!(app.post(page, "{}").await.status, 422);
    }
}

#[tokio::test]
async fn bodies_are_refused_with_the_right_status() {
    let app = App::new().await;
    let anna = anna().to_string();
    let twice = anna.replacen('{', r#"{"password":"another long one","#, 1);
    let admin = anna.replacen('{', r#"{"role":"admin","#, 1);
    let null_role = anna.replacen('{', r#"{"role":null,"#, 1);
    let big = json!({"email": "a@b.fr", "password": "x".repeat(16 * 1024)}).to_string();
    for (body, status, code) in [
        ("", 400, "INVALID_JSON"),
        ("{\"email\":", 400, "INVALID_JSON"),
        ("email=a@b.fr", 400, "INVALID_JSON"),
        ("[]", 422, "VALIDATION_ERROR"),
        ("null", 422, "VALIDATION_ERROR"),
        (&twice, 422, "VALIDATION_ERROR"),
        (&null_role, 422, "VALIDATION_ERROR"),
        (&admin, 403, "ROLE_NOT_ALLOWED"),
        (&big, 413, "PAYLOAD_TOO_LARGE"),
    ] {
        let refused = app.post("register", body).await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (status, &json!(code)), "{body:.40}");
        assert_eq!(refused.body["path"], "/api/gateway/auth/test");
        assert_eq!(refused.body["request_id"], "rid-12345678");
    }
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonx")]
    {
        let mut request = request("POST", "register");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let refused = app.send(request.body(anna.clone().into()).unwrap()).await;
        assert_eq!(refused.status, 415, "{content_type:?}");
    }
    let typed = request("POST", "register").header("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(app.send(typed.body(anna.clone().into()).unwrap()).await.status, 201);
    let duplicate = app.post("register", anna).await;
    assert_eq!((duplicate.status.as_u16(), &duplicate.body["code"]), (400, &json!("EMAIL_ALREADY_USED")));
}

#[tokio::test]
async fn a_body_of_exactly_the_cap_is_read() {
    let app = App::new().await;
    let frame = json!({"refresh_token": ""}).to_string().len();
    let body = |total: usize| json!({"refresh_token": "x".repeat(total - frame)}).to_string();
    assert_eq!(app.post("refresh", body(MAX_BODY_BYTES)).await.status, 401);
    assert_eq!(app.post("refresh", body(MAX_BODY_BYTES + 1)).await.status, 413);
}

#[tokio::test]
async fn refusals_carry_challenge_and_language() {
    let app = App::new().await;
    let login = json!({"email": "anna@example.com", "password": "whatever"}).to_string();
    let request = request("POST", "login").header("content-type", "application/json").header("accept-language", "en");
    let refused = app.send(request.body(login.into()).unwrap()).await;
    assert_eq!((refused.status.as_u16(), &refused.body["message"]), (401, &json!("Wrong e-mail or password")));
    assert!(refused.headers.contains_key("www-authenticate"));
}

#[tokio::test]
async fn a_log_out_is_confirmed_in_the_language_of_the_client() {
    let app = App::new().await;
    let made = app.post("register", anna().to_string()).await;
    let access = made.body["access_token"].as_str().unwrap();
    let asked = app.by_caller("POST", "logout", access).header("accept-language", "en");
    let out = app.send(asked.body(AxumBody::empty()).unwrap()).await;
    assert_eq!(out.body, json!({ "message": "Logged out" }));
}

#[tokio::test]
async fn without_a_proven_caller_there_is_no_account() {
    let app = App::new().await;
    for (method, page) in [("GET", "me"), ("POST", "logout")] {
        let refused = app.send(request(method, page).body(AxumBody::empty()).unwrap()).await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (401, &json!("MISSING_TOKEN")));
    }
}
