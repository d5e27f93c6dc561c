//! What attackers have: the public keys, every token that they ever saw, and a way to sign with keys of their own.

use std::fs;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signer;
use hmac::{Hmac, KeyInit, Mac};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use p256::pkcs8::DecodePrivateKey;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::accounts::keys::{KeyChange, KeyFolder, KeySource, KeyState, Signing};
use crate::accounts::{Authenticator, KeyRing, Revocations};
use crate::model::algorithm::KeyAlgorithm;
use crate::model::identity::Identity;
use crate::model::rejection::Rejection;

pub(super) const SECRET: &str = "a secret for tests, long enough for HS256";
pub(super) const PREVIOUS: &str = "the secret before, which was long enough too";
pub(super) const ISSUER: &str = "supersmartmatch-gateway";
pub(super) const NOW: i64 = 1_800_000_000;
pub(super) const SID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";
pub(super) const JTI: &str = "67e55044-10b1-426f-9247-bb680e5fe0c9";

/// A header as tokens had it before keys had names.
pub(super) const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

/// One attack: the whole value of `Authorization`, and what must be answered.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) value: Vec<u8>,
    pub(super) expected: Rejection,
}

/// A token that must be refused as [`Rejection::InvalidToken`].
pub(super) fn invalid(name: impl Into<String>, token: impl AsRef<str>) -> Case {
    case(name, format!("Bearer {}", token.as_ref()), Rejection::InvalidToken)
}

/// A value that has not the form of a bearer token.
pub(super) fn malformed(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Case {
    case(name, value, Rejection::InvalidTokenFormat)
}

pub(super) fn case(name: impl Into<String>, value: impl Into<Vec<u8>>, expected: Rejection) -> Case {
    Case { name: name.into(), value: value.into(), expected }
}

/// A gateway with two secrets and two key files, all of which verify, and their private parts.
pub(super) struct World {
    pub(super) authenticator: Authenticator,
    pub(super) revocations: Arc<Revocations>,
    pub(super) source: KeySource,
    pub(super) ed25519: ed25519_dalek::SigningKey,
    pub(super) ed25519_kid: String,
    pub(super) p256: p256::ecdsa::SigningKey,
    pub(super) p256_kid: String,
    pub(super) _root: tempfile::TempDir,
}

/// For cases that leave no trace.
pub(super) static WORLD: LazyLock<World> = LazyLock::new(World::new);

impl World {
    pub(super) fn new() -> World {
        let root = tempfile::tempdir().unwrap();
        let folder = KeyFolder::new(root.path().join("keys"));
        let now = jiff::Timestamp::from_second(NOW).unwrap();
        let change = |change, algorithm| folder.change(&change, algorithm, Duration::ZERO, now).unwrap();
        let first = change(KeyChange::Generate, KeyAlgorithm::EdDsa);
        let replaced = KeyChange::Remove(first.entries()[0].id.clone());
        let manifest = change(replaced, KeyAlgorithm::Es256);
        let [p256, ed25519] = manifest.entries() else { panic!("{manifest:?}") };
        assert_eq!((p256.state, ed25519.state), (KeyState::Next, KeyState::Active));
        let pem = |id| fs::read_to_string(folder.path().join(format!("key-{id}.pem"))).unwrap();
        let source = KeySource {
            signing: Signing::Secret(SECRET.into()),
            accepted: vec![PREVIOUS.into()],
            folder: folder.clone(),
        };
        let revocations = Arc::new(Revocations::new());
        World {
            authenticator: Authenticator::new(source.load().unwrap(), ISSUER, revocations.clone()),
            revocations,
            ed25519: ed25519_dalek::SigningKey::from_pkcs8_pem(&pem(&ed25519.id)).unwrap(),
            ed25519_kid: ed25519.id.to_string(),
            p256: p256::ecdsa::SigningKey::from_pkcs8_pem(&pem(&p256.id)).unwrap(),
            p256_kid: p256.id.to_string(),
            source,
            _root: root,
        }
    }

    pub(super) fn ask(&self, values: &[&[u8]]) -> Result<Identity, Rejection> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        self.authenticator.authenticate(&headers, NOW)
    }

    pub(super) fn judge(&self, token: &str) -> Result<Identity, Rejection> {
        self.ask(&[format!("Bearer {token}").as_bytes()])
    }

    /// The header of tokens that the Ed25519 key signs.
    pub(super) fn ed25519_header(&self) -> String {
        format!(r#"{{"typ":"JWT","alg":"EdDSA","kid":"{}"}}"#, self.ed25519_kid)
    }

    /// The header of tokens that the P-256 key signs.
    pub(super) fn p256_header(&self) -> String {
        format!(r#"{{"typ":"JWT","alg":"ES256","kid":"{}"}}"#, self.p256_kid)
    }

    /// A token with a good Ed25519 signature over whatever it says.
    pub(super) fn ed25519_signed(&self, header: &str, claims: &str) -> String {
        let message = message(header, claims);
        let signature = self.ed25519.sign(message.as_bytes()).to_bytes();
        format!("{message}.{}", b64(signature))
    }

    /// A token with a good P-256 signature over whatever it says.
    pub(super) fn p256_signed(&self, header: &str, claims: &str) -> String {
        let message = message(header, claims);
        let signature: p256::ecdsa::Signature = self.p256.sign(message.as_bytes());
        format!("{message}.{}", b64(signature.to_bytes()))
    }
}

/// Name of the current secret.
pub(super) fn secret_kid() -> String {
    KeyRing::from(SECRET).active().to_string()
}

pub(super) fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "7", "email": "a@b.fr", "role": "recruteur", "sid": SID, "jti": JTI,
        "iat": NOW - 100, "exp": NOW + 100, "type": "access"})
}

pub(super) fn text() -> String {
    claims().to_string()
}

pub(super) fn with(name: &str, value: Value) -> String {
    let mut claims = claims();
    claims[name] = value;
    claims.to_string()
}

pub(super) fn without(name: &str) -> String {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims.to_string()
}

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", b64(header), b64(claims))
}

/// A token with a good HS256 signature over whatever it says.
pub(super) fn signed(header: &str, claims: &str) -> String {
    signed_with(SECRET, header, claims)
}

pub(super) fn signed_with(secret: impl AsRef<[u8]>, header: &str, claims: &str) -> String {
    let message = message(header, claims);
    format!("{message}.{}", b64(mac(secret, &message)))
}

pub(super) fn mac(secret: impl AsRef<[u8]>, message: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_ref()).unwrap().chain_update(message).finalize();
    mac.into_bytes().to_vec()
}

pub(super) fn good() -> String {
    signed(HEADER, &text())
}
