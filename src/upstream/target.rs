//! One address of one configured target, and what is known of it. Whether it may be used is the gate's to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use pingora::upstreams::peer::HttpPeer;
use tokio::sync::Notify;

use super::connection::Transport;
use super::discovery::Configured;
use super::ejection::{Ejections, Turn};
use super::memory::TargetMemory;
use super::verdict::Verdict;
use crate::clock::Tick;
use crate::config::spec::{
    BalanceSpec, BalanceWord, ConcurrencySpec, HealthSpec, PanicSpec, PoolSpec, RetriesSpec, StatusesSpec, TargetSpec,
    TimeoutsSpec,
};
use crate::model::balance::{self, Algorithm};
use crate::model::breaker::Policy;
use crate::model::endpoint::Address;
use crate::model::health::{Circuit, Health, TargetReport};
use crate::model::retry::{self, Backoff};
use crate::telemetry::metrics::{CircuitMetrics, Metrics};

/// What all targets of a pool have in common.
#[derive(Debug)]
pub struct Settings {
    /// Name of the pool.
    pub pool: Arc<str>,
    /// Name of the service.
    pub service: Arc<str>,
    /// The active checks, if any.
    pub health: Option<HealthSpec>,
    /// When circuits open and close.
    pub breaker: Policy,
    /// How targets are chosen.
    pub algorithm: Algorithm,
    /// How long a target that comes back or joins takes to get its whole share.
    pub slow_start: Duration,
    /// When requests are tried again.
    pub retries: retry::Policy,
    /// Statuses that are failures.
    pub failing: StatusesSpec,
    /// How many circuits may be out of use.
    pub ejections: Ejections,
    /// What happens when too few targets are available.
    pub panic: PanicSpec,
    /// Waiting times.
    pub timeouts: TimeoutsSpec,
    /// How many requests targets get at a time, if that is limited.
    pub concurrency: Option<ConcurrencySpec>,
    /// How targets are reached.
    pub transport: Transport,
    /// Where events of targets are counted.
    pub metrics: Arc<Metrics>,
}

impl Settings {
    /// `turn` is the pool's, whatever its configuration.
    pub(super) fn of(pool: &str, spec: &PoolSpec, metrics: &Arc<Metrics>, turn: &Turn) -> Settings {
        let service = spec.service.clone().unwrap_or_else(|| pool.replace('-', "_"));
        Settings {
            pool: Arc::from(pool),
            service: Arc::from(service),
            health: spec.health.clone(),
            breaker: policy(spec),
            retries: retry_policy(&spec.retries),
            failing: spec.breaker.statuses.clone(),
            ejections: Ejections::new(spec.breaker.max_ejected, turn.clone()),
            panic: spec.panic,
            algorithm: algorithm(&spec.balance),
            slow_start: spec.slow_start.0,
            timeouts: spec.timeouts.clone(),
            concurrency: spec.concurrency.clone(),
            transport: Transport::of(spec),
            metrics: metrics.clone(),
        }
    }
}

fn algorithm(spec: &BalanceSpec) -> Algorithm {
    match spec {
        BalanceSpec::Word(BalanceWord::RoundRobin) => Algorithm::RoundRobin,
        BalanceSpec::Word(BalanceWord::LeastRequest) => Algorithm::LeastRequest,
        BalanceSpec::Word(BalanceWord::PeakEwma) => Algorithm::PeakEwma,
        BalanceSpec::Word(BalanceWord::Random) => Algorithm::Random,
        BalanceSpec::Hash(_) => Algorithm::ConsistentHash,
    }
}

fn retry_policy(spec: &RetriesSpec) -> retry::Policy {
    retry::Policy {
        max: spec.max,
        statuses: spec.statuses.clone(),
        backoff: Backoff { first: spec.backoff.0, longest: spec.longest_backoff.0 },
        share: retry::Share { percent: spec.budget, floor: spec.floor },
        replay: spec.replay.0,
    }
}

fn policy(spec: &PoolSpec) -> Policy {
    let breaker = &spec.breaker;
    Policy {
        failures: breaker.failures,
        success_percent: breaker.success_percent,
        min_requests: breaker.min_requests,
        window: breaker.window.0,
        open_for: breaker.open_for.0,
        longest_open: breaker.longest_open.0,
        close_after: breaker.close_after,
        // A target that is silent for longer has failed: who takes longer than this is the client.
        probe_lease: spec.timeouts.read.0,
    }
}

/// What a configuration says about a target's part in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Its part of the requests, beside the others'.
    pub weight: u32,
    /// Whether it gets requests only while the others cannot take them.
    pub backup: bool,
    /// Whether it gets no new requests.
    pub drain: bool,
}

impl Share {
    pub(super) fn of(spec: &TargetSpec) -> Share {
        Share { weight: spec.weight, backup: spec.backup, drain: spec.drain }
    }
}

/// What there was before a target was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Earlier<'t> {
    /// The same target under an earlier configuration of the pool.
    pub(super) target: Option<&'t Target>,
    /// Whether other targets of the pool get traffic already.
    pub(super) serves: bool,
}

/// One address that requests can go to.
#[derive(Debug)]
pub struct Target {
    addr: Address,
    label: Arc<str>,
    address: Arc<str>,
    authority: HeaderValue,
    template: HttpPeer,
    share: Share,
    /// Its number for hashing.
    identity: u64,
    settings: Arc<Settings>,
    /// Whether the others got traffic already when it came.
    joined: bool,
    /// Survives reloads, by identity.
    memory: Arc<TargetMemory>,
    pub(super) verdict: Verdict,
    transitions: CircuitMetrics,
    /// When the next probe starts, as a [`Tick`].
    pub(super) next_probe: AtomicU64,
    /// Wakes its prober before its time.
    pub(super) wake: Notify,
}

impl Target {
    /// A target, with what is known of it from before.
    pub(super) fn new(
        configured: &Configured,
        addr: Address,
        label: String,
        settings: &Arc<Settings>,
        earlier: Earlier<'_>,
        now: Tick,
    ) -> Target {
        let Earlier { target: earlier, serves } = earlier;
        let verdict = match (&settings.health, earlier) {
            (None, _) => Verdict::unchecked(),
            (Some(_), None) => Verdict::unknown(),
            (Some(check), Some(earlier)) => {
                let same = earlier.settings.health.as_ref().is_some_and(|before| before.asks_the_same(check))
                    && earlier.settings.transport.is(&settings.transport);
                Verdict::inherited(&earlier.verdict, same)
            }
        };
        let (written, resolved) = (configured.endpoint.to_string(), addr.to_string());
        let memory = earlier.map_or_else(|| TargetMemory::new(now), |earlier| earlier.memory.clone());
        let comes_back = earlier.is_some_and(|earlier| earlier.share.drain) && !configured.share.drain;
        if serves && (comes_back || earlier.is_none() && settings.health.is_none()) {
            memory.ramp.start(now);
        }
        let address = if written.ends_with(&resolved) { written } else { format!("{written} ({resolved})") };
        let authority = configured.endpoint.authority();
        Target {
            template: settings.transport.template(&configured.endpoint, &addr, &settings.timeouts),
            transitions: settings.metrics.circuit(&settings.pool, &label),
            addr,
            label: Arc::from(label),
            address: Arc::from(&*address),
            // An endpoint is letters, digits and `-._:[]` only, so the fallback is never taken.
            authority: HeaderValue::from_str(&authority).unwrap_or_else(|_| HeaderValue::from_static("")),
            share: configured.share,
            identity: balance::identity(&address),
            settings: settings.clone(),
            joined: earlier.map_or(serves, |earlier| earlier.joined),
            memory,
            verdict,
            next_probe: AtomicU64::new(now.0),
            wake: Notify::new(),
        }
    }

    /// Label that says nothing about the network: `target-1`, `target-2`, and `target-2-2` for a second address.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Where it is, for operators: as configured (`host:port` over plain TCP), and the address when it differs.
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// `host:port` as configured, `localhost` for a Unix socket: the `Host` of requests to it.
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// Where to connect.
    pub fn socket(&self) -> Address {
        self.addr.clone()
    }

    pub(super) fn share(&self) -> Share {
        self.share
    }

    /// Its number for hashing: made of where it is, so the same in every replica.
    pub(super) fn identity(&self) -> u64 {
        self.identity
    }

    /// What tells it from every other target that is in use, another one at the same address too.
    pub(super) fn token(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    pub(super) fn memory(&self) -> &Arc<TargetMemory> {
        &self.memory
    }

    pub(super) fn template(&self) -> &HttpPeer {
        &self.template
    }

    /// Notes that its circuit changed, if it did: counted, logged, and when it closed its share begins to grow again.
    pub(super) fn changed(&self, change: Option<Circuit>, reason: &str, now: Tick) {
        let Some(state) = change else { return };
        self.transitions.count(state);
        let (service, target) = (&*self.settings.service, &*self.label);
        match state {
            Circuit::Open => tracing::warn!(service, target, reason, "circuit opened"),
            Circuit::HalfOpen => tracing::info!(service, target, reason, "circuit half-open"),
            Circuit::Closed => {
                self.memory.ramp.start(now);
                tracing::info!(service, target, reason, "circuit closed");
            }
        }
    }

    /// Notes that an active check passed: as good as a probe request while the circuit is half-open.
    pub(super) fn check_passed(&self, now: Tick) {
        self.changed(self.memory.circuit.check_passed(&self.settings.breaker, now), "check passed", now);
    }

    /// Notes that the checks found it healthy; they said `before` until now. Its share begins to grow, unless that is
    /// how the pool starts.
    pub(super) fn came_up(&self, before: Health, now: Tick) {
        if before == Health::Unhealthy || self.joined {
            self.memory.ramp.start(now);
        }
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
            circuit: self.memory.circuit.state(&self.settings.breaker, now),
            failures: self.memory.circuit.failures(),
            in_flight: self.memory.load.in_flight(),
            weight: self.share.weight,
            backup: self.share.backup,
            draining: self.share.drain,
        }
    }
}
