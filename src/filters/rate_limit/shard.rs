//! One shard of the bucket table: a bounded map that forgets what says nothing. Locked by its owner.

use std::collections::HashMap;

use ahash::RandomState;

use super::buckets::{Check, Key};
use crate::clock::Tick;
use crate::model::gcra::{self, Quota, Tat};

/// Entries before the first look for full buckets; later looks come whenever what is left has doubled.
const FIRST_SWEEP: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tat: Tat,
    quota: Quota,
}

#[derive(Debug)]
pub(super) struct Shard {
    buckets: HashMap<Key, Bucket, RandomState>,
    /// The latest time seen here: a thread that read its clock earlier must not be ahead of an eviction.
    latest: u64,
    sweep_at: usize,
}

impl Shard {
    pub(super) fn new(hasher: RandomState) -> Shard {
        Shard { buckets: HashMap::with_hasher(hasher), latest: 0, sweep_at: FIRST_SWEEP }
    }

    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// The time to decide at: `now`, or the latest time seen here.
    pub(super) fn advance(&mut self, now: Tick) -> u64 {
        self.latest = self.latest.max(now.0);
        self.latest
    }

    /// The bucket of a check as its quota in force sees it, when it is kept.
    pub(super) fn bucket(&self, check: &Check, now: u64) -> Option<Tat> {
        let bucket = self.buckets.get(&check.key)?;
        Some(if bucket.quota == check.quota {
            bucket.tat
        } else {
            gcra::rescale(bucket.tat, now, bucket.quota, check.quota)
        })
    }

    /// Stores a bucket; says how many others had to be given up before they were full.
    pub(super) fn put(&mut self, check: &Check, tat: Tat, now: u64, max: usize) -> u64 {
        let bucket = Bucket { tat, quota: check.quota };
        if let Some(known) = self.buckets.get_mut(&check.key) {
            *known = bucket;
            return 0;
        }
        let early = if self.buckets.len() >= self.sweep_at.min(max) { self.sweep(now, max) } else { 0 };
        self.buckets.insert(check.key, bucket);
        early
    }

    /// Forgets every full bucket: a fresh one says the same. Where that leaves the shard within an eighth of its bound,
    /// those closest to full go too, so that a pass over the shard pays for many insertions and a spent bucket
    /// goes last. Says how many were not full.
    fn sweep(&mut self, now: u64, max: usize) -> u64 {
        self.buckets.retain(|_, bucket| !bucket.quota.is_full(bucket.tat, now));
        let mut surplus = self.buckets.len().saturating_sub(max - max / 8);
        let mut early = 0;
        if surplus > 0 {
            let mut waits: Vec<_> =
                self.buckets.values().map(|bucket| bucket.quota.until_full(bucket.tat, now)).collect();
            let (_, bound, _) = waits.select_nth_unstable(surplus - 1);
            let bound = *bound;
            self.buckets.retain(|_, bucket| {
                let goes = surplus > 0 && bucket.quota.until_full(bucket.tat, now) <= bound;
                surplus -= usize::from(goes);
                early += u64::from(goes);
                !goes
            });
        }
        self.sweep_at = (self.buckets.len() * 2).max(FIRST_SWEEP);
        early
    }
}
