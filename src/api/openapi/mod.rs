//! The OpenAPI 3.1 document of the live table: every route, with who may call it, what it takes and what it answers.
//!
//! Everything comes from the table. What the table cannot know, the bodies of the auth API and of the platform's
//! services, is in `schemas.rs`.

mod operation;
mod schemas;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::GatewayInfo;
use super::status::public_path;
use crate::config::spec::{Builtin, DestinationSpec, RoutesSpec};

/// The document.
pub fn document(spec: &RoutesSpec, info: &GatewayInfo) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut tags = BTreeSet::new();
    for route in &spec.routes {
        let tag = tag(spec, &route.to);
        let path = public_path(route);
        let parameters = parameters(&path, route.to.builtin);
        let item = paths.entry(path).or_insert_with(|| match parameters.is_empty() {
            true => json!({}),
            false => json!({ "parameters": parameters }),
        });
        let Some(item) = item.as_object_mut() else { continue };
        for method in &route.r#match.methods {
            item.insert(method.to_ascii_lowercase(), operation::operation(spec, route, method, &tag));
        }
        tags.insert(tag);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": info.name, "version": info.version },
        "servers": [{ "url": "/" }],
        "tags": tags.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearerAuth": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "apiKey": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
            },
            "schemas": schemas::all(),
        },
    })
}

fn tag(spec: &RoutesSpec, to: &DestinationSpec) -> String {
    if let Some(pool) = &to.pool {
        return service(spec, pool);
    }
    let word = match to.builtin {
        None => "aggregates",
        Some(page) => match page {
            Builtin::ServiceCard | Builtin::Status => "gateway",
            Builtin::Health
            | Builtin::ServiceHealth
            | Builtin::HealthDetailed
            | Builtin::HealthHistory
            | Builtin::HealthReset => "health",
            Builtin::Metrics => "metrics",
            Builtin::Docs | Builtin::Redoc | Builtin::Openapi => "documentation",
            Builtin::Jwks
            | Builtin::AuthRegister
            | Builtin::AuthLogin
            | Builtin::AuthRefresh
            | Builtin::AuthLogout
            | Builtin::AuthMe
            | Builtin::AuthSessions
            | Builtin::AuthSessionEnd
            | Builtin::AuthLogoutAll
            | Builtin::AuthPassword => "auth",
            Builtin::AdminUsers
            | Builtin::AdminUser
            | Builtin::AdminUserChange
            | Builtin::AdminUserSessions
            | Builtin::AdminUserSignOut
            | Builtin::AdminUserSessionEnd => "admin",
            Builtin::ApiKeyCreate | Builtin::ApiKeyList | Builtin::ApiKeyRevoke => "api keys",
        },
    };
    word.to_owned()
}

/// Name of a pool's service, as health answers and messages have it.
pub(super) fn service(spec: &RoutesSpec, pool: &str) -> String {
    let named = spec.pools.get(pool).and_then(|found| found.service.clone());
    named.unwrap_or_else(|| pool.replace('-', "_"))
}

fn parameters(path: &str, page: Option<Builtin>) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
    names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": form(name, page) })).collect()
}

/// Our own pages read numbers and session ids; what a service reads is not known.
fn form(name: &str, page: Option<Builtin>) -> Value {
    let ours = page.is_some_and(|page| page.parameters().contains(&name));
    match (ours, name) {
        (true, "id") => json!({ "type": "integer", "format": "int64" }),
        (true, "sid") => json!({ "type": "string", "format": "uuid" }),
        _ => json!({ "type": "string" }),
    }
}

#[cfg(test)]
mod tests;
