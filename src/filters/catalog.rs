//! THE list of filters: which a route gets, and in which order.
//!
//! To add a filter: write its file, give it a key in `RouteSpec`, and add its line to [`chain`].

use std::sync::Arc;

use super::Filter;
use super::auth::Auth;
use super::body::{Body, BodyRules};
use super::cache_control::CacheControl;
use super::chain::Chain;
use super::idempotency::{Idempotency, Policy};
use super::ip_access::IpAccess;
use super::rate_limit::{LimitOnRoute, RateLimit, RouteNames};
use crate::accounts::{ApiKeys, Authenticator};
use crate::config::spec::{LimitUse, RevocationSpec, RevocationWord, RouteSpec, RoutesSpec};
use crate::limits::Limits;
use crate::store::IdempotencyStore;
use crate::telemetry::metrics::Metrics;

/// Process state that filters refer to; it outlives every table.
#[derive(Clone)]
pub struct FilterHandles {
    /// Verifies access tokens.
    pub authenticator: Arc<Authenticator>,
    /// Verifies API keys.
    pub api_keys: Arc<ApiKeys>,
    /// The rate limits.
    pub limits: Arc<Limits>,
    /// What is known of requests with an `Idempotency-Key`.
    pub idempotency: Arc<dyn IdempotencyStore>,
    /// Where decisions are counted.
    pub metrics: Arc<Metrics>,
}

/// The chain of one route, or why it cannot be.
pub fn chain(
    route: &RouteSpec,
    table: &RoutesSpec,
    body: &BodyRules,
    handles: &FilterHandles,
) -> Result<Chain, String> {
    let limits = route.limits.as_ref().unwrap_or(&table.defaults.limits);
    let auth = route.auth.as_ref().unwrap_or(&table.defaults.auth);
    let mut filters: Vec<Box<dyn Filter>> = Vec::new();
    if let Some(networks) = &route.allow_from {
        filters.push(Box::new(IpAccess::new(&networks.0)));
    }
    let oldest = match &route.revocation {
        Some(RevocationSpec::Bounded(bound)) => Some(bound.bounded.0),
        Some(RevocationSpec::Word(RevocationWord::Eventual)) | None => None,
    };
    if let Some(auth) = Auth::new(auth, oldest, handles.authenticator.clone(), handles.api_keys.clone()) {
        filters.push(Box::new(auth));
    }
    if !limits.is_empty() {
        filters.push(Box::new(rate_limit(limits, route, table, handles)?));
    }
    filters.push(Box::new(Body::new(body.clone())));
    let cache_control = CacheControl::new(route.cache_control.as_deref());
    filters.push(Box::new(cache_control.map_err(|error| format!("cache_control: {error}"))?));
    if let Some(spec) = &route.idempotency {
        let policy = Policy::new(spec, handles.idempotency.clone(), handles.metrics.idempotency(&route.name));
        filters.push(Box::new(Idempotency::new(policy, &route.name)));
    }
    Ok(Chain::new(filters))
}

fn rate_limit(
    uses: &[LimitUse],
    route: &RouteSpec,
    table: &RoutesSpec,
    handles: &FilterHandles,
) -> Result<RateLimit, String> {
    let named = |each: &LimitUse| {
        let (name, spec) = table.limits.get_key_value(each.policy())?;
        let (cost, metrics) = (each.cost().unwrap_or(spec.cost), handles.metrics.limit(name));
        Some(LimitOnRoute { name, spec, cost, metrics })
    };
    let policies: Vec<LimitOnRoute<'_>> = uses.iter().filter_map(named).collect();
    let names = RouteNames { route: &route.name, group: route.group.as_deref() };
    RateLimit::new(&policies, names, &table.limit_headers, handles.limits.clone()).map_err(|error| error.to_string())
}
