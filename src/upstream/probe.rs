//! The active checks of one target: one task, one probe after the other. Writes verdicts, routes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use pingora::Result;
use pingora::connectors::http::Connector;
use serde_json::Value;

use super::client::{Answer, Get};
use super::connection;
use super::history::History;
use super::outcome::words;
use super::resolver::Resolve;
use super::target::Target;
use crate::clock::Clock;
use crate::config::spec::HealthSpec;
use crate::model::health::{Health, Probe, Transition};
use crate::telemetry::metrics::Metrics;

/// More of a probe's answer is not read.
const MAX_BODY: usize = 64 << 10;
/// A longer version is not believed to be one.
const MAX_VERSION: usize = 64;
/// Between two probes, however long the first took.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::USER_AGENT, HeaderValue::from_static("ssm-gateway-health")),
    (header::ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5")),
    (header::CONNECTION, HeaderValue::from_static("close")),
];

/// What probing needs; one for the whole process.
#[derive(Clone)]
pub(super) struct Prober {
    pub(super) clock: Clock,
    pub(super) connector: Arc<Connector>,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) history: Arc<History>,
    pub(super) metrics: Arc<Metrics>,
}

impl Prober {
    /// Probes `target` until dropped: at once, then every `check.every` ± 10 %, or when woken.
    pub(super) async fn run(self, target: Arc<Target>, check: HealthSpec) {
        loop {
            let started = self.clock.now();
            let (probe, passed) = self.once(&target, &check).await;
            let reason = probe.error.clone();
            let before = target.verdict.health();
            if let Some(health) = target.verdict.observe(probe, passed, check.rise, check.fall) {
                if health == Health::Healthy {
                    target.came_up(before, self.clock.now());
                }
                self.history.record(Transition {
                    at: self.clock.wall(),
                    service: target.settings().service.clone(),
                    target: target.label().clone(),
                    health,
                    reason,
                });
            }
            let now = self.clock.now();
            if passed && target.verdict.is_healthy() {
                target.check_passed(now);
            }
            let pause = jittered(check.every.0).saturating_sub(now.since(started)).max(SHORTEST_PAUSE);
            target.next_probe.store(now.after(pause).0, Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = target.wake.notified() => {}
            }
        }
    }

    async fn once(&self, target: &Target, check: &HealthSpec) -> (Probe, bool) {
        let started = self.clock.now();
        let asked = tokio::time::timeout(check.timeout.0, self.ask(target, check)).await;
        let mut probe = Probe {
            at: self.clock.wall(),
            took: self.clock.now().since(started),
            status: None,
            error: None,
            version: None,
            uptime: None,
        };
        match asked {
            Err(_) => probe.error = Some(Arc::from(format!("no answer within {}", check.timeout))),
            Ok(Err(error)) => probe.error = Some(Arc::from(words(&error))),
            Ok(Ok(None)) => {}
            Ok(Ok(Some(answer))) => {
                probe.status = Some(answer.status);
                (probe.version, probe.uptime) = about(&answer);
                if !check.passes(answer.status) {
                    probe.error = Some(Arc::from(format!("status {}", answer.status)));
                }
            }
        }
        let passed = probe.error.is_none();
        (probe, passed)
    }

    /// Asks for the path of the check, over whatever the target's requests go over; only connects when there is none.
    async fn ask(&self, target: &Target, check: &HealthSpec) -> Result<Option<Answer>> {
        let Some(path) = &check.path else {
            return connection::open(&target.socket()).await.map(|()| None);
        };
        let peer = connection::for_probe(target.template());
        let get = Get { peer: &peer, host: target.authority(), path, headers: &HEADERS, max_body: MAX_BODY };
        get.once(&self.connector).await.map(Some)
    }
}

/// What the service says about itself, when it answers with a JSON object.
fn about(answer: &Answer) -> (Option<Arc<str>>, Option<f64>) {
    let Some(Ok(Value::Object(said))) = answer.body.as_deref().map(serde_json::from_slice::<Value>) else {
        return (None, None);
    };
    let version = said.get("version").and_then(Value::as_str).filter(|text| text.len() <= MAX_VERSION).map(Arc::from);
    let uptime = ["uptime", "uptime_seconds"].iter().find_map(|key| said.get(*key).and_then(Value::as_f64));
    (version, uptime.filter(|seconds| *seconds >= 0.0))
}

/// `every` ± 10 %, so that targets and replicas do not probe in step.
pub(super) fn jittered(every: Duration) -> Duration {
    every.saturating_mul(rand::random_range(900..=1_100)) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn version_and_uptime_are_read_or_absent() {
        for (body, version, uptime) in [
            (r#"{"version":"2.1","uptime":12.5}"#, Some("2.1"), Some(12.5)),
            (r#"{"version":3,"uptime":"long","uptime_seconds":7}"#, None, Some(7.0)),
            (r#"{"uptime":-1}"#, None, None),
            ("[1]", None, None),
            ("ok", None, None),
        ] {
            let answer = Answer {
                status: 200,
                content_type: None,
                retry_after: None,
                body: Some(Bytes::from_static(body.as_bytes())),
            };
            assert_eq!(about(&answer), (version.map(Arc::from), uptime), "{body}");
        }
    }

    #[test]
    fn jitter_is_a_tenth_at_most() {
        for _ in 0..1_000 {
            let pause = jittered(Duration::from_secs(10));
            assert!((9_000..=11_000).contains(&pause.as_millis()), "{pause:?}");
        }
    }
}
