//! One method of one route, as OpenAPI describes it.

use serde_json::{Map, Value, json};

use super::{schemas, service};
use crate::api::status::access;
use crate::config::spec::{
    Audience, AuthSpec, AuthWord, Builtin, LimitSpec, LimitUse, PartFailure, RouteSpec, RoutesSpec,
};

/// The operation object.
pub(super) fn operation(spec: &RoutesSpec, route: &RouteSpec, method: &str, tag: &str) -> Value {
    let mut operation = Map::new();
    operation.insert("operationId".into(), operation_id(route, method).into());
    operation.insert("tags".into(), json!([tag]));
    operation.insert("summary".into(), route.summary.as_deref().unwrap_or(&route.name).into());
    if let Some(text) = description(spec, route) {
        operation.insert("description".into(), text.into());
    }
    if let Some(parameters) = route.to.builtin.and_then(schemas::query_of).or_else(|| idempotency_key(route, method)) {
        operation.insert("parameters".into(), parameters);
    }
    operation.insert("security".into(), security(access(spec, route)));
    let body = takes_body(method).then(|| request_body(route)).flatten();
    let has_body = body.is_some();
    if let Some(body) = body {
        operation.insert("requestBody".into(), body);
    }
    operation.insert("responses".into(), responses(spec, route, has_body));
    Value::Object(operation)
}

fn operation_id(route: &RouteSpec, method: &str) -> String {
    match route.r#match.methods.len() {
        1 => route.name.clone(),
        _ => format!("{}-{}", route.name, method.to_ascii_lowercase()),
    }
}

fn takes_body(method: &str) -> bool {
    matches!(method, "POST" | "PUT" | "PATCH")
}

/// The header of routes that carry repeated requests out once.
fn idempotency_key(route: &RouteSpec, method: &str) -> Option<Value> {
    let spec = route.idempotency.as_ref().filter(|_| !matches!(method, "GET" | "HEAD"))?;
    let text = format!(
        "One key for each thing to be done. A repeat with the same key and the same request gets the first answer again, for {}.",
        spec.ttl
    );
    let schema = json!({ "type": "string", "minLength": 1, "maxLength": 255 });
    Some(json!([
        { "name": "Idempotency-Key", "in": "header", "required": spec.required, "description": text, "schema": schema },
    ]))
}

fn description(spec: &RoutesSpec, route: &RouteSpec) -> Option<String> {
    let mut sentences = Vec::new();
    if let AuthSpec::Roles(only) = access(spec, route)
        && !only.takes_every_role()
    {
        let roles: Vec<&str> = only.roles.iter().map(|role| role.as_str()).collect();
        sentences.push(format!("Roles: {}.", roles.join(", ")));
    }
    if route.allow_from.is_some() {
        sentences.push("For certain addresses only.".to_owned());
    }
    let limits = limits(spec, route);
    if !limits.is_empty() {
        sentences.push(format!("Limits: {}.", limits.join(", ")));
    }
    if let Some(prefix) = &route.r#match.prefix {
        sentences.push(format!("Every path under {prefix}."));
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn limits(spec: &RoutesSpec, route: &RouteSpec) -> Vec<String> {
    let uses = route.limits.as_ref().unwrap_or(&spec.defaults.limits);
    let known = uses.iter().filter_map(|each| Some((each, spec.limits.get(each.policy())?)));
    known.filter(|(_, limit)| !limit.shadow).map(|(each, limit)| described(each, limit)).collect()
}

/// `exports (5/h, 3 tokens a request, 2 at once)`.
fn described(each: &LimitUse, limit: &LimitSpec) -> String {
    let rated = limit.rate.is_some() || limit.roles.is_some();
    let cost = Some(each.cost().unwrap_or(limit.cost)).filter(|cost| rated && *cost != 1);
    let facts: Vec<String> = [
        limit.rate.map(|rate| rate.to_string()),
        cost.map(|cost| format!("{cost} tokens a request")),
        limit.in_flight.map(|most| format!("{most} at once")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if facts.is_empty() { each.policy().to_owned() } else { format!("{} ({})", each.policy(), facts.join(", ")) }
}

fn security(access: &AuthSpec) -> Value {
    match access {
        AuthSpec::Word(AuthWord::Public) => json!([]),
        AuthSpec::Word(AuthWord::Optional) => json!([{}, { "bearerAuth": [] }]),
        AuthSpec::Roles(only) if only.api_keys => json!([{ "bearerAuth": [] }, { "apiKey": [] }]),
        AuthSpec::Word(AuthWord::Required) | AuthSpec::Roles(_) => json!([{ "bearerAuth": [] }]),
    }
}

fn request_body(route: &RouteSpec) -> Option<Value> {
    if let Some(page) = route.to.builtin {
        let schema = schemas::request_of(page)?;
        return Some(json!({ "required": true, "content": { "application/json": { "schema": schema } } }));
    }
    let content = match service_body(route) {
        Some((media_type, schema)) => Map::from_iter([(media_type.to_owned(), json!({ "schema": schema }))]),
        None => media_types(route).map(|name| (name.to_owned(), json!({ "schema": any_body(name) }))).collect(),
    };
    Some(json!({ "required": true, "content": content }))
}

/// What the service is known to take, unless the route does not let that pass.
fn service_body(route: &RouteSpec) -> Option<(&'static str, Value)> {
    let (media_type, schema) = schemas::service_body(route.to.path.as_deref()?)?;
    let passes = route.body.content_types.is_empty() || media_types(route).any(|allowed| allowed == media_type);
    passes.then_some((media_type, schema))
}

/// The media types that the route lets pass; JSON when it does not say.
fn media_types(route: &RouteSpec) -> impl Iterator<Item = &str> {
    let named = &route.body.content_types;
    named.iter().map(String::as_str).chain(named.is_empty().then_some("application/json"))
}

fn any_body(media_type: &str) -> Value {
    match media_type {
        "multipart/form-data" => schemas::upload(&[]),
        json if json.ends_with("json") => json!({ "type": "object" }),
        _ => json!({}),
    }
}

fn responses(spec: &RoutesSpec, route: &RouteSpec, has_body: bool) -> Value {
    let mut all = Map::new();
    let (status, success) = success(spec, route);
    all.insert(status.to_owned(), success);
    for (status, text) in refusals(spec, route, has_body) {
        let headers = match status {
            "409" | "429" | "503" => {
                json!({ "Retry-After": { "schema": { "type": "integer" }, "description": "Seconds." } })
            }
            "401" => json!({ "WWW-Authenticate": { "schema": { "type": "string" } } }),
            _ => json!({}),
        };
        let content = json!({
            "application/json": { "schema": schemas::reference("Error") },
            "application/problem+json": { "schema": schemas::reference("Problem") },
        });
        all.insert(status.to_owned(), json!({ "description": text, "headers": headers, "content": content }));
    }
    if route.to.builtin == Some(Builtin::ServiceHealth) {
        let content = json!({ "application/json": { "schema": { "type": "object" } } });
        all.insert("503".to_owned(), json!({ "description": "No healthy target", "content": content }));
    }
    Value::Object(all)
}

fn success(spec: &RoutesSpec, route: &RouteSpec) -> (&'static str, Value) {
    if let Some(page) = route.to.builtin {
        let (status, media_type, schema) = schemas::answer_of(page);
        return (status, json!({ "description": "Success", "content": { media_type: { "schema": schema } } }));
    }
    let (description, schema) = match (&route.to.pool, &route.to.aggregate) {
        (Some(pool), _) => (format!("Answer of the service {}, unchanged", service(spec, pool)), json!({})),
        (None, Some(calls)) => {
            let parts: Map<String, Value> = calls.parts.keys().map(|key| (key.clone(), json!({}))).collect();
            ("Answers of the services, put together".to_owned(), json!({ "type": "object", "properties": parts }))
        }
        (None, None) => ("Success".to_owned(), json!({})),
    };
    ("200", json!({ "description": description, "content": { "application/json": { "schema": schema } } }))
}

/// The refusals that this route can give, beside those of the upstream's own making.
fn refusals(spec: &RoutesSpec, route: &RouteSpec, has_body: bool) -> Vec<(&'static str, &'static str)> {
    let access = access(spec, route);
    let proves = !matches!(access, AuthSpec::Word(AuthWord::Public));
    let page = route.to.builtin;
    let checked = page.is_some_and(|page| schemas::request_of(page).is_some());
    let fields = checked || page.and_then(schemas::query_of).is_some();
    let asks_store = page.is_some_and(asks_store);
    // Pages for people refuse machines, which have no session.
    let for_people = page.is_some_and(|page| page.audience() != Audience::Anybody);
    let names_something = page.is_some_and(|page| !page.parameters().is_empty() || page == Builtin::Docs);
    let upstream = route.to.pool.is_some() || route.to.aggregate.is_some();
    let all_parts_may_fail = route.to.aggregate.as_ref().is_none_or(|parts| parts.on_failure == PartFailure::Fail);
    let guarded = spec.flood_guard.is_some() && !page.is_some_and(Builtin::is_for_machines);
    let keyed = route.idempotency.is_some();
    let limited = guarded || !limits(spec, route).is_empty();
    [
        (has_body || keyed, "400", "Invalid request"),
        (proves || matches!(page, Some(Builtin::AuthLogin | Builtin::AuthRefresh)), "401", "Not authenticated"),
        (
            matches!(access, AuthSpec::Roles(_))
                || route.allow_from.is_some()
                || for_people
                || page == Some(Builtin::AuthRegister),
            "403",
            "Forbidden",
        ),
        (names_something, "404", "Resource not found"),
        (keyed, "409", "The same request is in progress, or its answer was too long to keep"),
        (has_body, "413", "Body too large"),
        (has_body && (checked || !route.body.content_types.is_empty()), "415", "Unsupported content type"),
        (fields, "422", "Invalid fields"),
        (keyed, "422", "The idempotency key belongs to another request"),
        (limited, "429", "Too many requests"),
        (true, "500", "Internal error"),
        (upstream, "502", "Invalid answer of the service"),
        (upstream && all_parts_may_fail || asks_store || proves, "503", "Service unavailable"),
        (upstream && all_parts_may_fail, "504", "The service did not answer in time"),
    ]
    .into_iter()
    .filter_map(|(applies, status, text)| applies.then_some((status, text)))
    .collect()
}

/// Whether a page needs the identity store although nobody is proven before.
fn asks_store(page: Builtin) -> bool {
    matches!(page, Builtin::AuthRegister | Builtin::AuthLogin | Builtin::AuthRefresh)
}
