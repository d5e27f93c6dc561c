//! Every row of the contract's table of routes, against the shipped table.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{Answer, Gateway, Got, P, Services, Session, send};
use crate::rows::{Access, Limit, ROWS, Row, tier};

const ROLES: [&str; 3] = ["candidat", "recruteur", "admin"];

async fn ask(gateway: &Gateway, row: &Row, session: Option<&Session>) -> Got {
    let request = row.request(&gateway.client);
    send(match session {
        Some(session) => request.header("authorization", session.bearer()),
        None => request,
    })
    .await
}

#[tokio::test]
async fn each_route_leads_to_its_service() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let admin = gateway.user("admin").await;
    for row in ROWS {
        let before = services.count();
        let got = send(
            row.request_to(&gateway.client, &format!("{}?a=1&b=%C3%A9", row.url()))
                .header("authorization", admin.bearer()),
        )
        .await;
        assert_eq!(got.status, 200, "{row:?}: {}", got.text());
        assert_eq!(services.count() - before, row.calls.len(), "{row:?}");
        for (service, method, path) in row.calls {
            let last = services.named(service).last();
            assert_eq!((last.method.as_str(), last.path()), (*method, *path), "{row:?}");
            if row.calls.len() == 1 {
                assert_eq!(last.target, format!("{path}?a=1&b=%C3%A9"), "{row:?}");
            }
        }
    }
}

#[tokio::test]
async fn each_role_is_let_in_or_refused() {
    let (services, gateway) = Services::behind_a_gateway().await;
    for row in ROWS {
        let anonymous = ask(&gateway, row, None).await;
        if row.access == Access::Public {
            assert_eq!(anonymous.status, 200, "{row:?}: {}", anonymous.text());
        } else {
            assert_eq!(anonymous.refusal(), (401, "MISSING_TOKEN".to_owned()), "{row:?}");
        }
        for role in ROLES {
            let before = services.count();
            let got = ask(&gateway, row, Some(&gateway.user(role).await)).await;
            if row.access.allows(role) {
                assert_eq!(got.status, 200, "{role} {row:?}: {}", got.text());
            } else {
                assert_eq!(got.refusal(), (403, "FORBIDDEN_ROLE".to_owned()), "{role} {row:?}");
                assert_eq!(services.count(), before, "a refused request reached a service: {row:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_revoked_token_opens_nothing() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let admin = gateway.user("admin").await;
    gateway.client.logout(&admin).await.expect(200);
    for row in ROWS.iter().filter(|row| row.access != Access::Public) {
        let got = ask(&gateway, row, Some(&admin)).await;
        assert_eq!(got.refusal(), (401, "TOKEN_REVOKED".to_owned()), "{row:?}");
    }
    assert_eq!(services.count(), 0);
    let public = gateway.client.get_as(&admin, &format!("{P}/status")).await;
    assert_eq!(public.status, 200, "a public route does not look at tokens");
}

#[tokio::test]
async fn each_route_says_its_limit() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let admin = gateway.user("admin").await;
    for row in ROWS {
        let got = ask(&gateway, row, Some(&admin)).await;
        let expected = match row.limit {
            Limit::None => {
                assert_eq!(got.header("x-ratelimit-limit"), None, "{row:?}");
                continue;
            }
            Limit::Fixed(count) => count,
            Limit::Role => tier("admin"),
        };
        assert_eq!(got.number("x-ratelimit-limit"), expected, "{row:?}");
        assert_eq!(got.number("x-ratelimit-window"), 60, "{row:?}");
        got.number("x-ratelimit-remaining");
        got.number("x-ratelimit-reset");
        assert!(got.header("ratelimit").is_some() && got.header("ratelimit-policy").is_some(), "{row:?}");
    }
    for role in ["candidat", "recruteur"] {
        let session = gateway.user(role).await;
        let got = gateway.client.algorithms(&session).await;
        assert_eq!(got.number("x-ratelimit-limit"), tier(role));
    }
    let body = json!({"email": "x@example.com", "password": "not the password"});
    for (path, limit) in [("login", 10), ("register", 5), ("refresh", 100)] {
        let got = gateway.client.post(&format!("{P}/auth/{path}"), &body).await;
        assert_eq!(got.number("x-ratelimit-limit"), limit, "{path}");
    }
    let got = gateway.client.logout(&gateway.user("candidat").await).await;
    assert_eq!(got.number("x-ratelimit-limit"), tier("candidat"));
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405_before_authentication() {
    let (services, gateway) = Services::behind_a_gateway().await;
    for path in [
        "/",
        "/nothing",
        "/api",
        "/api/gatewayx",
        "/api/gateway/none",
        "/api/gateway/match/none",
        "/api/gateway/health/x/y",
    ] {
        let got = gateway.client.get(path).await;
        assert_eq!(got.refusal(), (404, "NOT_FOUND".to_owned()), "{path}");
    }
    let unknown_service = gateway.client.get(&format!("{P}/health/none")).await;
    assert_eq!(unknown_service.refusal(), (404, "NOT_FOUND".to_owned()));

    let mut methods: std::collections::BTreeMap<String, BTreeSet<&str>> = Default::default();
    for row in ROWS {
        methods.entry(row.url().trim_end_matches('/').to_owned()).or_default().insert(row.method);
    }
    for (path, own) in methods {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"].into_iter().filter(|method| !own.contains(method)) {
            let got = send(gateway.client.request(method, &path)).await;
            assert_eq!(got.refusal(), (405, "METHOD_NOT_ALLOWED".to_owned()), "{method} {path}");
            let allow = got.header("allow").unwrap_or_default().to_owned();
            for method in &own {
                assert!(allow.split(", ").any(|allowed| allowed == *method), "{path}: Allow: {allow}");
            }
        }
    }
    assert_eq!(services.count(), 0);
}

#[tokio::test]
async fn head_is_served_wherever_get_is() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let admin = gateway.user("admin").await;
    for row in ROWS.iter().filter(|row| row.method == "GET") {
        let got = send(gateway.client.as_user(&admin, "HEAD", &row.url())).await;
        assert_eq!((got.status, got.body.len()), (200, 0), "{row:?}");
    }
}

#[tokio::test]
async fn a_trailing_slash_is_the_same_route() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let admin = gateway.user("admin").await;
    for row in ROWS.iter().filter(|row| row.path != "/") {
        let request = row.request_to(&gateway.client, &format!("{}/", row.url()));
        let got = send(request.header("authorization", admin.bearer()).header("host", "evil.example")).await;
        assert_eq!(got.status, 200, "{row:?}: {}", got.text());
        for (service, _, path) in row.calls {
            assert_eq!(services.named(service).last().path(), *path, "{row:?}");
        }
    }
}

#[tokio::test]
async fn a_preflight_is_answered_and_costs_nothing() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let user = gateway.user("candidat").await;
    let before = gateway.client.algorithms(&user).await.number("x-ratelimit-remaining");
    for row in ROWS {
        let got = send(
            gateway
                .client
                .request("OPTIONS", &row.url())
                .header("origin", "http://localhost:3000")
                .header("access-control-request-method", row.method)
                .header("access-control-request-headers", "authorization,content-type"),
        )
        .await;
        assert!(matches!(got.status, 200 | 204), "{row:?}: {}", got.status);
        assert_eq!(got.header("access-control-allow-origin"), Some("http://localhost:3000"), "{row:?}");
        assert_eq!(got.header("access-control-allow-credentials"), Some("true"), "{row:?}");
        assert_eq!(got.header("access-control-max-age"), Some("600"), "{row:?}");
        assert!(got.header("access-control-allow-methods").is_some_and(|all| all.contains(row.method)), "{row:?}");
        let allowed = got.header("access-control-allow-headers").unwrap_or_default().to_ascii_lowercase();
        assert!(allowed.contains("authorization") && allowed.contains("content-type"), "{row:?}: {allowed}");
        assert_eq!(got.header("x-ratelimit-limit"), None, "{row:?}");
    }
    let after = gateway.client.algorithms(&user).await.number("x-ratelimit-remaining");
    // One token for the request itself; the bucket may have been refilled meanwhile.
    assert!(after + 1 >= before, "{before} then {after}");
    assert_eq!(services.matching.count(), 2);
}

#[tokio::test]
async fn a_foreign_origin_gets_no_cors_headers() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    for method in ["GET", "OPTIONS"] {
        let request = gateway.client.request(method, &format!("{P}/status")).header("origin", "https://evil.example");
        let got = send(request.header("access-control-request-method", "GET")).await;
        let cors: Vec<_> = got.headers.keys().filter(|name| name.as_str().starts_with("access-control-")).collect();
        assert!(cors.is_empty(), "{method}: {cors:?}");
    }
    for origin in ["http://localhost:8080", "http://127.0.0.1:3000", "http://127.0.0.1:8080"] {
        let got = send(gateway.client.request("GET", &format!("{P}/status")).header("origin", origin)).await;
        assert_eq!(got.header("access-control-allow-origin"), Some(origin));
        assert!(got.varies_by("origin"), "{:?}", got.headers);
        let exposed = got.header("access-control-expose-headers").unwrap_or_default().to_ascii_lowercase();
        for name in ["x-request-id", "x-process-time", "x-ratelimit-limit", "x-ratelimit-remaining", "ratelimit"] {
            assert!(exposed.contains(name), "{name} not in {exposed}");
        }
    }
}

#[tokio::test]
async fn stats_of_both_parsers_are_merged() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let admin = gateway.user("admin").await;
    services.cv_parser.on("/api/stats", Answer::json(200, json!({"parsed": 3})));
    services.job_parser.on("/api/stats", Answer::json(200, json!({"parsed": 4})));
    let got = gateway.client.get_as(&admin, &format!("{P}/parsers/stats")).await.expect(200);
    assert_eq!(got.json(), json!({"cv_parser": {"parsed": 3}, "job_parser": {"parsed": 4}}));
    // As recorded: the real ones answer 404 in HTML today.
    services.job_parser.on("/api/stats", Answer::new(404, "text/html", "<h1>Not Found</h1>"));
    let got = gateway.client.get_as(&admin, &format!("{P}/parsers/stats")).await.expect(200);
    assert_eq!(got.json()["cv_parser"], json!({"parsed": 3}));
    assert_eq!(got.json()["job_parser"]["error"], true);
}

#[tokio::test]
async fn cards_and_caching_are_as_written() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let card = gateway.client.get(P).await.expect(200).json();
    assert!(card["name"].is_string() && card["version"].is_string() && !card["endpoints"].is_null(), "{card}");
    for path in [&format!("{P}/status"), "/health"] {
        let status = gateway.client.get(path).await.expect(200).json();
        assert_eq!(status["status"], "ok");
        assert!(status["service"].is_string() && status["version"].is_string() && status["timestamp"].is_string());
    }
    let user = gateway.user("candidat").await;
    let cached = gateway.client.algorithms(&user).await;
    let cached = cached.header("cache-control").unwrap_or_default();
    assert!(cached.contains("private") && cached.contains("max-age=300"), "{cached}");
    let answered = gateway.client.match_jobs(&user, &json!({})).await;
    assert_eq!(answered.header("cache-control"), Some("no-store"));
}
