//! Limits that replicas count together. One question to the shared store decides by all such policies of a request;
//! what the store refused is remembered, and while it does not answer each policy says how to go on.
//!
//! Whatever is counted in this process is charged first and given back when the store refuses: a request takes either
//! all its tokens or none.

mod denied;
mod health;
mod parts;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use self::denied::Denied;
use self::health::Health;
use self::parts::Parts;
pub(super) use self::watch::{sweep_leases, watch};
use super::leases::Leases;
use super::{Buckets, Check, Key, Verdict};
use crate::clock::{Clock, Tick};
use crate::config::spec::OnStoreFailure;
use crate::model::gcra::{Decision, Outcome};
use crate::store::{Charge, Found, KeptBucket, SharedLimits, StoreError};
use crate::telemetry::metrics::{AnsweredBy, SharedLimitMetrics};

/// The wait that is told to those whom `on_store_failure: deny` refuses: nobody knows the true one.
const DENIED_WAIT: Duration = Duration::from_secs(1);

/// What this process knows about limits that it does not count alone.
pub(super) struct Shared {
    store: Arc<dyn SharedLimits>,
    denied: Denied,
    leases: Leases,
    clock: Clock,
    health: Health,
    /// As many as there are at least, and as many as the store counted last.
    replicas: (u32, AtomicU32),
    pub(super) metrics: SharedLimitMetrics,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("replicas", &self.replicas).field("health", &self.health).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        store: Arc<dyn SharedLimits>,
        replicas: u32,
        metrics: SharedLimitMetrics,
        clock: Clock,
    ) -> Shared {
        let health = Health::new(metrics.clone());
        let (denied, leases) = (Denied::new(), Leases::new());
        Shared { store, denied, leases, clock, health, replicas: (replicas.max(1), AtomicU32::new(0)), metrics }
    }

    /// Replicas that there are, as far as is known.
    fn replicas(&self) -> u32 {
        self.replicas.0.max(self.replicas.1.load(Ordering::Relaxed))
    }

    /// Decides a request by all its policies, of which at least one is shared.
    pub(super) async fn decide(self: &Arc<Self>, buckets: &Buckets, now: Tick, checks: &[Check<'_>]) -> Verdict {
        if let Some(refusal) = self.denied.verdict(now, checks) {
            self.metrics.count(AnsweredBy::DeniedMemory);
            return refusal;
        }
        let here = decide_some(buckets, now, checks, not_shared);
        if !here.allowed {
            self.metrics.count(AnsweredBy::Memory);
            return here;
        }
        let parts = Parts::new(self, checks);
        let (by, there) = if parts.are_paid() {
            (AnsweredBy::Lease, Verdict::OPEN)
        } else {
            match self.ask(now, &parts).await {
                Some(answer) => (AnsweredBy::Redis, answer),
                None => (AnsweredBy::Fallback, self.fall_back(buckets, now, checks, &parts)),
            }
        };
        self.metrics.count(by);
        if there.allowed {
            return parts.passed(self, here.and(there));
        }
        undo(buckets, now, checks, &here);
        parts.refused(self, here.and(there))
    }

    /// What the store keeps of these buckets, by their names; `None` for each that is full.
    pub(super) async fn look(&self, buckets: &[String]) -> Result<Vec<Option<KeptBucket>>, StoreError> {
        if buckets.is_empty() { Ok(Vec::new()) } else { self.store.look(buckets).await }
    }

    /// Makes these buckets full in the store, and forgets that they were not; answers how they were.
    pub(super) async fn forget(&self, buckets: &[String], keys: &[Key]) -> Result<Vec<Option<KeptBucket>>, StoreError> {
        let kept = if buckets.is_empty() { Vec::new() } else { self.store.forget(buckets).await? };
        keys.iter().for_each(|key| self.denied.forget(*key));
        Ok(kept)
    }

    /// Asks the shared store about what no lease paid for. `None` when it does not answer, or is not asked because it did
    /// not lately.
    async fn ask(&self, now: Tick, parts: &Parts<'_, '_>) -> Option<Verdict> {
        let found = self.charge(&parts.charges()).await;
        if found.is_none() {
            parts.unanswered(self);
        }
        Some(parts.read(self, now, &found?))
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
    fn fall_back(&self, buckets: &Buckets, now: Tick, checks: &[Check<'_>], parts: &Parts<'_, '_>) -> Verdict {
        let denied = Decision { outcome: Outcome::Denied(DENIED_WAIT), remaining: 0, reset_after: DENIED_WAIT };
        let verdict = shared_of(checks)
            .filter(|(_, check)| check.policy.on_store_failure == OnStoreFailure::Deny && parts.asks_about(check))
            .fold(Verdict::OPEN, |verdict, (place, check)| verdict.with(place, check, denied));
        if !verdict.allowed {
            return verdict;
        }
        let replicas = self.replicas();
        verdict.and(decide_some(buckets, now, checks, |check| {
            if parts.asks_about(check) { share_of(check, replicas) } else { None }
        }))
    }
}

/// The shared policies with their places among all.
fn shared_of<'s, 'p>(checks: &'s [Check<'p>]) -> impl Iterator<Item = (usize, &'s Check<'p>)> + Clone {
    checks.iter().enumerate().filter(|(_, check)| check.policy.is_shared())
}

fn not_shared<'p>(check: &Check<'p>) -> Option<Check<'p>> {
    (!check.policy.is_shared()).then_some(*check)
}

/// A shared policy as this process counts it alone, as one of `replicas`; each lets at least one request pass.
fn share_of<'p>(check: &Check<'p>, replicas: u32) -> Option<Check<'p>> {
    let policy = check.policy.fallback.as_deref()?;
    let quota = check.quota.shared_by(replicas);
    let cost = check.cost.min(u32::try_from(quota.capacity()).unwrap_or(u32::MAX));
    (policy.on_store_failure == OnStoreFailure::Local).then_some(Check { policy, quota, cost, ..*check })
}

/// Decides in this process by those checks that `pick` makes something of; the verdict names their places among all.
fn decide_some<'p>(
    buckets: &Buckets,
    now: Tick,
    checks: &[Check<'p>],
    pick: impl Fn(&Check<'p>) -> Option<Check<'p>> + Copy,
) -> Verdict {
    let places = checks.iter().enumerate().filter(|(_, check)| pick(check).is_some()).map(|(place, _)| place);
    match buckets.decide_all(now, checks.iter().filter_map(pick)) {
        Some(verdict) => verdict.at(places),
        None => Verdict::OPEN,
    }
}

/// Gives back what policies that are not shared took for a request which is refused after all.
fn undo(buckets: &Buckets, now: Tick, checks: &[Check<'_>], here: &Verdict) {
    for (place, check) in checks.iter().enumerate() {
        if !check.policy.is_shared() && !here.refuses(place) {
            buckets.give_back(now, check);
        }
    }
}

#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod tests;
