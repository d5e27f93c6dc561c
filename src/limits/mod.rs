//! Rate limits: who may ask how often. Owns the state that outlives every table: buckets of this process, what is shared
//! with other replicas, and what operators decided about single users and addresses.
//!
//! `filters::rate_limit` says which policies a request must pass and tells clients about them; here they are decided.

mod blocks;
mod buckets;
mod distributed;
pub mod flood_guard;
mod in_flight;
mod leases;
pub mod operators;
mod overrides;
mod packed;
mod persist;
mod policy;
mod quotas;
mod rules;
mod shard;
mod subject;
mod verdict;

pub use blocks::Blocks;
pub use buckets::Buckets;
pub use in_flight::{InFlight, InFlightPermit};
pub use overrides::{Overrides, OwnOverrides};
pub use persist::{RestoreError, SavedBuckets};
pub use policy::{Policy, PolicyOptions, Scope, SharedCounting};
pub use rules::OperatorRules;
pub use subject::{Key, ScopeId, Subject};
pub use verdict::{Check, PolicySet, Tightest, Verdict};

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::runtime::Handle;

use self::distributed::Distributed;
use crate::clock::{Clock, Tick};
use crate::model::gcra::Quota;
use crate::model::lease;
use crate::store::BucketStore;
use crate::telemetry::metrics::{AnsweredBy, SharedLimitMetrics};

/// A thing for each policy of a request; more than four are allocated.
pub type Few<T> = SmallVec<[T; 4]>;

/// The rate limits of the process.
#[derive(Debug)]
pub struct Limits {
    buckets: Buckets,
    rules: Arc<OperatorRules>,
    /// Where replicas count together.
    distributed: Option<Arc<Distributed>>,
    in_flight: InFlight,
}

impl Limits {
    /// Limits that this process counts alone, with at most `max_buckets` buckets.
    pub fn local(max_buckets: usize) -> Limits {
        Limits {
            buckets: Buckets::new(max_buckets),
            in_flight: InFlight::default(),
            rules: Arc::default(),
            distributed: None,
        }
    }

    /// The same, but replicas count together in `store`, except by those policies that say otherwise. There are at least
    /// `replicas` of them, this one included; while the store does not answer, each admits its share.
    #[must_use]
    pub fn distributed(
        self,
        store: Arc<dyn BucketStore>,
        replicas: u32,
        metrics: SharedLimitMetrics,
        clock: Clock,
    ) -> Limits {
        let distributed = Distributed::new(store, replicas, metrics, clock);
        Limits { distributed: Some(Arc::new(distributed)), ..self }
    }

    /// Watches the shared store for as long as `runtime` lives. Without, a store that went away is never asked again.
    pub fn watch_store(&self, runtime: &Handle) {
        if let Some(distributed) = &self.distributed {
            runtime.spawn(distributed::watch(distributed.clone()));
            runtime.spawn(distributed::sweep_leases(distributed.clone()));
        }
    }

    /// The quota of a policy's buckets, when this is what its requests may take. Where replicas take tokens ahead it is a
    /// little smaller ([`lease::reduced`]).
    pub fn quota_of(&self, policy: &Policy, quota: Quota) -> Quota {
        let leased = policy.shared.as_ref().is_some_and(|shared| shared.leased);
        if self.distributed.is_some() && leased { lease::reduced(quota) } else { quota }
    }

    /// The buckets of this process.
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// What operators decided about single users and addresses.
    pub fn rules(&self) -> &Arc<OperatorRules> {
        &self.rules
    }

    /// The requests in flight in this process.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// How long ago `earlier` is, where decisions may take time; else it is taken for now.
    pub fn since(&self, earlier: Tick) -> Duration {
        self.distributed.as_ref().map_or(Duration::ZERO, |distributed| distributed.since(earlier))
    }

    /// Decides a request by all its policies at once, wherever each is counted. `None`: a bucket could not be reached, which
    /// is a fault of this program.
    pub async fn decide(&self, now: Tick, checks: &[Check<'_>]) -> Option<Verdict> {
        match &self.distributed {
            Some(distributed) if checks.iter().any(|check| check.policy.is_shared()) => {
                distributed.decide(&self.buckets, now, checks).await
            }
            Some(distributed) => {
                distributed.metrics.count(AnsweredBy::Memory);
                self.buckets.decide_all(now, checks)
            }
            None => self.buckets.decide_all(now, checks),
        }
    }
}

/// Which of `shards` a hash belongs to: its upper half, as a share of them.
fn shard_index(hash: u64, shards: usize) -> usize {
    let shards = u64::try_from(shards).unwrap_or(0);
    usize::try_from(((hash >> 32) * shards) >> 32).unwrap_or(0)
}
