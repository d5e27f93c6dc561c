//! A table like the shipped one: every route of the contract.

use serde_json::{Value, json};

use crate::config::spec::RoutesSpec;

const P: &str = "/api/gateway";

fn builtin(name: &str, methods: &[&str], path: &str, page: &str, auth: &Value) -> Value {
    json!({"name": name, "match": {"path": path, "methods": methods}, "to": {"builtin": page}, "auth": auth})
}

fn pool(name: &str, method: &str, pool: &str, upstream: &str, auth: &Value, body: &Value) -> Value {
    json!({"name": name, "match": {"path": format!("{P}/{}", name.replace("--", "/")), "methods": [method]},
        "to": {"pool": pool, "path": upstream}, "auth": auth, "body": body, "summary": format!("Summary of {name}")})
}

fn pages(public: &Value, required: &Value, admin: &Value) -> Vec<Value> {
    let at = |rest: &str| format!("{P}{rest}");
    let mut metrics = builtin("metrics", &["GET"], &at("/metrics"), "metrics", public);
    metrics["allow_from"] = json!(["127.0.0.0/8"]);
    vec![
        builtin("card", &["GET"], P, "service_card", public),
        builtin("status", &["GET"], &at("/status"), "status", public),
        builtin("health-alias", &["GET"], "/health", "status", public),
        builtin("health", &["GET"], &at("/health"), "health", public),
        builtin("health-service", &["GET"], &at("/health/{service}"), "service_health", public),
        builtin("health-detailed", &["GET"], &at("/health/detailed/all"), "health_detailed", admin),
        builtin("health-history", &["GET"], &at("/health/history"), "health_history", admin),
        builtin("health-reset", &["POST"], &at("/health/reset-cache"), "health_reset", admin),
        metrics,
        builtin("docs", &["GET"], &at("/docs"), "docs", public),
        builtin("docs-assets", &["GET"], &at("/docs/{file}"), "docs", public),
        builtin("redoc", &["GET"], &at("/redoc"), "redoc", public),
        builtin("openapi", &["GET"], &at("/openapi.json"), "openapi", public),
        builtin("auth-register", &["POST"], &at("/auth/register"), "auth_register", public),
        builtin("auth-login", &["POST"], &at("/auth/login"), "auth_login", public),
        builtin("auth-refresh", &["POST"], &at("/auth/refresh"), "auth_refresh", public),
        builtin("auth-logout", &["POST"], &at("/auth/logout"), "auth_logout", required),
        builtin("auth-me", &["GET"], &at("/auth/me"), "auth_me", required),
        builtin("auth-sessions", &["GET"], &at("/auth/sessions"), "auth_sessions", required),
        builtin("auth-session-end", &["DELETE"], &at("/auth/sessions/{sid}"), "auth_session_end", required),
        builtin("auth-logout-all", &["POST"], &at("/auth/logout-all"), "auth_logout_all", required),
        builtin("auth-password", &["POST"], &at("/auth/password"), "auth_password", required),
        builtin("admin-users", &["GET"], &at("/admin/users"), "admin_users", admin),
        builtin("admin-user", &["GET"], &at("/admin/users/{id}"), "admin_user", admin),
        builtin("admin-user-change", &["PATCH"], &at("/admin/users/{id}"), "admin_user_change", admin),
        builtin("api-key-create", &["POST"], &at("/admin/api-keys"), "api_key_create", admin),
        builtin("api-key-list", &["GET"], &at("/admin/api-keys"), "api_key_list", admin),
        builtin("api-key-revoke", &["DELETE"], &at("/admin/api-keys/{id}"), "api_key_revoke", admin),
    ]
}

fn services(required: &Value, recruiters: &Value, admin: &Value) -> Vec<Value> {
    let upload = json!({"max": "50MiB", "content_types": ["multipart/form-data"]});
    let (json_body, none) = (json!({"json": true}), json!({}));
    let mut routes = vec![
        pool("parse-cv", "POST", "cv-parser", "/api/parse-cv/", required, &upload),
        pool("parse-cv--formats", "GET", "cv-parser", "/api/formats", required, &none),
        pool("parse-job", "POST", "job-parser", "/api/parse-job", required, &json_body),
        pool("parse-job--url", "POST", "job-parser", "/api/parse-job/url", required, &json_body),
        pool("parse-job--batch", "POST", "job-parser", "/api/parse-job/batch", recruiters, &json_body),
        pool("match", "POST", "matching", "/api/v1/match", &json!({"api_keys": true}), &json_body),
        pool("match--batch", "POST", "matching", "/api/v1/match/batch", recruiters, &json_body),
        pool("match--algorithms", "GET", "matching", "/api/v1/algorithms", required, &none),
        pool("match--analytics", "GET", "matching", "/api/v1/analytics", recruiters, &none),
        pool("match--calibrate", "POST", "matching", "/api/v1/calibrate", admin, &json_body),
    ];
    for route in &mut routes {
        route["name"] = json!(route["name"].as_str().unwrap_or_default().replace("--", "-"));
    }
    let parts = json!({"cv_parser": {"pool": "cv-parser", "path": "/api/stats"},
        "job_parser": {"pool": "job-parser", "path": "/api/stats"}});
    routes.push(json!({"name": "parsers-stats", "match": {"path": format!("{P}/parsers/stats"), "methods": ["GET"]},
        "to": {"aggregate": {"parts": parts}}, "auth": admin}));
    routes.push(json!({"name": "files", "match": {"prefix": format!("{P}/files"), "methods": ["GET", "PUT"]},
        "to": {"pool": "matching", "path": "/files"}, "auth": "optional", "limits": []}));
    routes
}

/// The table.
pub(crate) fn table() -> RoutesSpec {
    let (public, required) = (json!("public"), json!("required"));
    let (recruiters, admin) = (json!({"roles": ["recruteur", "admin"]}), json!({"roles": ["admin"]}));
    let mut routes = pages(&public, &required, &admin);
    routes.extend(services(&required, &recruiters, &admin));
    let health = json!({"path": "/health"});
    serde_json::from_value(json!({
        "version": 1,
        "pools": {
            "cv-parser": {"targets": ["http://cv-parser:5051"], "health": health},
            "job-parser": {"targets": ["http://job-parser:5053"], "health": health},
            "matching": {"targets": ["http://matching:5060"], "health": {"path": "/api/v1/health"}},
        },
        "limits": {"default": {"by": "address", "rate": "100/min"}},
        "defaults": {"limits": ["default"]},
        "routes": routes,
    }))
    .unwrap()
}
