//! The one background task of a pool: looks names up, and keeps one probing task per target. Everything it starts
//! ends with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora_load_balancing::LoadBalancer;
use tokio::task::{AbortHandle, JoinSet};

use super::balancer::Balancer;
use super::discovery::Targets;
use super::probe::{Prober, jittered};
use crate::config::spec::HealthSpec;
use crate::model::endpoint::Address;

/// What the task works on. It does not hold the pool, so the pool can end it when dropped.
pub(super) struct Keeper {
    pub(super) targets: Arc<Targets>,
    pub(super) balancer: Arc<LoadBalancer<Balancer>>,
    pub(super) prober: Prober,
    pub(super) check: Option<HealthSpec>,
    pub(super) resolve_every: Duration,
}

impl Keeper {
    /// Runs until dropped.
    pub(super) async fn run(self) {
        let mut tasks = JoinSet::new();
        let mut probing = HashMap::new();
        loop {
            // What is known already is probed while names are looked up, which may take seconds.
            self.probe(&mut tasks, &mut probing);
            self.targets.look_up(&self.prober.resolver).await;
            if let Err(error) = self.balancer.update().await {
                tracing::error!(%error, "the load balancer refused a set of targets; the earlier one stays in use");
            }
            self.probe(&mut tasks, &mut probing);
            let pause = jittered(self.resolve_every).max(Duration::from_millis(10));
            self.targets.next_lookup.store(self.prober.clock.now().after(pause).0, Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.targets.wake.notified() => {}
            }
        }
    }

    /// Starts a task for each target that has none, ends those of targets that are gone.
    fn probe(&self, tasks: &mut JoinSet<()>, probing: &mut HashMap<Address, AbortHandle>) {
        while tasks.try_join_next().is_some() {}
        let Some(check) = &self.check else { return };
        let set = self.targets.load();
        probing.retain(|addr, task| {
            let keep = set.get(addr).is_some() && !task.is_finished();
            if !keep {
                task.abort();
            }
            keep
        });
        for target in set.iter() {
            probing
                .entry(target.socket())
                .or_insert_with(|| tasks.spawn(self.prober.clone().run(target.clone(), check.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::upstream::discovery::{Configured, Discovered};
    use crate::upstream::resolver::System;
    use crate::upstream::target::{Settings, Share};
    use crate::upstream::testing::{Origin, Reply, checked, eventually, metrics, millis};
    use pingora::connectors::http::Connector;
    use pingora_load_balancing::Backends;

    fn keeper(origins: &[&Origin]) -> Keeper {
        let mut spec = checked(&[]);
        if let Some(check) = &mut spec.health {
            check.timeout = millis(60_000);
        }
        let share = Share { weight: 1, backup: false, drain: false };
        let at = |origin: &&Origin| Configured { endpoint: origin.url().parse().unwrap(), share };
        let configured: Vec<_> = origins.iter().map(at).collect();
        let clock = Clock::system();
        let settings = Arc::new(Settings::of("p", &spec, &metrics(), &Arc::default()));
        let targets = Arc::new(Targets::new(&configured, settings, clock.clone(), None));
        let backends = Backends::new(Box::new(Discovered(targets.clone())));
        Keeper {
            targets,
            balancer: Arc::new(LoadBalancer::from_backends(backends)),
            prober: Prober {
                clock,
                connector: Arc::new(Connector::new(None)),
                resolver: Arc::new(System),
                history: Arc::default(),
                metrics: metrics(),
            },
            check: spec.health,
            resolve_every: spec.resolve_every.0,
        }
    }

    #[tokio::test]
    async fn addresses_that_go_are_no_longer_probed_and_those_that_stay_have_one_prober() {
        let (goes, stays, joins) = (Origin::start().await, Origin::start().await, Origin::start().await);
        for origin in [&goes, &stays, &joins] {
            origin.script("/health", Reply::Hang);
        }
        let (mut tasks, mut probing) = (JoinSet::new(), HashMap::new());
        keeper(&[&goes, &stays]).probe(&mut tasks, &mut probing);
        eventually("both are probed", || goes.count("/health") == 1 && stays.count("/health") == 1).await;
        for _ in 0..3 {
            keeper(&[&stays, &joins]).probe(&mut tasks, &mut probing);
        }
        eventually("the new one is, the other no more", || joins.count("/health") == 1 && goes.open() == 0).await;
        assert_eq!((stays.open(), stays.count("/health"), probing.len()), (1, 1, 2));
    }
}
