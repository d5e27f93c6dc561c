//! The one error envelope: every code is produced, and every error has every part.
//!
//! `AUTH_UNAVAILABLE` is produced in `auth.rs`, with a locked store.

use serde_json::{Value, json};

use crate::harness::tokens::{forged, with_token};
use crate::harness::{Answer, Gateway, GatewayConfig, Got, Origin, P, Services, Session, multipart, send};

/// Checks everything that every error has, in both languages and both forms. `ask` repeats the request with headers.
fn check(got: &Got, status: u16, code: &str) {
    let body = got.json();
    assert_eq!((got.status, body["code"].as_str()), (status, Some(code)), "{body}");
    assert_eq!(body["error"], true, "{code}");
    assert_eq!(body["status_code"], status, "{code}");
    assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "{code}");
    assert!(body["path"].as_str().is_some_and(|path| path.starts_with('/') && !path.contains('?')), "{code}: {body}");
    assert_eq!(body["request_id"].as_str(), got.header("x-request-id"), "{code}");
    assert!(got.header("content-type").is_some_and(|kind| kind.starts_with("application/json")), "{code}");
    let seconds = got.header("x-process-time").unwrap_or_else(|| panic!("{code}: no X-Process-Time"));
    assert!(seconds.split_once('.').is_some_and(|(_, decimals)| decimals.len() == 3), "{code}: {seconds}");
    assert_eq!(
        got.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")),
        status == 401,
        "{code}"
    );
    if matches!(status, 429 | 503) {
        assert_eq!(body["retry_after"], got.number("retry-after"), "{code}");
    } else {
        assert_eq!(body.get("retry_after"), None, "{code}");
    }
    assert_eq!(body.get("details").is_some(), status == 422, "{code}: {body}");
    assert_eq!(got.header("access-control-allow-origin"), Some("http://localhost:3000"), "{code}");
    assert!(got.header("access-control-expose-headers").is_some(), "{code}");
}

struct Case<'a> {
    gateway: &'a Gateway,
    method: &'a str,
    path: String,
    token: Option<String>,
    body: Option<(String, Vec<u8>)>,
}

impl<'a> Case<'a> {
    fn new(gateway: &'a Gateway, method: &'a str, path: &str) -> Case<'a> {
        Case { gateway, method, path: format!("{P}{path}"), token: None, body: None }
    }

    fn user(self, session: &Session) -> Case<'a> {
        Case { token: Some(session.bearer()), ..self }
    }

    fn authorization(self, value: &str) -> Case<'a> {
        Case { token: Some(value.to_owned()), ..self }
    }

    fn json(self, body: Value) -> Case<'a> {
        self.body("application/json", body.to_string())
    }

    fn body(self, content_type: &str, body: impl Into<Vec<u8>>) -> Case<'a> {
        Case { body: Some((content_type.to_owned(), body.into())), ..self }
    }

    async fn send(&self, headers: &[(&str, &str)]) -> Got {
        let mut request =
            self.gateway.client.request(self.method, &self.path).header("origin", "http://localhost:3000");
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        if let Some((content_type, body)) = &self.body {
            request = request.header("content-type", content_type).body(body.clone());
        }
        send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    /// The refusal, in all forms.
    async fn is(self, status: u16, code: &str) {
        let french = self.send(&[]).await;
        check(&french, status, code);
        let english = self.send(&[("accept-language", "en-GB, fr;q=0.5")]).await;
        check(&english, status, code);
        assert_ne!(french.json()["message"], english.json()["message"], "{code} is not translated");
        let problem = self.send(&[("accept", "application/problem+json")]).await;
        assert_eq!(
            (problem.status, problem.header("content-type")),
            (status, Some("application/problem+json")),
            "{code}"
        );
        let body = problem.json();
        assert_eq!((&body["status"], &body["code"]), (&json!(status), &json!(code)));
        assert!(body["title"].is_string() && body["request_id"].is_string(), "{body}");
    }
}

#[tokio::test]
async fn every_code_for_clients_mistakes() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let user = gateway.user("candidat").await;
    let case = |method, path| Case::new(&gateway, method, path);
    case("POST", "/match").user(&user).body("application/json", "{").is(400, "INVALID_JSON").await;
    case("GET", "/a%2Fb").is(400, "BAD_REQUEST").await;
    let register = json!({"email": user.email, "password": "correct horse battery staple", "full_name": "C"});
    case("POST", "/auth/register").json(register.clone()).is(400, "EMAIL_ALREADY_USED").await;
    let mut admin = register.clone();
    admin["role"] = json!("admin");
    admin["email"] = json!("other@example.com");
    case("POST", "/auth/register").json(admin).is(403, "ROLE_NOT_ALLOWED").await;
    case("POST", "/auth/register").json(json!({"email": "no"})).is(422, "VALIDATION_ERROR").await;
    case("POST", "/auth/login").body("application/json", vec![b' '; 16 * 1024 + 1]).is(413, "PAYLOAD_TOO_LARGE").await;
    case("POST", "/parse-cv").user(&user).body("text/plain", "x").is(415, "UNSUPPORTED_MEDIA_TYPE").await;
    case("GET", "/auth/me").is(401, "MISSING_TOKEN").await;
    for value in ["Basic dTpw", "Bearer", "Bearer a b", user.access.as_str()] {
        case("GET", "/auth/me").authorization(value).is(401, "INVALID_TOKEN_FORMAT").await;
    }
    case("GET", "/auth/me").authorization("Bearer abc.def.ghi").is(401, "INVALID_TOKEN").await;
    let expired = forged(&user, &gateway.secret, |claims| {
        let issued = claims["iat"].as_i64().unwrap() - 7200;
        claims["iat"] = json!(issued);
        claims["exp"] = json!(issued + 3600);
    });
    case("GET", "/auth/me").user(&expired).is(401, "TOKEN_EXPIRED").await;
    let other_type = forged(&user, &gateway.secret, |claims| claims["type"] = json!("refresh"));
    case("GET", "/auth/me").user(&other_type).is(401, "WRONG_TOKEN_TYPE").await;
    let other_key = forged(&user, "another secret of more than thirty-two bytes", |_| {});
    case("GET", "/auth/me").user(&other_key).is(401, "INVALID_TOKEN").await;
    let login = json!({"email": "nobody@example.com", "password": "whatever it may be"});
    case("POST", "/auth/login").json(login).is(401, "INVALID_CREDENTIALS").await;
    case("POST", "/auth/refresh").json(json!({"refresh_token": "x"})).is(401, "INVALID_REFRESH_TOKEN").await;
    case("POST", "/match/batch").user(&user).json(json!({})).is(403, "FORBIDDEN_ROLE").await;
    case("GET", "/none").is(404, "NOT_FOUND").await;
    case("DELETE", "/match").is(405, "METHOD_NOT_ALLOWED").await;
    gateway.client.logout(&user).await.expect(200);
    case("GET", "/auth/me").user(&user).is(401, "TOKEN_REVOKED").await;
    assert_eq!(services.count(), 0, "none of these may reach a service");
}

#[tokio::test]
async fn a_token_that_is_none_is_told_from_a_wrong_one() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let user = gateway.user("candidat").await;
    let [head, payload, signature] = user.access.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    // `{"alg":"none","typ":"JWT"}`
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    for token in [
        format!("{none}.{payload}."),
        format!("{none}.{payload}.{signature}"),
        format!("{head}.{payload}."),
        format!("{head}.{payload}.{signature}="),
        format!("{head}.{payload}.{}", &signature[1..]),
        "a".repeat(9000),
    ] {
        let got = gateway.client.me(&with_token(&user, &token)).await;
        assert_eq!(got.status, 401, "{token}");
        assert!(matches!(got.code().as_str(), "INVALID_TOKEN" | "INVALID_TOKEN_FORMAT"), "{}", got.code());
    }
    let twice = gateway.client.as_user(&user, "GET", &format!("{P}/auth/me")).header("authorization", user.bearer());
    assert_eq!(send(twice).await.refusal(), (401, "INVALID_TOKEN_FORMAT".to_owned()));
    let lower = gateway
        .client
        .request("GET", &format!("{P}/auth/me"))
        .header("authorization", format!("bearer {}", user.access));
    assert_eq!(send(lower).await.status, 200, "the scheme is compared case-insensitively");
}

#[tokio::test]
async fn rate_limit_exceeded() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let recruteur = gateway.user("recruteur").await;
    let path = format!("{P}/parse-job/batch");
    for _ in 0..25 {
        gateway.client.post_as(&recruteur, &path, &json!({})).await.expect(200);
    }
    Case::new(&gateway, "POST", "/parse-job/batch")
        .user(&recruteur)
        .json(json!({}))
        .is(429, "RATE_LIMIT_EXCEEDED")
        .await;
}

const SLOW: &str = "    timeouts: { connect: 1s, read: 300ms, write: 1s }\n    breaker: { failures: 0 }";

fn faulty(target: &str, pool: &str) -> GatewayConfig {
    let route =
        "  - { name: echo, match: { prefix: /api/gateway/echo, methods: [GET] }, to: { pool: echo }, auth: public }";
    GatewayConfig::table(&crate::harness::table::table(&[target], pool, route))
}

#[tokio::test]
async fn every_code_for_an_upstreams_faults() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(faulty(&origin.url(), SLOW)).await;
    origin.on("/api/gateway/echo/garbage", Answer::raw(b"this is not HTTP\r\n\r\n"));
    origin.on("/api/gateway/echo/gone", Answer::raw(b""));
    origin.on("/api/gateway/echo/hang", Answer::silence());
    Case::new(&gateway, "GET", "/echo/garbage").is(502, "BAD_GATEWAY").await;
    Case::new(&gateway, "GET", "/echo/gone").is(502, "BAD_GATEWAY").await;
    Case::new(&gateway, "GET", "/echo/hang").is(504, "UPSTREAM_TIMEOUT").await;
    let line = gateway.access_line(|line| line["code"] == "UPSTREAM_TIMEOUT").await;
    assert_eq!(line["outcome"], "complete", "the refusal was sent whole: {line}");
    origin.kill().await;
    Case::new(&gateway, "GET", "/echo").is(503, "SERVICE_UNAVAILABLE").await;
}

#[tokio::test]
async fn a_fault_of_our_own_is_an_internal_error() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let sockets = std::fs::read_dir(gateway.data_dir()).unwrap().filter_map(Result::ok);
    for socket in sockets.filter(|entry| entry.path().extension().is_some_and(|end| end == "sock")) {
        std::fs::remove_file(socket.path()).unwrap();
    }
    Case::new(&gateway, "GET", "/status").is(500, "INTERNAL_ERROR").await;
}

#[tokio::test]
async fn an_open_circuit_says_when_it_will_be_tried_again() {
    let origin = Origin::start().await;
    origin.on("/api/gateway/echo", Answer::json(500, json!({"own": "body"})));
    let gateway = Gateway::start(faulty(&origin.url(), "    breaker: { failures: 2, open_for: 60s }")).await;
    for _ in 0..2 {
        let got = gateway.client.get(&format!("{P}/echo")).await.expect(500);
        assert_eq!(got.json(), json!({"own": "body"}), "an upstream's own error passes through");
    }
    Case::new(&gateway, "GET", "/echo").is(503, "CIRCUIT_OPEN").await;
    let wait = gateway.client.get(&format!("{P}/echo")).await.number("retry-after");
    assert!((1..=66).contains(&wait), "{wait}");
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_full_queue_of_log_ins_is_overload() {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&crate::harness::table::table(&[&origin.url()], "", ""));
    let config = config.setting("passwords", json!({"parallel_hashes": 1, "queue": 1}));
    let gateway = Gateway::start(config).await;
    let mut running = tokio::task::JoinSet::new();
    for number in 0..16 {
        let client = gateway.client.clone();
        running.spawn(async move { client.login(&format!("nobody-{number}@example.com"), "not the password").await });
    }
    let mut overloaded = 0;
    for got in running.join_all().await {
        match got.status {
            503 => {
                assert_eq!(got.code(), "OVERLOADED");
                got.number("retry-after");
                overloaded += 1;
            }
            _ => assert_eq!(got.refusal(), (401, "INVALID_CREDENTIALS".to_owned())),
        }
    }
    assert!((1..16).contains(&overloaded), "{overloaded} of 16 were told to come back");
}

#[tokio::test]
async fn no_error_shows_an_internal_address() {
    let origin = Origin::start().await;
    let (host, url) = (origin.address().to_string(), origin.url());
    let gateway = Gateway::start(faulty(&url, SLOW)).await;
    origin.kill().await;
    let got = gateway.client.get(&format!("{P}/echo")).await.expect(503);
    assert!(!got.text().contains(&host) && !format!("{:?}", got.headers).contains(&host), "{}", got.text());
}

#[tokio::test]
async fn a_stranger_s_body_is_never_echoed() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let user = gateway.user("candidat").await;
    let secret = "tres-secret-0123456789";
    let (content_type, body) = multipart(secret.as_bytes());
    for (path, content_type, body) in [
        ("/match", "application/json", format!("{{\"{secret}\": ").into_bytes()),
        (
            "/auth/login",
            "application/json",
            json!({"email": secret, "password": secret, "extra": secret}).to_string().into_bytes(),
        ),
        ("/auth/register", "application/json", json!({"email": 3, "password": secret}).to_string().into_bytes()),
        ("/auth/login", content_type.as_str(), body),
    ] {
        let got = Case::new(&gateway, "POST", path).user(&user).body(content_type, body).send(&[]).await;
        assert!((400..500).contains(&got.status), "{path}: {}", got.status);
        assert!(!got.text().contains(secret), "{path}: {}", got.text());
    }
}
