//! The metrics that are counted as things happen: their names, help texts and labels.

use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result,
};

/// Upper bounds of the duration histograms, in seconds.
const BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// One field per metric; docs/metrics.md says what each means.
pub(super) struct Families {
    pub(super) requests: IntCounterVec,
    pub(super) request_duration: HistogramVec,
    pub(super) rejections: IntCounterVec,
    pub(super) flagged: IntCounterVec,
    pub(super) upstream_duration: HistogramVec,
    pub(super) upstream_attempts: IntCounterVec,
    pub(super) queue_wait: HistogramVec,
    pub(super) circuit_transitions: IntCounterVec,
    pub(super) retries: IntCounterVec,
    pub(super) limit_decisions: IntCounterVec,
    pub(super) limit_rules: IntGaugeVec,
    pub(super) blocked_requests: IntCounter,
    pub(super) limit_answers: IntCounterVec,
    pub(super) limits_degraded: IntGaugeVec,
    pub(super) limits_leased: IntGaugeVec,
    pub(super) idempotency: IntCounterVec,
    pub(super) idempotency_evicted: IntCounter,
    pub(super) auth_events: IntCounterVec,
    pub(super) revocation_messages: IntCounterVec,
    pub(super) revocations_subscribed: IntGaugeVec,
    pub(super) audit_records: IntCounter,
    pub(super) audit_spooled: IntGauge,
    pub(super) audit_dropped: IntCounter,
    pub(super) config_generation: IntGauge,
    pub(super) config_successful: IntGauge,
    pub(super) config_success_at: IntGauge,
    pub(super) store_up: IntGaugeVec,
    pub(super) log_lines_dropped: IntCounter,
    pub(super) connections: IntGauge,
    pub(super) connections_refused: IntCounterVec,
    pub(super) build_info: IntGaugeVec,
}

/// Name and help text of a metric.
type Title = (&'static str, &'static str);

const REQUESTS: Title = ("gateway_requests_total", "Finished requests.");
const REQUEST_DURATION: Title =
    ("http_server_request_duration_seconds", "Time from the first byte of a request to the last byte of its answer.");
const REJECTIONS: Title = ("gateway_rejections_total", "Requests that the gateway refused, by error code.");
const FLAGGED: Title = (
    "gateway_flagged_requests_total",
    "Requests that took over 1 s (slow), ended with 5xx (server_error) or brought over 10 MiB (large_upload).",
);
const UPSTREAM_DURATION: Title =
    ("gateway_upstream_request_duration_seconds", "Time from the first try at a target to the end of its answer.");
const UPSTREAM_ATTEMPTS: Title = ("gateway_upstream_attempts_total", "Tries at targets, by how they ended.");
const QUEUE_WAIT: Title =
    ("gateway_queue_wait_seconds", "Time that requests waited for a place at a target, however the wait ended.");
const CIRCUIT_TRANSITIONS: Title =
    ("gateway_circuit_transitions_total", "Changes of the circuits of targets, by the state they went to.");
const RETRIES: Title = ("gateway_retries_total", "Retries by how they ended, and those that were not made, by why.");
const LIMIT_DECISIONS: Title = ("gateway_rate_limit_decisions_total", "Decisions of rate-limit policies.");
const LIMIT_RULES: Title =
    ("gateway_limit_rules", "Overrides of limits and blocks of networks in force, as this process knows.");
const BLOCKED_REQUESTS: Title =
    ("gateway_blocked_requests_total", "Requests refused because their address is blocked.");
const LIMIT_ANSWERS: Title = (
    "gateway_rate_limit_answers_total",
    "Requests with rate limits where replicas count together, by what answered for their policies.",
);
const LIMITS_DEGRADED: Title =
    ("gateway_rate_limit_degraded", "Whether rate limits go on without the store that replicas share.");
const LIMITS_LEASED: Title =
    ("gateway_rate_limit_leased_tokens", "Tokens of shared rate limits that this process took ahead and can spend.");
const IDEMPOTENCY: Title = ("gateway_idempotency_total", "Requests with an Idempotency-Key, by what became of them.");
const IDEMPOTENCY_EVICTED: Title =
    ("gateway_idempotency_evicted_total", "Kept answers that were given up before their time.");
const AUTH_EVENTS: Title = ("gateway_auth_events_total", "Events of accounts, sessions and tokens.");
const REVOCATION_MESSAGES: Title =
    ("gateway_revocation_messages_total", "Messages about revocations between replicas, by what became of them.");
const REVOCATIONS_SUBSCRIBED: Title =
    ("gateway_revocation_subscribed", "Whether revocations of other replicas are heard at once.");
const AUDIT_RECORDS: Title = ("gateway_audit_records_total", "Audit records added to the store by this process.");
const AUDIT_SPOOLED: Title = ("gateway_audit_spooled", "Audit entries that wait in the spool for the store.");
const AUDIT_DROPPED: Title = ("gateway_audit_dropped_total", "Audit entries that were lost.");
const CONFIG_GENERATION: Title = ("gateway_config_generation", "Generation of the route table in force.");
const CONFIG_SUCCESSFUL: Title = (
    "gateway_config_last_reload_successful",
    "Whether the last load of the route table succeeded (1) or was refused (0).",
);
const CONFIG_SUCCESS_AT: Title = (
    "gateway_config_last_reload_success_timestamp_seconds",
    "Unix time of the last load that found a good route table.",
);
const STORE_UP: Title = ("gateway_store_up", "Whether a store answered when last used.");
const LOG_LINES_DROPPED: Title =
    ("gateway_log_lines_dropped_total", "Lines of the access log and the audit trail that could not be written.");
const CONNECTIONS: Title = ("gateway_connections", "Open client connections.");
const CONNECTIONS_REFUSED: Title = ("gateway_connections_refused_total", "Client connections refused, by reason.");
const BUILD_INFO: Title = ("gateway_build_info", "Always 1; the label says which build.");

struct Desk<'r> {
    registry: &'r Registry,
    names: &'r mut Vec<String>,
}

impl Desk<'_> {
    fn keep<C: Collector + Clone + 'static>(&mut self, name: &str, made: Result<C>) -> Result<C> {
        let collector = made?;
        self.registry.register(Box::new(collector.clone()))?;
        self.names.push(name.to_owned());
        Ok(collector)
    }

    fn counters(&mut self, (name, help): Title, labels: &[&str]) -> Result<IntCounterVec> {
        self.keep(name, IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn counter(&mut self, (name, help): Title) -> Result<IntCounter> {
        self.keep(name, IntCounter::new(name, help))
    }

    fn gauges(&mut self, (name, help): Title, labels: &[&str]) -> Result<IntGaugeVec> {
        self.keep(name, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&mut self, (name, help): Title) -> Result<IntGauge> {
        self.keep(name, IntGauge::new(name, help))
    }

    fn durations(&mut self, (name, help): Title, labels: &[&str]) -> Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        self.keep(name, HistogramVec::new(options, labels))
    }
}

impl Families {
    /// Makes and registers them all, and notes their names.
    pub(super) fn register(registry: &Registry, names: &mut Vec<String>) -> Result<Families> {
        let mut desk = Desk { registry, names };
        Ok(Families {
            requests: desk.counters(REQUESTS, &["route", "method", "status"])?,
            request_duration: desk.durations(REQUEST_DURATION, &["method", "route", "status_class"])?,
            rejections: desk.counters(REJECTIONS, &["route", "code"])?,
            flagged: desk.counters(FLAGGED, &["route", "flag"])?,
            upstream_duration: desk.durations(UPSTREAM_DURATION, &["pool"])?,
            upstream_attempts: desk.counters(UPSTREAM_ATTEMPTS, &["pool", "target", "result"])?,
            queue_wait: desk.durations(QUEUE_WAIT, &["pool"])?,
            circuit_transitions: desk.counters(CIRCUIT_TRANSITIONS, &["pool", "target", "to"])?,
            retries: desk.counters(RETRIES, &["pool", "result"])?,
            limit_decisions: desk.counters(LIMIT_DECISIONS, &["policy", "decision"])?,
            limit_rules: desk.gauges(LIMIT_RULES, &["kind"])?,
            blocked_requests: desk.counter(BLOCKED_REQUESTS)?,
            limit_answers: desk.counters(LIMIT_ANSWERS, &["by"])?,
            limits_degraded: desk.gauges(LIMITS_DEGRADED, &[])?,
            limits_leased: desk.gauges(LIMITS_LEASED, &[])?,
            idempotency: desk.counters(IDEMPOTENCY, &["route", "result"])?,
            idempotency_evicted: desk.counter(IDEMPOTENCY_EVICTED)?,
            auth_events: desk.counters(AUTH_EVENTS, &["event"])?,
            revocation_messages: desk.counters(REVOCATION_MESSAGES, &["result"])?,
            revocations_subscribed: desk.gauges(REVOCATIONS_SUBSCRIBED, &[])?,
            audit_records: desk.counter(AUDIT_RECORDS)?,
            audit_spooled: desk.gauge(AUDIT_SPOOLED)?,
            audit_dropped: desk.counter(AUDIT_DROPPED)?,
            config_generation: desk.gauge(CONFIG_GENERATION)?,
            config_successful: desk.gauge(CONFIG_SUCCESSFUL)?,
            config_success_at: desk.gauge(CONFIG_SUCCESS_AT)?,
            store_up: desk.gauges(STORE_UP, &["store"])?,
            log_lines_dropped: desk.counter(LOG_LINES_DROPPED)?,
            connections: desk.gauge(CONNECTIONS)?,
            connections_refused: desk.counters(CONNECTIONS_REFUSED, &["reason"])?,
            build_info: desk.gauges(BUILD_INFO, &["version"])?,
        })
    }
}
