//! Who people are: accounts, passwords, sessions, tokens and their revocation.
//!
//! [`Authenticator`] and [`ApiKeys`] are the request path: in memory, no I/O. [`Accounts`] is the rest, behind `/auth`.

mod administration;
pub mod api_keys;
pub mod authenticator;
mod background;
mod bearer;
mod cache;
mod changes;
mod common;
pub mod email;
mod ending;
mod hash_threads;
pub mod hashing;
pub mod keys;
mod living;
mod login;
mod origin;
mod own;
mod page;
pub mod password;
mod refresh;
pub mod revocation;
pub mod secrets;
pub mod service;
mod session;
mod stored_hash;
mod throttle;
mod token;
mod witness;

#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod ending_tests;
#[cfg(test)]
mod login_tests;
#[cfg(test)]
mod service_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod witness_tests;

use std::time::Duration;

pub use administration::AccessChange;
pub use api_keys::{ApiKeyName, ApiKeyRequest, ApiKeys, IssuedApiKey};
pub use authenticator::Authenticator;
pub use background::PULL_EVERY;
pub use changes::{admin_words, events as change_events};
pub use email::{Email, FullName};
pub use hashing::{HashCost, HashPool};
pub use keys::{KeyRing, KeySource};
pub use living::LivingSession;
pub use origin::Origin;
pub use page::Page;
pub use password::NewPassword;
pub use revocation::Revocations;
pub use secrets::Secrets;
pub use service::{Accounts, OpenError, Registration, TokenPair};
pub use stored_hash::Verdict;

pub use crate::model::identity::MAX_ACCESS_TTL;

/// Clocks of verifiers and issuers may differ by so many seconds.
pub const LEEWAY_S: i64 = 30;

/// [`MAX_ACCESS_TTL`] in seconds.
fn longest_life_s() -> i64 {
    i64::try_from(MAX_ACCESS_TTL.as_secs()).unwrap_or(i64::MAX)
}

/// When every access token made until `now_s` is certainly over, however long this installation's live, in Unix seconds:
/// until when a revocation matters that is written without knowing their life. Longer, too, than any gateway goes without
/// reading all API keys anew.
pub fn revoked_until_s(now_s: i64) -> i64 {
    now_s.saturating_add(longest_life_s()).saturating_add(LEEWAY_S + 1)
}

/// How many sessions of one account may live at once; the oldest goes.
pub const MAX_SESSIONS: usize = 10;

/// Settings of this room.
#[derive(Debug, Clone)]
pub struct AccountsConfig {
    /// `iss` of our tokens, and the only one believed.
    pub issuer: String,
    /// Life of an access token; at most [`MAX_ACCESS_TTL`].
    pub access_ttl: Duration,
    /// A session that was not refreshed for this long is over.
    pub refresh_ttl: Duration,
    /// A session is over after this long, however often it is refreshed.
    pub session_ttl: Duration,
    /// Password hashes computed at once; each takes a core and `hash_cost.memory_kib`.
    pub parallel_hashes: usize,
    /// Password hashes that may wait; one more is refused.
    pub hash_queue: usize,
    /// What one password hash costs.
    pub hash_cost: HashCost,
}

impl Default for AccountsConfig {
    fn default() -> Self {
        AccountsConfig {
            issuer: "supersmartmatch-gateway".into(),
            access_ttl: Duration::from_secs(24 * 3600),
            refresh_ttl: Duration::from_secs(7 * 86_400),
            session_ttl: Duration::from_secs(30 * 86_400),
            parallel_hashes: 2,
            hash_queue: 64,
            hash_cost: HashCost::default(),
        }
    }
}
