//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a request that is sent twice is carried out once.
//!
//! The filter reads the key and says under whose name it counts. The proxy then asks the store ([`Keyed::begin`]): the first
//! request gets a [`Recording`], a guard that fingerprints the payload as it passes and collects the answer. A repeat gets
//! that answer. A request that ends in another way gives its key back, unless a target may still be at work on it.
//!
//! Safe methods need no key: there the header is left alone.

mod key;
mod payload;
mod recording;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use super::{Decision, Exchange, Filter};
use crate::config::spec::IdempotencySpec;
use crate::model::rejection::Rejection;
use crate::model::reply::Reply;
use crate::store::{Begun, Caller, Fingerprint, IdempotencyStore, Kept, KeyScope};
use crate::telemetry::metrics::{IdempotencyMetrics, IdempotencyResult};
pub use payload::Payload;
pub use recording::{Recording, Settling};

/// What a client is told to wait while the first request is in flight: how long that takes is not known.
const RETRY_IN_FLIGHT: Duration = Duration::from_secs(1);
/// And while the store does not answer.
const RETRY_STORE: Duration = Duration::from_secs(1);
/// Marks answers that were kept.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The rules of one route, with what they are applied to.
pub struct Policy {
    /// How long an answer is kept.
    pub ttl: Duration,
    /// Whether a request without a key is refused.
    pub required: bool,
    /// Most bytes of an answer that is kept, headers included.
    pub max_answer: usize,
    /// Where keys and answers are.
    pub store: Arc<dyn IdempotencyStore>,
    /// Counters of the route.
    pub metrics: IdempotencyMetrics,
}

impl Policy {
    /// By the table, on this store.
    pub fn new(spec: &IdempotencySpec, store: Arc<dyn IdempotencyStore>, metrics: IdempotencyMetrics) -> Policy {
        let max_answer = usize::try_from(spec.max_answer.0).unwrap_or(usize::MAX);
        Policy { ttl: spec.ttl.0, required: spec.required, max_answer, store, metrics }
    }
}

/// Reads the key of a request.
pub struct Idempotency {
    policy: Arc<Policy>,
    route: Arc<str>,
}

impl Idempotency {
    /// By the policy of this route.
    pub fn new(policy: Policy, route: &str) -> Idempotency {
        Idempotency { policy: Arc::new(policy), route: route.into() }
    }
}

#[async_trait]
impl Filter for Idempotency {
    async fn on_request(&self, exchange: &mut Exchange<'_>) -> Result<Decision, Rejection> {
        if exchange.head.method.is_safe() {
            return Ok(Decision::Continue);
        }
        let key = match key::key(&exchange.head.headers)? {
            Some(key) => key,
            None if self.policy.required => return Err(Rejection::MissingIdempotencyKey),
            None => return Ok(Decision::Continue),
        };
        let caller = match &exchange.identity {
            Some(identity) => Caller::User(identity.user),
            None => {
                Caller::Unproven { address: exchange.client.address, credentials: credentials(&exchange.head.headers) }
            }
        };
        let scope = KeyScope { caller, route: self.route.clone(), key };
        exchange.keyed = Some(Keyed { policy: self.policy.clone(), scope });
        Ok(Decision::Continue)
    }
}

/// What the service may tell unproven callers behind one address apart by, as one hash.
fn credentials(headers: &HeaderMap) -> [u8; 32] {
    let mut hash = Sha256::new();
    for name in [COOKIE, AUTHORIZATION] {
        // HTTP/2 may send one `Cookie` in parts (RFC 9113 §8.2.3): in parts or whole, it is the same text.
        let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        let text = values.join(&b"; "[..]);
        // With its length before it, no text runs into the next one.
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

/// A request with a key.
pub struct Keyed {
    policy: Arc<Policy>,
    scope: KeyScope,
}

/// What a request with a key is.
pub enum Start {
    /// The first one: it goes on.
    First(Box<Recording>),
    /// A repeat of one that was answered, if its payload is the same.
    Repeat(Box<Repeat>),
}

impl Keyed {
    /// Marks the key as in flight, for `lease` at most, or says what is known of it.
    ///
    /// # Errors
    /// While another request with this key is in flight, and when the store does not answer: the client asked for a
    /// guarantee that cannot be given then.
    pub async fn begin(self, payload: Payload, lease: Duration) -> Result<Start, Rejection> {
        let Keyed { policy, scope } = self;
        match policy.store.begin(&scope, lease).await {
            Ok(Begun::First(ticket)) => Ok(Start::First(Box::new(Recording::new(policy, ticket, payload)))),
            Ok(Begun::Kept(kept)) => Ok(Start::Repeat(Box::new(Repeat { policy, payload, kept }))),
            Ok(Begun::InFlight) => {
                policy.metrics.count(IdempotencyResult::InFlight);
                Err(Rejection::IdempotencyInFlight(RETRY_IN_FLIGHT))
            }
            Err(error) => {
                tracing::debug!(%error, "a request with an Idempotency-Key is refused");
                Err(Rejection::IdempotencyUnavailable(RETRY_STORE))
            }
        }
    }
}

/// A request whose key was answered before; whether it is the same request is known when its body has passed.
pub struct Repeat {
    policy: Arc<Policy>,
    payload: Payload,
    kept: Arc<Kept>,
}

impl Repeat {
    /// The next part of its body.
    pub fn update(&mut self, chunk: &[u8]) {
        self.payload.update(chunk);
    }

    /// The answer that was kept.
    ///
    /// # Errors
    /// When this is another request, or the answer was too long to keep.
    pub fn answer(self) -> Result<Reply, Rejection> {
        let fingerprint: Fingerprint = self.payload.fingerprint();
        if fingerprint != self.kept.fingerprint {
            self.policy.metrics.count(IdempotencyResult::Mismatch);
            return Err(Rejection::IdempotencyMismatch);
        }
        let Some(mut reply) = self.kept.answer.clone() else { return Err(Rejection::IdempotencyAnswerTooLong) };
        reply.headers.push((REPLAYED, HeaderValue::from_static("true")));
        self.policy.metrics.count(IdempotencyResult::Replayed);
        Ok(reply)
    }
}

/// Whether an answer with this status ends the matter. The others are failures that a client may try again.
fn is_kept(status: StatusCode) -> bool {
    !status.is_server_error()
        && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
}

#[cfg(test)]
mod tests;
