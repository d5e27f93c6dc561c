//! Rate limits: who may ask how often. Owns the state that outlives every table: buckets of this process, what is shared
//! with other replicas, and what operators decided about single users and addresses.
//!
//! `filters::rate_limit` says which policies a request must pass and tells clients about them; here they are decided.

mod blocks;
mod buckets;
pub mod flood_guard;
mod in_flight;
mod kept;
mod leases;
pub mod operators;
mod overrides;
mod packed;
mod policy;
mod quotas;
mod rules;
mod shard;
mod shared;
mod subject;
mod verdict;

pub use blocks::Blocks;
pub use buckets::Buckets;
pub use in_flight::{InFlight, Place};
pub use kept::{KeptLimits, UnusableLimits};
pub use overrides::{Overrides, OwnOverrides};
pub use policy::{Policy, Reach};
pub use rules::Rules;
pub use subject::{Key, Slot, Subject};
pub use verdict::{Check, Verdict};

use std::sync::Arc;

use tokio::runtime::Handle;

use self::shared::Shared;
use crate::clock::{Clock, Tick};
use crate::config::spec::Sharing;
use crate::model::gcra::Quota;
use crate::model::lease;
use crate::store::SharedLimits;
use crate::telemetry::metrics::{AnsweredBy, SharedLimitMetrics};

/// The rate limits of the process.
#[derive(Debug)]
pub struct Limits {
    buckets: Buckets,
    rules: Arc<Rules>,
    /// Where replicas count together.
    shared: Option<Arc<Shared>>,
    in_flight: InFlight,
}

impl Limits {
    /// Limits that this process counts alone, with at most `max_buckets` buckets.
    pub fn local(max_buckets: usize) -> Limits {
        Limits {
            buckets: Buckets::new(max_buckets),
            in_flight: InFlight::default(),
            rules: Arc::default(),
            shared: None,
        }
    }

    /// Limits that replicas count together in `store`, but for those policies that say otherwise. There are at least
    /// `replicas` of them, this one included; while the store does not answer, each admits its share.
    pub fn shared(
        max_buckets: usize,
        store: Arc<dyn SharedLimits>,
        replicas: u32,
        metrics: SharedLimitMetrics,
        clock: Clock,
    ) -> Limits {
        let shared = Some(Arc::new(Shared::new(store, replicas, metrics, clock)));
        Limits { buckets: Buckets::new(max_buckets), in_flight: InFlight::default(), rules: Arc::default(), shared }
    }

    /// Watches the shared store for as long as `runtime` lives. Without, a store that went away is never asked again.
    pub fn watch_store(&self, runtime: &Handle) {
        if let Some(shared) = &self.shared {
            runtime.spawn(shared::watch(shared.clone()));
            runtime.spawn(shared::sweep_leases(shared.clone()));
        }
    }

    /// Whether replicas count together.
    pub fn are_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// The quota of the buckets of a policy that is shared so, when this is what its requests may take. Where replicas take
    /// tokens ahead it is a little smaller ([`lease::shared`]).
    pub fn quota_of(&self, sharing: Sharing, quota: Quota) -> Quota {
        if self.are_shared() && sharing == Sharing::Lease { lease::shared(quota) } else { quota }
    }

    /// The buckets of this process.
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// What operators decided about single users and addresses.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// The requests in flight in this process.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Decides a request by policies that are all counted in this process. `None` when there is no check at all.
    pub fn decide_here<'p>(&self, now: Tick, checks: impl IntoIterator<Item = Check<'p>>) -> Option<Verdict> {
        if let Some(shared) = &self.shared {
            shared.metrics.count(AnsweredBy::Memory);
        }
        self.buckets.decide_all(now, checks)
    }

    /// Decides a request by all its policies at once, wherever each is counted. `None` when there is no check at all.
    pub async fn decide(&self, now: Tick, checks: &[Check<'_>]) -> Option<Verdict> {
        match &self.shared {
            Some(shared) if !checks.is_empty() => Some(shared.decide(&self.buckets, now, checks).await),
            _ => self.buckets.decide_all(now, checks.iter().copied()),
        }
    }
}
