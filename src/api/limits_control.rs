//! What the command line asks a running gateway about limits, on the Unix socket of the data folder.
//!
//! Its paths begin with `/control/`. The proxy asks that socket for `/builtin/` paths only, made from a closed list, so
//! nothing here is reached over the network; who may connect is decided by the socket's mode (0600).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use ipnet::IpNet;
use serde_json::json;

use crate::audit::{Actor, Audit, Event, EventKind, Subject};
use crate::clock::Clock;
use crate::limits::Limits;
use crate::limits::flood_guard::FloodGuardState;
use crate::limits::operators::UnknownPolicy;
use crate::model::forwarded;
use crate::model::identity::UserId;
use crate::model::limits_view::{
    LimitsQuery, LimitsView, OVERRIDE_PATH, OverrideQuery, OverrideView, RESET_PATH, SHOW_PATH, Whose,
};
use crate::snapshot::Live;

/// What operators see and change.
pub struct LimitsControl {
    /// The buckets.
    pub limits: Arc<Limits>,
    /// Those of the flood guard.
    pub flood: Arc<FloodGuardState>,
    /// Is told of every reset.
    pub audit: Audit,
    /// When it is.
    pub clock: Clock,
    /// The table in force.
    pub live: Arc<Live>,
}

/// What is asked and ordered with POST.
pub fn router(control: Arc<LimitsControl>) -> Router {
    Router::new()
        .route(SHOW_PATH, post(show))
        .route(RESET_PATH, post(reset))
        .route(OVERRIDE_PATH, post(overridden))
        .with_state(control)
}

async fn overridden(State(control): State<Arc<LimitsControl>>, Json(ask): Json<OverrideQuery>) -> Json<OverrideView> {
    let snapshot = control.live.load();
    let no_effect = match snapshot.spec.limits.get(&ask.policy) {
        None => Some("no policy has this name"),
        Some(policy) if policy.rate.is_none() && policy.roles.is_none() => Some("this policy has no rate"),
        Some(policy) if !policy.by.may_be_a_user() => Some("this policy does not count users"),
        Some(_) => None,
    };
    Json(OverrideView { no_effect: no_effect.map(str::to_owned) })
}

async fn show(State(control): State<Arc<LimitsControl>>, Json(ask): Json<LimitsQuery>) -> Response {
    answer(control.limits.show(&control.flood, control.clock.now(), &ask).await)
}

async fn reset(State(control): State<Arc<LimitsControl>>, Json(ask): Json<LimitsQuery>) -> Response {
    let done = control.limits.reset(&control.flood, control.clock.now(), &ask).await;
    if let Ok(view) = &done {
        control.audit.record(event(&ask, view));
    }
    answer(done)
}

/// The record of a reset.
fn event(ask: &LimitsQuery, view: &LimitsView) -> Event {
    let subject = match ask.whose {
        Whose::User(id) => Subject::User(UserId(id)),
        Whose::Address(address) => Subject::Network(network(address)),
    };
    let policy = ask.policy.as_deref().unwrap_or("all");
    let failed = view.missing.as_deref().map_or(String::new(), |missing| format!(", not all: {missing}"));
    let details = format!("buckets reset: {}, policy {policy}{failed}", view.buckets.len());
    Event::new(EventKind::LimitsChanged).by(Actor::CommandLine).on(subject).saying(details)
}

/// The addresses that share a client's buckets.
fn network(address: IpAddr) -> IpNet {
    let address = forwarded::subscriber(address);
    let bits = if address.is_ipv4() { 32 } else { 64 };
    IpNet::new(address, bits).unwrap_or_else(|_| IpNet::from(address))
}

fn answer(outcome: Result<LimitsView, UnknownPolicy>) -> Response {
    match outcome {
        Ok(view) => Json(view).into_response(),
        Err(unknown) => (StatusCode::NOT_FOUND, Json(json!({ "error": unknown.to_string() }))).into_response(),
    }
}
