//! The throttle that replicas share: one script per decision, on Redis' own time.

use std::time::Duration;

use async_trait::async_trait;
use redis::Script;
use secrecy::SecretString;
use tokio::sync::OnceCell;

use super::kept_key::kept_key;
use super::{RedisProblem, SharedRedis};
use crate::model::throttle::{KEEP_MS, KEEP_WAITS_MS, LONGEST_WAIT_S, PER_ADDRESS, PER_EMAIL};
use crate::store::throttle::{KNOWN_MS, Pseudonym};
use crate::store::{Admission, Claim, Place, Pseudonyms, StoreError, ThrottleStore};

/// Longest that a log-in waits for a decision; without one, this process decides alone.
const WITHIN: Duration = Duration::from_millis(50);

/// Where the key of the pseudonyms is kept when replicas have no secret in common.
const KEPT_KEY: &str = "throttle:key";

const SCRIPT: &str = include_str!("throttle.lua");

/// The counts of all replicas. Keys say nothing about whose they are, and end by themselves.
pub struct RedisThrottle {
    redis: std::sync::Arc<SharedRedis>,
    script: Script,
    pseudonyms: OnceCell<Pseudonyms>,
    /// Moved by hand, in tests; else Redis' time, in milliseconds.
    now_ms: Option<u64>,
}

/// What the script does, besides deciding.
#[derive(Debug, Clone, Copy)]
enum Act {
    Reserve,
    Proven(Option<Place>),
    Undecided(Place),
}

impl RedisThrottle {
    /// Pseudonyms are made under a key derived from `secret`, which all replicas have; without one, under a random key that the
    /// first of them leaves in Redis. The latter keeps addresses from eyes, not from whoever copies all of Redis.
    pub fn new(redis: std::sync::Arc<SharedRedis>, secret: Option<&SecretString>) -> RedisThrottle {
        let pseudonyms = OnceCell::new_with(secret.map(Pseudonyms::derived));
        RedisThrottle { redis, script: Script::new(SCRIPT), pseudonyms, now_ms: None }
    }

    async fn pseudonyms(&self) -> Result<&Pseudonyms, RedisProblem> {
        let kept = || async { kept_key(&self.redis, KEPT_KEY, WITHIN).await.map(Pseudonyms::under) };
        self.pseudonyms.get_or_try_init(kept).await
    }

    async fn run(&self, claim: &Claim, act: Act) -> Result<(i64, u64, u64, u64), RedisProblem> {
        let subjects = self.pseudonyms().await?.of(claim);
        let key =
            |kind: &str, id: Pseudonym| self.redis.key(&format!("throttle:{kind}:{:032x}", u128::from_be_bytes(id)));
        let (name, place) = match act {
            Act::Reserve => ("reserve", None),
            Act::Proven(Some(place)) => ("proven", Some(place)),
            Act::Proven(None) => ("remember", None),
            Act::Undecided(place) => ("undecided", Some(place)),
        };
        let place = place.unwrap_or(Place { known: false, email_until_ms: 0, address_until_ms: 0 });
        let mut call = self.script.prepare_invoke();
        call.key(key("e", subjects.email)).key(key("a", subjects.address));
        call.key(key("p", subjects.pair)).key(key("k", subjects.pair));
        call.arg(name).arg(u8::from(claim.address.is_some())).arg(u8::from(place.known));
        call.arg(place.email_until_ms).arg(place.address_until_ms);
        call.arg(self.now_ms.map(|now_ms| now_ms.to_string()).unwrap_or_default());
        call.arg(PER_EMAIL.free).arg(PER_ADDRESS.free);
        call.arg(KEEP_MS).arg(KEEP_WAITS_MS).arg(LONGEST_WAIT_S).arg(KNOWN_MS);
        self.redis.ask(WITHIN, |mut connection| async move { call.invoke_async(&mut connection).await }).await
    }
}

fn away(problem: RedisProblem) -> StoreError {
    StoreError::Shared(problem.to_string())
}

#[async_trait]
impl ThrottleStore for RedisThrottle {
    async fn reserve(&self, claim: &Claim) -> Result<Admission, StoreError> {
        let (admitted, first, email_until_ms, address_until_ms) = self.run(claim, Act::Reserve).await.map_err(away)?;
        Ok(match admitted {
            1 => Admission::Admitted(Place { known: first == 1, email_until_ms, address_until_ms }),
            _ => Admission::Wait(Duration::from_millis(first)),
        })
    }

    async fn proven(&self, claim: &Claim, place: Option<Place>) -> Result<(), StoreError> {
        self.run(claim, Act::Proven(place)).await.map(|_| ()).map_err(away)
    }

    async fn undecided(&self, claim: &Claim, place: Place) -> Result<(), StoreError> {
        self.run(claim, Act::Undecided(place)).await.map(|_| ()).map_err(away)
    }
}

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod tests;
