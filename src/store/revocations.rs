//! Facts of revocation, as kept.

use async_trait::async_trait;

use super::StoreError;
use crate::model::identity::{ApiKeyId, KeyId, SessionId, TokenId, UserId};

/// What was revoked. Never a token, nor its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// One access token.
    Token(TokenId),
    /// Every token of one session.
    Session(SessionId),
    /// Every token of an account issued at or before a Unix second.
    User(UserId, i64),
    /// Every token signed with one key.
    Key(KeyId),
    /// One API key.
    ApiKey(ApiKeyId),
}

impl Revoked {
    /// What tables keep of it: kind, value, and `not_before_s` (0 where it has none).
    pub(super) fn columns(&self) -> (&'static str, String, i64) {
        match self {
            Revoked::Token(token) => ("token", token.to_string(), 0),
            Revoked::Session(sid) => ("session", sid.to_string(), 0),
            Revoked::User(id, not_before_s) => ("user", id.to_string(), *not_before_s),
            Revoked::Key(kid) => ("key", kid.to_string(), 0),
            Revoked::ApiKey(id) => ("api_key", id.to_string(), 0),
        }
    }

    /// What [`columns`](Self::columns) kept.
    pub(super) fn from_columns(kind: &str, value: String, not_before_s: i64) -> Result<Revoked, StoreError> {
        let read = || {
            Some(match kind {
                "token" => Revoked::Token(value.parse().ok()?),
                "session" => Revoked::Session(value.parse().ok()?),
                "user" => Revoked::User(UserId(value.parse().ok()?), not_before_s),
                "api_key" => Revoked::ApiKey(ApiKeyId(value.parse().ok()?)),
                "key" => Revoked::Key(KeyId(value.into())),
                _ => return None,
            })
        };
        read().ok_or(StoreError::Unreadable("revocations.value"))
    }
}

/// One fact of revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Its place in the order of facts.
    pub revision: i64,
    /// What it is about.
    pub revoked: Revoked,
    /// Unix second after which nothing of theirs can be alive.
    pub until_s: i64,
}

/// Revocations, kept.
///
/// Facts become visible in the order of their revisions, whatever ran at once: who has seen one has seen, or can
/// no longer see, every earlier one.
#[async_trait]
pub trait RevocationStore: Send + Sync {
    /// Writes one fact down; answers its revision.
    async fn revoke(&self, revoked: Revoked, until_s: i64) -> Result<i64, StoreError>;

    /// Up to `limit` facts after `revision`, in order.
    async fn revocations_since(&self, revision: i64, limit: u32) -> Result<Vec<Revocation>, StoreError>;
}
