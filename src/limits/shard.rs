//! One shard of the bucket table: a bounded map that forgets what says nothing. Locked by its owner.

use std::collections::HashMap;

use ahash::RandomState;

use super::Check;
use super::packed::{PackedBucket, PackedKey, PackedSubject};
use super::quotas::Quotas;
use crate::clock::Tick;
use crate::model::gcra::{self, Debt, Quota, Tat};

/// Buckets for which there is room at least: a shard with fewer is not looked through.
const SMALLEST: usize = 56;
/// Quotas that are kept without looking whether they are used.
const FEW_QUOTAS: usize = 16;

/// A bucket that is not full, with the quota it was last charged under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChargedBucket {
    pub(super) scope: u32,
    pub(super) subject: PackedSubject,
    pub(super) tat: Tat,
    pub(super) quota: Quota,
}

impl ChargedBucket {
    /// What it owes at `now`.
    pub(super) fn debt(&self, now: u64) -> Debt {
        self.tat.debt(now)
    }
}

#[derive(Debug)]
pub(super) struct Shard {
    buckets: HashMap<PackedKey, PackedBucket, RandomState>,
    quotas: Quotas,
    /// The latest time seen here: a thread that read its clock earlier must not be ahead of an eviction.
    latest: u64,
    /// Most buckets.
    max: usize,
}

impl Shard {
    pub(super) fn new(hasher: RandomState, max: usize) -> Shard {
        Shard { buckets: HashMap::with_hasher(hasher), quotas: Quotas::default(), latest: 0, max }
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

    /// Stores the bucket of a check; says how many others had to be given up before they were full.
    pub(super) fn put(&mut self, check: &Check<'_>, tat: Tat, now: u64) -> u64 {
        self.insert(check.key().into(), tat, check.quota, now)
    }

    /// Stores a bucket under its key; as [`Shard::put`].
    pub(super) fn insert(&mut self, key: PackedKey, tat: Tat, quota: Quota, now: u64) -> u64 {
        let known = match self.buckets.get_mut(&key) {
            Some(known) if self.quotas.get(known.quota) == Some(quota) => {
                *known = PackedBucket::new(tat, known.quota);
                return 0;
            }
            known => known.is_some(),
        };
        let full = !known && self.buckets.len() >= self.buckets.capacity().min(self.max);
        let early = if full { self.make_room(now) } else { 0 };
        let number = self.number(quota);
        self.buckets.insert(key, PackedBucket::new(tat, number));
        early
    }

    /// Makes a bucket full; whether it was not.
    pub(super) fn reset(&mut self, key: PackedKey, now: u64) -> bool {
        self.buckets.remove(&key).is_some_and(|bucket| !bucket.tat().is_full(now))
    }

    /// A bucket that is not full.
    pub(super) fn peek(&self, key: PackedKey, now: u64) -> Option<ChargedBucket> {
        self.buckets.get(&key).and_then(|bucket| self.kept(key, *bucket, now))
    }

    /// Every bucket that is not full.
    pub(super) fn each(&self, now: u64) -> impl Iterator<Item = ChargedBucket> {
        self.buckets.iter().filter_map(move |(key, bucket)| self.kept(*key, *bucket, now))
    }

    fn kept(&self, key: PackedKey, bucket: PackedBucket, now: u64) -> Option<ChargedBucket> {
        let quota = self.quotas.get(bucket.quota)?;
        let (scope, subject, tat) = (key.scope(), key.subject(), bucket.tat());
        (!tat.is_full(now)).then_some(ChargedBucket { scope, subject, tat, quota })
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
    /// those of which the smallest share is spent go too, so that a pass over the shard pays for many insertions and a spent
    /// bucket goes last, however fast it fills. Says how many were not full.
    ///
    /// Comes when the map has no room left. What it has after is between an eighth more than it needs, and
    /// four times that.
    fn make_room(&mut self, now: u64) -> u64 {
        let max = self.max;
        self.buckets.retain(|_, bucket| !bucket.tat().is_full(now));
        let surplus = self.buckets.len().saturating_sub(max - max / 8);
        self.give_up(surplus, now);
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

    /// Forgets so many buckets, those of which the smallest share is spent.
    fn give_up(&mut self, surplus: usize, now: u64) {
        let Shard { buckets, quotas, .. } = self;
        let fill_micros = quotas.each(|quota| quota.fill_time().micros);
        let spent = |bucket: &PackedBucket| {
            let fills = usize::try_from(bucket.quota).ok().and_then(|number| fill_micros.get(number).copied());
            Share::of(bucket.tat().micros.saturating_sub(now), fills.unwrap_or(0))
        };
        let mut shares: Vec<Share> = buckets.values().map(spent).collect();
        let Some(last) = surplus.checked_sub(1).filter(|last| *last < shares.len()) else { return };
        let (before, bound, _) = shares.select_nth_unstable(last);
        let bound = *bound;
        let mut equals = surplus - before.iter().filter(|share| **share < bound).count();
        buckets.retain(|_, bucket| {
            let share = spent(bucket);
            let goes = share < bound || (share == bound && equals > 0);
            equals -= usize::from(goes && share == bound);
            !goes
        });
    }
}

/// A part of a whole, in units of 2⁻³²: good enough to tell which is larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Share(u64);

impl Share {
    fn of(part: u64, whole: u64) -> Share {
        Share((part as f64 / whole.max(1) as f64 * f64::from(u32::MAX)) as u64)
    }
}
