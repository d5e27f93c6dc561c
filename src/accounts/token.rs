//! Access tokens: HS256 JWTs (RFC 7519, RFC 8725), made and verified. Knows nothing of revocation or caches.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::LEEWAY_S;
use super::bearer::Parts;
use crate::model::identity::{Identity, SessionId, TokenId, UserId};
use crate::model::json::Members;
use crate::model::rejection::Rejection;
use crate::model::role::Role;

const ACCESS: &str = "access";

/// The only header parameters that we write, and so the only ones that we read. Everything else, `crit`, `kid`,
/// `jku`, `jwk`, `x5u` and `x5c` included, is refused: no token of ours carries it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
}

#[derive(Serialize)]
struct Issued<'a> {
    iss: &'a str,
    sub: String,
    email: &'a str,
    role: Role,
    sid: String,
    jti: String,
    iat: i64,
    exp: i64,
    r#type: &'static str,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    email: String,
    role: Role,
    sid: String,
    jti: String,
    iat: i64,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
}

/// Makes and verifies access tokens with one key.
pub(super) struct AccessTokens {
    issuer: String,
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl AccessTokens {
    pub(super) fn new(secret: &SecretString, issuer: &str) -> AccessTokens {
        let secret = secret.expose_secret().as_bytes();
        AccessTokens {
            issuer: issuer.to_owned(),
            signing: EncodingKey::from_secret(secret),
            verifying: DecodingKey::from_secret(secret),
        }
    }

    /// The token that says what `identity` says.
    pub(super) fn issue(&self, identity: &Identity) -> Result<String, Rejection> {
        let claims = Issued {
            iss: &self.issuer,
            sub: identity.user.to_string(),
            email: &identity.email,
            role: identity.role,
            sid: identity.session.to_string(),
            jti: identity.token.to_string(),
            iat: identity.issued_at,
            exp: identity.expires_at,
            r#type: ACCESS,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing).map_err(|error| {
            tracing::error!(%error, "an access token could not be signed");
            Rejection::Internal
        })
    }

    /// What a token proves at `now` (Unix seconds).
    pub(super) fn verify(&self, parts: &Parts<'_>, now: i64) -> Result<Identity, Rejection> {
        let header: StrictHeader = serde_json::from_slice(&decode(parts.header)?).map_err(invalid)?;
        if header.alg != "HS256" || header.typ.is_some_and(|typ| typ != "JWT" && typ != "at+jwt") {
            return Err(Rejection::InvalidToken);
        }
        decode(parts.signature)?;
        let message = parts.message.as_bytes();
        match jsonwebtoken::crypto::verify(parts.signature, message, &self.verifying, Algorithm::HS256) {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(Rejection::InvalidToken),
        }
        self.judge(&decode(parts.payload)?, now)
    }

    /// Reads the claims of a payload whose signature is good.
    fn judge(&self, payload: &[u8], now: i64) -> Result<Identity, Rejection> {
        let claims = Members::parse(payload).map_err(invalid)?.into_map().map_err(invalid)?;
        match claims.get("type") {
            Some(Value::String(kind)) if kind == ACCESS => {}
            Some(Value::String(_)) => return Err(Rejection::WrongTokenType),
            _ => return Err(Rejection::InvalidToken),
        }
        // A token for a named audience is not for us: we have no such name (RFC 7519 §4.1.3).
        if claims.contains_key("aud") {
            return Err(Rejection::InvalidToken);
        }
        let claims: Claims = serde_json::from_value(Value::Object(claims)).map_err(invalid)?;
        let soonest = now.saturating_add(LEEWAY_S);
        if claims.iss != self.issuer
            || claims.iat > soonest
            || claims.nbf.is_some_and(|nbf| nbf > soonest)
            || claims.exp <= claims.iat
        {
            return Err(Rejection::InvalidToken);
        }
        let identity = Identity {
            user: user_id(&claims.sub).ok_or(Rejection::InvalidToken)?,
            email: Arc::from(claims.email),
            role: claims.role,
            session: SessionId(canonical_uuid(&claims.sid).ok_or(Rejection::InvalidToken)?),
            token: TokenId(canonical_uuid(&claims.jti).ok_or(Rejection::InvalidToken)?),
            issued_at: claims.iat,
            expires_at: claims.exp,
        };
        if expired(&identity, now) { Err(Rejection::TokenExpired) } else { Ok(identity) }
    }
}

/// Whether a token's end, leeway included, has come.
pub(super) fn expired(identity: &Identity, now: i64) -> bool {
    now >= identity.expires_at.saturating_add(LEEWAY_S)
}

/// Strict: no padding, no bits left over.
fn decode(part: &str) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD.decode(part).map_err(invalid)
}

fn invalid<E>(_: E) -> Rejection {
    Rejection::InvalidToken
}

fn user_id(sub: &str) -> Option<UserId> {
    let id = sub.parse::<i64>().ok().filter(|id| *id > 0)?;
    (id.to_string() == sub).then_some(UserId(id))
}

fn canonical_uuid(text: &str) -> Option<Uuid> {
    let uuid = Uuid::parse_str(text).ok()?;
    (uuid.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text).then_some(uuid)
}
