//! Replies made by the gateway itself, and the one error envelope.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use super::lang::Lang;
use super::rejection::{FieldProblem, Rejection};

/// A whole answer made here: a status, headers and a body that is in memory.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status line.
    pub status: StatusCode,
    /// Headers, without `Content-Length` and without what every answer gets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body; empty for none.
    pub body: Bytes,
}

impl Reply {
    /// An answer with no body.
    pub fn empty(status: StatusCode) -> Reply {
        Reply { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// An answer with a JSON body.
    pub fn json(status: StatusCode, body: Vec<u8>) -> Reply {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Reply { status, headers, body: Bytes::from(body) }
    }
}

/// What the client asked for in the form of the answer, and what the envelope repeats.
#[derive(Debug, Clone, Copy)]
pub struct ErrorContext<'a> {
    /// Path of the request, without query.
    pub path: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// Language of the message.
    pub lang: Lang,
    /// Whether the client asked for `application/problem+json` (RFC 9457).
    pub problem_json: bool,
}

impl<'a> ErrorContext<'a> {
    /// Reads the client's wishes from its headers.
    pub fn new(path: &'a str, request_id: &'a str, headers: &HeaderMap) -> ErrorContext<'a> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        ErrorContext {
            path,
            request_id,
            lang: Lang::from_accept_language(text(http::header::ACCEPT_LANGUAGE)),
            problem_json: text(http::header::ACCEPT).is_some_and(wants_problem_json),
        }
    }
}

fn wants_problem_json(accept: &str) -> bool {
    accept.split(',').any(|item| {
        let media_type = item.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("application/problem+json")
    })
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: bool,
    code: &'static str,
    message: &'a str,
    status_code: u16,
    path: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    details: &'a [FieldProblem],
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    instance: &'a str,
    code: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    details: &'a [FieldProblem],
}

/// Whole seconds, rounded up, at least one: what `Retry-After` (RFC 9110 §10.2.3) can say.
pub fn retry_after_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl Rejection {
    /// The answer that says so: the envelope of docs/errors.md, or RFC 9457 when the client asked for it.
    pub fn reply(&self, context: &ErrorContext<'_>) -> Reply {
        let message = self.message(context.lang);
        let (status, code) = (self.status(), self.code());
        let retry_after = self.retry_after().map(retry_after_seconds);
        let (content_type, body) = if context.problem_json {
            let problem = Problem {
                r#type: "about:blank",
                title: &message,
                status: status.as_u16(),
                instance: context.path,
                code,
                request_id: context.request_id,
                retry_after,
                details: self.details(),
            };
            ("application/problem+json", serde_json::to_vec(&problem))
        } else {
            let envelope = Envelope {
                error: true,
                code,
                message: &message,
                status_code: status.as_u16(),
                path: context.path,
                request_id: context.request_id,
                retry_after,
                details: self.details(),
            };
            ("application/json", serde_json::to_vec(&envelope))
        };
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (CONTENT_LANGUAGE, HeaderValue::from_static(context.lang.tag())),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        if let Some(challenge) = self.challenge() {
            headers.push((WWW_AUTHENTICATE, HeaderValue::from_static(challenge)));
        }
        if let Some(seconds) = retry_after {
            headers.push((RETRY_AFTER, HeaderValue::from(seconds)));
        }
        if let Rejection::MethodNotAllowed(allow) = self {
            headers.push((ALLOW, allow.clone()));
        }
        // Strings and integers always serialise; an empty body would still carry the right status.
        Reply { status, headers, body: Bytes::from(body.unwrap_or_default()) }
    }

    /// The `WWW-Authenticate` challenge (RFC 6750 §3) of a 401.
    fn challenge(&self) -> Option<&'static str> {
        match self {
            // An API key has no scheme of its own to ask for (RFC 9110 §11.6.1 wants a challenge all the same).
            Rejection::MissingToken | Rejection::InvalidCredentials | Rejection::InvalidApiKey => {
                Some(r#"Bearer realm="supersmartmatch""#)
            }
            Rejection::InvalidTokenFormat => Some(r#"Bearer realm="supersmartmatch", error="invalid_request""#),
            Rejection::TokenRevoked
            | Rejection::TokenExpired
            | Rejection::InvalidToken
            | Rejection::WrongTokenType
            | Rejection::InvalidRefreshToken => Some(r#"Bearer realm="supersmartmatch", error="invalid_token""#),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(problem_json: bool) -> ErrorContext<'static> {
        ErrorContext { path: "/p", request_id: "rid-12345678", lang: Lang::En, problem_json }
    }

    #[test]
    fn the_envelope_has_the_contract_s_fields() {
        let reply = Rejection::RateLimited(Duration::from_millis(1200)).reply(&context(false));
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        assert_eq!(
            body,
            serde_json::json!({"error": true, "code": "RATE_LIMIT_EXCEEDED", "message": "Too many requests",
                "status_code": 429, "path": "/p", "request_id": "rid-12345678", "retry_after": 2})
        );
        assert!(reply.headers.contains(&(RETRY_AFTER, HeaderValue::from_static("2"))));
    }

    #[test]
    fn problem_json_says_the_same() {
        let fields = vec![FieldProblem { field: "email".into(), problem: "required".into() }];
        let reply = Rejection::Validation(fields).reply(&context(true));
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        assert_eq!(body["status"], 422);
        assert_eq!(body["code"], "VALIDATION_ERROR");
        assert_eq!(body["details"][0]["field"], "email");
    }
}
