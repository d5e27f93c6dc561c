//! The text as Prometheus sees it, and the promise that docs/metrics.md keeps.

use std::collections::BTreeSet;

use super::*;
use crate::model::access::{Outcome, UpstreamRecord};
use crate::model::health::{Circuit, Health, PoolReport, Probe, TargetReport, Transition};

struct Seen(Vec<PoolReport>);

impl HealthView for Seen {
    fn pools(&self) -> Vec<PoolReport> {
        self.0.clone()
    }
    fn history(&self) -> Vec<Transition> {
        Vec::new()
    }
    fn probe_now(&self) {
        panic!("a scrape asks nobody");
    }
    fn first_round_done(&self) -> bool {
        true
    }
}

fn target(label: &str, health: Health, took: Option<u64>) -> TargetReport {
    TargetReport {
        label: label.into(),
        address: "192.0.2.1:5051".into(),
        health,
        last_probe: took.map(|took| Probe {
            at: Timestamp::UNIX_EPOCH,
            took: Duration::from_millis(took),
            status: Some(200),
            error: None,
            version: None,
            uptime: None,
        }),
        circuit: Circuit::HalfOpen,
        failures: 6,
        in_flight: 2,
        weight: 3,
        backup: true,
        draining: false,
    }
}

fn pools() -> Vec<PoolReport> {
    vec![
        PoolReport {
            pool: "cv-parser".into(),
            service: "cv_parser".into(),
            targets: vec![
                target("target-1", Health::Unhealthy, Some(250)),
                target("target-2", Health::Healthy, Some(125)),
            ],
            waiting: Some(7),
            panic: true,
        },
        PoolReport {
            pool: "matching".into(),
            service: "matching".into(),
            targets: vec![target("target-1", Health::Unknown, None)],
            waiting: None,
            panic: false,
        },
    ]
}

fn record<'a>(method: &'a str, status: u16, code: Option<&'static str>) -> AccessRecord<'a> {
    AccessRecord {
        started_at: Timestamp::UNIX_EPOCH,
        request_id: "rid-12345678",
        trace_id: None,
        client: None,
        method,
        route: Some("match"),
        path: "/",
        status,
        code,
        outcome: Outcome::Complete,
        bytes_in: 0,
        bytes_out: 0,
        duration: Duration::from_millis(3),
        first_byte: None,
        queue: None,
        upstream: None,
        identity: None,
        limit: None,
    }
}

fn text(metrics: &Metrics, pools: Vec<PoolReport>) -> String {
    String::from_utf8(metrics.render(&Seen(pools)).unwrap()).unwrap()
}

fn assert_has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
}

#[test]
fn a_request_is_counted_under_its_route_method_and_status() {
    let metrics = Metrics::new("1.2.3").unwrap();
    let route = metrics.route("match");
    metrics.record(&route, &record("POST", 200, None));
    metrics.record(&route, &record("POST", 200, None));
    metrics.record(&metrics.route("match"), &record("BREW", 429, Some("RATE_LIMIT_EXCEEDED")));
    metrics.record(&metrics.route(UNMATCHED), &record("GET", 999, None));
    let text = text(&metrics, Vec::new());
    assert_has(&text, r#"gateway_requests_total{method="POST",route="match",status="200"} 2"#);
    assert_has(&text, r#"gateway_requests_total{method="OTHER",route="match",status="429"} 1"#);
    assert_has(&text, r#"gateway_requests_total{method="GET",route="unmatched",status="other"} 1"#);
    assert_has(&text, r#"gateway_rejections_total{code="RATE_LIMIT_EXCEEDED",route="match"} 1"#);
    let bucket = "http_server_request_duration_seconds_bucket";
    assert_has(&text, &format!(r#"{bucket}{{method="POST",route="match",status_class="2xx",le="0.0025"}} 0"#));
    assert_has(&text, &format!(r#"{bucket}{{method="POST",route="match",status_class="2xx",le="0.005"}} 2"#));
    assert!(!text.contains("BREW"), "what a client sent became a label");
}

#[test]
fn more_statuses_than_slots_are_still_counted() {
    let metrics = Metrics::new("1.2.3").unwrap();
    let route = metrics.route("match");
    for _ in 0..2 {
        (200..240).for_each(|status| metrics.record(&route, &record("GET", status, None)));
    }
    let text = text(&metrics, Vec::new());
    for status in 200..240 {
        assert_has(&text, &format!(r#"gateway_requests_total{{method="GET",route="match",status="{status}"}} 2"#));
    }
}

#[test]
fn upstream_times_belong_to_the_pool_that_was_asked() {
    let metrics = Metrics::new("1.2.3").unwrap();
    let route = metrics.route("stats");
    for pool in ["cv-parser", "job-parser", "cv-parser"] {
        let duration = Duration::from_secs(2);
        let upstream =
            UpstreamRecord { pool, target: "192.0.2.1:1", status: Some(500), duration, attempts: 1, tried: &[] };
        let slow = AccessRecord { upstream: Some(upstream), duration, ..record("GET", 500, None) };
        metrics.record(&route, &slow);
        metrics.upstream_attempt(pool, "target-1", AttemptResult::ServerError);
    }
    let text = text(&metrics, Vec::new());
    assert_has(&text, r#"gateway_upstream_request_duration_seconds_count{pool="cv-parser"} 2"#);
    assert_has(&text, r#"gateway_upstream_request_duration_seconds_count{pool="job-parser"} 1"#);
    assert_has(&text, r#"gateway_upstream_attempts_total{pool="cv-parser",result="server_error",target="target-1"} 2"#);
    assert_has(&text, r#"gateway_flagged_requests_total{flag="slow",route="stats"} 3"#);
    assert!(!text.contains("192.0.2.1"), "an address became a label");
}

#[test]
fn gauges_say_what_was_measured_and_nothing_else() {
    let metrics = Metrics::new("1.2.3").unwrap();
    let before = text(&metrics, pools());
    for line in [
        "supersmartmatch_gateway_up 1",
        r#"supersmartmatch_service_up{service="cv_parser"} 1"#,
        r#"supersmartmatch_service_up{service="matching"} 0"#,
        r#"supersmartmatch_service_response_time{service="cv_parser"} 0.125"#,
        "supersmartmatch_gateway_health_check_duration 0.25",
        "supersmartmatch_gateway_healthy_services_ratio 0.5",
        r#"supersmartmatch_circuit_breaker_failures{service="cv_parser",target="target-1"} 6"#,
        r#"gateway_target_healthy{pool="cv-parser",target="target-1"} 0"#,
        r#"gateway_circuit_state{pool="cv-parser",target="target-2"} 1"#,
        r#"gateway_in_flight{pool="cv-parser"} 4"#,
        r#"gateway_pool_panic{pool="cv-parser"} 1"#,
        r#"gateway_pool_panic{pool="matching"} 0"#,
        r#"gateway_build_info{version="1.2.3"} 1"#,
    ] {
        assert_has(&before, line);
    }
    for invented in [
        r#"supersmartmatch_service_response_time{service="matching"}"#,
        r#"gateway_target_healthy{pool="matching""#,
        "192.0.2.1",
    ] {
        assert!(!before.contains(invented), "{invented}");
    }
    let after = text(&metrics, Vec::new());
    assert!(!after.contains("cv_parser") && !after.contains("healthy_services_ratio"), "{after}");
}

/// Every metric with at least one value.
fn everything() -> (Arc<Metrics>, String) {
    let metrics = Metrics::new("1.2.3").unwrap();
    let upstream = UpstreamRecord {
        pool: "matching",
        target: "a",
        status: None,
        duration: Duration::ZERO,
        attempts: 1,
        tried: &[],
    };
    let full = AccessRecord { upstream: Some(upstream), ..record("GET", 502, Some("BAD_GATEWAY")) };
    metrics.record(&metrics.route("match"), &full);
    metrics.upstream_attempt("matching", "target-1", AttemptResult::Timeout);
    metrics.queue_wait("matching", Duration::from_millis(30));
    metrics.retry("matching", RetryResult::Success);
    let _ = metrics.idempotency("match");
    metrics.circuit("matching", "target-1").count(Circuit::Open);
    metrics.limit("role").denied.inc();
    metrics.limit_rules().blocks.set(2);
    metrics.shared_limits().count(AnsweredBy::DeniedMemory);
    metrics.shared_limits().degraded(true);
    metrics.shared_limits().leased(7);
    metrics.auth_event(AuthEvent::LoginSuccess);
    metrics.config_loaded(3, Timestamp::UNIX_EPOCH);
    metrics.config_failed();
    metrics.store_up("identity", true);
    metrics.watch_revocations(|| RevocationState { facts: 3, staleness: Duration::from_millis(1_500) });
    metrics.watch_buckets(|| vec![BucketState { table: "policies", buckets: 5, evicted: 1 }]);
    RevocationMessage::ALL.into_iter().for_each(|result| metrics.revocation_message(result));
    metrics.revocations_subscribed(true);
    metrics.connection_refused("per_address");
    let text = text(&metrics, pools());
    (metrics, text)
}

#[test]
fn every_family_has_help_and_type() {
    let (metrics, text) = everything();
    let mut seen: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(text.lines().filter(|line| line.starts_with("# HELP ")).count() == seen.len());
    // Linux alone has these, and a sandbox may hide some of them.
    seen.retain(|name| !name.starts_with("process_"));
    let promised: BTreeSet<&str> =
        metrics.names().iter().map(String::as_str).filter(|name| !name.starts_with("process_")).collect();
    assert_eq!(seen, promised);
    assert_has(&text, r#"gateway_circuit_transitions_total{pool="matching",target="target-1",to="open"} 1"#);
    assert_has(&text, r#"gateway_circuit_transitions_total{pool="matching",target="target-1",to="half_open"} 0"#);
    assert_has(&text, r#"gateway_rate_limit_answers_total{by="denied_memory"} 1"#);
    assert_has(&text, r#"gateway_rate_limit_answers_total{by="memory"} 0"#);
    assert_has(&text, "gateway_rate_limit_degraded 1");
    assert_has(&text, "gateway_rate_limit_leased_tokens 7");
    assert_has(&text, "gateway_config_generation 3");
    assert_has(&text, "gateway_revocations 3");
    assert_has(&text, "gateway_revocation_staleness_seconds 1.5");
    assert_has(&text, "gateway_config_last_reload_successful 0");
}

#[test]
fn the_documentation_lists_exactly_the_metrics_that_exist() {
    let page = include_str!("../../../docs/metrics.md");
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|rest| rest.split_once('`'))
        .map(|(name, _)| name.split('{').next().unwrap_or_default().to_owned())
        .collect();
    let metrics = Metrics::new("1.2.3").unwrap();
    let existing: BTreeSet<String> = metrics.names().iter().cloned().collect();
    assert_eq!(documented, existing);
}

#[test]
fn the_alert_rules_use_metrics_that_exist() {
    let metrics = Metrics::new("1.2.3").unwrap();
    let existing: BTreeSet<&str> = metrics.names().iter().map(String::as_str).collect();
    let rules = include_str!("../../../conf/prometheus/alerts.yml");
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let used: BTreeSet<&str> = words
        .filter(|word| ["gateway_", "supersmartmatch_", "http_server_", "process_"].iter().any(|p| word.starts_with(p)))
        .map(|word| ["_bucket", "_count", "_sum"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word))
        .collect();
    assert!(!used.is_empty());
    let unknown: Vec<_> = used.difference(&existing).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
