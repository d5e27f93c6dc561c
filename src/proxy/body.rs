//! Request bodies: capped while they stream, and JSON checked before any upstream is called.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Gateway;
use super::ctx::{BodyState, RequestCtx};
use super::{failure, retry};
use crate::filters::body::{BodyRules, is_json};
use crate::model::rejection::Rejection;

/// Pingora replays at most this much of a body that was read before the upstream was chosen.
const REPLAY_LIMIT: usize = 64 * 1024;
/// Most bytes of JSON bodies over [`REPLAY_LIMIT`] that are in memory at once, over all requests.
const JSON_BUDGET: usize = 64 << 20;
/// The same of other bodies that are read whole.
const KEPT_BUDGET: usize = 32 << 20;
/// What a client is told to wait when that is spent: bodies are checked in milliseconds once they are there.
const BUDGET_RETRY: Duration = Duration::from_secs(1);
/// Bodies over this are checked aside, so that other requests of the thread go on meanwhile.
const CHECK_ASIDE: usize = 256 * 1024;

/// Memory for bodies that are read whole.
pub struct BodyBudget(Arc<Semaphore>);

impl BodyBudget {
    /// For JSON that is checked. What does not fit is refused.
    pub fn json() -> BodyBudget {
        BodyBudget(Arc::new(Semaphore::new(JSON_BUDGET)))
    }

    /// For other bodies that are to be sent again. What does not fit streams.
    pub fn kept() -> BodyBudget {
        BodyBudget(Arc::new(Semaphore::new(KEPT_BUDGET)))
    }

    /// Makes `memory` cover `bytes`. Grows with what has come, so that announcing much takes nothing from others.
    fn cover(&self, memory: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Rejection> {
        let missing = bytes.saturating_sub(memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let more = self.0.clone().try_acquire_many_owned(missing).map_err(|_| Rejection::Overloaded(BUDGET_RETRY))?;
        match memory {
            Some(memory) => memory.merge(more),
            None => *memory = Some(more),
        }
        Ok(())
    }
}

/// Applies the rules that need the body itself, within the request's time. The head's part ran as a filter.
///
/// A JSON body is read whole and checked. Only one of unknown length (chunked) that turns out larger than Pingora can
/// replay is held back on its way to the upstream until it is whole, see [`towards_upstream`].
pub(super) async fn check(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut RequestCtx,
    rules: &BodyRules,
) -> Result<Result<(), Rejection>> {
    welcome(session).await?;
    let headers = &session.req_header().headers;
    if session.req_header().method.is_safe() || !rules.wants_json(headers) {
        return keep(gateway, session, ctx).await;
    }
    let length = match headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).map(str::parse::<u64>) {
        Some(Ok(length)) => Some(length),
        _ => None,
    };
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    if length.is_none_or(|length| length == 0) && !chunked {
        return Ok(Err(Rejection::InvalidJson));
    }
    if length.is_some_and(|length| length > rules.json_max) {
        return Ok(Err(Rejection::PayloadTooLarge));
    }
    let time = gateway.remaining(ctx);
    let read = read_whole(session, length, &gateway.json_budget, &mut ctx.memory);
    let body = match tokio::time::timeout(time, read).await {
        Ok(Ok(Ok(body))) => body,
        Ok(Ok(Err(rejection))) => return Ok(Err(rejection)),
        Ok(Err(error)) => return Err(error.into_down()),
        Err(_) => return Ok(Err(Rejection::BadRequest(LATE))),
    };
    if body.len() as u64 > rules.json_max {
        return Ok(Err(Rejection::PayloadTooLarge));
    }
    if length.is_none() && body.len() > REPLAY_LIMIT {
        if session.as_downstream_mut().is_body_done() {
            return Ok(Err(Rejection::PayloadTooLarge)); // nothing would make Pingora send what was read
        }
        ctx.body = BodyState::Held(body);
        return Ok(Ok(()));
    }
    if !checks(&body) {
        return Ok(Err(Rejection::InvalidJson));
    }
    if body.len() > REPLAY_LIMIT {
        ctx.body = BodyState::Checked(body.freeze());
    }
    Ok(Ok(()))
}

/// Answers an `Expect: 100-continue`, once it is known that the body is wanted (RFC 9110 §10.1.1). The gateway does that
/// itself, and once.
pub(super) async fn welcome(session: &mut Session) -> Result<()> {
    if session.req_header().headers.contains_key(EXPECT) {
        let downstream = session.as_downstream_mut();
        // Else Pingora would close the connection, as after an early final answer.
        downstream.set_close_on_response_before_downstream_finish(false);
        downstream.write_continue_response().await?;
        downstream.set_close_on_response_before_downstream_finish(true);
        session.req_header_mut().remove_header(&EXPECT);
    }
    Ok(())
}

/// Reads a body that Pingora could not send again, but the route's pool wants to be able to; and any where the pool's
/// places are few. While there is no memory for it, it streams.
async fn keep(gateway: &Gateway, session: &mut Session, ctx: &mut RequestCtx) -> Result<Result<(), Rejection>> {
    let length = session.req_header().headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let Some(length) = length.and_then(|text| text.parse::<u64>().ok()) else { return Ok(Ok(())) };
    let least = if retry::has_queue(ctx) { 0 } else { REPLAY_LIMIT as u64 };
    let budget = &gateway.kept_budget;
    // All of its memory at once: one that found none half-way could no longer stream.
    let room = |memory: &mut _| budget.cover(memory, usize::try_from(length).unwrap_or(usize::MAX)).is_ok();
    if length <= least || length > retry::replay(ctx) || !room(&mut ctx.memory) {
        return Ok(Ok(()));
    }
    let time = gateway.remaining(ctx);
    let read = read_whole(session, Some(length), budget, &mut ctx.memory);
    match tokio::time::timeout(time, read).await {
        Ok(Ok(Ok(body))) if body.len() > REPLAY_LIMIT => ctx.body = BodyState::Checked(body.freeze()),
        Ok(Ok(Ok(_))) => {} // Pingora has it
        Ok(Ok(Err(rejection))) => return Ok(Err(rejection)),
        Ok(Err(error)) => return Err(error.into_down()),
        Err(_) => return Ok(Err(Rejection::BadRequest(LATE))),
    }
    Ok(Ok(()))
}

/// Why a request whose body stopped coming is refused.
pub(super) const LATE: &str = "the request body did not arrive in time";

fn checks(body: &[u8]) -> bool {
    if body.len() > CHECK_ASIDE { tokio::task::block_in_place(|| is_json(body)) } else { is_json(body) }
}

/// Reads a body, or of one without a length the first part beyond [`REPLAY_LIMIT`].
///
/// Pingora keeps for replay what is read from the moment that is switched on, at most [`REPLAY_LIMIT`]. Of a long body
/// it is to keep the last part: that makes it call [`towards_upstream`] once more, where the whole takes its place.
async fn read_whole(
    session: &mut Session,
    length: Option<u64>,
    budget: &BodyBudget,
    memory: &mut Option<OwnedSemaphorePermit>,
) -> Result<Result<BytesMut, Rejection>> {
    // Room for all of it at once: growing step by step would copy, and take twice the memory. Room costs memory only
    // where it was written to.
    let mut body = BytesMut::with_capacity(length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0));
    loop {
        let left = length.map_or(0, |length| length.saturating_sub(body.len() as u64));
        if left <= REPLAY_LIMIT as u64 {
            session.as_downstream_mut().enable_retry_buffering();
        }
        match session.read_request_body().await? {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => return Ok(Ok(body)),
        }
        if body.len() <= REPLAY_LIMIT {
            continue;
        }
        if let Err(rejection) = budget.cover(memory, body.len()) {
            return Ok(Err(rejection));
        }
        if length.is_none() && !session.as_downstream_mut().is_body_done() {
            return Ok(Ok(body));
        }
    }
}

/// Each chunk on its way to the upstream.
pub(super) fn towards_upstream(
    gateway: &Gateway,
    chunk: &mut Option<Bytes>,
    end_of_stream: bool,
    ctx: &mut RequestCtx,
) -> Result<()> {
    if ctx.is_upgraded() {
        return Ok(());
    }
    let now = gateway.clock.now();
    if now > ctx.deadline {
        return Err(failure::deadline());
    }
    if end_of_stream && let Some(attempt) = &mut ctx.attempt {
        attempt.sent(now);
    }
    let rules = ctx.matched.as_ref().map(|matched| &matched.route.body);
    let (max, json_max) = rules.map_or((0, 0), |rules| (rules.max, rules.json_max));
    let length = chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
    match &mut ctx.body {
        BodyState::Streaming => {
            ctx.streamed += length;
            if ctx.streamed > max {
                return Err(refuse(ctx, Rejection::PayloadTooLarge));
            }
        }
        BodyState::Checked(whole) => *chunk = Some(whole.clone()),
        BodyState::Held(held) => {
            if held.len() as u64 + length > json_max {
                return Err(refuse(ctx, Rejection::PayloadTooLarge));
            }
            if let Some(bytes) = chunk.as_ref() {
                held.extend_from_slice(bytes);
            }
            if let Err(rejection) = gateway.json_budget.cover(&mut ctx.memory, held.len()) {
                return Err(refuse(ctx, rejection));
            }
            if end_of_stream && !checks(held) {
                return Err(refuse(ctx, Rejection::InvalidJson));
            }
            // `None` before the end would end the upstream's body.
            *chunk = Some(if end_of_stream { held.split().freeze() } else { Bytes::new() });
        }
    }
    if let Some(recording) = &mut ctx.recording {
        recording.request_body(chunk.as_ref(), end_of_stream);
    }
    Ok(())
}

/// Stops the exchange for a reason that [`failure::answer`] tells the client.
fn refuse(ctx: &mut RequestCtx, rejection: Rejection) -> Box<Error> {
    let status = rejection.status().as_u16();
    ctx.rejection = Some(rejection);
    Error::explain(ErrorType::HTTPStatus(status), "request body refused")
}
