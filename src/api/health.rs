//! The health pages: what the background checks last saw, never a check of their own. Figures are measured or
//! `null`; internal addresses are for admins.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::asked::{self, Asked};
use super::{Pages, answer};
use crate::model::health::{PoolReport, Probe, TargetReport};
use crate::model::rejection::Rejection;

/// One service in the aggregate.
#[derive(Debug, Serialize)]
struct Service<'r> {
    service_name: &'r str,
    status: &'static str,
    response_time: Option<f64>,
    last_check: Option<String>,
    error: Option<&'r str>,
    version: Option<&'r str>,
    uptime: Option<f64>,
}

/// One target on the page of its service.
#[derive(Debug, Serialize)]
struct Target<'r> {
    status: &'static str,
    status_code: Option<u16>,
    response_time: Option<f64>,
    circuit_breaker: &'static str,
    #[serde(flatten)]
    part: Option<Part<'r>>,
}

/// What a target is in its pool, for admins.
#[derive(Debug, Serialize)]
struct Part<'r> {
    address: &'r str,
    weight: u32,
    backup: bool,
    draining: bool,
}

impl Part<'_> {
    fn of(target: &TargetReport) -> Part<'_> {
        Part { address: &target.address, weight: target.weight, backup: target.backup, draining: target.draining }
    }
}

fn service_line(pool: &PoolReport) -> Service<'_> {
    let probe = pool.telling_probe();
    Service {
        service_name: &pool.service,
        status: pool.health().as_str(),
        response_time: probe.and_then(response_time),
        last_check: probe.map(|probe| probe.at.to_string()),
        error: probe.and_then(|probe| probe.error.as_deref()),
        version: probe.and_then(|probe| probe.version.as_deref()),
        uptime: probe.and_then(|probe| probe.uptime),
    }
}

/// Seconds until the answer; `None` when there was none, as the wait for it says nothing about the service.
fn response_time(probe: &Probe) -> Option<f64> {
    probe.status.map(|_| probe.took.as_secs_f64())
}

fn overall(pools: &[PoolReport]) -> &'static str {
    let healthy = pools.iter().filter(|pool| pool.is_healthy()).count();
    match healthy {
        all if all == pools.len() => "healthy",
        0 => "unhealthy",
        _ => "degraded",
    }
}

/// Health of all services: always 200.
pub(super) async fn aggregate(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    let pools = pages.health.pools();
    let services: BTreeMap<&str, Service<'_>> = pools.iter().map(|pool| (&*pool.service, service_line(pool))).collect();
    let body = json!({
        "status": overall(&pools),
        "timestamp": pages.now().to_string(),
        "services": services,
        "gateway_info": {
            "name": pages.info.name,
            "version": pages.info.version,
            "environment": pages.info.environment,
            "debug_mode": pages.info.debug,
            "services_managed": pools.len(),
        },
        "performance_metrics": {
            "health_check_duration": PoolReport::slowest_probe(&pools).map(|took| took.as_secs_f64()),
            "healthy_services_ratio": PoolReport::healthy_ratio(&pools),
            "gateway_uptime": pages.clock.now().since(pages.started).as_secs_f64(),
            // The gateway has no response cache, so there is nothing to measure.
            "cache_hit_ratio": null,
        },
    });
    answer::json(StatusCode::OK, &body, &asked)
}

/// Health of one service: 200 or 503; 404 for a service that the table does not know.
pub(super) async fn service(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    let pools = pages.health.pools();
    let wanted = asked.text(asked::SERVICE).unwrap_or_default();
    let Some(pool) = pools.iter().find(|pool| *pool.service == *wanted) else {
        return answer::refuse(&Rejection::NotFound, &asked);
    };
    let admin = asked.is_admin();
    let targets: BTreeMap<&str, Target<'_>> =
        pool.targets.iter().map(|target| (&*target.label, target_line(target, admin))).collect();
    let status = if pool.is_healthy() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "service": &*pool.service, "timestamp": pages.now().to_string(), "health": targets });
    answer::json(status, &body, &asked)
}

fn target_line(target: &TargetReport, admin: bool) -> Target<'_> {
    let probe = target.last_probe.as_ref();
    Target {
        status: target.health.as_str(),
        status_code: probe.and_then(|probe| probe.status),
        response_time: probe.and_then(response_time),
        circuit_breaker: target.circuit.as_str(),
        part: admin.then(|| Part::of(target)),
    }
}

/// Health of all targets.
pub(super) async fn detailed(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    let pools = pages.health.pools();
    let admin = asked.is_admin();
    let mut services = Map::new();
    for pool in &pools {
        let targets: Vec<Value> = pool.targets.iter().map(|target| target_detail(target, admin)).collect();
        let mut detail = json!({
            "pool": &*pool.pool,
            "status": pool.health().as_str(),
            "panic": pool.panic,
            "targets": targets,
        });
        if let (Some(waiting), Some(detail)) = (pool.waiting, detail.as_object_mut()) {
            detail.insert("waiting".to_owned(), waiting.into());
        }
        services.insert(pool.service.to_string(), detail);
    }
    let body = json!({ "status": overall(&pools), "timestamp": pages.now().to_string(), "services": services });
    answer::json(StatusCode::OK, &body, &asked)
}

fn target_detail(target: &TargetReport, admin: bool) -> Value {
    let probe = target.last_probe.as_ref().map(|probe| {
        json!({
            "at": probe.at.to_string(),
            "duration": probe.took.as_secs_f64(),
            "status_code": probe.status,
            "error": probe.error.as_deref(),
            "version": probe.version.as_deref(),
            "uptime": probe.uptime,
        })
    });
    json!({
        "target": &*target.label,
        "address": admin.then_some(&*target.address),
        "weight": admin.then_some(target.weight),
        "backup": admin.then_some(target.backup),
        "status": target.health.as_str(),
        "last_probe": probe,
        "circuit_breaker": target.circuit.as_str(),
        "circuit_breaker_failures": target.failures,
        "in_flight": target.in_flight,
        "draining": target.draining,
    })
}

/// Recent changes of health, oldest first.
pub(super) async fn history(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    let transitions: Vec<Value> = pages
        .health
        .history()
        .iter()
        .map(|change| {
            json!({
                "at": change.at.to_string(),
                "service": &*change.service,
                "target": &*change.target,
                "status": change.health.as_str(),
                "reason": change.reason.as_deref(),
            })
        })
        .collect();
    let body = json!({ "timestamp": pages.now().to_string(), "transitions": transitions });
    answer::json(StatusCode::OK, &body, &asked)
}

/// Forgets the last probes and asks for new ones; verdicts stay until those have arrived.
pub(super) async fn reset(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    pages.health.probe_now();
    let body = json!({ "message": "Nouvelle vérification demandée", "timestamp": pages.now().to_string() });
    answer::json(StatusCode::OK, &body, &asked)
}
