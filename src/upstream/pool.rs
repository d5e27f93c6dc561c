//! One upstream service: its targets, and the choice of one of them for a request.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use pingora_load_balancing::{Backends, LoadBalancer};
use tokio::task::AbortHandle;

use super::attempt::Attempt;
use super::balancer::{Balancer, Recipe};
use super::connection;
use super::demand::Demand;
use super::discovery::{Configured, Discovered, Set, Targets};
use super::gate::Passage;
use super::keeper::Keeper;
use super::memory::PoolMemory;
use super::probe::Prober;
use super::target::{Settings, Share, Target};
use crate::clock::{Clock, Tick};
use crate::config::spec::{BalanceSpec, HashKeySpec, PoolSpec};
use crate::model::balance::Ask;
use crate::model::endpoint::Endpoint;
use crate::model::health::PoolReport;
use crate::model::rejection::Rejection;

/// The shortest wait that a client is told.
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often a choice is made again because others were faster.
const DECISIONS: usize = 3;

/// One pool of one configuration. Made by [`super::Registry::build`]; its background work ends when it is dropped.
pub struct Pool {
    name: Arc<str>,
    spec: PoolSpec,
    settings: Arc<Settings>,
    targets: Arc<Targets>,
    balancer: Arc<LoadBalancer<Balancer>>,
    memory: PoolMemory,
    prober: Prober,
    keeper: Mutex<Option<AbortHandle>>,
}

impl Pool {
    /// A pool with what is known at once: literal addresses, and what `earlier`, the pool of the same name in
    /// force, knows of the same targets. Never waits.
    pub(super) fn new(name: &str, spec: &PoolSpec, earlier: Option<&Pool>, prober: &Prober) -> Pool {
        let memory = earlier.map(|pool| pool.memory.clone()).unwrap_or_default();
        let settings = Arc::new(Settings::of(name, spec, &prober.metrics, &memory.turn));
        let configured: Vec<Configured> = spec
            .targets
            .iter()
            .filter_map(|target| {
                let parsed: Result<Endpoint, _> = target.url.parse();
                if let Err(error) = &parsed {
                    tracing::error!(pool = name, target = target.url, %error, "target left out");
                }
                Some(Configured { endpoint: parsed.ok()?, share: Share::of(target) })
            })
            .collect();
        let known = earlier.map(|pool| pool.targets.load());
        let known: Option<&Set> = known.as_deref().map(|set| &**set);
        let targets = Arc::new(Targets::new(&configured, settings.clone(), prober.clock.clone(), known));
        let backends = Backends::new(Box::new(Discovered(targets.clone())));
        let recipe =
            Recipe { algorithm: settings.algorithm, targets: targets.clone(), position: memory.position.clone() };
        let balancer = LoadBalancer::<Balancer>::from_backends_with_config(backends, Some(recipe));
        // `Backends` is empty until `update()`, whose discovery never waits: one poll finishes it.
        let _ = std::pin::pin!(balancer.update()).poll(&mut Context::from_waker(Waker::noop()));
        Pool {
            name: Arc::from(name),
            spec: spec.clone(),
            settings,
            targets,
            balancer: Arc::new(balancer),
            memory,
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

    /// What requests are told apart by when a target is chosen; `None` when that does not matter.
    pub fn hash_key(&self) -> Option<&HashKeySpec> {
        match &self.spec.balance {
            BalanceSpec::Hash(hash) => Some(&hash.consistent_hash),
            BalanceSpec::Word(_) => None,
        }
    }

    /// Chooses a target for a request that must be over at `deadline`, and takes a place at it.
    ///
    /// # Errors
    /// [`Rejection::CircuitOpen`] when a circuit keeps requests from a healthy target and there is no other, with the
    /// time until the first one lets a request through; [`Rejection::ServiceUnavailable`] when checks are what keeps
    /// them away, with the time until the next probe or look-up.
    /// [`Rejection::Overloaded`] when no place became free in time, or too many wait for one already.
    pub async fn acquire(&self, demand: &Demand<'_>, clock: &Clock, deadline: Tick) -> Result<Attempt, Rejection> {
        let acquired = match &self.settings.concurrency {
            None => self.pick(demand, clock.now()),
            Some(limits) => self.memory.bulkhead.acquire(self, limits, demand, clock, deadline).await,
        };
        acquired.map(|attempt| attempt.after(demand.tried))
    }

    /// Whether requests may have to wait for a place.
    pub fn has_queue(&self) -> bool {
        self.settings.concurrency.is_some()
    }

    /// Whether all targets together may get another request, beside the `taken` places that the bulkhead knows of.
    pub(super) fn has_room(&self, taken: u64) -> bool {
        let most = self.settings.concurrency.as_ref().map_or(0, |limits| u64::from(limits.per_pool));
        // Those admitted before there was a limit hold no place, but are counted at their targets.
        let in_flight = || self.targets.load().iter().map(|target| target.memory().load.in_flight()).sum::<u64>();
        most == 0 || taken.max(in_flight()) < most
    }

    /// Why no target can be used, however many places there are; `None` when one can.
    pub(super) fn closed(&self, now: Tick) -> Option<Rejection> {
        let set = self.targets.load();
        let passage = self.passage(&set, now);
        matches!(passage, Passage::Nowhere { .. }).then(|| self.refusal(&set, passage, now))
    }

    /// Counts the time that a request waited for a place.
    pub(super) fn count_wait(&self, waited: Duration) {
        self.settings.metrics.queue_wait(&self.name, waited);
    }

    /// This pool is in force from now on: those who wait for a place look here.
    pub(super) fn publish(self: &Arc<Self>) {
        self.memory.bulkhead.publish(self);
    }

    /// Chooses the next target that may be used, one that was not tried before if there is one.
    pub(super) fn pick(&self, demand: &Demand<'_>, now: Tick) -> Result<Attempt, Rejection> {
        let set = self.targets.load();
        let mut passage = self.passage(&set, now);
        // Another request may take the last place between the decision and the choice: then both are made again.
        for _ in 0..DECISIONS {
            if let Some(attempt) = self.choose(&set, demand, passage, now) {
                return Ok(attempt);
            }
            passage = self.passage(&set, now);
        }
        Err(self.refusal(&set, passage, now))
    }

    /// Where requests may go now. Says so in the log when that begins or ends to be a panic.
    fn passage(&self, set: &Set, now: Tick) -> Passage {
        let passage = Passage::of(set.iter().map(|target| target.candidate(now)), self.settings.panic);
        let (panic, service) = (passage.is_panic(), &**self.service());
        if self.memory.panic.load(Ordering::Relaxed) != panic
            && self.memory.panic.swap(panic, Ordering::Relaxed) != panic
        {
            match panic {
                true => tracing::warn!(service, "panic: less than half of the targets is available"),
                false => tracing::info!(service, "enough targets are available again"),
            }
        }
        passage
    }

    fn choose(&self, set: &Set, demand: &Demand<'_>, passage: Passage, now: Tick) -> Option<Attempt> {
        let (tier, panic) = match passage {
            Passage::Gate(tier) => (tier, false),
            Passage::Everyone(tier) => (tier, true),
            Passage::Nowhere { .. } => return None,
        };
        let admit = |target: &Arc<Target>| if panic { target.admit_in_panic(now) } else { target.admit(now) };
        let ask = Ask { key: demand.key, now };
        let first = self.select(set, ask, |target| {
            let fits = target.tier() == tier && !demand.tried.contains(target);
            fits.then(|| admit(target)).flatten()
        });
        if first.is_some() || demand.tried.labels().is_empty() {
            return first;
        }
        // Sooner one that stands by than one that failed this very request.
        let fresh = |target: &Arc<Target>| !demand.tried.contains(target);
        let other = self.select(set, ask, |target| fresh(target).then(|| target.admit(now)).flatten());
        if demand.tried.only_others() {
            return other;
        }
        other.or_else(|| self.select(set, ask, |target| (target.tier() == tier).then(|| admit(target)).flatten()))
    }

    /// The first target, in the order of the balancing, at which `admit` takes a place. The gate is asked and the
    /// place taken in one step: two requests cannot both be the one that a half-open circuit lets through. Pingora's
    /// own idea of health is not asked, or there would be two gates.
    fn select(&self, set: &Set, ask: Ask, admit: impl Fn(&Arc<Target>) -> Option<Attempt>) -> Option<Attempt> {
        let admitted = Cell::new(None);
        let steps = set.len().saturating_add(1);
        self.balancer.select_with(&ask.to_bytes(), steps, |backend, _| {
            let address = connection::address(&backend.addr);
            let attempt = address.and_then(|address| set.get(&address)).and_then(&admit);
            let taken = attempt.is_some();
            admitted.set(attempt);
            taken
        });
        admitted.into_inner()
    }

    fn refusal(&self, set: &Set, passage: Passage, now: Tick) -> Rejection {
        let service = self.service().clone();
        match set.iter().filter_map(|target| target.circuit_wait(now)).min() {
            // The outcome of the probe request under way decides: that is not long.
            Some(Duration::ZERO) => Rejection::CircuitOpen(service, SHORTEST_RETRY_AFTER),
            Some(wait) => Rejection::CircuitOpen(service, wait),
            // The last place was taken a moment ago, and is free again.
            None if matches!(passage, Passage::Gate(_)) => Rejection::CircuitOpen(service, SHORTEST_RETRY_AFTER),
            None => Rejection::ServiceUnavailable(service, self.retry_after(now)),
        }
    }

    /// When a target that cannot be reached may be back: the next probe, or look-up where there is no probe; at
    /// least one second.
    pub fn retry_after(&self, now: Tick) -> Duration {
        let probes = || self.targets.load().iter().map(|target| target.probe_wait(now)).min();
        let next = self.settings.health.as_ref().and_then(|_| probes());
        next.unwrap_or_else(|| self.targets.lookup_wait(now)).max(SHORTEST_RETRY_AFTER)
    }

    /// Whether one of these targets could take a request now.
    pub(super) fn could_take(&self, now: Tick, which: impl Fn(&Target) -> bool) -> bool {
        let set = self.targets.load();
        let passage = self.passage(&set, now);
        let usable = |target: &Target| match (target.candidate(now), passage) {
            (_, Passage::Nowhere { .. }) => false,
            (candidate, Passage::Gate(_)) => candidate.available,
            (candidate, Passage::Everyone(tier)) => candidate.available || candidate.counts && candidate.tier == tier,
        };
        set.iter().any(|target| which(target) && usable(target))
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn memory(&self) -> &PoolMemory {
        &self.memory
    }

    pub(super) fn prober(&self) -> &Prober {
        &self.prober
    }

    pub(super) fn spec(&self) -> &PoolSpec {
        &self.spec
    }

    pub(super) fn report(&self, now: Tick) -> PoolReport {
        PoolReport {
            pool: self.name.clone(),
            service: self.service().clone(),
            targets: self.targets.reports(now),
            panic: self.passage(&self.targets.load(), now).is_panic(),
            waiting: self.settings.concurrency.as_ref().map(|_| self.memory.bulkhead.waiting()),
        }
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
