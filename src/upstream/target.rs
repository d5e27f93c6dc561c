//! One address of one configured target, and the one gate that decides whether it may be used.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use pingora::upstreams::peer::HttpPeer;
use tokio::sync::Notify;

use super::attempt::Attempt;
use super::circuit::Circuit;
use super::verdict::Verdict;
use crate::clock::Tick;
use crate::config::spec::{HealthSpec, PoolSpec, TimeoutsSpec};
use crate::model::breaker::Policy;
use crate::model::endpoint::Endpoint;
use crate::model::health::TargetReport;

/// What all targets of a pool have in common.
#[derive(Debug)]
pub struct Settings {
    /// Name of the service.
    pub service: Arc<str>,
    /// The active checks, if any.
    pub health: Option<HealthSpec>,
    /// When circuits open and close.
    pub breaker: Policy,
    /// Waiting times.
    pub timeouts: TimeoutsSpec,
}

impl Settings {
    pub(super) fn of(pool: &str, spec: &PoolSpec) -> Settings {
        let service = spec.service.clone().unwrap_or_else(|| pool.replace('-', "_"));
        Settings {
            service: Arc::from(service),
            health: spec.health.clone(),
            breaker: Policy {
                failures: spec.breaker.failures,
                open_for: spec.breaker.open_for.0,
                close_after: spec.breaker.close_after,
                // A target that is silent for longer has failed: who takes longer than this is the client.
                probe_lease: spec.timeouts.read.0,
            },
            timeouts: spec.timeouts.clone(),
        }
    }
}

/// One address that requests can go to.
#[derive(Debug)]
pub struct Target {
    addr: SocketAddr,
    label: Arc<str>,
    address: Arc<str>,
    authority: HeaderValue,
    template: HttpPeer,
    settings: Arc<Settings>,
    /// Survives reloads, by identity.
    pub(super) circuit: Arc<Circuit>,
    pub(super) verdict: Verdict,
    /// When the next probe starts, as a [`Tick`].
    pub(super) next_probe: AtomicU64,
    /// Wakes its prober before its time.
    pub(super) wake: Notify,
}

impl Target {
    /// A target; `earlier` is the same one under an earlier configuration of the pool.
    pub(super) fn new(
        endpoint: &Endpoint,
        addr: SocketAddr,
        label: String,
        settings: &Arc<Settings>,
        earlier: Option<&Target>,
        now: Tick,
    ) -> Target {
        let verdict = match (&settings.health, earlier) {
            (None, _) => Verdict::unchecked(),
            (Some(_), None) => Verdict::unknown(),
            (Some(check), Some(earlier)) => {
                let same = earlier.settings.health.as_ref().is_some_and(|before| before.path == check.path);
                Verdict::inherited(&earlier.verdict, same)
            }
        };
        let (written, resolved) = (endpoint.to_string(), addr.to_string());
        let address = if written == resolved { resolved } else { format!("{written} ({resolved})") };
        Target {
            addr,
            label: Arc::from(label),
            address: Arc::from(address),
            // An endpoint is letters, digits and `-._:[]` only, so the fallback is never taken.
            authority: HeaderValue::from_str(&written).unwrap_or_else(|_| HeaderValue::from_static("")),
            template: template(addr, &settings.timeouts),
            settings: settings.clone(),
            circuit: earlier.map_or_else(|| Arc::new(Circuit::new(now)), |earlier| earlier.circuit.clone()),
            verdict,
            next_probe: AtomicU64::new(now.0),
            wake: Notify::new(),
        }
    }

    /// Label that says nothing about the network: `target-1`, `target-2`, and `target-2-2` for a second address.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Where it is, for operators: `host:port` as configured, and the address when it differs.
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// `host:port` as configured: the `Host` of requests to it.
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// The socket address.
    pub fn socket(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    pub(super) fn template(&self) -> &HttpPeer {
        &self.template
    }

    /// The availability gate: healthy, and the circuit lets the request through.
    pub(super) fn admit(self: &Arc<Self>, now: Tick) -> Option<Attempt> {
        if !self.verdict.is_healthy() {
            return None;
        }
        let admission = self.circuit.admit(&self.settings.breaker, now)?;
        Some(Attempt::new(self.clone(), admission))
    }

    /// How long until its circuit lets a request through; zero when it does, or when that is not known.
    pub(super) fn circuit_wait(&self, now: Tick) -> Duration {
        self.circuit.wait(&self.settings.breaker, now).unwrap_or_default()
    }

    /// How long until its next probe.
    pub(super) fn probe_wait(&self, now: Tick) -> Duration {
        Tick(self.next_probe.load(Ordering::Relaxed)).since(now)
    }

    pub(super) fn report(&self, now: Tick) -> TargetReport {
        TargetReport {
            label: self.label.clone(),
            address: self.address.clone(),
            health: self.verdict.health(),
            last_probe: self.verdict.last_probe(),
            circuit: self.circuit.state(&self.settings.breaker, now),
            failures: self.circuit.failures(),
            in_flight: self.circuit.in_flight(),
        }
    }
}

/// What connections to the target need: every one of Pingora's five timeouts, none of which has a default.
fn template(addr: SocketAddr, timeouts: &TimeoutsSpec) -> HttpPeer {
    let mut peer = HttpPeer::new(addr, false, String::new());
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect.0);
    options.total_connection_timeout = Some(timeouts.connect.0);
    options.read_timeout = Some(timeouts.read.0);
    options.write_timeout = Some(timeouts.write.0);
    options.idle_timeout = Some(timeouts.idle.0);
    peer
}
