//! Keys and answers that replicas share. One script call decides; marks of requests in flight end by themselves.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::Script;
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::backoff::Backoff;
use super::kept_answer::{self, MARK};
use super::kept_key::kept_key;
use super::{RedisProblem, SharedRedis};
use crate::store::{Begun, Ending, IdempotencyStore, KeyScope, ScopeHasher, ScopeId, StoreError, Ticket};

/// Longest that a request waits to hear whether its key is known; then it is refused. An answer of some MiB has to come
/// over in this time.
const WITHIN: Duration = Duration::from_millis(250);

/// Tries to say how a request ended; with the waits between them they span about two seconds.
const TRIES: usize = 6;

/// Where the key of the hashes is kept when replicas have no secret in common.
const KEPT_KEY: &str = "idem:key";

const SCRIPT: &str = include_str!("idempotency.lua");

/// The keys and answers of all replicas. Names in Redis say nothing about whose they are, and all end by themselves.
pub struct RedisIdempotency {
    calls: Arc<Calls>,
    hasher: OnceCell<ScopeHasher>,
    runtime: Handle,
}

struct Calls {
    redis: Arc<SharedRedis>,
    script: Script,
}

/// What the script does.
#[derive(Clone)]
enum Act {
    Begin(Duration),
    Keep(Arc<Vec<u8>>, Duration),
    Free,
}

impl RedisIdempotency {
    /// Names are made under a key derived from `secret`, which all replicas have; without one, under a random key that the
    /// first of them leaves in Redis. What goes on by itself does so on `runtime`.
    pub fn new(redis: Arc<SharedRedis>, secret: Option<&SecretString>, runtime: Handle) -> RedisIdempotency {
        let hasher = OnceCell::new_with(secret.map(ScopeHasher::derived));
        RedisIdempotency { calls: Arc::new(Calls { redis, script: Script::new(SCRIPT) }), hasher, runtime }
    }

    async fn try_begin(&self, scope: &KeyScope, lease: Duration) -> Result<Begun, RedisProblem> {
        let redis = &self.calls.redis;
        let hasher =
            self.hasher.get_or_try_init(|| async { kept_key(redis, KEPT_KEY, WITHIN).await.map(ScopeHasher::under) });
        let ticket = Ticket { scope: hasher.await?.of(scope), owner: Uuid::new_v4().as_u128() };
        match self.calls.run(ticket, Act::Begin(lease)).await {
            Ok(None) => Ok(Begun::First(ticket)),
            Ok(Some(known)) if known.first() == Some(&MARK) => match kept_answer::decode(known) {
                Some(kept) => Ok(Begun::Kept(Arc::new(kept))),
                None => Err(RedisProblem::Failed("an answer that cannot be read".to_owned())),
            },
            Ok(Some(_)) => Ok(Begun::InFlight),
            Err(problem) => {
                // Unless nothing was sent, it may have been done all the same, with nobody to own the mark.
                if problem != RedisProblem::Away {
                    self.end(ticket, Ending::Free);
                }
                Err(problem)
            }
        }
    }
}

impl Calls {
    async fn run(&self, ticket: Ticket, act: Act) -> Result<Option<Vec<u8>>, RedisProblem> {
        let none = Arc::default();
        let (name, lasting, answer) = match &act {
            Act::Begin(lease) => ("begin", *lease, &none),
            Act::Keep(answer, ttl) => ("keep", *ttl, answer),
            Act::Free => ("free", Duration::ZERO, &none),
        };
        let mut call = self.script.prepare_invoke();
        call.key(self.redis.key(&name_of(&ticket.scope))).arg(name).arg(format!("F{:032x}", ticket.owner));
        call.arg(u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX).max(1)).arg(answer.as_slice());
        self.redis.ask(WITHIN, |mut connection| async move { call.invoke_async(&mut connection).await }).await
    }

    /// Says how a request ended, for some seconds. In vain, the mark stays until its lease ends.
    async fn settle(&self, ticket: Ticket, act: Act) {
        let mut backoff = Backoff::default();
        for _ in 0..TRIES {
            match self.run(ticket, act.clone()).await {
                Ok(_) => return,
                Err(problem) => tracing::debug!(error = %problem, "the end of a request with an Idempotency-Key"),
            }
            tokio::time::sleep(backoff.next()).await;
        }
        tracing::warn!(
            "Redis did not take the end of a request with an Idempotency-Key; its repeats wait for the lease"
        );
    }
}

fn name_of(scope: &ScopeId) -> String {
    let hex: String = scope.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("idem:{hex}")
}

#[async_trait]
impl IdempotencyStore for RedisIdempotency {
    async fn begin(&self, scope: &KeyScope, lease: Duration) -> Result<Begun, StoreError> {
        self.try_begin(scope, lease).await.map_err(|problem| StoreError::Shared(problem.to_string()))
    }

    fn end(&self, ticket: Ticket, ending: Ending) -> Option<JoinHandle<()>> {
        let act = match ending {
            Ending::Keep(kept, ttl) => Act::Keep(Arc::new(kept_answer::encode(&kept)), ttl),
            Ending::Free => Act::Free,
        };
        let calls = self.calls.clone();
        Some(self.runtime.spawn(async move { calls.settle(ticket, act).await }))
    }
}

#[cfg(test)]
#[path = "idempotency_tests.rs"]
mod tests;
