//! Access tokens: signed JWTs (RFC 7519, RFC 8725), made and verified. Knows nothing of revocation or caches.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::bearer::Parts;
use super::keys::{KeyRing, Signer};
use super::{LEEWAY_S, longest_life_s};
use crate::model::identity::{Credential, Identity, KeyId, SessionId, TokenId, UserId};
use crate::model::json::Members;
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::store::User;

const ACCESS: &str = "access";

/// The only header parameters that we write, and so the only ones that we read. Everything else, `crit`, `jku`,
/// `jwk`, `x5u` and `x5c` included, is refused: no token of ours carries it. `alg` chooses nothing: it must be what
/// the key is for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    alg: String,
    #[serde(default, deserialize_with = "text")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "text")]
    kid: Option<String>,
}

/// Text; `null` is something else than nothing.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
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

/// What an access token is to say.
pub(super) struct NewToken<'a> {
    pub(super) user: &'a User,
    pub(super) session: SessionId,
    pub(super) token: TokenId,
    pub(super) issued_at: i64,
    pub(super) expires_at: i64,
}

/// What makes and verifies access tokens, whatever the keys.
pub(super) struct AccessTokens {
    issuer: String,
}

impl AccessTokens {
    pub(super) fn new(issuer: &str) -> AccessTokens {
        AccessTokens { issuer: issuer.to_owned() }
    }

    /// Signs a token.
    pub(super) fn issue(&self, signer: &Signer, issued: &NewToken<'_>) -> Result<String, Rejection> {
        let claims = Issued {
            iss: &self.issuer,
            sub: issued.user.id.to_string(),
            email: &issued.user.email,
            role: issued.user.role,
            sid: issued.session.to_string(),
            jti: issued.token.to_string(),
            iat: issued.issued_at,
            exp: issued.expires_at,
            r#type: ACCESS,
        };
        let payload = serde_json::to_vec(&claims).map_err(|error| {
            tracing::error!(%error, "an access token could not be written");
            Rejection::Internal
        })?;
        signer.sign(&payload).map_err(|error| {
            tracing::error!(%error, "an access token could not be signed");
            Rejection::Internal
        })
    }

    /// What a token proves at `now` (Unix seconds).
    pub(super) fn verify(&self, ring: &KeyRing, parts: &Parts<'_>, now: i64) -> Result<Identity, Rejection> {
        let header = decode(parts.header)?;
        // An array of the values in their order would be read as this type, too.
        if header.first() != Some(&b'{') {
            return Err(Rejection::InvalidToken);
        }
        let header: StrictHeader = serde_json::from_slice(&header).map_err(invalid)?;
        if header.typ.is_some_and(|typ| typ != "JWT" && typ != "at+jwt") {
            return Err(Rejection::InvalidToken);
        }
        let signature = decode(parts.signature)?;
        let key = ring
            .verify(&header.alg, header.kid.as_deref(), parts.message.as_bytes(), &signature)
            .ok_or(Rejection::InvalidToken)?;
        self.judge(&decode(parts.payload)?, key, now)
    }

    /// Reads the claims of a payload that `key` signed.
    fn judge(&self, payload: &[u8], key: KeyId, now: i64) -> Result<Identity, Rejection> {
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
            || claims.exp.saturating_sub(claims.iat) > longest_life_s()
        {
            return Err(Rejection::InvalidToken);
        }
        let identity = Identity {
            user: user_id(&claims.sub).ok_or(Rejection::InvalidToken)?,
            email: Arc::from(claims.email),
            role: claims.role,
            credential: Credential::Token {
                session: SessionId(canonical_uuid(&claims.sid).ok_or(Rejection::InvalidToken)?),
                token: TokenId(canonical_uuid(&claims.jti).ok_or(Rejection::InvalidToken)?),
                key,
            },
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
