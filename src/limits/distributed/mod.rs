//! Limits that replicas count together. One question to the shared store decides by all such policies of a request;
//! what the store refused is remembered, and while it does not answer each policy says how to go on.
//!
//! Whatever is counted in this process is charged first and given back when the store refuses: a request takes either
//! all its tokens or none.

mod denial_cache;
mod health;
mod shared_checks;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use self::denial_cache::DenialCache;
use self::health::Health;
use self::shared_checks::SharedChecks;
pub(super) use self::watch::{sweep_leases, watch};
use super::leases::Leases;
use super::{Buckets, Check, Few, Key, SharedCounting, Verdict};
use crate::clock::{Clock, Tick};
use crate::config::spec::OnStoreFailure;
use crate::model::gcra::{Decision, Outcome};
use crate::store::{BucketStore, Charge, Found, SharedBucket, StoreError};
use crate::telemetry::metrics::{AnsweredBy, SharedLimitMetrics};

/// The wait that is told to those whom `on_store_failure: deny` refuses: nobody knows the true one.
const DENIED_WAIT: Duration = Duration::from_secs(1);

/// What this process knows about limits that it does not count alone.
pub(super) struct Distributed {
    store: Arc<dyn BucketStore>,
    denied: DenialCache,
    leases: Leases,
    clock: Clock,
    health: Health,
    replicas: Replicas,
    pub(super) metrics: SharedLimitMetrics,
}

/// How many replicas there are, as far as is known.
#[derive(Debug)]
struct Replicas {
    /// There are at least so many.
    configured: u32,
    /// As many as the store counted last.
    seen: AtomicU32,
}

impl Replicas {
    fn count(&self) -> u32 {
        self.configured.max(self.seen.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Distributed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distributed")
            .field("replicas", &self.replicas)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

impl Distributed {
    pub(super) fn new(
        store: Arc<dyn BucketStore>,
        replicas: u32,
        metrics: SharedLimitMetrics,
        clock: Clock,
    ) -> Distributed {
        let health = Health::new(metrics.clone());
        let (denied, leases) = (DenialCache::new(), Leases::new());
        let replicas = Replicas { configured: replicas.max(1), seen: AtomicU32::new(0) };
        Distributed { store, denied, leases, clock, health, replicas, metrics }
    }

    /// How long ago `earlier` is.
    pub(super) fn since(&self, earlier: Tick) -> Duration {
        self.clock.now().since(earlier)
    }

    /// Decides a request by all its policies, of which at least one is shared. `None`: as [`Buckets::decide_all`].
    pub(super) async fn decide(
        self: &Arc<Self>,
        buckets: &Buckets,
        now: Tick,
        checks: &[Check<'_>],
    ) -> Option<Verdict> {
        let remembered = self.denied.verdict(now, checks);
        let local_checks: Few<Check<'_>> = checks.iter().filter(|check| !check.policy.is_shared()).copied().collect();
        // Nothing is charged here when a refusal is remembered.
        let without_asking = buckets.decide_rest(remembered, now, &local_checks)?;
        if !without_asking.is_allowed() {
            let by = if remembered.is_allowed() { AnsweredBy::Memory } else { AnsweredBy::DeniedMemory };
            self.metrics.count(by);
            return Some(without_asking);
        }
        let shared_checks = SharedChecks::new(self, checks);
        let (by, answered) = if shared_checks.are_paid() {
            (AnsweredBy::Lease, Verdict::OPEN)
        } else {
            match self.ask(now, &shared_checks).await {
                Some(answer) => (AnsweredBy::Redis, answer),
                None => (AnsweredBy::Fallback, self.fall_back(buckets, now, &shared_checks)?),
            }
        };
        self.metrics.count(by);
        let verdict = without_asking.and(answered);
        if verdict.is_allowed() {
            return Some(shared_checks.passed(self, verdict));
        }
        for check in local_checks.iter().filter(|check| !verdict.refuses(check.index)) {
            buckets.give_back(now, check);
        }
        Some(shared_checks.refused(self, verdict))
    }

    /// What the store keeps of these buckets, by their names; `None` for each that is full.
    pub(super) async fn peek(&self, buckets: &[String]) -> Result<Vec<Option<SharedBucket>>, StoreError> {
        if buckets.is_empty() { Ok(Vec::new()) } else { self.store.peek(buckets).await }
    }

    /// Makes these buckets full in the store, and forgets that they were not; answers how they were.
    pub(super) async fn reset(
        &self,
        buckets: &[String],
        keys: &[Key],
    ) -> Result<Vec<Option<SharedBucket>>, StoreError> {
        let kept = if buckets.is_empty() { Vec::new() } else { self.store.reset(buckets).await? };
        keys.iter().for_each(|key| self.denied.forget(*key));
        Ok(kept)
    }

    /// Asks the shared store about what no lease paid for. `None` when it does not answer, or is not asked because it did
    /// not lately.
    async fn ask(&self, now: Tick, shared_checks: &SharedChecks<'_, '_>) -> Option<Verdict> {
        let found = self.charge(&shared_checks.charges()).await;
        if found.is_none() {
            shared_checks.unanswered(self);
        }
        Some(shared_checks.read(self, now, &found?))
    }

    async fn charge(&self, charges: &[Charge]) -> Option<Vec<Found>> {
        if self.health.is_degraded() {
            return None;
        }
        match self.store.charge(charges).await {
            Ok(found) => {
                self.health.answered();
                Some(found)
            }
            Err(error) => {
                self.health.failed(&error, self.store.is_up());
                None
            }
        }
    }

    /// Decides as each policy says about a store that does not answer.
    fn fall_back(&self, buckets: &Buckets, now: Tick, shared_checks: &SharedChecks<'_, '_>) -> Option<Verdict> {
        let denied = Decision { outcome: Outcome::Denied(DENIED_WAIT), remaining: 0, reset_after: DENIED_WAIT };
        let verdict = shared_checks
            .unpaid()
            .filter(|(_, shared)| shared.on_store_failure == OnStoreFailure::Deny)
            .fold(Verdict::OPEN, |verdict, (check, _)| verdict.with(check, denied));
        if !verdict.is_allowed() {
            return Some(verdict);
        }
        let replicas = self.replicas.count();
        let local = shared_checks.unpaid().filter(|(_, shared)| shared.on_store_failure == OnStoreFailure::Local);
        let checks: Few<Check<'_>> = local.map(|(check, shared)| fallback_check(check, shared, replicas)).collect();
        buckets.decide_all(now, &checks).map(|local| verdict.and(local))
    }
}

/// A shared policy as this process counts it alone, as one of `replicas`; each lets at least one request pass.
fn fallback_check<'p>(check: &Check<'p>, shared: &'p SharedCounting, replicas: u32) -> Check<'p> {
    let quota = check.quota.share_of(replicas);
    let cost = check.cost.min(u32::try_from(quota.capacity()).unwrap_or(u32::MAX));
    Check { policy: &shared.fallback, quota, cost, ..*check }
}

#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod tests;
