//! The token buckets of the process: exact, sharded, bounded. They outlive every reload, so that spending a
//! bucket and reloading does not refill it; a bucket whose quota changed is rescaled when it is next touched.
//!
//! A shard is chosen by the subject alone, so a request takes one small lock for each of its subjects: one where all its
//! policies are about the user, two with the address, never one for all.
//!
//! Memory: 33 bytes for each place of the shards' maps (key 16, bucket 16, tag 1), of which between 44 % and 87 % are
//! taken, so 38 to 75 bytes for each bucket. A quota is kept once in each shard.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use parking_lot::{Mutex, MutexGuard};

use super::packed::{PackedKey, PackedSubject};
use super::shard::{ChargedBucket, Shard};
use super::{Check, Few, ScopeId, Subject, Verdict, shard_index};
use crate::clock::Tick;
use crate::model::gcra::{self, Debt, Decision, Outcome, Quota, Tat};

/// Fewest shards.
const SHARDS: usize = 128;
/// Most buckets of a shard: those for which a map has 8,192 places. So few that a look through all of them, with a shard
/// locked, is short.
const PER_SHARD: usize = 7_168;

/// All buckets of the process.
#[derive(Debug)]
pub struct Buckets {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    names: Mutex<HashMap<Box<str>, u32>>,
    evicted_early: AtomicU64,
}

impl Buckets {
    /// An empty table of at most `max_entries` buckets, spread over 128 shards or more, at least 16 in each.
    pub fn new(max_entries: usize) -> Buckets {
        let hasher = RandomState::new();
        let shards = max_entries.div_ceil(PER_SHARD).max(SHARDS);
        let max_per_shard = (max_entries / shards).max(16);
        let shard = || Shard::new(hasher.clone(), max_per_shard);
        Buckets {
            shards: (0..shards).map(|_| Mutex::new(shard())).collect(),
            hasher: RandomState::new(),
            names: Mutex::default(),
            evicted_early: AtomicU64::new(0),
        }
    }

    /// The number of a policy's buckets, by their name ([`Policy::scope`](super::Policy)). For building filters, not
    /// for requests.
    pub fn scope_id(&self, scope: &str) -> ScopeId {
        let mut names = self.names.lock();
        if let Some(id) = names.get(scope) {
            return ScopeId(*id);
        }
        let id = u32::try_from(names.len()).unwrap_or(u32::MAX);
        names.insert(scope.into(), id);
        ScopeId(id)
    }

    /// How many buckets are kept.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many buckets were given up before they were full again, because their shard was at its bound.
    pub fn evicted_early(&self) -> u64 {
        self.evicted_early.load(Ordering::Relaxed)
    }

    /// Decides a request by all its policies at once: when one refuses, none is charged. `None`: a bucket's shard is not
    /// there, which cannot be.
    pub fn decide_all(&self, now: Tick, checks: &[Check<'_>]) -> Option<Verdict> {
        self.decide_rest(Verdict::OPEN, now, checks)
    }

    /// The same for the rest of a request's policies: when others refused it already, none is charged, either.
    pub(super) fn decide_rest(&self, others: Verdict, now: Tick, checks: &[Check<'_>]) -> Option<Verdict> {
        let indexes: Few<usize> = checks.iter().map(|check| self.shard_of(check.subject.into())).collect();
        let mut order = indexes.clone();
        order.sort_unstable(); // every request locks in this order, so none can wait in a circle
        order.dedup();
        let mut locked: Few<MutexGuard<'_, Shard>> =
            order.iter().filter_map(|index| Some(self.shards.get(*index)?.lock())).collect();
        // One time for all: the latest that any of these shards has seen.
        let now = locked.iter_mut().map(|shard| shard.advance(now)).max().unwrap_or(now.0);
        let mut verdict = others;
        let mut found: Few<(usize, Decision)> = Few::new();
        for (check, index) in checks.iter().zip(&indexes) {
            let position = order.binary_search(index).ok()?;
            let shard = locked.get_mut(position)?;
            shard.advance(Tick(now));
            let tat = shard.bucket(check, now).unwrap_or(Tat::FULL);
            let decision = gcra::decide(tat, now, check.quota, check.cost);
            verdict = verdict.with(check, decision);
            found.push((position, decision));
        }
        if !verdict.is_allowed() {
            return Some(verdict);
        }
        for (check, (position, decision)) in checks.iter().zip(&found) {
            if let Outcome::Allowed(after) = decision.outcome {
                self.count_evicted(locked.get_mut(*position)?.put(check, after, now));
            }
        }
        Some(verdict)
    }

    /// Decides one check. A bucket that is not kept, or is full, starts with `unseen` tokens missing; with `skip_new`
    /// it is left alone instead: nothing is charged or stored, and `None` comes back.
    pub(crate) fn decide_seeded(&self, now: Tick, check: Check<'_>, unseen: u64, skip_new: bool) -> Option<Decision> {
        let mut shard = self.shards.get(self.shard_of(check.subject.into()))?.lock();
        let now = shard.advance(now);
        let kept = shard.bucket(&check, now);
        let tat = match kept {
            Some(tat) if !tat.is_full(now) => tat,
            _ if skip_new => return None,
            _ => check.quota.debt_of(unseen).due(now),
        };
        let decision = gcra::decide(tat, now, check.quota, check.cost);
        let after = if let Outcome::Allowed(after) = decision.outcome { after } else { tat };
        self.count_evicted(shard.put(&check, after, now));
        Some(decision)
    }

    /// Makes a subject's bucket under a scope full; whether it was not.
    pub(crate) fn reset(&self, now: Tick, scope: ScopeId, subject: Subject) -> bool {
        let subject = PackedSubject::from(subject);
        let Some(shard) = self.shards.get(self.shard_of(subject)) else { return false };
        let mut shard = shard.lock();
        let now = shard.advance(now);
        shard.reset(PackedKey::new(scope.0, subject), now)
    }

    /// A subject's bucket under a scope, when it is not full: its debt at `now`, and the quota it was last charged
    /// under.
    pub(crate) fn peek(&self, now: Tick, scope: ScopeId, subject: Subject) -> Option<(Debt, Quota)> {
        let subject = PackedSubject::from(subject);
        let mut shard = self.shards.get(self.shard_of(subject))?.lock();
        let now = shard.advance(now);
        shard.peek(PackedKey::new(scope.0, subject), now).map(|kept| (kept.debt(now), kept.quota))
    }

    /// The names of all scopes, with their numbers; in the order in which they came.
    pub(crate) fn scopes(&self) -> Vec<(Box<str>, ScopeId)> {
        let mut scopes: Vec<_> =
            self.names.lock().iter().map(|(name, scope)| (name.clone(), ScopeId(*scope))).collect();
        scopes.sort_unstable_by_key(|(_, scope)| scope.0);
        scopes
    }

    /// Hands every bucket that is not full to `take`, with its debt at `now`. One shard is locked at a time.
    pub(super) fn each(&self, now: Tick, mut take: impl FnMut(ChargedBucket, Debt)) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let latest = shard.advance(now);
            shard.each(latest).for_each(|kept| take(kept, kept.debt(now.0)));
        }
    }

    /// Takes in a bucket with this debt at `now`, in the place of the one that is kept under its scope and subject.
    pub(super) fn restore(&self, now: Tick, scope: ScopeId, subject: PackedSubject, debt: Debt, quota: Quota) {
        let Some(shard) = self.shards.get(self.shard_of(subject)) else { return };
        let mut shard = shard.lock();
        let now = shard.advance(now);
        self.count_evicted(shard.insert(PackedKey::new(scope.0, subject), debt.due(now), quota, now));
    }

    /// Gives tokens back that a check took for a request that another policy refused.
    pub(crate) fn give_back(&self, now: Tick, check: &Check<'_>) {
        let Some(shard) = self.shards.get(self.shard_of(check.subject.into())) else { return };
        let mut shard = shard.lock();
        let now = shard.advance(now);
        if let Some(tat) = shard.bucket(check, now) {
            let tat = gcra::give_back(tat, now, check.quota, check.cost);
            self.count_evicted(shard.put(check, tat, now));
        }
    }

    fn shard_of(&self, subject: PackedSubject) -> usize {
        shard_index(self.hasher.hash_one(subject), self.shards.len())
    }

    /// Nearly always none: then no thread writes what all the others read.
    fn count_evicted(&self, early: u64) {
        if early > 0 {
            self.evicted_early.fetch_add(early, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;
