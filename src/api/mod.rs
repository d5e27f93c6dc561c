//! The gateway's own pages, on an inner Unix socket that only the proxy and the command line reach ([`router`]), and the
//! probes of the admin listener ([`admin_router`]).
//!
//! Which public path leads to which page is the route table's business. The proxy asks for `/builtin/<name>` and
//! says who asks in headers that it alone sets; nothing here decides who may call.

mod admin;
mod answer;
mod api_key_types;
pub mod api_keys;
mod asked;
pub mod auth;
pub mod auth_types;
mod docs;
mod fields;
mod health;
pub mod limits_control;
pub mod openapi;
mod query;
pub mod session_types;
mod sessions;
mod status;
mod users;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use jiff::Timestamp;

use crate::clock::{Clock, Tick};
use crate::model::health::HealthView;
use crate::snapshot::Live;
use crate::telemetry::metrics::Metrics;

pub use admin::{Readiness, Store, StoreCheck, admin_router};

/// What the gateway says about itself.
#[derive(Debug, Clone)]
pub struct GatewayInfo {
    /// Name of the service.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// `development`, `staging`, `production` or `testing`.
    pub environment: String,
    /// Whether debug mode is on.
    pub debug: bool,
    /// Whether the metrics are shown; where not, their pages do not exist.
    pub metrics_enabled: bool,
}

/// Everything that the pages read.
pub struct Pages {
    live: Arc<Live>,
    health: Arc<dyn HealthView>,
    metrics: Arc<Metrics>,
    clock: Clock,
    info: GatewayInfo,
    started: Tick,
    /// The OpenAPI document of one generation of the table.
    openapi: ArcSwapOption<(u64, Bytes)>,
}

impl Pages {
    /// The pages of a process that starts now.
    pub fn new(
        live: Arc<Live>,
        health: Arc<dyn HealthView>,
        metrics: Arc<Metrics>,
        clock: Clock,
        info: GatewayInfo,
    ) -> Arc<Pages> {
        let started = clock.now();
        Arc::new(Pages { live, health, metrics, clock, info, started, openapi: ArcSwapOption::empty() })
    }

    fn now(&self) -> Timestamp {
        self.clock.wall()
    }
}

/// The pages, each at `/builtin/<its name in the table>`.
pub fn router(pages: Arc<Pages>) -> Router {
    Router::new()
        .route("/builtin/service_card", get(status::service_card))
        .route("/builtin/status", get(status::status))
        .route("/builtin/health", get(health::aggregate))
        .route("/builtin/service_health", get(health::service))
        .route("/builtin/health_detailed", get(health::detailed))
        .route("/builtin/health_history", get(health::history))
        .route("/builtin/health_reset", post(health::reset))
        .route("/builtin/metrics", get(status::metrics))
        .route("/builtin/docs", get(docs::swagger))
        .route("/builtin/redoc", get(docs::redoc))
        .route("/builtin/openapi", get(docs::openapi))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::wrong_method)
        .with_state(pages)
}

#[cfg(test)]
mod tests;
