//! The shape of `Authorization`: exactly one bearer token (RFC 6750 §2.1), before anything is believed of it.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::model::rejection::Rejection;

/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The token of a request. Only `Authorization` counts: no query, no cookie.
pub(super) fn token(headers: &HeaderMap) -> Result<&[u8], Rejection> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Rejection::MissingToken)?.as_bytes();
    if values.next().is_some() {
        return Err(Rejection::InvalidTokenFormat);
    }
    let (scheme, token) = value.split_at_checked(7).ok_or(Rejection::InvalidTokenFormat)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") || token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(Rejection::InvalidTokenFormat);
    }
    Ok(token)
}

/// The three parts of a compact JWS (RFC 7515 §7.1), each not empty and in the base64url alphabet.
pub(super) struct Parts<'a> {
    pub(super) header: &'a str,
    pub(super) payload: &'a str,
    pub(super) signature: &'a str,
    /// `header.payload`, what is signed.
    pub(super) message: &'a str,
}

impl<'a> Parts<'a> {
    /// Takes a token apart.
    pub(super) fn of(token: &'a [u8]) -> Option<Parts<'a>> {
        let token = std::str::from_utf8(token).ok()?;
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let good = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        (good(header) && good(payload) && good(signature)).then_some(Parts { header, payload, signature, message })
    }
}
