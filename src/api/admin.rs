//! The admin listener (loopback): is the process alive, may it get traffic, and the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use serde_json::json;

use super::asked::Asked;
use super::{Pages, answer, status};
use crate::model::health::HealthView;

/// Says whether a store answered when it was last used. Must not block.
pub type StoreCheck = Box<dyn Fn() -> bool + Send + Sync>;

/// A store, as readiness sees it.
pub struct Store {
    /// Its name, as in the metrics.
    pub name: &'static str,
    /// Whether the process is of no use without it.
    pub needed: bool,
    /// Whether it answers.
    pub check: StoreCheck,
}

/// Whether the process may get traffic.
pub struct Readiness {
    health: Arc<dyn HealthView>,
    stores: Vec<Store>,
    draining: AtomicBool,
}

impl Readiness {
    /// Ready once the first health round is done, while every needed one of `stores` answers and no drain has begun.
    pub fn new(health: Arc<dyn HealthView>, stores: Vec<Store>) -> Arc<Readiness> {
        Arc::new(Readiness { health, stores, draining: AtomicBool::new(false) })
    }

    /// The process is about to stop: not ready from now on.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether `/readyz` says so.
    pub fn is_ready(&self) -> bool {
        let store_is_away = |store: &Store| store.needed && !(store.check)();
        !self.is_draining() && self.health.first_round_done() && !self.stores.iter().any(store_is_away)
    }

    /// Whether a drain has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// `/livez`, `/readyz` and `/metrics`.
pub fn admin_router(pages: Arc<Pages>, readiness: Arc<Readiness>) -> Router {
    let probes = Router::new().route("/readyz", get(readyz)).with_state((pages.clone(), readiness));
    Router::new()
        .route("/livez", get(livez))
        .route("/metrics", get(status::metrics))
        .with_state(pages)
        .merge(probes)
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::wrong_method)
}

/// The process runs its tasks. Depends on nothing else.
async fn livez(asked: Asked) -> Response {
    answer::json(StatusCode::OK, &json!({ "status": "alive" }), &asked)
}

async fn readyz(State((pages, readiness)): State<(Arc<Pages>, Arc<Readiness>)>, asked: Asked) -> Response {
    let config_loaded = pages.live.load().generation > 0;
    let first_round = readiness.health.first_round_done();
    let draining = readiness.is_draining();
    let stores: BTreeMap<&str, (bool, bool)> =
        readiness.stores.iter().map(|store| (store.name, ((store.check)(), store.needed))).collect();
    let away = |needed: bool| {
        let away = stores.iter().filter(move |(_, state)| **state == (false, needed));
        away.map(|(name, _)| format!("store {name} does not answer"))
    };
    let mut reasons: Vec<String> = [
        (!config_loaded, "no route table is loaded"),
        (!first_round, "the first round of health checks is not done"),
        (draining, "the process is draining"),
    ]
    .into_iter()
    .filter(|(applies, _)| *applies)
    .map(|(_, reason)| reason.to_owned())
    .collect();
    reasons.extend(away(true));
    let stale = pages.metrics.config_is_stale().then(|| "the table was refused, an earlier one is in force".to_owned());
    let degraded: Vec<String> = away(false).chain(stale).collect();
    let stores: BTreeMap<&str, bool> = stores.iter().map(|(name, (up, _))| (*name, *up)).collect();
    let (code, word) = match reasons.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    };
    let checks = json!({
        "config_loaded": config_loaded,
        "first_health_round": first_round,
        "not_draining": !draining,
        "stores": stores,
    });
    answer::json(code, &json!({ "status": word, "reasons": reasons, "degraded": degraded, "checks": checks }), &asked)
}
