//! Requests with an `Idempotency-Key`: the first of each goes on, a repeat is read, compared and answered here.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use pingora::{Error, Result};
use pingora_proxy::Session;

use super::admit::Step;
use super::ctx::RequestCtx;
use super::{Gateway, body};
use crate::filters::body::BodyRules;
use crate::filters::idempotency::{Keyed, Payload, Repeat, Settling, Start};
use crate::model::rejection::Rejection;
use crate::model::reply::Reply;
use crate::snapshot::Route;

/// What the lease has on top of twice the route's time: a request ends at the latest when its last wait does, which may begin
/// just before its time is over, and the client may take this long to read.
const LEASE_MARGIN: Duration = Duration::from_secs(60);
/// Longest that an answer is held up for the store.
const SETTLES_WITHIN: Duration = Duration::from_millis(250);

/// Marks the key as in flight and lets the request go on (none), or says what it gets instead.
pub(super) async fn begin(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut RequestCtx,
    keyed: Keyed,
    route: &Route,
) -> Result<Option<Step>> {
    let head = session.req_header();
    let payload = Payload::new(&head.method, ctx.path(head.uri.path()), head.uri.query(), &head.headers);
    let lease = route.timeout.saturating_mul(2).saturating_add(LEASE_MARGIN);
    match keyed.begin(payload, lease).await {
        Ok(Start::First(recording)) => {
            ctx.recording = Some(recording);
            ctx.idempotent = true;
            Ok(None)
        }
        Ok(Start::Repeat(repeat)) => Ok(Some(match compare(gateway, session, ctx, repeat, &route.body).await? {
            Ok(reply) => Step::Answer(reply),
            Err(rejection) => Step::Refuse(rejection),
        })),
        Err(rejection) => Ok(Some(Step::Refuse(rejection))),
    }
}

/// Reads the body of a repeat, within the route's cap and time, and keeps none of it.
async fn compare(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &RequestCtx,
    mut repeat: Box<Repeat>,
    rules: &BodyRules,
) -> Result<Result<Reply, Rejection>> {
    body::welcome(session).await?;
    let read = async {
        let mut length = 0;
        while let Some(chunk) = session.read_request_body().await? {
            length += chunk.len() as u64;
            if length > rules.max {
                return Ok(Err(Rejection::PayloadTooLarge));
            }
            repeat.update(&chunk);
        }
        Ok::<_, Box<Error>>(repeat.answer())
    };
    match tokio::time::timeout(gateway.remaining(ctx), read).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.into_down()),
        Err(_) => Ok(Err(Rejection::BadRequest(body::LATE))),
    }
}

/// The head of the answer, before it gets what is this request's own.
pub(super) async fn answer_head(ctx: &mut RequestCtx, status: StatusCode, headers: &HeaderMap) {
    if let Some(recording) = &mut ctx.recording {
        settled(recording.answer_head(status, headers)).await;
    }
}

/// The request is over. An answer without a body has no other end that is told.
pub(super) fn finish(ctx: &mut RequestCtx, whole: bool) {
    if let Some(mut recording) = ctx.recording.take().filter(|_| whole) {
        recording.answer_whole();
    }
}

/// What became of this try is known: it was not taken, or its answer is dropped for another try.
pub(super) fn resolved(ctx: &mut RequestCtx) {
    if let Some(recording) = &mut ctx.recording {
        recording.resolved();
    }
}

/// The request is refused after all: gives its key back before the client hears of it, so that it may try again at once.
/// Unless its target may be at work on it: then repeats wait for the lease.
pub(super) async fn give_back(ctx: &mut RequestCtx) {
    if let Some(mut recording) = ctx.recording.take() {
        settled(recording.give_back()).await;
    }
}

/// Lets the store come to an end first, so that a client that asks again at once finds it; but not for long.
async fn settled(settling: Settling) {
    if let Some(settling) = settling {
        let _ = tokio::time::timeout(SETTLES_WITHIN, settling).await;
    }
}
