//! One shard of the bucket table: a bounded map that forgets what says nothing. Locked by its owner.

use std::collections::HashMap;

use ahash::RandomState;

use super::Check;
use super::packed::{PackedBucket, PackedKey, PackedSubject};
use super::quotas::Quotas;
use crate::clock::Tick;
use crate::model::gcra::{self, Quota, Tat};

/// Buckets for which there is room at least: a shard with fewer is not looked through.
const SMALLEST: usize = 56;
/// Quotas that are kept without looking whether they are used.
const FEW_QUOTAS: usize = 16;

/// A bucket that is not full, with the quota it was last charged under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) slot: u32,
    pub(super) subject: PackedSubject,
    pub(super) tat: Tat,
    pub(super) quota: Quota,
}

impl Kept {
    /// What it lacks at `now`, as time.
    pub(super) fn lacking(&self, now: u64) -> Tat {
        Tat { micros: self.tat.micros.saturating_sub(now), part: self.tat.part }
    }
}

#[derive(Debug)]
pub(super) struct Shard {
    buckets: HashMap<PackedKey, PackedBucket, RandomState>,
    quotas: Quotas,
    /// The latest time seen here: a thread that read its clock earlier must not be ahead of an eviction.
    latest: u64,
}

impl Shard {
    pub(super) fn new(hasher: RandomState) -> Shard {
        Shard { buckets: HashMap::with_hasher(hasher), quotas: Quotas::default(), latest: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// The time to decide at: `now`, or the latest time seen here.
    pub(super) fn advance(&mut self, now: Tick) -> u64 {
        self.latest = self.latest.max(now.0);
        self.latest
    }

    /// The bucket of a check as its quota in force sees it, when it is kept. It is kept so from then on: were it carried
    /// over anew each time, it would go on at its old speed until a request passes.
    pub(super) fn bucket(&mut self, check: &Check<'_>, now: u64) -> Option<Tat> {
        let key = check.key().into();
        let bucket = *self.buckets.get(&key)?;
        match self.quotas.get(bucket.quota) {
            Some(quota) if quota != check.quota => {
                let tat = gcra::rescale(bucket.tat(), now, quota, check.quota);
                let number = self.number(check.quota);
                self.buckets.insert(key, PackedBucket::new(tat, number));
                Some(tat)
            }
            _ => Some(bucket.tat()),
        }
    }

    /// Stores a bucket; says how many others had to be given up before they were full.
    pub(super) fn put(&mut self, check: &Check<'_>, tat: Tat, now: u64, max: usize) -> u64 {
        self.keep(check.key().into(), tat, check.quota, now, max)
    }

    /// Stores a bucket under its key; as [`Shard::put`].
    pub(super) fn keep(&mut self, key: PackedKey, tat: Tat, quota: Quota, now: u64, max: usize) -> u64 {
        let known = match self.buckets.get_mut(&key) {
            Some(known) if self.quotas.get(known.quota) == Some(quota) => {
                *known = PackedBucket::new(tat, known.quota);
                return 0;
            }
            known => known.is_some(),
        };
        let full = !known && self.buckets.len() >= self.buckets.capacity().min(max);
        let early = if full { self.make_room(now, max) } else { 0 };
        let number = self.number(quota);
        self.buckets.insert(key, PackedBucket::new(tat, number));
        early
    }

    /// Makes a bucket full; whether it was not.
    pub(super) fn forget(&mut self, key: PackedKey, now: u64) -> bool {
        self.buckets.remove(&key).is_some_and(|bucket| !bucket.tat().is_full(now))
    }

    /// A bucket that is not full.
    pub(super) fn look(&self, key: PackedKey, now: u64) -> Option<Kept> {
        self.buckets.get(&key).and_then(|bucket| self.kept(key, *bucket, now))
    }

    /// Every bucket that is not full.
    pub(super) fn each(&self, now: u64) -> impl Iterator<Item = Kept> {
        self.buckets.iter().filter_map(move |(key, bucket)| self.kept(*key, *bucket, now))
    }

    fn kept(&self, key: PackedKey, bucket: PackedBucket, now: u64) -> Option<Kept> {
        let quota = self.quotas.get(bucket.quota)?;
        let (slot, subject, tat) = (key.slot(), key.subject(), bucket.tat());
        (!tat.is_full(now)).then_some(Kept { slot, subject, tat, quota })
    }

    /// The number of a quota. Each bucket uses one, so with more quotas than buckets some are used by none.
    fn number(&mut self, quota: Quota) -> u32 {
        if let Some(number) = self.quotas.find(quota) {
            return number;
        }
        if self.quotas.len() > self.buckets.len().max(FEW_QUOTAS) {
            self.quotas.keep_only(self.buckets.values().map(|bucket| bucket.quota));
        }
        self.quotas.add(quota)
    }

    /// Forgets every full bucket: a fresh one says the same. Where that leaves the shard within an eighth of its bound,
    /// those closest to full go too, so that a pass over the shard pays for many insertions and a spent bucket
    /// goes last. Says how many were not full.
    ///
    /// Comes when the map has no room left. What it has after is between an eighth more than it needs, and
    /// four times that.
    fn make_room(&mut self, now: u64, max: usize) -> u64 {
        self.buckets.retain(|_, bucket| !bucket.tat().is_full(now));
        let surplus = self.buckets.len().saturating_sub(max - max / 8);
        self.give_up(surplus);
        self.quotas.keep_only(self.buckets.values().map(|bucket| bucket.quota));
        let kept = self.buckets.len();
        let room = (kept + kept / 8).max(SMALLEST).min(max);
        let holds = self.buckets.capacity(); // less for every place of a removed one that is not usable yet
        if holds < room || holds / 4 > room {
            let mut roomy = HashMap::with_capacity_and_hasher(room, self.buckets.hasher().clone());
            roomy.extend(self.buckets.drain());
            self.buckets = roomy;
        }
        u64::try_from(surplus).unwrap_or(u64::MAX)
    }

    /// Forgets so many buckets, those closest to full.
    fn give_up(&mut self, surplus: usize) {
        let mut ends: Vec<Tat> = self.buckets.values().map(|bucket| bucket.tat()).collect();
        let Some(last) = surplus.checked_sub(1).filter(|last| *last < ends.len()) else { return };
        let (before, bound, _) = ends.select_nth_unstable(last);
        let bound = *bound;
        let mut equals = surplus - before.iter().filter(|end| **end < bound).count();
        self.buckets.retain(|_, bucket| {
            let end = bucket.tat();
            let goes = end < bound || (end == bound && equals > 0);
            equals -= usize::from(goes && end == bound);
            !goes
        });
    }
}
