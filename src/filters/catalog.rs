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
use super::rate_limit::buckets::Buckets;
use super::rate_limit::{LimitObserver, RateLimit};
use crate::accounts::{ApiKeys, Authenticator};
use crate::config::spec::{LimitSpec, RevocationSpec, RevocationWord, RouteSpec, RoutesSpec};
use crate::store::IdempotencyStore;
use crate::telemetry::metrics::{LimitMetrics, Metrics};

/// Process state that filters refer to; it outlives every table.
#[derive(Clone)]
pub struct FilterHandles {
    /// Verifies access tokens.
    pub authenticator: Arc<Authenticator>,
    /// Verifies API keys.
    pub api_keys: Arc<ApiKeys>,
    /// Buckets of the rate limits.
    pub buckets: Arc<Buckets>,
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
    names: &[String],
    route: &RouteSpec,
    table: &RoutesSpec,
    handles: &FilterHandles,
) -> Result<RateLimit, String> {
    let policies: Vec<(&str, &LimitSpec)> =
        names.iter().filter_map(|name| Some((name.as_str(), table.limits.get(name)?))).collect();
    let counters = policies.iter().map(|(name, _)| handles.metrics.limit(name)).collect();
    let observer = Arc::new(Counted(counters));
    RateLimit::new(&policies, &route.name, handles.buckets.clone(), Some(observer)).map_err(|error| error.to_string())
}

/// Counts the decisions of a route's policies.
struct Counted(Vec<LimitMetrics>);

impl LimitObserver for Counted {
    fn decided(&self, policy: usize, allowed: bool) {
        if let Some(counters) = self.0.get(policy) {
            if allowed { counters.allowed.inc() } else { counters.denied.inc() }
        }
    }
}
