//! The pages that touch nothing else: service card, status, metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::asked::Asked;
use super::{Pages, answer};
use crate::config::spec::{AuthSpec, AuthWord, RouteSpec, RoutesSpec};
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::telemetry::metrics;

/// Who may call a route, in the service card.
#[derive(Debug, Serialize)]
struct Endpoint<'s> {
    path: String,
    methods: &'s [String],
    access: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    roles: &'s [Role],
    /// Whether a machine with an API key may call.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    api_keys: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'s str>,
}

/// Who may call a route: the route's own word, else the table's default.
pub(super) fn access<'s>(spec: &'s RoutesSpec, route: &'s RouteSpec) -> &'s AuthSpec {
    route.auth.as_ref().unwrap_or(&spec.defaults.auth)
}

/// The path that a route serves, as documentation writes it.
pub(super) fn public_path(route: &RouteSpec) -> String {
    match (&route.r#match.path, &route.r#match.prefix) {
        (Some(path), _) => path.clone(),
        (None, Some(prefix)) => format!("{}/{{rest}}", prefix.trim_end_matches('/')),
        (None, None) => String::new(),
    }
}

fn endpoint<'s>(spec: &'s RoutesSpec, route: &'s RouteSpec) -> Endpoint<'s> {
    let auth = access(spec, route);
    let api_keys = auth.takes_api_keys();
    let (access, roles): (_, &[Role]) = match auth {
        AuthSpec::Word(AuthWord::Public) => ("public", &[]),
        AuthSpec::Word(AuthWord::Optional) => ("optional", &[]),
        AuthSpec::Word(AuthWord::Required) => ("required", &[]),
        AuthSpec::Roles(only) if only.takes_every_role() => ("required", &[]),
        AuthSpec::Roles(only) => ("roles", &only.roles),
    };
    let (path, methods) = (public_path(route), &route.r#match.methods);
    Endpoint { path, methods, access, roles, api_keys, summary: route.summary.as_deref() }
}

/// Name, version and routes of the gateway.
pub(super) async fn service_card(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    let table = pages.live.load_full();
    let endpoints: Vec<Endpoint<'_>> = table.spec.routes.iter().map(|route| endpoint(&table.spec, route)).collect();
    let body = json!({ "name": pages.info.name, "version": pages.info.version, "endpoints": endpoints });
    answer::json(StatusCode::OK, &body, &asked)
}

/// `{"status":"ok"}`: the process answers. Looks at nothing else.
pub(super) async fn status(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    let body = json!({
        "status": "ok",
        "service": pages.info.name,
        "version": pages.info.version,
        "timestamp": pages.now().to_string(),
    });
    answer::json(StatusCode::OK, &body, &asked)
}

/// The Prometheus text, unless the settings turn it off. Asks no upstream.
pub(super) async fn metrics(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    if !pages.info.metrics_enabled {
        return answer::not_found(asked).await;
    }
    match pages.metrics.render(&*pages.health) {
        Ok(text) => answer::content(metrics::CONTENT_TYPE, text, [answer::no_store()]),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            answer::refuse(&Rejection::Internal, &asked)
        }
    }
}
