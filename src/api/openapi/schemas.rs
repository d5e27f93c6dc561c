//! The bodies that the table cannot know: those of the auth API (from its types), of our own pages and errors, and
//! those that the platform's services take.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::api::auth_types::{
    LoginRequest, MeResponse, Message, RefreshRequest, RegisterRequest, TokenResponse, UserView,
};
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
        _ => None,
    }
}

/// What a page answers when all is well: status, media type, schema.
pub(super) fn answer_of(page: Builtin) -> (&'static str, &'static str, Value) {
    const JSON: &str = "application/json";
    match page {
        Builtin::AuthRegister => ("201", JSON, reference("TokenResponse")),
        Builtin::AuthLogin | Builtin::AuthRefresh => ("200", JSON, reference("TokenResponse")),
        Builtin::AuthLogout => ("200", JSON, reference("Message")),
        Builtin::AuthMe => ("200", JSON, reference("Account")),
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
