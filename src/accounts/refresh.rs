//! Refresh tokens: a signed value over (session, counter). Opaque to clients; nothing of it is stored.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use uuid::Uuid;

use crate::model::identity::SessionId;

/// First byte of every refresh token; another format gets another number.
const VERSION: u8 = 1;

/// Says what the derived key is for, so that no other use of the secret can make a refresh token.
const PURPOSE: &[u8] = b"ssm-gateway/refresh-token/v1";

/// version, session, counter.
const BODY_BYTES: usize = 1 + 16 + 8;

/// Makes and reads refresh tokens.
pub(super) struct RefreshTokens(Hmac<Sha256>);

impl RefreshTokens {
    pub(super) fn new(secret: &SecretString) -> RefreshTokens {
        // HMAC takes keys of every length; the fallback is never reached.
        let keyed = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()));
        let derived = keyed(secret.expose_secret().as_bytes()).chain_update(PURPOSE).finalize().into_bytes();
        RefreshTokens(keyed(&derived))
    }

    /// The token of a session with this counter: always the same text.
    pub(super) fn issue(&self, session: SessionId, counter: i64) -> String {
        let mut bytes = Vec::with_capacity(BODY_BYTES + 32);
        bytes.push(VERSION);
        bytes.extend_from_slice(session.0.as_bytes());
        bytes.extend_from_slice(&counter.to_be_bytes());
        let mac = self.0.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Session and counter of a token of ours; `None` for everything else. The MAC is compared in constant time.
    pub(super) fn read(&self, token: &[u8]) -> Option<(SessionId, i64)> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, mac) = bytes.split_at_checked(BODY_BYTES)?;
        self.0.clone().chain_update(body).verify_slice(mac).ok()?;
        let (version, rest) = body.split_first()?;
        let (sid, counter) = rest.split_at_checked(16)?;
        let counter = i64::from_be_bytes(counter.try_into().ok()?);
        (*version == VERSION).then_some((SessionId(Uuid::from_slice(sid).ok()?), counter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(secret: &str) -> RefreshTokens {
        RefreshTokens::new(&SecretString::from(secret))
    }

    #[test]
    fn reads_what_it_issued_and_nothing_else() {
        let (ours, theirs) = (tokens("one secret"), tokens("another"));
        let sid = SessionId(Uuid::from_u128(7));
        let token = ours.issue(sid, 3);
        assert_eq!(ours.read(token.as_bytes()), Some((sid, 3)));
        assert_eq!(theirs.read(token.as_bytes()), None);
        assert_ne!(token, ours.issue(sid, 4));
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(ours.read(&changed), None, "byte {at}");
        }
        for other in ["", "A", &token[..40], &format!("{token}="), &format!("{token}AAAA"), &format!(" {token}")] {
            assert_eq!(ours.read(other.as_bytes()), None, "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text: Vec<u8>) {
            proptest::prop_assert_eq!(tokens("s").read(&text), None);
        }
    }
}
