//! The bodies that the table cannot know: those of the auth API (from its types), of our own pages and errors, and
//! those that the platform's services take.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::api::api_key_types::{ApiKeyCreated, ApiKeyList, ApiKeyRequest, ApiKeyView};
use crate::api::auth_types::{
    LoginRequest, MeResponse, Message, RefreshRequest, RegisterRequest, TokenResponse, UserView,
};
use crate::api::session_types::{AccessChangeRequest, PasswordChangeRequest, SessionList, SessionView, UserList};
use crate::config::spec::Builtin;

/// A reference to one of [`all`].
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// What a page takes; `None` for no body.
pub(super) fn request_of(page: Builtin) -> Option<Value> {
    match page {
        Builtin::AuthRegister => Some(reference("RegisterRequest")),
        Builtin::AuthLogin => Some(reference("LoginRequest")),
        Builtin::AuthRefresh => Some(reference("RefreshRequest")),
        Builtin::AuthPassword => Some(reference("PasswordChangeRequest")),
        Builtin::AdminUserChange => Some(reference("AccessChangeRequest")),
        Builtin::ApiKeyCreate => Some(reference("ApiKeyRequest")),
        _ => None,
    }
}

/// The query parameters of a page; `None` for a page that reads none.
pub(super) fn query_of(page: Builtin) -> Option<Value> {
    let whole = |name: &str, from: i64, default: i64, text: &str| {
        json!({ "name": name, "in": "query", "description": text,
            "schema": { "type": "integer", "minimum": from, "default": default } })
    };
    match page {
        Builtin::ApiKeyList | Builtin::AdminUsers => Some(json!([
            whole("after", 0, 0, "The number after which the page begins."),
            whole("limit", 1, 100, "Most items on the page; at most 500."),
        ])),
        _ => None,
    }
}

/// What a page answers when all is well: status, media type, schema.
pub(super) fn answer_of(page: Builtin) -> (&'static str, &'static str, Value) {
    const JSON: &str = "application/json";
    match page {
        Builtin::AuthRegister => ("201", JSON, reference("TokenResponse")),
        Builtin::AuthLogin | Builtin::AuthRefresh | Builtin::AuthPassword => ("200", JSON, reference("TokenResponse")),
        Builtin::AuthLogout
        | Builtin::AuthSessionEnd
        | Builtin::AuthLogoutAll
        | Builtin::AdminUserSignOut
        | Builtin::AdminUserSessionEnd
        | Builtin::ApiKeyRevoke => ("200", JSON, reference("Message")),
        Builtin::AuthMe | Builtin::AdminUser | Builtin::AdminUserChange => ("200", JSON, reference("Account")),
        Builtin::AuthSessions | Builtin::AdminUserSessions => ("200", JSON, reference("Sessions")),
        Builtin::AdminUsers => ("200", JSON, reference("Accounts")),
        Builtin::ApiKeyCreate => ("201", JSON, reference("ApiKeyCreated")),
        Builtin::ApiKeyList => ("200", JSON, reference("ApiKeyList")),
        Builtin::Jwks => ("200", "application/jwk-set+json", reference("KeySet")),
        Builtin::Status => ("200", JSON, reference("Status")),
        Builtin::Metrics => ("200", "text/plain", json!({ "type": "string" })),
        Builtin::Docs | Builtin::Redoc => ("200", "text/html", json!({ "type": "string" })),
        Builtin::ServiceCard
        | Builtin::Health
        | Builtin::ServiceHealth
        | Builtin::HealthDetailed
        | Builtin::HealthHistory
        | Builtin::HealthReset
        | Builtin::Openapi => ("200", JSON, json!({ "type": "object" })),
    }
}

/// What a service takes at one of its paths, where that is known: media type and schema.
pub(super) fn service_body(upstream_path: &str) -> Option<(&'static str, Value)> {
    const FORM: &str = "multipart/form-data";
    match upstream_path.trim_end_matches('/') {
        "/api/parse-cv" => {
            let options = ["extract_skills", "extract_experience", "extract_education", "extract_languages"];
            Some((FORM, upload(&options)))
        }
        "/api/parse-job" => Some((FORM, upload(&[]))),
        "/api/v1/match" => Some(("application/json", match_request())),
        _ => None,
    }
}

/// A file, and fields that switch something on.
pub(super) fn upload(switches: &[&str]) -> Value {
    let mut fields = Map::new();
    fields.insert("file".to_owned(), json!({ "type": "string", "format": "binary" }));
    fields.extend(switches.iter().map(|name| ((*name).to_owned(), json!({ "type": "boolean" }))));
    object(&["file"], fields.into())
}

fn match_request() -> Value {
    let skills = || json!({ "type": "array", "items": text() });
    let job = object(&[], json!({ "id": text(), "titre": text(), "competences": skills() }));
    let candidate = object(&[], json!({ "competences": skills() }));
    object(&["candidate", "jobs"], json!({ "candidate": candidate, "jobs": { "type": "array", "items": job } }))
}

/// Every named schema.
pub(super) fn all() -> Value {
    let mut all = json!({
        "Error": object(
            &["error", "code", "message", "status_code", "path", "request_id"],
            json!({
                "error": { "const": true },
                "code": text(),
                "message": text(),
                "status_code": { "type": "integer" },
                "path": text(),
                "request_id": text(),
                "retry_after": { "type": "integer", "description": "Seconds; with 429 and 503." },
                "details": { "type": "array", "items": reference("FieldProblem") },
            }),
        ),
        "Problem": object(
            &["type", "title", "status", "instance", "code", "request_id"],
            json!({
                "type": text(),
                "title": text(),
                "status": { "type": "integer" },
                "instance": text(),
                "code": text(),
                "request_id": text(),
                "retry_after": { "type": "integer" },
                "details": { "type": "array", "items": reference("FieldProblem") },
            }),
        ),
        "FieldProblem": object(&["field", "problem"], json!({ "field": text(), "problem": text() })),
        "KeySet": object(
            &["keys"],
            json!({ "keys": { "type": "array", "items": reference("PublicKey") } }),
        ),
        "PublicKey": object(
            &["kty", "crv", "x", "kid", "alg", "use"],
            json!({
                "kty": { "enum": ["OKP", "EC"] },
                "crv": { "enum": ["Ed25519", "P-256"] },
                "x": text(),
                "y": text(),
                "kid": text(),
                "alg": { "enum": ["EdDSA", "ES256"] },
                "use": { "const": "sig" },
            }),
        ),
        "Status": object(
            &["status", "service", "version", "timestamp"],
            json!({ "status": { "const": "ok" }, "service": text(), "version": text(), "timestamp": moment() }),
        ),
    });
    if let Some(all) = all.as_object_mut() {
        auth(all);
    }
    all
}

/// The auth API.
fn auth(all: &mut Map<String, Value>) {
    add::<RegisterRequest>(all, true);
    add::<LoginRequest>(all, true);
    add::<RefreshRequest>(all, true);
    add::<TokenResponse>(all, false);
    add::<UserView>(all, false);
    add::<MeResponse>(all, false);
    add::<Message>(all, false);
    add::<SessionView>(all, false);
    add::<SessionList>(all, false);
    add::<PasswordChangeRequest>(all, true);
    add::<UserList>(all, false);
    add::<AccessChangeRequest>(all, true);
    add::<ApiKeyRequest>(all, true);
    add::<ApiKeyCreated>(all, false);
    add::<ApiKeyView>(all, false);
    add::<ApiKeyList>(all, false);
}

/// `closed`: unknown fields are refused.
fn add<T: ToSchema>(all: &mut Map<String, Value>, closed: bool) {
    // A schema is a tree of plain values, which always serialises.
    let mut schema = serde_json::to_value(T::schema()).unwrap_or_default();
    if let (true, Some(members)) = (closed, schema.as_object_mut()) {
        members.insert("additionalProperties".to_owned(), false.into());
    }
    all.insert(T::name().into_owned(), schema);
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn moment() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}
