//! What is known about pools and their targets: measured, or absent.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// The state of one pool at one moment.
#[derive(Debug, Clone)]
pub struct PoolReport {
    /// Name of the pool in the configuration.
    pub pool: Arc<str>,
    /// Name of the service in health answers and metrics.
    pub service: Arc<str>,
    /// Its targets, in configuration order; names that resolve to several addresses give several.
    pub targets: Vec<TargetReport>,
    /// Requests that wait for a place; `None` where places are not limited.
    pub waiting: Option<u64>,
    /// Whether too few of them are available to believe it.
    pub panic: bool,
}

/// The state of one target at one moment.
#[derive(Debug, Clone)]
pub struct TargetReport {
    /// Label that says nothing about the network: `target-1`, `target-2`…
    pub label: Arc<str>,
    /// Where it is: `host:port` as configured, and the address when it differs.
    pub address: Arc<str>,
    /// Verdict of the active checks.
    pub health: Health,
    /// The last probe, when there was one.
    pub last_probe: Option<Probe>,
    /// State of its circuit.
    pub circuit: Circuit,
    /// Failures counted by its breaker since the process started.
    pub failures: u64,
    /// Requests it is working on.
    pub in_flight: u64,
    /// Its part of the requests, beside the others'.
    pub weight: u32,
    /// Whether it gets requests only while the others cannot take them.
    pub backup: bool,
    /// Whether the configuration gives it no new requests.
    pub draining: bool,
}

impl PoolReport {
    /// Whether the service can be used: at least one of its targets is healthy.
    pub fn is_healthy(&self) -> bool {
        self.targets.iter().any(|target| target.health == Health::Healthy)
    }

    /// Verdict on the service: that of its best target.
    pub fn health(&self) -> Health {
        if self.is_healthy() {
            Health::Healthy
        } else if self.targets.iter().any(|target| target.health == Health::Unhealthy) {
            Health::Unhealthy
        } else {
            Health::Unknown
        }
    }

    /// The last probe that says most about the service: of its first healthy target, else of the first one probed.
    pub fn telling_probe(&self) -> Option<&Probe> {
        let healthy = self.targets.iter().filter(|target| target.health == Health::Healthy);
        healthy.chain(&self.targets).find_map(|target| target.last_probe.as_ref())
    }

    /// How long the slowest target took to answer its last check: the length of the last round, as the checks of
    /// all targets run side by side. `None` before the first one.
    pub fn slowest_probe(pools: &[PoolReport]) -> Option<Duration> {
        let targets = pools.iter().flat_map(|pool| &pool.targets);
        targets.filter_map(|target| target.last_probe.as_ref()).map(|probe| probe.took).max()
    }

    /// Share of the services that are healthy, 0 to 1; `None` when there are none.
    pub fn healthy_ratio(pools: &[PoolReport]) -> Option<f64> {
        let healthy = pools.iter().filter(|pool| pool.is_healthy()).count();
        let counted = |n: usize| u32::try_from(n).map(f64::from).ok();
        (!pools.is_empty()).then_some(counted(healthy)? / counted(pools.len())?)
    }
}

impl Health {
    /// Its name in health answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
    }
}

/// Verdict of the active checks of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not probed yet, or its name does not resolve: gets no traffic.
    Unknown,
    /// Gets traffic.
    Healthy,
    /// Gets no traffic.
    Unhealthy,
}

/// What one probe saw.
#[derive(Debug, Clone)]
pub struct Probe {
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// What went wrong, in words without addresses.
    pub error: Option<Arc<str>>,
    /// `version` in the service's JSON answer.
    pub version: Option<Arc<str>>,
    /// `uptime` or `uptime_seconds` in the service's JSON answer, in seconds.
    pub uptime: Option<f64>,
}

/// State of a target's circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Requests pass.
    Closed,
    /// Probe requests pass, one at a time.
    HalfOpen,
    /// Nothing passes.
    Open,
}

impl Circuit {
    /// Its name in health answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Circuit::Closed => "closed",
            Circuit::HalfOpen => "half_open",
            Circuit::Open => "open",
        }
    }

    /// Its number in metrics.
    pub const fn number(self) -> i64 {
        match self {
            Circuit::Closed => 0,
            Circuit::HalfOpen => 1,
            Circuit::Open => 2,
        }
    }
}

/// One change of a target's health.
#[derive(Debug, Clone)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// Service of the pool.
    pub service: Arc<str>,
    /// Label of the target.
    pub target: Arc<str>,
    /// The new verdict.
    pub health: Health,
    /// Why, in words without addresses.
    pub reason: Option<Arc<str>>,
}

/// A view of all pools, for pages and metrics. Never asks an upstream.
pub trait HealthView: Send + Sync {
    /// Every pool of the current table.
    fn pools(&self) -> Vec<PoolReport>;
    /// Recent changes, oldest first; bounded.
    fn history(&self) -> Vec<Transition>;
    /// Forgets the last probes and asks for new ones soon; verdicts stay until they arrive.
    fn probe_now(&self);
    /// Whether every target that resolves was probed at least once.
    fn first_round_done(&self) -> bool;
}
