//! [`KeyRing`]: one key that signs, several that verify, each with a name and exactly one algorithm.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use secrecy::SecretString;

use super::jwk;
use super::primitive::{MacKey, PrivateKey, PublicKey, SigningKey, VerifyingKey};
use crate::model::algorithm::TokenAlgorithm;
use crate::model::identity::KeyId;

/// The keys in force. Never changed: another state of the keys is another ring.
pub struct KeyRing {
    active: Signer,
    /// Signs when the active key is revoked, before a new ring comes.
    next: Option<Signer>,
    verifiers: Vec<Verifier>,
    key_set: Bytes,
}

/// A key that signs tokens.
pub(in crate::accounts) struct Signer {
    id: KeyId,
    /// The head of every token that it signs, in base64url.
    header: String,
    key: SigningKey,
}

struct Verifier {
    id: KeyId,
    key: VerifyingKey,
}

/// The parts of a ring, in the order in which they are asked.
#[derive(Default)]
pub(super) struct Parts {
    verifiers: Vec<Verifier>,
    published: Vec<(KeyId, PublicKey)>,
}

impl Parts {
    /// A secret verifies, and is published nowhere.
    pub(super) fn secret(&mut self, key: &MacKey) {
        self.verifiers.push(Verifier { id: key.id(), key: VerifyingKey::Secret(key.clone()) });
    }

    /// A public key verifies, and is published.
    pub(super) fn public(&mut self, id: &KeyId, key: &PublicKey) {
        self.verifiers.push(Verifier { id: id.clone(), key: VerifyingKey::Public(key.clone()) });
        self.published.push((id.clone(), key.clone()));
    }

    /// The ring. What signs must be among what verifies.
    pub(super) fn ring(self, active: Signer, next: Option<Signer>) -> KeyRing {
        let key_set = jwk::set(self.published.iter().map(|(id, key)| (id, key))).into();
        KeyRing { active, next, verifiers: self.verifiers, key_set }
    }
}

impl Signer {
    pub(super) fn secret(key: &MacKey) -> Signer {
        Signer::new(key.id(), SigningKey::Secret(key.clone()))
    }

    pub(super) fn private(key: PrivateKey) -> Signer {
        Signer::new(jwk::thumbprint(&key.public()), SigningKey::Private(key))
    }

    fn new(id: KeyId, key: SigningKey) -> Signer {
        // Names are base64url: nothing in them needs an escape.
        let header = format!(r#"{{"typ":"JWT","alg":"{}","kid":"{id}"}}"#, key.algorithm());
        Signer { header: URL_SAFE_NO_PAD.encode(header), id, key }
    }

    /// The compact JWS (RFC 7515 §7.1) over `payload`.
    pub(in crate::accounts) fn sign(&self, payload: &[u8]) -> jsonwebtoken::errors::Result<String> {
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(payload));
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&signature);
        Ok(token)
    }
}

impl KeyRing {
    /// A ring of one secret (HS256).
    pub fn of_secret(secret: &SecretString) -> KeyRing {
        let key = MacKey::of(secret);
        let mut parts = Parts::default();
        parts.secret(&key);
        parts.ring(Signer::secret(&key), None)
    }

    /// What signs: the active key, or, when that is revoked, the next one. `None`: both are.
    pub(in crate::accounts) fn signer(&self, is_revoked: impl Fn(&KeyId) -> bool) -> Option<&Signer> {
        [Some(&self.active), self.next.as_ref()].into_iter().flatten().find(|signer| !is_revoked(&signer.id))
    }

    /// The key that made this signature with this algorithm. A token that names no key was made by one of the
    /// secrets, before keys had names.
    pub(in crate::accounts) fn verify(
        &self,
        algorithm: &str,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Option<KeyId> {
        let named = |verifier: &&Verifier| match kid {
            Some(kid) => verifier.id.as_str() == kid,
            None => verifier.key.algorithm() == TokenAlgorithm::Hs256,
        };
        let mut asked = self.verifiers.iter().filter(named);
        asked
            .find(|one| one.key.algorithm().as_str() == algorithm && one.key.verify(message, signature))
            .map(|one| one.id.clone())
    }

    /// What everybody may know: the public keys as a JWK set (RFC 7517 §5), in JSON.
    pub fn key_set(&self) -> Bytes {
        self.key_set.clone()
    }

    /// The name of the key that signs.
    pub fn active(&self) -> &KeyId {
        &self.active.id
    }

    /// The algorithm of the key that signs.
    pub fn algorithm(&self) -> TokenAlgorithm {
        self.active.key.algorithm()
    }

    /// Names of all keys that verify.
    pub fn names(&self) -> impl Iterator<Item = &KeyId> {
        self.verifiers.iter().map(|verifier| &verifier.id)
    }

    /// Whether the other ring signs and verifies with the same keys. A name is derived from its key, so names suffice.
    pub fn is_same(&self, other: &KeyRing) -> bool {
        let next = |ring: &KeyRing| ring.next.as_ref().map(|signer| signer.id.clone());
        self.active.id == other.active.id && next(self) == next(other) && self.names().eq(other.names())
    }
}

#[cfg(test)]
impl From<&str> for KeyRing {
    fn from(secret: &str) -> KeyRing {
        KeyRing::of_secret(&secret.into())
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.names().map(KeyId::as_str).collect();
        f.debug_struct("KeyRing").field("active", &self.active.id.as_str()).field("verifies", &names).finish()
    }
}
