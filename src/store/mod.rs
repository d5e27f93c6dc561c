//! Durable state behind traits: accounts, sessions, revocations. Owns how they are kept, not what they mean:
//! no password, token or rotation rule belongs here.

pub mod embedded;

#[cfg(test)]
mod contract_tests;

use std::path::PathBuf;

use async_trait::async_trait;

use crate::model::identity::{SessionId, UserId};
use crate::model::role::Role;

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
    /// It cannot answer now.
    #[error("identity store unavailable: {0}")]
    Unavailable(String),
    /// Something else was there first: the address has an account, or the account changed meanwhile.
    #[error("identity store: conflict")]
    Conflict,
    /// It holds a value that it should not be able to hold.
    #[error("identity store: unreadable value in {0}")]
    Unreadable(&'static str),
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub id: UserId,
    /// Its address, as given at registration.
    pub email: String,
    /// Name for people.
    pub full_name: String,
    /// What it may do.
    pub role: Role,
    /// Whether it may log in.
    pub is_active: bool,
    /// Access tokens issued at or before this Unix second are revoked.
    pub tokens_not_before_s: i64,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: i64,
}

/// One account with its password hash. Not `Debug`: hashes stay out of logs.
#[derive(Clone)]
pub struct Credentials {
    /// The account.
    pub user: User,
    /// PHC string.
    pub password_hash: String,
}

/// An account to be made. Not `Debug`: hashes stay out of logs.
#[derive(Clone)]
pub struct NewUser {
    /// The address in its one comparable form.
    pub email_key: String,
    /// The address as given.
    pub email: String,
    /// Name for people.
    pub full_name: String,
    /// What it may do.
    pub role: Role,
    /// PHC string.
    pub password_hash: String,
    /// Now, in Unix milliseconds.
    pub created_at_ms: i64,
}

/// A change that ends all sessions of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChange {
    /// Another role.
    Role(Role),
    /// Allowed to log in, or no longer.
    Active(bool),
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
    /// Log-in or last rotation, in Unix milliseconds.
    pub last_used_at_ms: i64,
    /// Absolute end, in Unix milliseconds.
    pub ends_at_ms: i64,
    /// When it was ended, in Unix milliseconds; `None` while it lives.
    pub ended_at_ms: Option<i64>,
}

/// A session to be opened.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its number.
    pub sid: SessionId,
    /// The account as it was when the password was checked; if it changed since, the answer is a conflict.
    pub user: User,
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
}

/// What was revoked. Never a token, nor its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// Every token of one session.
    Session(SessionId),
    /// Every token of an account issued at or before a Unix second.
    User(UserId, i64),
}

/// One fact of revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// Its place in the order of facts.
    pub revision: i64,
    /// What it is about.
    pub revoked: Revoked,
    /// Unix second after which no token of theirs can be alive.
    pub until_s: i64,
}

/// Accounts, sessions and revocations, kept.
#[async_trait]
pub trait IdentityStore: Send + Sync {
    /// Makes an account; a conflict when its address has one.
    async fn insert_user(&self, user: NewUser) -> Result<User, StoreError>;

    /// The account of an address in its comparable form.
    async fn credentials(&self, email_key: &str) -> Result<Option<Credentials>, StoreError>;

    /// The account with this number.
    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// Up to `limit` accounts with a number above `after`, in ascending order.
    async fn users(&self, after: UserId, limit: u32) -> Result<Vec<User>, StoreError>;

    /// Changes an account, ends its sessions and revokes its tokens, all or nothing. `None`: no such account.
    /// The account's `tokens_not_before_s` moves strictly forward, to `now_ms` or beyond.
    async fn change_user(
        &self,
        id: UserId,
        change: UserChange,
        now_ms: i64,
        revoked_until_s: i64,
    ) -> Result<Option<User>, StoreError>;

    /// Opens a session; answers which others were ended and revoked to make room.
    async fn insert_session(&self, session: NewSession) -> Result<Vec<SessionId>, StoreError>;

    /// The session with this number, ended ones included.
    async fn session(&self, sid: SessionId) -> Result<Option<Session>, StoreError>;

    /// Moves a living session's counter from `counter` to the next, atomically. `false`: it was not there any more.
    async fn rotate_session(&self, sid: SessionId, counter: i64, now_ms: i64) -> Result<bool, StoreError>;

    /// Ends a session and revokes its tokens. `false`: there was no such living session.
    async fn end_session(&self, sid: SessionId, now_ms: i64, revoked_until_s: i64) -> Result<bool, StoreError>;

    /// Every fact after `revision`, in order.
    async fn revocations_since(&self, revision: i64) -> Result<Vec<Revocation>, StoreError>;

    /// Forgets sessions past their absolute end and revocations that no longer matter.
    async fn purge(&self, now_ms: i64) -> Result<(), StoreError>;
}
