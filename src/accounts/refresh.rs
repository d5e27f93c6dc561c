//! Refresh tokens: a signed value over (session, counter). Opaque to clients; nothing of it is stored.
//!
//! Each session has a key of its own, kept in its row: a leaked token secret makes no refresh tokens, and a new
//! secret ends no session.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::model::identity::SessionId;
use crate::store::SessionKey;

/// First byte of every refresh token; another format gets another number.
const VERSION: u8 = 2;

/// version, session, counter.
const BODY_BYTES: usize = 1 + 16 + 8;

const MAC_BYTES: usize = 32;

/// 57 bytes are 19 groups of 4 characters: no spare bits.
const ENCODED_BYTES: usize = (BODY_BYTES + MAC_BYTES) / 3 * 4;

/// The token of a session with this counter: always the same text.
pub(super) fn issue(key: &SessionKey, session: SessionId, counter: i64) -> String {
    let mut bytes = Vec::with_capacity(BODY_BYTES + MAC_BYTES);
    bytes.push(VERSION);
    bytes.extend_from_slice(session.0.as_bytes());
    bytes.extend_from_slice(&counter.to_be_bytes());
    let mac = keyed(key).chain_update(&bytes).finalize().into_bytes();
    bytes.extend_from_slice(&mac);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What has the form of a refresh token. Nothing of it is proven before [`is_made_with`](Self::is_made_with).
pub(super) struct Presented {
    /// The session that it names.
    pub(super) session: SessionId,
    /// The counter that it names.
    pub(super) counter: i64,
    bytes: Vec<u8>,
}

impl Presented {
    /// Takes a token apart; `None` for what has another form.
    pub(super) fn parse(token: &[u8]) -> Option<Presented> {
        if token.len() != ENCODED_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, _) = bytes.split_at_checked(BODY_BYTES)?;
        let (version, rest) = body.split_first()?;
        let (session, counter) = rest.split_at_checked(16)?;
        let session = SessionId(Uuid::from_slice(session).ok()?);
        let counter = i64::from_be_bytes(counter.try_into().ok()?);
        (*version == VERSION).then_some(Presented { session, counter, bytes })
    }

    /// Whether the session with this key gave it out. The MAC is compared in constant time.
    pub(super) fn is_made_with(&self, key: &SessionKey) -> bool {
        let Some((body, mac)) = self.bytes.split_at_checked(BODY_BYTES) else { return false };
        keyed(key).chain_update(body).verify_slice(mac).is_ok()
    }
}

fn keyed(key: &SessionKey) -> Hmac<Sha256> {
    // HMAC takes keys of every length; the fallback is never reached.
    Hmac::<Sha256>::new_from_slice(&key.0).unwrap_or_else(|_| Hmac::new(&Default::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_it_issued_and_nothing_else() {
        let (ours, theirs) = (SessionKey([1; 32]), SessionKey([2; 32]));
        let sid = SessionId(Uuid::from_u128(7));
        let token = issue(&ours, sid, 3);
        let presented = Presented::parse(token.as_bytes()).unwrap();
        assert_eq!((presented.session, presented.counter), (sid, 3));
        assert!(presented.is_made_with(&ours) && !presented.is_made_with(&theirs));
        assert_ne!(token, issue(&ours, sid, 4));
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(Presented::parse(&changed).is_none_or(|token| !token.is_made_with(&ours)), "byte {at}");
        }
        for other in ["", "A", &token[..40], &format!("{token}="), &format!("{token}AAAA"), &format!(" {token}")] {
            assert!(Presented::parse(other.as_bytes()).is_none(), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text: Vec<u8>) {
            proptest::prop_assert!(Presented::parse(&text).is_none_or(|token| !token.is_made_with(&SessionKey([1; 32]))));
        }
    }
}
