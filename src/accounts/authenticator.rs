//! From `Authorization` to [`Identity`]: in memory, no I/O, no lock that a request could wait for.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;

use super::bearer::{self, Parts};
use super::cache::TokenCache;
use super::keys::KeyRing;
use super::refresh::Presented;
use super::revocation::Revocations;
use super::token::{AccessTokens, NewToken, expired};
use crate::clock::Tick;
use crate::model::identity::Identity;
use crate::model::rejection::Rejection;

/// What a client is told to wait when no key may sign, which somebody must mend.
const NO_KEY_RETRY: Duration = Duration::from_secs(60);

/// Verifies access tokens. One per process.
pub struct Authenticator {
    access: AccessTokens,
    keyed: ArcSwap<Keyed>,
    revocations: Arc<Revocations>,
}

/// The keys in force, and what they proved: a verdict cannot outlive the ring that gave it.
struct Keyed {
    ring: KeyRing,
    cache: TokenCache,
}

impl Authenticator {
    /// An authenticator for tokens of these keys, issued by `issuer`.
    pub fn new(ring: KeyRing, issuer: &str, revocations: Arc<Revocations>) -> Authenticator {
        Authenticator {
            access: AccessTokens::new(issuer),
            keyed: ArcSwap::from_pointee(Keyed { ring, cache: TokenCache::new() }),
            revocations,
        }
    }

    /// Puts other keys in force, from the next request on; tokens of keys that left are refused. `false`: they are the
    /// ones in force already, and nothing changed.
    pub fn install(&self, ring: KeyRing) -> bool {
        if self.keyed.load().ring.is_same(&ring) {
            return false;
        }
        self.keyed.store(Arc::new(Keyed { ring, cache: TokenCache::new() }));
        true
    }

    /// The public keys that verify tokens: a JWK set (RFC 7517 §5), in JSON.
    pub fn key_set(&self) -> Bytes {
        self.keyed.load().ring.key_set()
    }

    /// An access token, signed with the key in force.
    pub(super) fn issue(&self, issued: &NewToken<'_>) -> Result<String, Rejection> {
        let keyed = self.keyed.load();
        let Some(signer) = keyed.ring.signer(|key| self.revocations.has_key(key)) else {
            tracing::error!(active = %keyed.ring.active(), "every key that could sign is revoked: nobody can log in");
            return Err(Rejection::AuthUnavailable(NO_KEY_RETRY));
        };
        self.access.issue(signer, issued)
    }

    /// Who asks, as proven by the one bearer token in `Authorization`, at `now_unix` (seconds).
    pub fn authenticate(&self, headers: &HeaderMap, now_unix: i64) -> Result<Identity, Rejection> {
        self.verify(bearer::token(headers)?, now_unix)
    }

    /// How old at `now` the knowledge of revocations is, by which it judges.
    pub fn revocations_age(&self, now: Tick) -> Duration {
        self.revocations.age(now)
    }

    /// What this token proves. Expiry and revocation are looked at every time, cached or not.
    pub(super) fn verify(&self, token: &[u8], now: i64) -> Result<Identity, Rejection> {
        let keyed = self.keyed.load();
        let identity = match keyed.cache.get(token, now) {
            Some(identity) => identity,
            None => {
                let identity = self.verify_anew(&keyed.ring, token, now)?;
                keyed.cache.put(token, &identity, now);
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

    fn verify_anew(&self, ring: &KeyRing, token: &[u8], now: i64) -> Result<Identity, Rejection> {
        let Some(parts) = Parts::of(token) else {
            // A refresh token has no dots: it is a token in the wrong place, whether good or not.
            return Err(match Presented::parse(token) {
                Some(_) => Rejection::WrongTokenType,
                None => Rejection::InvalidTokenFormat,
            });
        };
        self.access.verify(ring, &parts, now)
    }
}
