//! Durable state behind traits: accounts, sessions, revocations, API keys, what operators decided about limits, the
//! audit trail. Owns how they are kept, not what they mean: no password, token or rotation rule belongs here.

mod api_keys;
mod audit;
pub mod embedded;
mod idempotency;
mod limit_rules;
mod limits;
#[cfg(test)]
pub(crate) mod limits_model;
mod local_idempotency;
mod local_throttle;
pub mod postgres;
pub mod redis;
mod revocations;
mod sessions;
mod throttle;
mod users;

#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod limit_rules_tests;

use std::path::PathBuf;

use async_trait::async_trait;

pub use api_keys::{ApiKey, ApiKeyHash, ApiKeyStore, NewApiKey, UsableApiKey};
pub use audit::{AuditEntry, AuditHash, AuditHead, AuditRecord, AuditStore, chain as audit_chain};
pub use idempotency::{
    Begun, Caller, Ending, Fingerprint, IdempotencyStore, Kept, KeyScope, ScopeHasher, ScopeId, Ticket,
};
pub use limit_rules::{AddressBlock, LimitOverride, LimitRuleStore, LimitRules, MAX_BLOCKS, MAX_OVERRIDES};
pub use limits::{BucketStore, Charge, Found, SharedBucket};
pub use local_idempotency::{IdempotencyBounds, LocalIdempotency};
pub use local_throttle::LocalThrottle;
pub use revocations::{Revocation, RevocationStore, Revoked};
pub use sessions::{NewSession, Session, SessionKey, SessionStore};
pub use throttle::{Admission, Claim, Place, Pseudonyms, ThrottleStore};
pub use users::{Changed, Credentials, NewUser, User, UserChange, UserStore};

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened as what it should be; says what to do. Only at start.
    #[error("identity store {}: {why}; {fix}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What the operator can do.
        fix: &'static str,
    },
    /// The database cannot be used as it is; says what to do. Only at start.
    #[error("identity store: {why}; {fix}")]
    Database {
        /// What is wrong.
        why: String,
        /// What the operator can do.
        fix: String,
    },
    /// It cannot answer now.
    #[error("identity store unavailable: {0}")]
    Unavailable(String),
    /// What replicas share besides it, such as Redis, cannot answer now; says which and why.
    #[error("{0}")]
    Shared(String),
    /// Something else was there first: the address has an account, or the account changed meanwhile.
    #[error("identity store: conflict")]
    Conflict,
    /// It has as many of them as it keeps at once.
    #[error("identity store: it has {most} {what} in force, which is the most; take others away first")]
    Full {
        /// How many that are.
        most: u32,
        /// Of what.
        what: &'static str,
    },
    /// It holds a value that it should not be able to hold.
    #[error("identity store: unreadable value in {0}")]
    Unreadable(&'static str),
}

/// Everything about identity, kept in one place, so that one transaction can change several of its parts.
#[async_trait]
pub trait IdentityStore:
    UserStore + SessionStore + RevocationStore + ApiKeyStore + LimitRuleStore + AuditStore
{
    /// Forgets sessions past their absolute end, revocations that no longer matter, and overrides and blocks that ended.
    async fn purge(&self, now_ms: i64) -> Result<(), StoreError>;
}
