//! The choice among a pool's targets, in the form of Pingora's [`BackendSelection`]: the algorithm, compiled for one
//! version of the set. Who may be used is not asked here.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};

use super::discovery::Targets;
use super::target::Target;
use crate::clock::Tick;
use crate::model::balance::{Algorithm, Ask, Member, Order, Plan, Turns};

/// Whose turn it is; shared by all versions of a pool's set.
pub(super) type Position = Arc<Turns>;

/// What versions of the set are compiled from.
pub(super) struct Recipe {
    pub(super) algorithm: Algorithm,
    pub(super) targets: Arc<Targets>,
    pub(super) position: Position,
}

/// One version of the set.
pub(super) struct Balancer {
    plan: Plan<Seat>,
    position: Position,
}

/// A target as Pingora knows it, and as we do.
struct Seat {
    backend: Backend,
    target: Arc<Target>,
}

impl BackendSelection for Balancer {
    type Iter = Candidates;
    type Config = Recipe;

    fn build_with_config(backends: &BTreeSet<Backend>, recipe: &Recipe) -> Self {
        let set = recipe.targets.load();
        let mut by_token: HashMap<usize, &Arc<Target>> = set.iter().map(|target| (target.token(), target)).collect();
        let seats = backends.iter().filter_map(|backend| {
            Some(Seat { backend: backend.clone(), target: by_token.remove(&backend.weight)?.clone() })
        });
        // Whoever drains has no part in the balance, whatever else is known of it.
        let (backup, primary) =
            seats.filter(|seat| !seat.target.share().drain).partition(|seat| seat.target.share().backup);
        Balancer { plan: Plan::new(recipe.algorithm, primary, backup), position: recipe.position.clone() }
    }

    /// Without a recipe there are no targets. Pools give one always.
    fn build(_backends: &BTreeSet<Backend>) -> Self {
        Balancer { plan: Plan::new(Algorithm::default(), Vec::new(), Vec::new()), position: Position::default() }
    }

    /// `key` is an [`Ask`].
    fn iter(self: &Arc<Self>, key: &[u8]) -> Candidates {
        Candidates { balancer: self.clone(), order: Order::new(Ask::from_bytes(key)) }
    }
}

/// The order in which one request asks the targets: every one comes up once.
pub(super) struct Candidates {
    balancer: Arc<Balancer>,
    order: Order,
}

impl BackendIter for Candidates {
    fn next(&mut self) -> Option<&Backend> {
        let position = self.order.next(&self.balancer.plan, &self.balancer.position)?;
        self.balancer.plan.member(position).map(|seat| &seat.backend)
    }
}

impl Member for Seat {
    fn weight(&self) -> u32 {
        self.target.share().weight
    }

    fn permille(&self, now: Tick) -> u32 {
        self.target.memory().ramp.permille(self.target.settings().slow_start, now)
    }

    fn in_flight(&self) -> u64 {
        self.target.memory().load.in_flight()
    }

    fn latency(&self, now: Tick) -> Option<f64> {
        self.target.memory().load.latency(now)
    }

    fn identity(&self) -> u64 {
        self.target.identity()
    }
}
