//! API keys of machine clients, as kept: everything but the key itself.

use async_trait::async_trait;

use super::StoreError;
use crate::model::identity::{ApiKeyId, UserId};
use crate::model::role::Role;

/// SHA-256 of a whole key. Keys are random, so nothing slower is needed.
pub type ApiKeyHash = [u8; 32];

/// One API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its number.
    pub id: ApiKeyId,
    /// Name for people.
    pub name: String,
    /// The public part of the key.
    pub prefix: String,
    /// The account that it acts for.
    pub user: UserId,
    /// The role that it acts with.
    pub role: Role,
    /// Names of the routes that it may call; empty: every route that takes API keys.
    pub routes: Vec<String>,
    /// The admin who made it; `None`: the command line.
    pub created_by: Option<UserId>,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: i64,
    /// When it ends, in Unix milliseconds; `None`: never.
    pub expires_at_ms: Option<i64>,
    /// When it was last used, in Unix milliseconds, as far as gateways have told.
    pub last_used_at_ms: Option<i64>,
    /// When it was revoked, in Unix milliseconds; `None` while it is good.
    pub revoked_at_ms: Option<i64>,
}

/// An API key to be kept.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Name for people.
    pub name: String,
    /// The public part of the key.
    pub prefix: String,
    /// Hash of the whole key.
    pub hash: ApiKeyHash,
    /// The account that it acts for.
    pub user: UserId,
    /// The role that it acts with.
    pub role: Role,
    /// Names of the routes that it may call; empty: every route that takes API keys.
    pub routes: Vec<String>,
    /// The admin who makes it; `None`: the command line.
    pub created_by: Option<UserId>,
    /// Now, in Unix milliseconds.
    pub created_at_ms: i64,
    /// When it ends, in Unix milliseconds; `None`: never.
    pub expires_at_ms: Option<i64>,
}

/// What a gateway must know to accept a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsableApiKey {
    /// The key.
    pub key: ApiKey,
    /// Its hash.
    pub hash: ApiKeyHash,
    /// Address of the account that it acts for.
    pub email: String,
}

/// API keys, kept.
#[async_trait]
pub trait ApiKeyStore: Send + Sync {
    /// Keeps a key. A conflict: there is no such active account, its role is below the key's, or the prefix is taken.
    async fn insert_api_key(&self, key: NewApiKey) -> Result<ApiKey, StoreError>;

    /// Up to `limit` keys with a number above `after`, in ascending order, revoked and expired ones included.
    async fn api_keys(&self, after: ApiKeyId, limit: u32) -> Result<Vec<ApiKey>, StoreError>;

    /// Up to `limit` keys with a number above `after` that may be used at `now_ms`, in ascending order. Keys become
    /// visible in the order of their numbers, as revocations do.
    async fn usable_api_keys_since(
        &self,
        after: ApiKeyId,
        now_ms: i64,
        limit: u32,
    ) -> Result<Vec<UsableApiKey>, StoreError>;

    /// Revokes a key for good, and writes the fact down for other gateways. `false`: there was no such good key.
    async fn revoke_api_key(&self, id: ApiKeyId, now_ms: i64, revoked_until_s: i64) -> Result<bool, StoreError>;

    /// Notes when keys were last used, in Unix milliseconds; an earlier time than the one known changes nothing.
    async fn touch_api_keys(&self, used: &[(ApiKeyId, i64)]) -> Result<(), StoreError>;
}
