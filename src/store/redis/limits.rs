//! The buckets that replicas share: one script per decision, on Redis' own time, for all policies of a request.
//!
//! All keys carry the same hash tag, so that on a cluster they lie in one slot and a script may touch several of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Script, ScriptInvocation};
use uuid::Uuid;

use super::{RedisProblem, SharedRedis};
use crate::model::gcra::{Debt, Quota, QuotaParts, Tat};
use crate::model::lease::MAX_TOKENS_AHEAD;
use crate::store::{BucketStore, Charge, Found, SharedBucket, StoreError};

/// Longest that a request waits for a decision; without one, this process goes on alone.
const CHARGE_WITHIN: Duration = Duration::from_millis(25);
/// Longest that an operator, or a task that nobody waits for, does.
const PEEK_WITHIN: Duration = Duration::from_secs(1);
/// For how long a bucket is kept when it is full again. Clocks of primary and replica may differ so much.
const KEEP_FULL_MS: u64 = 1_000;
/// For how long a replica counts after it last said that it is here: three of its rounds.
const REPLICA_LASTS_MS: u64 = 15_000;

/// The buckets of all replicas. They end by themselves when they are full.
pub struct RedisBucketStore {
    redis: Arc<SharedRedis>,
    charge: Script,
    replicas: Script,
    /// This process, among the replicas.
    replica: String,
    within: Duration,
    /// Moved by hand, in tests; else Redis' time, in microseconds.
    #[cfg(test)]
    now_micros: Option<u64>,
}

impl RedisBucketStore {
    /// Buckets in this Redis.
    pub fn new(redis: Arc<SharedRedis>) -> RedisBucketStore {
        RedisBucketStore {
            redis,
            charge: Script::new(include_str!("limits.lua")),
            replicas: Script::new(include_str!("replicas.lua")),
            replica: Uuid::new_v4().simple().to_string(),
            within: CHARGE_WITHIN,
            #[cfg(test)]
            now_micros: None,
        }
    }

    fn key(&self, bucket: &str) -> String {
        self.redis.key(&format!("{{limits}}:{bucket}"))
    }

    /// Redis' time, unless a test moves it; and for how long full buckets are kept: in tests, whose time is not that by
    /// which keys end, practically for ever.
    fn time(&self) -> (Option<u64>, u64) {
        #[cfg(test)]
        if self.now_micros.is_some() {
            return (self.now_micros, 3_600_000);
        }
        (None, KEEP_FULL_MS)
    }

    fn invocation(&self, charges: &[Charge]) -> ScriptInvocation<'_> {
        let mut call = self.charge.prepare_invoke();
        let (now_micros, keep_ms) = self.time();
        match now_micros {
            Some(now_micros) => call.arg(now_micros),
            None => call.arg(""),
        };
        call.arg(keep_ms);
        for charge in charges {
            call.key(self.key(&charge.bucket));
            add_arguments(&mut call, charge);
        }
        call
    }

    async fn values(&self, buckets: &[String], then_delete: bool) -> Result<Vec<Option<SharedBucket>>, RedisProblem> {
        if buckets.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = buckets.iter().map(|bucket| self.key(bucket)).collect();
        let mut commands = redis::pipe();
        commands.cmd("TIME").cmd("MGET").arg(&keys);
        if then_delete {
            commands.cmd("DEL").arg(&keys).ignore();
        }
        let ask = |mut connection: redis::aio::MultiplexedConnection| async move {
            commands.query_async::<((u64, u64), Vec<Option<Vec<u8>>>)>(&mut connection).await
        };
        let ((seconds, micros), values) = self.redis.ask(PEEK_WITHIN, ask).await?;
        let now_micros = self.time().0.unwrap_or(seconds.saturating_mul(1_000_000).saturating_add(micros));
        Ok(values.iter().map(|value| kept(value.as_deref()?, now_micros)).collect())
    }
}

/// The ten arguments about a bucket.
fn add_arguments(call: &mut ScriptInvocation<'_>, charge: &Charge) {
    let quota = charge.quota;
    let QuotaParts { limit, burst, period_micros, held_back_micros } = quota.parts();
    // A cost above the capacity never fits, by however much.
    let cost = quota.time_of(u64::from(charge.cost).min(quota.capacity() + 1));
    let fills = quota.fill_time();
    call.arg(limit).arg(burst).arg(period_micros).arg(held_back_micros);
    call.arg(fills.micros).arg(fills.part).arg(cost.micros).arg(cost.part);
    call.arg(u64::from(charge.ahead).min(most_ahead(period_micros)));
    call.arg(u8::from(charge.shadow));
}

fn most_ahead(period_micros: u64) -> u64 {
    ((1 << 53) / period_micros.max(1)).saturating_sub(1).min(MAX_TOKENS_AHEAD)
}

/// A bucket as the script writes it; `None` when it is full, or is none.
fn kept(value: &[u8], now_micros: u64) -> Option<SharedBucket> {
    let mut numbers = std::str::from_utf8(value).ok()?.split(' ').map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (full_at, part) = (next()?, u32::try_from(next()?).ok()?);
    let (limit, burst) = (u32::try_from(next()?).ok()?, u32::try_from(next()?).ok()?);
    let (period_micros, held_back_micros) = (next()?, next()?);
    let quota = Quota::from_parts(QuotaParts { limit, burst, period_micros, held_back_micros });
    let debt = Tat { micros: full_at, part }.debt(now_micros);
    (debt != Debt::NONE).then_some(SharedBucket { debt, quota })
}

fn away(problem: RedisProblem) -> StoreError {
    StoreError::Shared(problem.to_string())
}

#[async_trait]
impl BucketStore for RedisBucketStore {
    fn is_up(&self) -> bool {
        self.redis.is_up()
    }

    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Found>, StoreError> {
        let call = self.invocation(charges);
        let ask = |mut connection: redis::aio::MultiplexedConnection| async move {
            call.invoke_async::<Vec<u64>>(&mut connection).await
        };
        let numbers = self.redis.ask(self.within, ask).await.map_err(away)?;
        let found: Vec<Found> = numbers.as_chunks().0.iter().filter_map(|each| found(*each)).collect();
        if found.len() != charges.len() {
            return Err(StoreError::Shared("Redis: an answer about other buckets than were asked for".to_owned()));
        }
        Ok(found)
    }

    async fn peek(&self, buckets: &[String]) -> Result<Vec<Option<SharedBucket>>, StoreError> {
        self.values(buckets, false).await.map_err(away)
    }

    async fn reset(&self, buckets: &[String]) -> Result<Vec<Option<SharedBucket>>, StoreError> {
        self.values(buckets, true).await.map_err(away)
    }

    async fn heartbeat(&self) -> Result<u32, StoreError> {
        let mut call = self.replicas.prepare_invoke();
        call.key(self.key("replicas")).arg(&self.replica).arg(REPLICA_LASTS_MS);
        let ask = |mut connection: redis::aio::MultiplexedConnection| async move {
            call.invoke_async::<u32>(&mut connection).await
        };
        self.redis.ask(PEEK_WITHIN, ask).await.map_err(away)
    }
}

fn found([micros, part, ahead]: [u64; 3]) -> Option<Found> {
    let debt = Debt { micros, part: u32::try_from(part).ok()? };
    Some(Found { debt, ahead: u32::try_from(ahead).ok()? })
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
