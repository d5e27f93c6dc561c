//! Writes the gateway's own answers. The one place that does.

use std::time::Duration;

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, EXPECT, REFERRER_POLICY, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS};
use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::{Gateway, compression, headers, idempotency, is_final};
use crate::model::rejection::Rejection;
use crate::model::reply::{ErrorContext, Reply};

/// Unread bodies up to this size are read and dropped after an early answer, so that the connection stays usable.
const DRAIN_AND_KEEP: u64 = 64 * 1024;
/// Of larger ones, this much is read before closing, for so long, so that a client that sends everything before it
/// looks gets to see the answer.
const DRAIN_AND_CLOSE: usize = 64 * 1024 * 1024;
const DRAIN_FOR: Duration = Duration::from_secs(2);

/// Refuses the request.
pub(super) async fn refuse(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut RequestCtx,
    rejection: Rejection,
) -> Result<()> {
    let reply = {
        let head = session.req_header();
        let path = ctx.path(head.uri.path());
        rejection.reply(&ErrorContext::new(path, ctx.request_id(), &head.headers))
    };
    if matches!(rejection, Rejection::BadRequest(_)) {
        session.set_keepalive(None); // what follows on this connection cannot be trusted to begin a request
    }
    ctx.rejection = Some(rejection);
    idempotency::give_back(ctx).await;
    answer(gateway, session, ctx, reply).await
}

/// Sends a whole answer, and deals with a body that nobody read.
pub(super) async fn answer(gateway: &Gateway, session: &mut Session, ctx: &mut RequestCtx, reply: Reply) -> Result<()> {
    let mut unread = unread_body(session);
    if gateway.connections.are_closing() {
        session.set_keepalive(None);
        unread = unread.of_a_last_request();
    }
    match unread {
        Unread::Nothing => {}
        Unread::Small => session.as_downstream_mut().set_close_on_response_before_downstream_finish(false),
        Unread::Large | Unread::Withheld => session.set_keepalive(None),
    }
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = reply.status;
    head.headers.reserve(reply.headers.len() + 12);
    for (name, value) in reply.headers {
        head.headers.append(name, value);
    }
    if reply.status != StatusCode::NO_CONTENT {
        head.headers.insert(CONTENT_LENGTH, reply.body.len().into());
    }
    head.headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    head.headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers::finish(gateway, reply.status, &mut head.headers, ctx);
    let head = ResponseHeader::from(head);
    compression::decide(session, &head);
    // In HTTP/1.1 Pingora leaves the body out by itself.
    let empty = reply.body.is_empty() || session.is_http2() && session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(head), empty).await?;
    if !empty {
        session.write_response_body(Some(reply.body), true).await?;
    }
    if matches!(unread, Unread::Large) {
        drain(session).await;
    }
    Ok(())
}

/// Status of the final answer, once its head was sent. An interim `100` is none.
pub(super) fn status_sent(session: &Session) -> Option<u16> {
    let sent = session.response_written().filter(|response| is_final(response.status));
    sent.map(|response| response.status.as_u16())
}

/// What the client still has to send.
enum Unread {
    Nothing,
    /// Little enough to read and drop.
    Small,
    /// Too much to wait for.
    Large,
    /// It waits for `100 Continue`, which it will not get.
    Withheld,
}

impl Unread {
    /// The connection is not kept: what would be dropped between two requests is dropped before its end.
    fn of_a_last_request(self) -> Unread {
        match self {
            Unread::Small => Unread::Large,
            other => other,
        }
    }
}

fn unread_body(session: &mut Session) -> Unread {
    if session.as_downstream_mut().is_body_done() || session.as_downstream_mut().is_body_empty() {
        return Unread::Nothing;
    }
    if session.is_http2() {
        return Unread::Nothing; // each request has a stream of its own, and ends with it
    }
    let headers = &session.req_header().headers;
    if headers.contains_key(EXPECT) {
        return Unread::Withheld;
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        return Unread::Large;
    }
    match headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok()) {
        Some(length) if length <= DRAIN_AND_KEEP => Unread::Small,
        _ => Unread::Large,
    }
}

/// Deals with the rest of a body whose service answered before it was there.
pub(super) async fn linger(session: &mut Session, ctx: &RequestCtx) {
    let answered = ctx.upstream_status.is_some() && status_sent(session).is_some();
    if answered && !ctx.is_upgraded() && !session.as_downstream_mut().is_body_done() {
        drain(session).await;
    }
}

/// Reads and drops a bounded part of the body: a connection that is closed with unread bytes is reset, and the
/// client may lose the answer (RFC 9112 §9.6).
async fn drain(session: &mut Session) {
    let read = async {
        let mut dropped = 0;
        while dropped < DRAIN_AND_CLOSE {
            match session.read_request_body().await {
                Ok(Some(chunk)) => dropped += chunk.len(),
                Ok(None) | Err(_) => return,
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_FOR, read).await;
}
