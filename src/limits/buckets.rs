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
use smallvec::SmallVec;

use super::packed::{PackedKey, PackedSubject};
use super::shard::{Kept, Shard};
use super::{Check, Slot, Subject, Verdict};
use crate::clock::Tick;
use crate::model::gcra::{self, Decision, Outcome, Quota, Tat};

/// A thing for each policy of a request; more than four are allocated.
type Few<T> = SmallVec<[T; 4]>;

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
    max_per_shard: usize,
    evicted_early: AtomicU64,
}

impl Buckets {
    /// An empty table of at most `max_entries` buckets, spread over 128 shards or more, at least 16 in each.
    pub fn new(max_entries: usize) -> Buckets {
        let hasher = RandomState::new();
        let shards = max_entries.div_ceil(PER_SHARD).max(SHARDS);
        let shard = || Shard::new(hasher.clone());
        Buckets {
            shards: (0..shards).map(|_| Mutex::new(shard())).collect(),
            hasher: RandomState::new(),
            names: Mutex::default(),
            max_per_shard: (max_entries / shards).max(16),
            evicted_early: AtomicU64::new(0),
        }
    }

    /// The number of a policy's buckets, by their name ([`Policy::scope`](super::Policy)). For building filters, not
    /// for requests.
    pub fn slot(&self, scope: &str) -> Slot {
        let mut names = self.names.lock();
        if let Some(id) = names.get(scope) {
            return Slot(*id);
        }
        let id = u32::try_from(names.len()).unwrap_or(u32::MAX);
        names.insert(scope.into(), id);
        Slot(id)
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

    /// Decides a request by all its policies at once: when one refuses, none is charged. `None` when there is no
    /// check at all.
    pub fn decide_all<'p>(&self, now: Tick, checks: impl IntoIterator<Item = Check<'p>>) -> Option<Verdict> {
        let checks: Few<Check<'p>> = checks.into_iter().collect();
        let places: Few<usize> = checks.iter().map(|check| self.shard_of(check.subject)).collect();
        let mut order = places.clone();
        order.sort_unstable(); // every request locks in this order, so none can wait in a circle
        order.dedup();
        let mut locked: Few<MutexGuard<'_, Shard>> =
            order.iter().filter_map(|place| Some(self.shards.get(*place)?.lock())).collect();
        // One time for all: the latest that any of these shards has seen.
        let now = locked.iter_mut().map(|shard| shard.advance(now)).max()?;
        let mut verdict = Verdict::OPEN;
        let mut found: Few<(usize, Decision)> = Few::new();
        for (index, (check, place)) in checks.iter().zip(&places).enumerate() {
            let lock = order.binary_search(place).ok()?;
            let shard = locked.get_mut(lock)?;
            shard.advance(Tick(now));
            let tat = shard.bucket(check, now).unwrap_or(Tat::FULL);
            let decision = gcra::decide(tat, now, check.quota, check.cost);
            verdict = verdict.with(index, check, decision);
            found.push((lock, decision));
        }
        for (check, (lock, decision)) in checks.iter().zip(&found) {
            if let (true, Outcome::Allowed(after)) = (verdict.allowed, decision.outcome) {
                let early = locked.get_mut(*lock)?.put(check, after, now, self.max_per_shard);
                self.evicted_early.fetch_add(early, Ordering::Relaxed);
            }
        }
        Some(verdict)
    }

    /// Decides one check. A bucket that is not kept, or is full, starts with `unseen` tokens missing; with `skip_new`
    /// it is left alone instead: nothing is charged or stored, and `None` comes back.
    pub(crate) fn decide_seeded(&self, now: Tick, check: Check<'_>, unseen: u64, skip_new: bool) -> Option<Decision> {
        let mut shard = self.shards.get(self.shard_of(check.subject))?.lock();
        let now = shard.advance(now);
        let kept = shard.bucket(&check, now);
        let tat = match kept {
            Some(tat) if !tat.is_full(now) => tat,
            _ if skip_new => return None,
            _ => check.quota.lacking(unseen, now),
        };
        let decision = gcra::decide(tat, now, check.quota, check.cost);
        let after = if let Outcome::Allowed(after) = decision.outcome { after } else { tat };
        self.evicted_early.fetch_add(shard.put(&check, after, now, self.max_per_shard), Ordering::Relaxed);
        Some(decision)
    }

    /// Makes a subject's bucket under a scope full; whether it was not.
    pub(crate) fn forget(&self, now: Tick, slot: Slot, subject: Subject) -> bool {
        let subject = PackedSubject::from(subject);
        let Some(shard) = self.shards.get(self.place(subject)) else { return false };
        let mut shard = shard.lock();
        let now = shard.advance(now);
        shard.forget(PackedKey::new(slot.0, subject), now)
    }

    /// A subject's bucket under a scope, when it is not full: what it lacks at `now`, and the quota it was last charged
    /// under.
    pub(crate) fn look(&self, now: Tick, slot: Slot, subject: Subject) -> Option<(Tat, Quota)> {
        let subject = PackedSubject::from(subject);
        let mut shard = self.shards.get(self.place(subject))?.lock();
        let now = shard.advance(now);
        shard.look(PackedKey::new(slot.0, subject), now).map(|kept| (kept.lacking(now), kept.quota))
    }

    /// The names of all scopes, with their numbers; in the order in which they came.
    pub(crate) fn scopes(&self) -> Vec<(Box<str>, Slot)> {
        let mut scopes: Vec<_> = self.names.lock().iter().map(|(name, slot)| (name.clone(), Slot(*slot))).collect();
        scopes.sort_unstable_by_key(|(_, slot)| slot.0);
        scopes
    }

    /// Hands every bucket that is not full to `take`, with what it lacks at `now`. One shard is locked at a time.
    pub(super) fn each(&self, now: Tick, mut take: impl FnMut(Kept, Tat)) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let latest = shard.advance(now);
            shard.each(latest).for_each(|kept| take(kept, kept.lacking(now.0)));
        }
    }

    /// Takes in a bucket that lacks so much at `now`, in the place of the one that is kept under its scope and subject.
    pub(super) fn restore(&self, now: Tick, slot: Slot, subject: PackedSubject, lacking: Tat, quota: Quota) {
        let Some(shard) = self.shards.get(self.place(subject)) else { return };
        let mut shard = shard.lock();
        let now = shard.advance(now);
        let tat = Tat { micros: now.saturating_add(lacking.micros), part: lacking.part };
        let early = shard.keep(PackedKey::new(slot.0, subject), tat, quota, now, self.max_per_shard);
        self.evicted_early.fetch_add(early, Ordering::Relaxed);
    }

    /// Gives tokens back that a check took for a request that another policy refused.
    pub(crate) fn give_back(&self, now: Tick, check: &Check<'_>) {
        let Some(shard) = self.shards.get(self.shard_of(check.subject)) else { return };
        let mut shard = shard.lock();
        let now = shard.advance(now);
        if let Some(tat) = shard.bucket(check, now) {
            let tat = gcra::give_back(tat, now, check.quota, check.cost);
            self.evicted_early.fetch_add(shard.put(check, tat, now, self.max_per_shard), Ordering::Relaxed);
        }
    }

    fn shard_of(&self, subject: Subject) -> usize {
        self.place(subject.into())
    }

    /// The shard of a subject: its hash, as a share of the shards.
    fn place(&self, subject: PackedSubject) -> usize {
        let hash = self.hasher.hash_one(subject) >> 32;
        usize::try_from((hash * u64::try_from(self.shards.len()).unwrap_or(0)) >> 32).unwrap_or(0)
    }
}

#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;
