//! API keys of machine clients. [`ApiKeys`] is the request path: in memory, no I/O, no lock.
//!
//! A key acts for an account, with a role of its own that is never above the account's, on every route that takes API
//! keys or only on those that it names.

mod format;
mod issue;
mod manage;
mod pull;
mod table;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32};

use http::{HeaderMap, HeaderName};

pub use format::NoRandom;
pub use issue::{ApiKeyName, ApiKeyRequest, IssueError, IssuedApiKey, MAX_ROUTES, issue};

use self::format::Presented;
use self::table::{Entry, Table};
use super::Revocations;
use crate::model::identity::Identity;
use crate::model::rejection::Rejection;

/// The header that carries a key.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The keys that may be used now, as far as this process knows. One per process.
pub struct ApiKeys {
    table: Table,
    revocations: Arc<Revocations>,
    /// The highest number that was pulled.
    seen: AtomicI64,
    pulls: AtomicU32,
    /// Whether the last pull came to its end: after a gap, facts may have been missed.
    complete: AtomicBool,
}

/// A key that was proven.
pub struct KeyHolder(Arc<Entry>);

impl KeyHolder {
    /// Whom it proves: the account that the key acts for, with the key's role.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Whether the key may call the route with this name.
    pub fn may_call(&self, route: &str) -> bool {
        self.0.may_call(route)
    }
}

impl ApiKeys {
    /// No key is known.
    pub fn new(revocations: Arc<Revocations>) -> ApiKeys {
        ApiKeys {
            table: Table::new(),
            revocations,
            seen: AtomicI64::new(0),
            pulls: AtomicU32::new(0),
            complete: AtomicBool::new(false),
        }
    }

    /// Whose key is in `X-API-Key`, at `now_unix` (seconds); `None`: there is no such header. Beside `Authorization` it
    /// is refused: two answers to who asks are none.
    pub fn authenticate(&self, headers: &HeaderMap, now_unix: i64) -> Result<Option<KeyHolder>, Rejection> {
        let mut sent = headers.get_all(X_API_KEY).iter();
        let Some(key) = sent.next() else { return Ok(None) };
        if headers.contains_key(http::header::AUTHORIZATION) {
            return Err(Rejection::BadRequest("both Authorization and X-API-Key"));
        }
        if sent.next().is_some() {
            return Err(Rejection::InvalidApiKey);
        }
        self.verify(key.as_bytes(), now_unix).map(Some).ok_or(Rejection::InvalidApiKey)
    }

    fn verify(&self, key: &[u8], now_unix: i64) -> Option<KeyHolder> {
        let entry = self.table.find(&Presented::parse(key)?)?;
        let now_ms = now_unix.saturating_mul(1000);
        if entry.is_over(now_ms) || self.revocations.covers(&entry.identity) {
            return None;
        }
        entry.touch(now_ms);
        Some(KeyHolder(entry))
    }
}
