//! Accounts, as kept.

use async_trait::async_trait;
use secrecy::SecretString;

use super::{Revoked, StoreError};
use crate::model::identity::{ApiKeyId, SessionId, UserId};
use crate::model::role::Role;

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
    /// PHC string, or a bcrypt hash of the earlier gateway.
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
#[derive(Debug, Clone)]
pub enum UserChange {
    /// Another role.
    Role(Role),
    /// Allowed to log in, or no longer; an account that is not loses its API keys for good.
    Active(bool),
    /// Another password.
    Password {
        /// Its hash as PHC string.
        hash: SecretString,
        /// The account's `tokens_not_before_s` when whoever wants this proved to be its owner: was it changed or
        /// deactivated since, the answer is a conflict. `None`: an operator wants it, whatever was before.
        proven_at: Option<i64>,
    },
    /// Nothing but the end of all sessions.
    SignOut,
}

/// An account after a change, and what the change took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The account as it is now.
    pub user: User,
    /// Its role before.
    pub role_before: Role,
    /// Its sessions that lived. By name, for a token of theirs may be in the making whose time is not before that of the
    /// change: clocks differ, and seconds turn.
    pub sessions: Vec<SessionId>,
    /// Its API keys that the change revoked, in ascending order: they went beyond it.
    pub api_keys: Vec<ApiKeyId>,
}

impl Changed {
    /// The facts that the store wrote down with the change.
    pub fn facts(&self) -> impl Iterator<Item = Revoked> + '_ {
        let user = Revoked::User(self.user.id, self.user.tokens_not_before_s);
        let sessions = self.sessions.iter().copied().map(Revoked::Session);
        std::iter::once(user).chain(sessions).chain(self.api_keys.iter().copied().map(Revoked::ApiKey))
    }
}

/// Accounts, kept.
#[async_trait]
pub trait UserStore: Send + Sync {
    /// Makes an account; a conflict when its address has one.
    async fn insert_user(&self, user: NewUser) -> Result<User, StoreError>;

    /// The account of an address in its comparable form.
    async fn credentials(&self, email_key: &str) -> Result<Option<Credentials>, StoreError>;

    /// The account with this number, with its password hash.
    async fn credentials_of(&self, id: UserId) -> Result<Option<Credentials>, StoreError>;

    /// The account with this number.
    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// Up to `limit` accounts with a number above `after`, in ascending order.
    async fn users(&self, after: UserId, limit: u32) -> Result<Vec<User>, StoreError>;

    /// Changes an account, ends its sessions and revokes its tokens and the API keys that it no longer covers, all or
    /// nothing. `None`: no such account.
    /// The account's `tokens_not_before_s` moves strictly forward, to `now_ms` or beyond.
    async fn change_user(
        &self,
        id: UserId,
        change: UserChange,
        now_ms: i64,
        revoked_until_s: i64,
    ) -> Result<Option<Changed>, StoreError>;

    /// Puts a stronger hash of the same password in the place of `from`. `false`: that was no longer the hash.
    async fn upgrade_hash(&self, id: UserId, from: &str, to: &str) -> Result<bool, StoreError>;

    /// The greatest cost, of those up to `most`, among the bcrypt hashes of active accounts; `None`: there are none.
    async fn bcrypt_cost(&self, most: u32) -> Result<Option<u32>, StoreError>;
}
