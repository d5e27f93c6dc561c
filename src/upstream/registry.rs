//! All pools of the process: built for each configuration, kept where it did not change, reported on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use pingora::connectors::http::Connector;
use tokio::runtime::Handle;

use super::history::History;
use super::pool::Pool;
use super::probe::Prober;
use super::resolver::{Resolve, System};
use crate::clock::Clock;
use crate::config::spec::PoolSpec;
use crate::model::health::{HealthView, PoolReport, Transition};
use crate::telemetry::metrics::Metrics;

/// The pools by name.
pub type Pools = BTreeMap<String, Arc<Pool>>;

/// One for the process.
pub struct Registry {
    runtime: Handle,
    prober: Prober,
    published: ArcSwap<Pools>,
    /// The first round is over when it was over once: a target that joins later takes no readiness away.
    published_once: AtomicBool,
    round_done: AtomicBool,
}

impl Registry {
    /// A registry without pools. Background work runs on `runtime`.
    pub fn new(clock: Clock, runtime: Handle, metrics: Arc<Metrics>) -> Arc<Registry> {
        Registry::resolving(Arc::new(System), clock, runtime, metrics)
    }

    /// A registry that looks names up with `resolver`.
    pub(super) fn resolving(
        resolver: Arc<dyn Resolve>,
        clock: Clock,
        runtime: Handle,
        metrics: Arc<Metrics>,
    ) -> Arc<Registry> {
        let connector = Arc::new(Connector::new(None));
        Arc::new(Registry {
            runtime,
            prober: Prober { clock, connector, resolver, history: Arc::new(History::default()), metrics },
            published: ArcSwap::default(),
            published_once: AtomicBool::new(false),
            round_done: AtomicBool::new(false),
        })
    }

    /// The pools of a configuration, at start and at every reload. A pool in force whose name and spec are the same
    /// is that very pool; another takes over what is known about the same targets. Its checks start at once, and
    /// end with it when it is dropped without ever being published. Never waits.
    pub fn build(&self, specs: &BTreeMap<String, PoolSpec>) -> Pools {
        let in_force = self.published.load();
        let build = |(name, spec): (&String, &PoolSpec)| {
            let earlier = in_force.get(name);
            let pool = match earlier {
                Some(same) if same.spec() == spec => same.clone(),
                _ => {
                    let pool = Arc::new(Pool::new(name, spec, earlier.map(|pool| &**pool), &self.prober));
                    pool.start(&self.runtime);
                    pool
                }
            };
            (name.clone(), pool)
        };
        specs.iter().map(build).collect()
    }

    /// Puts these pools in force, once the configuration is: they are the ones reported on and kept at the next
    /// [`Registry::build`]. Background work of the others ends; requests that still use them go on.
    pub fn publish(&self, pools: &Pools) {
        for pool in pools.values() {
            pool.start(&self.runtime);
            pool.publish();
        }
        let before = self.published.swap(Arc::new(pools.clone()));
        self.published_once.store(true, Ordering::Release);
        for (name, pool) in before.iter() {
            if !pools.get(name).is_some_and(|kept| Arc::ptr_eq(kept, pool)) {
                pool.retire();
            }
        }
    }
}

impl HealthView for Registry {
    fn pools(&self) -> Vec<PoolReport> {
        let now = self.prober.clock.now();
        self.published.load().values().map(|pool| pool.report(now)).collect()
    }

    fn history(&self) -> Vec<Transition> {
        self.prober.history.list()
    }

    fn probe_now(&self) {
        self.published.load().values().for_each(|pool| pool.probe_now());
    }

    fn first_round_done(&self) -> bool {
        if self.round_done.load(Ordering::Acquire) {
            return true;
        }
        let done = self.published_once.load(Ordering::Acquire)
            && self.published.load().values().all(|pool| pool.first_round_done());
        self.round_done.fetch_or(done, Ordering::AcqRel);
        done
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("pools", &self.published.load().keys()).finish_non_exhaustive()
    }
}
