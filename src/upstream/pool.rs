//! One upstream service: its targets, and the choice of one of them for a request.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use pingora_load_balancing::{Backends, LoadBalancer};
use tokio::task::AbortHandle;

use super::attempt::Attempt;
use super::discovery::{Discovered, Set, Targets};
use super::keeper::Keeper;
use super::probe::Prober;
use super::rotation::{Position, Rotation};
use super::target::Settings;
use crate::clock::Tick;
use crate::config::spec::PoolSpec;
use crate::model::endpoint::Endpoint;
use crate::model::health::PoolReport;
use crate::model::rejection::Rejection;

/// The shortest wait that a client is told.
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);

/// One pool of one configuration. Made by [`super::Registry::build`]; its background work ends when it is dropped.
pub struct Pool {
    name: Arc<str>,
    spec: PoolSpec,
    settings: Arc<Settings>,
    targets: Arc<Targets>,
    balancer: Arc<LoadBalancer<Rotation>>,
    position: Position,
    prober: Prober,
    keeper: Mutex<Option<AbortHandle>>,
}

impl Pool {
    /// A pool with what is known at once: literal addresses, and what `earlier`, the pool of the same name in
    /// force, knows of the same targets. Never waits.
    pub(super) fn new(name: &str, spec: &PoolSpec, earlier: Option<&Pool>, prober: &Prober) -> Pool {
        let settings = Arc::new(Settings::of(name, spec));
        let endpoints: Vec<Endpoint> = spec
            .targets
            .iter()
            .filter_map(|text| {
                let parsed = text.parse();
                if let Err(error) = &parsed {
                    tracing::error!(pool = name, target = text, %error, "target left out");
                }
                parsed.ok()
            })
            .collect();
        let known = earlier.map(|pool| pool.targets.load());
        let known: Option<&Set> = known.as_deref().map(|set| &**set);
        let targets = Arc::new(Targets::new(&endpoints, settings.clone(), prober.clock.clone(), known));
        let position = earlier.map(|pool| pool.position.clone()).unwrap_or_default();
        let backends = Backends::new(Box::new(Discovered(targets.clone())));
        let balancer = LoadBalancer::<Rotation>::from_backends_with_config(backends, Some(position.clone()));
        // `Backends` is empty until `update()`, whose discovery never waits: one poll finishes it.
        let _ = std::pin::pin!(balancer.update()).poll(&mut Context::from_waker(Waker::noop()));
        Pool {
            name: Arc::from(name),
            spec: spec.clone(),
            settings,
            targets,
            balancer: Arc::new(balancer),
            position,
            prober: prober.clone(),
            keeper: Mutex::new(None),
        }
    }

    /// Name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Name in health answers, metrics and messages.
    pub fn service(&self) -> &Arc<str> {
        &self.settings.service
    }

    /// Longest silence while reading an answer, its head included.
    pub fn read_timeout(&self) -> Duration {
        self.settings.timeouts.read.0
    }

    /// Chooses the next available target.
    ///
    /// # Errors
    /// [`Rejection::ServiceUnavailable`] when none is healthy, with the time until the next probe or look-up;
    /// [`Rejection::CircuitOpen`] when there are healthy ones and none lets a request through, with the time until
    /// the first one does.
    pub fn pick(&self, now: Tick) -> Result<Attempt, Rejection> {
        let set = self.targets.load();
        let admitted = Cell::new(None);
        // The gate is asked and the place taken in one step: two requests cannot both be the one that a half-open
        // circuit lets through. Pingora's own idea of health is not asked, or there would be two gates.
        let steps = set.len().saturating_mul(2).saturating_add(1);
        self.balancer.select_with(b"", steps, |backend, _| {
            let target = backend.addr.as_inet().and_then(|addr| set.get(addr));
            let attempt = target.and_then(|target| target.admit(now));
            let taken = attempt.is_some();
            admitted.set(attempt);
            taken
        });
        admitted.into_inner().ok_or_else(|| self.refusal(&set, now))
    }

    fn refusal(&self, set: &Set, now: Tick) -> Rejection {
        let healthy = set.iter().filter(|target| target.verdict.is_healthy());
        match healthy.map(|target| target.circuit_wait(now)).min() {
            // The outcome of the probe request under way decides: that is not long.
            Some(Duration::ZERO) => Rejection::CircuitOpen(self.service().clone(), SHORTEST_RETRY_AFTER),
            Some(wait) => Rejection::CircuitOpen(self.service().clone(), wait),
            None => Rejection::ServiceUnavailable(self.service().clone(), self.retry_after(now)),
        }
    }

    /// When a target that cannot be reached may be back: the next probe, or look-up where there is no probe; at
    /// least one second.
    pub fn retry_after(&self, now: Tick) -> Duration {
        let probes = || self.targets.load().iter().map(|target| target.probe_wait(now)).min();
        let next = self.settings.health.as_ref().and_then(|_| probes());
        next.unwrap_or_else(|| self.targets.lookup_wait(now)).max(SHORTEST_RETRY_AFTER)
    }

    pub(super) fn prober(&self) -> &Prober {
        &self.prober
    }

    pub(super) fn spec(&self) -> &PoolSpec {
        &self.spec
    }

    pub(super) fn report(&self, now: Tick) -> PoolReport {
        PoolReport { pool: self.name.clone(), service: self.service().clone(), targets: self.targets.reports(now) }
    }

    pub(super) fn first_round_done(&self) -> bool {
        self.targets.first_round_done()
    }

    /// Forgets the last probes, and asks for new ones and for a new look-up.
    pub(super) fn probe_now(&self) {
        self.targets.wake.notify_one();
        for target in self.targets.load().iter().filter(|_| self.settings.health.is_some()) {
            target.verdict.forget();
            target.wake.notify_one();
        }
    }

    /// Starts the background work, unless it runs.
    pub(super) fn start(&self, runtime: &tokio::runtime::Handle) {
        let mut keeper = self.keeper.lock();
        if keeper.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let task = Keeper {
            targets: self.targets.clone(),
            balancer: self.balancer.clone(),
            prober: self.prober.clone(),
            check: self.settings.health.clone(),
            resolve_every: self.spec.resolve_every.0,
        };
        *keeper = Some(runtime.spawn(task.run()).abort_handle());
    }

    /// Ends the background work. Requests that hold the pool go on with what was known last.
    pub(super) fn retire(&self) {
        if let Some(task) = self.keeper.lock().take() {
            task.abort();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.retire();
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).finish_non_exhaustive()
    }
}
