//! The forms of an answer: JSON, text, a refusal. Every page answers through here.

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use super::asked::Asked;
use crate::model::rejection::Rejection;
use crate::model::reply::Reply;

/// Tells the proxy why a page refused, for the access record; it goes no further.
pub(super) const CODE: HeaderName = HeaderName::from_static("x-ssm-code");

/// The answer that `reply` describes, with the headers that all our pages carry.
pub(super) fn send(reply: Reply) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    for (name, value) in reply.headers {
        headers.append(name, value);
    }
    response
}

/// A refusal, in the form that the client asked for.
pub(super) fn refuse(rejection: &Rejection, asked: &Asked) -> Response {
    let mut response = send(rejection.reply(&asked.error_context()));
    response.headers_mut().insert(CODE, HeaderValue::from_static(rejection.code()));
    response
}

/// JSON of this moment, which nobody may keep.
pub(super) fn json(status: StatusCode, body: &impl Serialize, asked: &Asked) -> Response {
    match serde_json::to_vec(body) {
        Ok(text) => {
            let mut reply = Reply::json(status, text);
            reply.headers.push(no_store());
            send(reply)
        }
        Err(error) => {
            tracing::error!(path = asked.path(), %error, "a page could not be written as JSON");
            refuse(&Rejection::Internal, asked)
        }
    }
}

/// What came out, as [`json`], or why nothing did.
pub(super) fn outcome(status: StatusCode, result: Result<impl Serialize, Rejection>, asked: &Asked) -> Response {
    match result {
        Ok(body) => json(status, &body, asked),
        Err(rejection) => refuse(&rejection, asked),
    }
}

/// Any other text or bytes.
pub(super) fn content(
    content_type: &'static str,
    body: impl Into<bytes::Bytes>,
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> Response {
    let mut all = vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))];
    all.extend(headers);
    send(Reply { status: StatusCode::OK, headers: all, body: body.into() })
}

/// `Cache-Control: no-store`.
pub(super) fn no_store() -> (HeaderName, HeaderValue) {
    (CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

/// For a page that does not exist.
pub(super) async fn not_found(asked: Asked) -> Response {
    refuse(&Rejection::NotFound, &asked)
}

/// For a page that the table offers with a method that the page does not know; the router adds `Allow`.
pub(super) async fn wrong_method(asked: Asked) -> Response {
    let mut response = refuse(&Rejection::MethodNotAllowed(HeaderValue::from_static("")), &asked);
    response.headers_mut().remove(ALLOW);
    response
}
