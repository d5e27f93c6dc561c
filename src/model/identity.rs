//! Who is asking, as proven by an access token.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use super::role::Role;

/// Number of an account in the identity store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub i64);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One log-in of one account (`sid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub Uuid);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(SessionId)
    }
}

/// One access token (`jti`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId(pub Uuid);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The proven facts about the caller. Made only by verifying an access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub user: UserId,
    /// Its e-mail address when the token was made.
    pub email: Arc<str>,
    /// Its role when the token was made.
    pub role: Role,
    /// The log-in that the token belongs to.
    pub session: SessionId,
    /// The token itself.
    pub token: TokenId,
    /// When it was issued, in Unix seconds.
    pub issued_at: i64,
    /// When the token ends, in Unix seconds.
    pub expires_at: i64,
}

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    /// The client's address: the socket's peer, or what trusted proxies said.
    pub address: IpAddr,
    /// Whether the client's own connection is TLS.
    pub secure: bool,
}
