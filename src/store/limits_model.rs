//! Shared buckets as they must be, of `model::gcra` alone: what `redis/limits.lua` is held against, and a store for tests
//! that move its clock and make it fail.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{BucketStore, Charge, Found, SharedBucket, StoreError};
use crate::model::gcra::{self, Outcome, Quota, Tat};

/// How the store behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It answers.
    Answers,
    /// It is not there, and everybody knows.
    Away,
    /// It does nothing and says so.
    Fails,
    /// It does what it is asked, and the answer is lost.
    LosesAnswers,
}

/// Buckets in memory, on a clock that is moved by hand.
#[derive(Debug)]
pub(crate) struct ModelBucketStore {
    buckets: Mutex<HashMap<String, (Tat, Quota)>>,
    now_micros: AtomicU64,
    mood: Mutex<Mood>,
    replicas: AtomicU32,
    calls: AtomicU64,
}

impl ModelBucketStore {
    pub(crate) fn new(now_micros: u64) -> ModelBucketStore {
        ModelBucketStore {
            buckets: Mutex::default(),
            now_micros: AtomicU64::new(now_micros),
            mood: Mutex::new(Mood::Answers),
            replicas: AtomicU32::new(1),
            calls: AtomicU64::new(0),
        }
    }

    /// Sets its clock, forwards or backwards.
    pub(crate) fn set_time(&self, now_micros: u64) {
        self.now_micros.store(now_micros, Ordering::Release);
    }

    /// Moves its clock forwards.
    pub(crate) fn advance(&self, by: Duration) {
        self.now_micros.fetch_add(u64::try_from(by.as_micros()).unwrap(), Ordering::AcqRel);
    }

    pub(crate) fn behave(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    pub(crate) fn set_replicas(&self, replicas: u32) {
        self.replicas.store(replicas, Ordering::Release);
    }

    /// How often it was asked to charge.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Acquire)
    }

    /// Does what a script call does.
    pub(crate) fn charge_now(&self, charges: &[Charge]) -> Vec<Found> {
        let now = self.now_micros.load(Ordering::Acquire);
        let mut buckets = self.buckets.lock();
        let before: Vec<Tat> = charges.iter().map(|charge| load(&mut buckets, charge, now)).collect();
        let decided: Vec<_> = charges
            .iter()
            .zip(&before)
            .map(|(charge, tat)| gcra::decide(*tat, now, charge.quota, charge.cost))
            .collect();
        let pass = charges.iter().zip(&decided).all(|(charge, decision)| charge.shadow || decision.is_allowed());
        let mut found = Vec::new();
        for ((charge, tat), decision) in charges.iter().zip(before).zip(decided) {
            let mut ahead = 0;
            if let (true, Outcome::Allowed(after)) = (pass, decision.outcome) {
                ahead = after.debt(now).held(charge.quota, charge.ahead);
                let Outcome::Allowed(after) = gcra::decide(after, now, charge.quota, ahead).outcome else {
                    unreachable!("what is held fits")
                };
                buckets.insert(charge.bucket.clone(), (after, charge.quota));
            }
            found.push(Found { debt: tat.debt(now), ahead });
        }
        found
    }

    fn listen(&self) -> Result<(), StoreError> {
        match *self.mood.lock() {
            Mood::Away | Mood::Fails => Err(StoreError::Shared("as a test wants".to_owned())),
            Mood::Answers | Mood::LosesAnswers => Ok(()),
        }
    }

    fn reply<T>(&self, answer: T) -> Result<T, StoreError> {
        if *self.mood.lock() == Mood::LosesAnswers {
            return Err(StoreError::Shared("lost, as a test wants".to_owned()));
        }
        Ok(answer)
    }
}

/// The bucket under the quota in force; kept so when that is not how it was kept.
fn load(buckets: &mut HashMap<String, (Tat, Quota)>, charge: &Charge, now: u64) -> Tat {
    let Some((kept, from)) = buckets.get(&charge.bucket).copied() else { return Tat::FULL };
    let tat = if from == charge.quota { kept } else { gcra::rescale(kept, now, from, charge.quota) };
    let tat = gcra::give_back(tat, now, charge.quota, 0); // a clock that was put back by much is believed
    if kept.is_full(now) || (tat == kept && from == charge.quota) {
        return tat;
    }
    if tat.is_full(now) {
        buckets.remove(&charge.bucket);
    } else {
        buckets.insert(charge.bucket.clone(), (tat, charge.quota));
    }
    tat
}

#[async_trait]
impl BucketStore for ModelBucketStore {
    fn is_up(&self) -> bool {
        *self.mood.lock() != Mood::Away
    }

    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Found>, StoreError> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        self.listen()?;
        self.reply(self.charge_now(charges))
    }

    async fn peek(&self, names: &[String]) -> Result<Vec<Option<SharedBucket>>, StoreError> {
        self.listen()?;
        let (now, buckets) = (self.now_micros.load(Ordering::Acquire), self.buckets.lock());
        let kept = |name: &String| {
            let (tat, quota) = *buckets.get(name)?;
            (!tat.is_full(now)).then(|| SharedBucket { debt: tat.debt(now), quota })
        };
        self.reply(names.iter().map(kept).collect())
    }

    async fn reset(&self, names: &[String]) -> Result<Vec<Option<SharedBucket>>, StoreError> {
        let kept = self.peek(names).await?;
        let mut buckets = self.buckets.lock();
        for name in names {
            buckets.remove(name);
        }
        Ok(kept)
    }

    async fn heartbeat(&self) -> Result<u32, StoreError> {
        self.listen()?;
        self.reply(self.replicas.load(Ordering::Acquire))
    }
}
