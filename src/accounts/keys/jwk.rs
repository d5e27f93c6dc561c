//! Public keys as others read them: JSON Web Keys (RFC 7517, RFC 7518 §6.2, RFC 8037 §2) and their thumbprints.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::primitive::PublicKey;
use crate::model::identity::KeyId;

/// The members that make a public key, and no others. In lexicographic order: the thumbprint is taken over this text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Jwk {
    crv: String,
    kty: String,
    x: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
}

/// A key of the published set (RFC 7517 §4).
#[derive(Serialize)]
struct Published<'a> {
    #[serde(flatten)]
    key: Jwk,
    kid: &'a str,
    alg: &'static str,
    r#use: &'static str,
}

#[derive(Serialize)]
struct Set<'a> {
    keys: Vec<Published<'a>>,
}

impl Jwk {
    pub(super) fn of(key: &PublicKey) -> Jwk {
        let (crv, kty) = match key {
            PublicKey::EdDsa(_) => ("Ed25519", "OKP"),
            PublicKey::Es256(_) => ("P-256", "EC"),
        };
        let (x, y) = key.coordinates();
        let text = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
        Jwk { crv: crv.to_owned(), kty: kty.to_owned(), x: text(x), y: y.map(text) }
    }

    /// The key; `None` for other types, unequal lengths and what is no point of the curve.
    pub(super) fn key(&self) -> Option<PublicKey> {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        match (self.kty.as_str(), self.crv.as_str(), self.y.as_deref()) {
            ("OKP", "Ed25519", None) => PublicKey::ed25519(&bytes(&self.x)?),
            ("EC", "P-256", Some(y)) => PublicKey::p256(&bytes(&self.x)?, &bytes(y)?),
            _ => None,
        }
    }
}

/// The SHA-256 thumbprint (RFC 7638): the name of a key that everybody who has it can compute.
pub(super) fn thumbprint(key: &PublicKey) -> KeyId {
    // Plain text members always serialise.
    let text = serde_json::to_vec(&Jwk::of(key)).unwrap_or_default();
    KeyId(URL_SAFE_NO_PAD.encode(Sha256::digest(text)).into())
}

/// The key set as a document (RFC 7517 §5).
pub(super) fn set<'a>(keys: impl IntoIterator<Item = (&'a KeyId, &'a PublicKey)>) -> Vec<u8> {
    let publish = |(id, key): (&'a KeyId, &PublicKey)| Published {
        key: Jwk::of(key),
        kid: id.as_str(),
        alg: key.algorithm().as_str(),
        r#use: "sig",
    };
    serde_json::to_vec(&Set { keys: keys.into_iter().map(publish).collect() }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<PublicKey> {
        serde_json::from_str::<Jwk>(text).ok()?.key()
    }

    /// RFC 8037 A.2 and A.3.
    const OKP: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    /// RFC 7515 A.3.1.
    const EC: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

    #[test]
    fn thumbprints_are_the_standard_s() {
        assert_eq!(thumbprint(&key(OKP).unwrap()).as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        // Of the canonical text, computed with openssl.
        assert_eq!(thumbprint(&key(EC).unwrap()).as_str(), "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    }

    #[test]
    fn what_is_no_key_of_ours_is_refused() {
        let zero = "A".repeat(43);
        for text in [
            OKP.replace("OKP", "EC"),
            OKP.replace("Ed25519", "X25519"),
            OKP.replace("11qY", ""),
            OKP.replace("\"x\":", "\"d\":\"x\",\"x\":"),
            EC.replace("P-256", "P-384"),
            EC.replace("f83O", "f83P"),
            EC.replace("f83O", ""),
            EC.replace("\"y\":", "\"z\":"),
            // The neutral point, and one of order two: small orders.
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"AQ{}"}}"#, "A".repeat(41)),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{zero}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{zero}","y":"{zero}"}}"#),
        ] {
            assert_eq!(key(&text), None, "{text}");
        }
    }

    #[test]
    fn a_set_says_what_verifiers_need_and_nothing_else() {
        let (okp, ec) = (key(OKP).unwrap(), key(EC).unwrap());
        let (first, second) = (thumbprint(&okp), thumbprint(&ec));
        let document: serde_json::Value = serde_json::from_slice(&set([(&first, &okp), (&second, &ec)])).unwrap();
        let expected = serde_json::json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
             "kid": first.as_str(), "alg": "EdDSA", "use": "sig"},
            {"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
             "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0", "kid": second.as_str(), "alg": "ES256", "use": "sig"},
        ]});
        assert_eq!(document, expected);
        assert_eq!(set([]), b"{\"keys\":[]}");
    }
}
