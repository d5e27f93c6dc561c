//! Sessions, as kept.

use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;

use super::{StoreError, User};
use crate::model::identity::{SessionId, UserId};

/// The key that makes one session's refresh tokens. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey(pub [u8; 32]);

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

/// One log-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub sid: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// Counter of the refresh token in force.
    pub counter: i64,
    /// Makes its refresh tokens.
    pub mac_key: SessionKey,
    /// Log-in, in Unix milliseconds.
    pub created_at_ms: i64,
    /// Log-in or last rotation, in Unix milliseconds.
    pub last_used_at_ms: i64,
    /// Absolute end, in Unix milliseconds.
    pub ends_at_ms: i64,
    /// When it was ended, in Unix milliseconds; `None` while it lives.
    pub ended_at_ms: Option<i64>,
    /// Where the log-in came from.
    pub address: Option<IpAddr>,
    /// What the client called itself then.
    pub user_agent: Option<String>,
}

/// A session to be opened.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its number.
    pub sid: SessionId,
    /// The account as it was when the password was checked; if it changed since, the answer is a conflict.
    pub user: User,
    /// Makes its refresh tokens.
    pub mac_key: SessionKey,
    /// Now, in Unix milliseconds.
    pub now_ms: i64,
    /// Absolute end, in Unix milliseconds.
    pub ends_at_ms: i64,
    /// Sessions last used at or before this time are over.
    pub idle_since_ms: i64,
    /// So many sessions may live, this one included; the oldest go.
    pub keep: usize,
    /// Until when revocations of those that go matter, in Unix seconds.
    pub revoked_until_s: i64,
    /// Where the log-in comes from.
    pub address: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
}

/// Sessions, kept.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Opens a session; answers which others were ended and revoked to make room.
    async fn insert_session(&self, session: NewSession) -> Result<Vec<SessionId>, StoreError>;

    /// The session with this number, ended ones included.
    async fn session(&self, sid: SessionId) -> Result<Option<Session>, StoreError>;

    /// The living sessions of an account, the youngest log-in first; those last used at or before `idle_since_ms`
    /// are over.
    async fn sessions_of(&self, user: UserId, now_ms: i64, idle_since_ms: i64) -> Result<Vec<Session>, StoreError>;

    /// Moves a living session's counter from `counter` to the next, atomically. `false`: it was not there any more.
    async fn rotate_session(&self, sid: SessionId, counter: i64, now_ms: i64) -> Result<bool, StoreError>;

    /// Ends a session and revokes its tokens. `false`: there was no such living session.
    async fn end_session(&self, sid: SessionId, now_ms: i64, revoked_until_s: i64) -> Result<bool, StoreError>;
}
