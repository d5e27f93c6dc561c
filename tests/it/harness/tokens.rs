//! Tokens that the gateway would never issue: a real one's claims, changed and signed again.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::Value;

use super::client::Session;

/// The claims of an access token.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON claims")
}

/// The session with a token whose claims were changed, signed with `secret`.
pub fn forged(session: &Session, secret: &str, change: impl FnOnce(&mut Value)) -> Session {
    let mut claims = claims(&session.access);
    change(&mut claims);
    let key = EncodingKey::from_secret(secret.as_bytes());
    let access = encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a token");
    Session { access, ..session.clone() }
}

/// The session with this text instead of its token.
pub fn with_token(session: &Session, token: &str) -> Session {
    Session { access: token.to_owned(), ..session.clone() }
}
