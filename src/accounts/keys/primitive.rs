//! What the libraries do for us: jsonwebtoken signs and verifies; the curves' own crates read and write keys. One key,
//! one algorithm; knows nothing of claims.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::errors::{ErrorKind, Result as Signed};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use p256::pkcs8::LineEnding;
use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::model::algorithm::{KeyAlgorithm, TokenAlgorithm};
use crate::model::identity::KeyId;

/// Says what the derived value is for, so that it is of no other use.
const KEY_ID_PURPOSE: &[u8] = b"ssm-gateway/key-id/v1";

/// Bytes of the MAC that name a secret.
const KEY_ID_BYTES: usize = 16;

/// A secret for HS256.
#[derive(Clone)]
pub(super) struct MacKey {
    id: KeyId,
    signing: EncodingKey,
    verifying: DecodingKey,
}

/// The private part of a key file.
pub(super) enum PrivateKey {
    EdDsa(Box<ed25519_dalek::SigningKey>),
    Es256(Box<p256::ecdsa::SigningKey>),
}

/// The public part of a key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PublicKey {
    EdDsa(ed25519_dalek::VerifyingKey),
    Es256(p256::ecdsa::VerifyingKey),
}

/// What signs.
pub(super) enum SigningKey {
    Secret(MacKey),
    Private(PrivateKey),
}

/// What verifies.
pub(super) enum VerifyingKey {
    Secret(MacKey),
    Public(PublicKey),
}

/// Why a private key file is not taken. Shows nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadPrivateKey {
    #[error("is no PKCS#8 private key for {0} (-----BEGIN PRIVATE KEY-----)")]
    Form(KeyAlgorithm),
    #[error("is a weak key")]
    Weak,
}

impl MacKey {
    pub(super) fn of(secret: &SecretString) -> MacKey {
        MacKey::new(secret.expose_secret().as_bytes())
    }

    pub(super) fn new(secret: &[u8]) -> MacKey {
        MacKey {
            id: name_of(secret),
            signing: EncodingKey::from_secret(secret),
            verifying: DecodingKey::from_secret(secret),
        }
    }

    /// A name that tells nothing of the secret but whether it is the same: tokens let it be checked just as well.
    pub(super) fn id(&self) -> KeyId {
        self.id.clone()
    }
}

impl PrivateKey {
    /// A new one, from the system's randomness.
    pub(super) fn generate(algorithm: KeyAlgorithm) -> Result<PrivateKey, rand::rngs::SysError> {
        loop {
            let mut bytes = secrecy::zeroize::Zeroizing::new([0_u8; 32]);
            SysRng.try_fill_bytes(bytes.as_mut_slice())?;
            match algorithm {
                KeyAlgorithm::EdDsa => {
                    return Ok(PrivateKey::EdDsa(Box::new(ed25519_dalek::SigningKey::from_bytes(&bytes))));
                }
                // One of 2^32 numbers is no scalar of the curve.
                KeyAlgorithm::Es256 => {
                    if let Ok(key) = p256::ecdsa::SigningKey::from_slice(bytes.as_slice()) {
                        return Ok(PrivateKey::Es256(Box::new(key)));
                    }
                }
            }
        }
    }

    /// Reads PKCS#8 in PEM (RFC 5958, RFC 8410 §7).
    pub(super) fn from_pem(algorithm: KeyAlgorithm, pem: &str) -> Result<PrivateKey, BadPrivateKey> {
        let form = |_| BadPrivateKey::Form(algorithm);
        let key = match algorithm {
            KeyAlgorithm::EdDsa => {
                PrivateKey::EdDsa(Box::new(ed25519_dalek::SigningKey::from_pkcs8_pem(pem).map_err(form)?))
            }
            KeyAlgorithm::Es256 => {
                PrivateKey::Es256(Box::new(p256::ecdsa::SigningKey::from_pkcs8_pem(pem).map_err(form)?))
            }
        };
        if key.public().is_weak() { Err(BadPrivateKey::Weak) } else { Ok(key) }
    }

    /// Writes PKCS#8 in PEM, in the form that OpenSSL reads too: version 1, without the public part.
    pub(super) fn to_pem(&self) -> Result<SecretString, ed25519_dalek::pkcs8::Error> {
        let pem = match self {
            PrivateKey::EdDsa(key) => {
                KeypairBytes { secret_key: key.to_bytes(), public_key: None }.to_pkcs8_pem(LineEnding::LF)?
            }
            PrivateKey::Es256(key) => key.to_pkcs8_pem(LineEnding::LF)?,
        };
        Ok(SecretString::from(pem.as_str()))
    }

    pub(super) fn public(&self) -> PublicKey {
        match self {
            PrivateKey::EdDsa(key) => PublicKey::EdDsa(key.verifying_key()),
            PrivateKey::Es256(key) => PublicKey::Es256(*key.verifying_key()),
        }
    }

    /// As jsonwebtoken takes it.
    fn encoding(&self) -> Signed<EncodingKey> {
        let unreadable = |_| ErrorKind::InvalidKeyFormat;
        Ok(match self {
            PrivateKey::EdDsa(key) => EncodingKey::from_ed_der(key.to_pkcs8_der().map_err(unreadable)?.as_bytes()),
            PrivateKey::Es256(key) => EncodingKey::from_ec_der(key.to_pkcs8_der().map_err(unreadable)?.as_bytes()),
        })
    }
}

fn name_of(secret: &[u8]) -> KeyId {
    // HMAC takes keys of every length; the fallback is never reached.
    let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap_or_else(|_| Hmac::new(&Default::default()));
    let mac = mac.chain_update(KEY_ID_PURPOSE).finalize().into_bytes();
    let head: Vec<u8> = mac.iter().copied().take(KEY_ID_BYTES).collect();
    KeyId(URL_SAFE_NO_PAD.encode(head).into())
}

impl PublicKey {
    /// An Ed25519 key from its 32 bytes; `None` for what is no point, or one of small order.
    pub(super) fn ed25519(bytes: &[u8]) -> Option<PublicKey> {
        let key = PublicKey::EdDsa(ed25519_dalek::VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?);
        (!key.is_weak()).then_some(key)
    }

    /// A P-256 key from its coordinates, 32 bytes each; `None` for what is no point of the curve.
    pub(super) fn p256(x: &[u8], y: &[u8]) -> Option<PublicKey> {
        if x.len() != 32 || y.len() != 32 {
            return None;
        }
        p256::ecdsa::VerifyingKey::from_sec1_bytes(&[&[4], x, y].concat()).ok().map(PublicKey::Es256)
    }

    pub(super) const fn algorithm(&self) -> KeyAlgorithm {
        match self {
            PublicKey::EdDsa(_) => KeyAlgorithm::EdDsa,
            PublicKey::Es256(_) => KeyAlgorithm::Es256,
        }
    }

    /// Its coordinates: x, and y where the curve has two.
    pub(super) fn coordinates(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        match self {
            PublicKey::EdDsa(key) => (key.to_bytes().to_vec(), None),
            PublicKey::Es256(key) => {
                let point = key.to_encoded_point(false);
                let part = |part: Option<&p256::FieldBytes>| part.map(|bytes| bytes.to_vec());
                (part(point.x()).unwrap_or_default(), part(point.y()))
            }
        }
    }

    fn is_weak(&self) -> bool {
        matches!(self, PublicKey::EdDsa(key) if key.is_weak())
    }

    /// As jsonwebtoken takes it.
    fn decoding(&self) -> DecodingKey {
        match self {
            PublicKey::EdDsa(key) => DecodingKey::from_ed_der(key.as_bytes()),
            PublicKey::Es256(key) => DecodingKey::from_ec_der(key.to_encoded_point(false).as_bytes()),
        }
    }

    /// Ed25519 by the strict rules (canonical, no small order), which jsonwebtoken leaves out: one signature, one spelling.
    /// ES256 has none: the negative of `s` is as good (RFC 7518 §3.4), so a token has two spellings, and revocation goes by
    /// the claims, never by the text.
    fn is_strict(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            PublicKey::EdDsa(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            PublicKey::Es256(_) => true,
        }
    }
}

impl SigningKey {
    /// The signature of `message`, in base64url. ES256 by RFC 6979: no randomness to get wrong.
    pub(super) fn sign(&self, message: &[u8]) -> Signed<String> {
        match self {
            SigningKey::Secret(key) => crypto::sign(message, &key.signing, Algorithm::HS256),
            SigningKey::Private(key) => crypto::sign(message, &key.encoding()?, name(key.public().algorithm())),
        }
    }

    pub(super) fn algorithm(&self) -> TokenAlgorithm {
        match self {
            SigningKey::Secret(_) => TokenAlgorithm::Hs256,
            SigningKey::Private(key) => TokenAlgorithm::KeyFile(key.public().algorithm()),
        }
    }
}

impl VerifyingKey {
    /// Whether exactly these bytes are a good signature of `message`.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let text = URL_SAFE_NO_PAD.encode(signature);
        let verified = match self {
            VerifyingKey::Secret(key) => crypto::verify(&text, message, &key.verifying, Algorithm::HS256),
            VerifyingKey::Public(key) => crypto::verify(&text, message, &key.decoding(), name(key.algorithm())),
        };
        // An error is a signature of a wrong form.
        verified.unwrap_or(false)
            && match self {
                VerifyingKey::Secret(_) => true,
                VerifyingKey::Public(key) => key.is_strict(message, signature),
            }
    }

    pub(super) const fn algorithm(&self) -> TokenAlgorithm {
        match self {
            VerifyingKey::Secret(_) => TokenAlgorithm::Hs256,
            VerifyingKey::Public(key) => TokenAlgorithm::KeyFile(key.algorithm()),
        }
    }
}

const fn name(algorithm: KeyAlgorithm) -> Algorithm {
    match algorithm {
        KeyAlgorithm::EdDsa => Algorithm::EdDSA,
        KeyAlgorithm::Es256 => Algorithm::ES256,
    }
}
