//! The throttle of log-ins: who may try now. Its arithmetic is `model::throttle`; here is who is counted, and where.
//!
//! A stranger, from an address that never logged in to this account, is counted under the e-mail address and under
//! the client's address. Where the account was logged in to lately, only the **pair** of both is counted: failures
//! elsewhere do not lock the owner out, and others at a large site's one address do not either.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use super::StoreError;
use crate::model::forwarded::subscriber;

/// How long an address stays one of an account's own after a log-in, in milliseconds: 30 days.
pub const KNOWN_MS: u64 = 30 * 86_400_000;

/// Who wants to prove a password. Not `Debug`: addresses stay out of logs.
#[derive(Clone)]
pub struct Claim {
    /// The e-mail address in its comparable form, whether or not it has an account.
    pub email_key: String,
    /// The client's address, when there is one.
    pub address: Option<IpAddr>,
}

/// An attempt that may be made, counted as failed until it is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Whether it is counted under the pair alone.
    pub known: bool,
    /// `until_ms` that it gave the e-mail address, or the pair when that is known.
    pub email_until_ms: u64,
    /// `until_ms` that it gave the client's address; 0 when that is not counted.
    pub address_until_ms: u64,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admitted(Place),
    /// It may after this time, if nobody else is first.
    Wait(Duration),
}

/// Keeps the counts. An attempt that failed is settled already: it was counted when it was admitted.
#[async_trait]
pub trait ThrottleStore: Send + Sync {
    /// Counts an attempt, if it may be made now. All of its counts in one step, or none.
    async fn reserve(&self, claim: &Claim) -> Result<Admission, StoreError>;

    /// The password was right: forgets the failures under this e-mail address that are counted where `place` is, takes the
    /// attempt back from the client's address, and remembers the pair. Without a place only the last.
    async fn proven(&self, claim: &Claim, place: Option<Place>) -> Result<(), StoreError>;

    /// The password was not looked at: takes the attempt back.
    async fn undecided(&self, claim: &Claim, place: Place) -> Result<(), StoreError>;
}

/// What a subject is kept under: 128 bits that say nothing without the key.
pub type Pseudonym = [u8; 16];

/// Turns subjects into pseudonyms: HMAC-SHA256 under a key of the deployment, cut to 128 bits.
pub struct Pseudonyms(Hmac<Sha256>);

/// The pseudonyms of one claim; without a client address the latter two mean nothing.
pub(super) struct Subjects {
    pub(super) email: Pseudonym,
    pub(super) address: Pseudonym,
    pub(super) pair: Pseudonym,
}

impl Pseudonyms {
    /// Under a key derived from a secret that all replicas have.
    pub fn derived(secret: &SecretString) -> Pseudonyms {
        let key = keyed(secret.expose_secret().as_bytes()).chain_update(b"ssm-gateway log-in throttle 1").finalize();
        Pseudonyms(keyed(&key.into_bytes()))
    }

    /// Under this key.
    pub fn under(key: [u8; 32]) -> Pseudonyms {
        Pseudonyms(keyed(&key))
    }

    /// A key of random bytes.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn random_key() -> Result<[u8; 32], StoreError> {
        let mut key = [0_u8; 32];
        let filled = SysRng.try_fill_bytes(&mut key);
        filled.map_err(|error| StoreError::Unavailable(format!("no random bytes: {error}")))?;
        Ok(key)
    }

    pub(super) fn of(&self, claim: &Claim) -> Subjects {
        let email = claim.email_key.as_bytes();
        let address = claim.address.map(|address| match subscriber(address) {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        });
        let address = address.as_deref().unwrap_or_default();
        Subjects {
            email: self.one(b"e", &[], email),
            address: self.one(b"a", address, &[]),
            pair: self.one(b"p", address, email),
        }
    }

    /// The address is fixed in length by its first byte, so no two subjects are one text.
    fn one(&self, kind: &[u8], address: &[u8], email: &[u8]) -> Pseudonym {
        let length = u8::try_from(address.len()).unwrap_or(u8::MAX);
        let mac = self.0.clone().chain_update(kind).chain_update([length]).chain_update(address).chain_update(email);
        mac.finalize().into_bytes().first_chunk().copied().unwrap_or_default()
    }
}

pub(super) fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of every length; the fallback is never reached.
    Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_depend_on_the_key_the_kind_and_the_subscriber() {
        let (ours, theirs) = (Pseudonyms::derived(&"one".into()), Pseudonyms::derived(&"two".into()));
        let claim = |email: &str, address: &str| Claim { email_key: email.into(), address: address.parse().ok() };
        let one = ours.of(&claim("anna@example.com", "2001:db8:1:2::1"));
        let same = ours.of(&claim("anna@example.com", "2001:db8:1:2:ffff::9"));
        assert!(one.email == same.email && one.address == same.address && one.pair == same.pair);
        let other = ours.of(&claim("anna@example.com", "2001:db8:1:3::1"));
        assert!(one.email == other.email && one.address != other.address && one.pair != other.pair);
        let bob = ours.of(&claim("bob@example.com", "2001:db8:1:2::1"));
        assert!(one.email != bob.email && one.address == bob.address && one.pair != bob.pair);
        let foreign = theirs.of(&claim("anna@example.com", "2001:db8:1:2::1"));
        assert!(one.email != foreign.email && one.address != foreign.address && one.pair != foreign.pair);
        assert!(one.email != one.address && one.email != one.pair);
        let mapped = ours.of(&claim("a", "::ffff:192.0.2.1"));
        assert_eq!(mapped.address, ours.of(&claim("b", "192.0.2.1")).address);
    }
}
