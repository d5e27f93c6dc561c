//! Leases: tokens of shared buckets that this replica took ahead, so that most requests need no call to Redis.
//!
//! A replica spends what a call took ahead within [`LEASE`] of the moment before it sent the call, on its own clock.
//! What it did not spend by then is lost. All replicas together never admit more than the quota, in any window, whatever their
//! number and whoever dies:
//!
//! - The shared bucket is smaller than the quota's by what flows in during a lease ([`reduced`](crate::model::lease::reduced)).
//! - Tokens spent in [s, e] were taken in [s − LEASE, e], since Redis takes them after the call was sent. From a bucket of
//!   capacity − rate·LEASE that is at most capacity − rate·LEASE + rate·(e − s + LEASE) = capacity + rate·(e − s).
//!
//! Unspent tokens are never given back to the shared bucket. It refilled while they were away, so somebody could lease
//! them again and keep them for another [`LEASE`]; with several leases taking turns, all capacity and all leases could be
//! spent in one moment. Less what flowed in since they were taken (no more could be given back), nearly nothing is left to give.
//!
//! So that little is lost, a lease is at most half of what this replica spent of the bucket within a lease's time: in steady
//! demand it is spent before it ends. What can be lost is bounded by [`most_ahead`] per replica and lease.

mod lease;

use std::collections::HashMap;
use std::time::Duration;

use ahash::RandomState;
use parking_lot::{Mutex, MutexGuard};

pub(super) use self::lease::Asked;
use self::lease::Lease;
use super::{Check, Key, shard_index};
use crate::clock::Tick;
use crate::model::gcra::{Decision, Outcome, Quota};
use crate::model::lease::{LEASE, is_leased, most_ahead};
use crate::store::Found;

/// How long this replica does not ask again once the shared bucket had too little, so that tokens come in batches.
const REFILL_PAUSE: Duration = Duration::from_millis(50);
/// Fewer tokens ahead are not worth their while.
const MIN_REFILL_TOKENS: u32 = 2;

const SHARDS: usize = 64;
/// Buckets beyond are asked of Redis each time. 64 · 1024 leases take 11 MiB.
const MAX_PER_SHARD: usize = 1024;

type Shard = HashMap<Key, Lease, RandomState>;

/// Tokens that a request was paid with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paid {
    /// What the client is told: an estimate that promises no more than there was.
    pub(super) decision: Decision,
    /// Until when the tokens could have been spent.
    until: Tick,
    /// Tokens to take ahead now, in the background, so that the next requests need not wait; 0 when there are enough.
    pub(super) refill: u32,
}

/// What a lease says about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payment {
    /// It pays.
    Paid(Paid),
    /// Redis must be asked, for so many tokens besides the cost.
    Ask(u32),
}

/// All leases of this replica.
#[derive(Debug)]
pub(super) struct Leases {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

impl Leases {
    /// None yet.
    pub(super) fn new() -> Leases {
        let hasher = RandomState::new();
        let shard = || Mutex::new(HashMap::with_hasher(hasher.clone()));
        Leases { shards: (0..SHARDS).map(|_| shard()).collect(), hasher: RandomState::new() }
    }

    /// Pays a request from its lease, when there is one with enough. `now` must have just been read. Whoever is told to ask
    /// or to refill must then say [`Leases::took`] or [`Leases::missed`].
    pub(super) fn spend(&self, now: Tick, check: &Check<'_>, replicas: u32) -> Payment {
        if !is_leased(check.quota) {
            return Payment::Ask(0);
        }
        let Some(mut shard) = self.shard(check.key()) else { return Payment::Ask(0) };
        let Some(lease) = entry(&mut shard, check, now) else { return Payment::Ask(0) };
        let most = most_ahead(check.quota, replicas);
        let Some(until) = lease.pay(now, check.cost) else { return Payment::Ask(lease.wants(now, most)) };
        let refill = if lease.is_low(now, most) { lease.wants(now, most) } else { 0 };
        Payment::Paid(Paid { decision: lease.standing(now), until, refill })
    }

    /// Undoes a payment: another policy refused the request. The tokens end when they would have.
    pub(super) fn refund(&self, check: &Check<'_>, paid: &Paid) {
        self.with(check, |lease| lease.refund(check.cost, paid.until));
    }

    /// Takes in what Redis found when it charged. Not for refusals.
    pub(super) fn took(&self, now: Tick, check: &Check<'_>, asked: Asked, found: &Found) {
        let all = asked.cost.saturating_add(found.ahead);
        if let Outcome::Allowed(since) = found.debt.decide(now.0, check.quota, all).outcome {
            self.with(check, |lease| lease.took(now, asked, found.ahead, since));
        }
    }

    /// Redis refused, or did not answer.
    pub(super) fn missed(&self, now: Tick, check: &Check<'_>, asked: Asked) {
        self.with(check, |lease| lease.missed(now, asked));
    }

    /// Forgets leases that say nothing any more. Gives how many tokens the others have.
    pub(super) fn sweep(&self, now: Tick) -> u64 {
        let sweep = |shard: &Mutex<Shard>| {
            let mut shard = shard.lock();
            shard.retain(|_, lease| !lease.is_idle(now));
            shard.values().map(|lease| u64::from(lease.left(now))).sum::<u64>()
        };
        self.shards.iter().map(sweep).sum()
    }

    fn shard(&self, key: Key) -> Option<MutexGuard<'_, Shard>> {
        let index = shard_index(self.hasher.hash_one(key), SHARDS);
        self.shards.get(index).map(Mutex::lock)
    }

    /// The lease of a check, when it is under its quota.
    fn with(&self, check: &Check<'_>, then: impl FnOnce(&mut Lease)) {
        if !is_leased(check.quota) {
            return;
        }
        let Some(mut shard) = self.shard(check.key()) else { return };
        shard.get_mut(&check.key()).filter(|lease| lease.quota() == check.quota).map(then);
    }
}

/// How long Redis is not asked again about a bucket that refused.
pub(super) fn pause(quota: Quota) -> Duration {
    if is_leased(quota) { REFILL_PAUSE } else { Duration::ZERO }
}

/// The lease of a check. `None` when there is no room, or while tokens are there that were taken under another quota.
fn entry<'s>(shard: &'s mut Shard, check: &Check<'_>, now: Tick) -> Option<&'s mut Lease> {
    let key = check.key();
    if !shard.contains_key(&key) && shard.len() >= MAX_PER_SHARD {
        return None;
    }
    let lease = shard.entry(key).or_insert_with(|| Lease::new(check.quota));
    if lease.quota() != check.quota {
        if !lease.is_idle(now) {
            return None;
        }
        *lease = Lease::new(check.quota);
    }
    Some(lease)
}

#[cfg(test)]
mod plan;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
