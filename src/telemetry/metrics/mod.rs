//! The numbers: one registry of our own, handles for the request path, and the text that Prometheus reads.
//!
//! Label values come from configuration names and closed lists only, never from what a client sent. Gauges about
//! pools and targets are computed when they are scraped, from what the checks already know: a scrape
//! asks no upstream, and targets that are gone are gone from the text. Series of routes, policies and pools that a
//! reload removed stay until the process ends, as Prometheus expects of counters; their number is bounded by the
//! names that were ever configured. docs/metrics.md describes every name, and a test holds it to that.

mod auth;
mod buckets;
mod circuit;
mod families;
mod idempotency;
mod limits;
mod retries;
mod revocation;
mod route;
mod scrape;
mod slots;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, Registry, TextEncoder};
/// A counter and a gauge that others keep and move.
pub use prometheus::{IntCounter as Counter, IntGauge as Gauge};

use crate::model::access::AccessRecord;
use crate::model::health::HealthView;

pub use auth::AuthEvent;
pub use buckets::BucketState;
pub use circuit::CircuitMetrics;
use families::Families;
pub use idempotency::{IdempotencyMetrics, IdempotencyResult};
pub use limits::{AnsweredBy, LimitMetrics, SharedLimitMetrics};
pub use retries::RetryResult;
pub use revocation::{RevocationMessage, RevocationState};
pub use route::RouteMetrics;

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Route name under which requests are counted that matched no route.
pub const UNMATCHED: &str = "unmatched";

/// How one try at a target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// It answered with a status below 500.
    Success,
    /// It answered 5xx.
    ServerError,
    /// No connection could be made.
    ConnectError,
    /// It did not answer in time.
    Timeout,
    /// The connection broke before the answer was whole, or the answer was not HTTP.
    Broken,
    /// The client left first, or the gateway gave up; says nothing about the target.
    Cancelled,
    /// A kept connection was closed before a byte of an answer; says nothing about the target.
    Stale,
}

impl AttemptResult {
    /// Its name in the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            AttemptResult::Success => "success",
            AttemptResult::ServerError => "server_error",
            AttemptResult::ConnectError => "connect_error",
            AttemptResult::Timeout => "timeout",
            AttemptResult::Broken => "broken",
            AttemptResult::Cancelled => "cancelled",
            AttemptResult::Stale => "stale",
        }
    }
}

/// What operators decided about single users and addresses.
#[derive(Debug, Clone)]
pub struct LimitRuleMetrics {
    /// Overrides in force, as this process knows.
    pub overrides: Gauge,
    /// Blocks in force, as this process knows.
    pub blocks: Gauge,
}

/// Counters of the audit trail.
#[derive(Debug, Clone)]
pub struct AuditMetrics {
    /// Records added to the store by this process.
    pub records: Counter,
    /// Entries that wait in the spool.
    pub spooled: Gauge,
    /// Entries that were lost.
    pub dropped: Counter,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    names: Vec<String>,
    families: Families,
    routes: Mutex<HashMap<String, Arc<RouteMetrics>>>,
    revocations: OnceLock<revocation::Read>,
    buckets: OnceLock<buckets::Read>,
}

impl Metrics {
    /// Registers every metric of the process; `version` is the gateway's own.
    ///
    /// # Errors
    /// When two metrics have one name, or a name is malformed: a fault in this module, found at start.
    pub fn new(version: &str) -> Result<Arc<Metrics>, prometheus::Error> {
        let registry = Registry::new();
        let mut names = Vec::new();
        let families = Families::register(&registry, &mut names)?;
        // There from the start with 0, so that the first event is seen as an increase.
        for event in AuthEvent::ALL {
            families.auth_events.with_label_values(&[event.as_str()]);
        }
        for result in RevocationMessage::ALL {
            families.revocation_messages.with_label_values(&[result.as_str()]);
        }
        families.build_info.with_label_values(&[version]).set(1);
        let process = ProcessCollector::for_self();
        names.extend(prometheus::core::Collector::desc(&process).into_iter().map(|desc| desc.fq_name.clone()));
        registry.register(Box::new(process))?;
        names.extend(
            scrape::NAMES.iter().chain(&revocation::NAMES).chain(&buckets::NAMES).map(|name| (*name).to_owned()),
        );
        let routes = Mutex::default();
        let (revocations, buckets) = (OnceLock::new(), OnceLock::new());
        Ok(Arc::new(Metrics { registry, names, families, routes, revocations, buckets }))
    }

    /// Names of everything that can appear in the text.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Handles of the route `name`, the same ones for each call; [`UNMATCHED`] for requests without a route.
    /// Called when the table is compiled, not per request.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock();
        if let Some(known) = routes.get(name) {
            return known.clone();
        }
        let made = Arc::new(RouteMetrics::new(name));
        routes.insert(name.to_owned(), made.clone());
        made
    }

    /// Counts one finished request. On the request path: kept handles, no formatting.
    pub fn record(&self, route: &RouteMetrics, record: &AccessRecord<'_>) {
        route.record(&self.families, record);
    }

    /// Counts one try at a target; `target` is its label (`target-1`), not its address. On the request path: one
    /// look-up by label, about 0.1 µs beside a network exchange.
    pub fn upstream_attempt(&self, pool: &str, target: &str, result: AttemptResult) {
        self.families.upstream_attempts.with_label_values(&[pool, target, result.as_str()]).inc();
    }

    /// Counts the time that one request waited for a place in `pool`. Those that found one at once are not counted.
    pub fn queue_wait(&self, pool: &str, waited: Duration) {
        self.families.queue_wait.with_label_values(&[pool]).observe(seconds(waited));
    }

    /// Counts one retry, or one that was not made.
    pub fn retry(&self, pool: &str, result: RetryResult) {
        self.families.retries.with_label_values(&[pool, result.as_str()]).inc();
    }

    /// Counters of the circuit of a target, by its label, to be kept by the target.
    pub fn circuit(&self, pool: &str, target: &str) -> CircuitMetrics {
        CircuitMetrics::new(&self.families.circuit_transitions, pool, target)
    }

    /// Gauges of the operators' rules, to be kept by who follows them.
    pub fn limit_rules(&self) -> LimitRuleMetrics {
        let kind = |word| self.families.limit_rules.with_label_values(&[word]);
        LimitRuleMetrics { overrides: kind("override"), blocks: kind("block") }
    }

    /// The counter of requests from blocked addresses, to be kept by the proxy.
    pub fn blocked_requests(&self) -> Counter {
        self.families.blocked_requests.clone()
    }

    /// Counts one event of an account, session or token.
    pub fn auth_event(&self, event: AuthEvent) {
        self.families.auth_events.with_label_values(&[event.as_str()]).inc();
    }

    /// Where each scrape finds how full the tables of rate-limit buckets are; the first one given stays.
    pub fn watch_buckets(&self, read: impl Fn() -> Vec<BucketState> + Send + Sync + 'static) {
        let _ = self.buckets.set(Box::new(read));
    }

    /// Where each scrape finds what is known of revocations; the first one given stays.
    pub fn watch_revocations(&self, read: impl Fn() -> RevocationState + Send + Sync + 'static) {
        let _ = self.revocations.set(Box::new(read));
    }

    /// Counts what became of one message about a revocation.
    pub fn revocation_message(&self, result: RevocationMessage) {
        self.families.revocation_messages.with_label_values(&[result.as_str()]).inc();
    }

    /// This process shares revocations with others, and hears them now or does not.
    pub fn revocations_subscribed(&self, heard: bool) {
        const NONE: [&str; 0] = [];
        self.families.revocations_subscribed.with_label_values(&NONE).set(i64::from(heard));
    }

    /// Counters of the audit trail, to be kept by its writer.
    pub fn audit(&self) -> AuditMetrics {
        let Families { audit_records, audit_spooled, audit_dropped, .. } = &self.families;
        AuditMetrics { records: audit_records.clone(), spooled: audit_spooled.clone(), dropped: audit_dropped.clone() }
    }

    /// A table was published.
    pub fn config_loaded(&self, generation: u64, at: Timestamp) {
        self.families.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.families.config_successful.set(1);
        self.families.config_success_at.set(at.as_second());
    }

    /// A reload was refused; the table in force stays.
    pub fn config_failed(&self) {
        self.families.config_successful.set(0);
    }

    /// Whether what was loaded last was refused, and an earlier table is in force.
    pub fn config_is_stale(&self) -> bool {
        self.families.config_generation.get() > 0 && self.families.config_successful.get() == 0
    }

    /// Whether a store answered when it was last used; `store` is one of the program's own fixed names.
    pub fn store_up(&self, store: &'static str, up: bool) {
        self.families.store_up.with_label_values(&[store]).set(i64::from(up));
    }

    /// The counter of log lines that were dropped: the access log's and the audit trail's.
    pub fn log_lines_dropped(&self) -> Counter {
        self.families.log_lines_dropped.clone()
    }

    /// The gauge of open client connections, to be kept by the listener.
    pub fn connections(&self) -> Gauge {
        self.families.connections.clone()
    }

    /// Counts one refused connection; `reason` is one of the program's own fixed names.
    pub fn connection_refused(&self, reason: &'static str) {
        self.families.connections_refused.with_label_values(&[reason]).inc();
    }

    /// The Prometheus text format 0.0.4 of everything. Asks no upstream.
    ///
    /// # Errors
    /// When a family cannot be written; none of ours can be in that state.
    pub fn render(&self, health: &dyn HealthView) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(scrape::gather(&health.pools())?);
        if let Some(read) = self.revocations.get() {
            families.extend(revocation::gather(read())?);
        }
        if let Some(read) = self.buckets.get() {
            families.extend(buckets::gather(&read())?);
        }
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::with_capacity(64 << 10);
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("families", &self.names.len()).finish_non_exhaustive()
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests;
