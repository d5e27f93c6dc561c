//! Making a key: the rules, for the admin pages and the command line alike.

use std::str::FromStr;

use secrecy::SecretString;

use super::format::{self, Made, NoRandom};
use crate::model::identity::UserId;
use crate::model::role::Role;
use crate::store::{ApiKey, IdentityStore, NewApiKey, StoreError};

/// Longest name, in characters.
const MAX_NAME_CHARS: usize = 100;

/// Most routes that a key may name.
pub const MAX_ROUTES: usize = 64;

/// How often a prefix that is taken is replaced by another: one of 62⁸ is taken next to never.
const TRIES: usize = 3;

/// A key's name for people: 1 to 100 characters, no control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyName(String);

impl FromStr for ApiKeyName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > MAX_NAME_CHARS {
            return Err("must have 1 to 100 characters");
        }
        if text.chars().any(char::is_control) {
            return Err("must not have control characters");
        }
        Ok(ApiKeyName(text.to_owned()))
    }
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct ApiKeyRequest {
    /// Name for people.
    pub name: ApiKeyName,
    /// The account that it acts for.
    pub user: UserId,
    /// The role that it acts with; `None`: the account's.
    pub role: Option<Role>,
    /// Names of the routes that it may call; empty: every route that takes API keys.
    pub routes: Vec<String>,
    /// When it ends, in Unix milliseconds; `None`: never.
    pub expires_at_ms: Option<i64>,
    /// The admin who makes it; `None`: the command line.
    pub created_by: Option<UserId>,
}

/// A key that was made.
#[derive(Debug)]
pub struct IssuedApiKey {
    /// The key itself: not kept anywhere.
    pub secret: SecretString,
    /// What is kept.
    pub key: ApiKey,
    /// Address of the account that it acts for.
    pub email: String,
    pub(super) hash: crate::store::ApiKeyHash,
}

/// Why a key was not made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The account does not exist, or is not active.
    #[error("there is no such active account")]
    NoAccount,
    /// The key would be more than its account.
    #[error("the key's role must not be above the account's, which is {0}")]
    RoleAbove(Role),
    /// It would be over already.
    #[error("the key's end lies in the past")]
    Past,
    /// No key can be made here.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
    /// The store did not keep it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a key and keeps what must be kept of it.
pub async fn issue(store: &dyn IdentityStore, request: ApiKeyRequest, now_ms: i64) -> Result<IssuedApiKey, IssueError> {
    if request.expires_at_ms.is_some_and(|end| end <= now_ms) {
        return Err(IssueError::Past);
    }
    let mut tries = 0;
    loop {
        let account = store.user(request.user).await?.filter(|user| user.is_active).ok_or(IssueError::NoAccount)?;
        let role = request.role.unwrap_or(account.role);
        if role > account.role {
            return Err(IssueError::RoleAbove(account.role));
        }
        let Made { key: secret, prefix, hash } = format::make()?;
        let new = NewApiKey {
            name: request.name.0.clone(),
            prefix,
            hash,
            user: account.id,
            role,
            routes: request.routes.clone(),
            created_by: request.created_by,
            created_at_ms: now_ms,
            expires_at_ms: request.expires_at_ms,
        };
        tries += 1;
        match store.insert_api_key(new).await {
            Ok(key) => return Ok(IssuedApiKey { secret, key, email: account.email, hash }),
            // The account changed since it was read, or the prefix is taken.
            Err(StoreError::Conflict) if tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}
