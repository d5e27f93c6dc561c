//! From `Authorization` to [`Identity`]: in memory, no I/O, no lock that a request could wait for.

use std::sync::Arc;

use http::HeaderMap;
use secrecy::SecretString;

use super::bearer::{self, Parts};
use super::cache::TokenCache;
use super::refresh::RefreshTokens;
use super::revocation::Revocations;
use super::token::{AccessTokens, expired};
use crate::model::identity::Identity;
use crate::model::rejection::Rejection;

/// Verifies access tokens. One per process.
pub struct Authenticator {
    pub(super) access: AccessTokens,
    pub(super) refresh: RefreshTokens,
    cache: TokenCache,
    revocations: Arc<Revocations>,
}

impl Authenticator {
    /// An authenticator for tokens signed with `secret` and issued by `issuer`.
    pub fn new(secret: &SecretString, issuer: &str, revocations: Arc<Revocations>) -> Authenticator {
        Authenticator {
            access: AccessTokens::new(secret, issuer),
            refresh: RefreshTokens::new(secret),
            cache: TokenCache::new(),
            revocations,
        }
    }

    /// Who asks, as proven by the one bearer token in `Authorization`, at `now_unix` (seconds).
    pub fn authenticate(&self, headers: &HeaderMap, now_unix: i64) -> Result<Identity, Rejection> {
        self.verify(bearer::token(headers)?, now_unix)
    }

    /// What this token proves. Expiry and revocation are looked at every time, cached or not.
    pub(super) fn verify(&self, token: &[u8], now: i64) -> Result<Identity, Rejection> {
        let identity = match self.cache.get(token, now) {
            Some(identity) => identity,
            None => {
                let identity = self.verify_anew(token, now)?;
                self.cache.put(token, &identity, now);
                identity
            }
        };
        if expired(&identity, now) {
            return Err(Rejection::TokenExpired);
        }
        if self.revocations.covers(&identity) {
            return Err(Rejection::TokenRevoked);
        }
        Ok(identity)
    }

    fn verify_anew(&self, token: &[u8], now: i64) -> Result<Identity, Rejection> {
        let Some(parts) = Parts::of(token) else {
            // A refresh token of ours has no dots: it is a good token in the wrong place.
            return Err(match self.refresh.read(token) {
                Some(_) => Rejection::WrongTokenType,
                None => Rejection::InvalidTokenFormat,
            });
        };
        self.access.verify(&parts, now)
    }
}
