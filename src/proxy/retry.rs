//! Trying a request again: Pingora's hooks say how a try failed, the pool says whether there is another
//! ([`Pool::leave_to_retry`]), and the next call for a peer waits and takes a target.

use std::time::Duration;

use http::header::RETRY_AFTER;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource, ErrorType, Result, RetryType};
use pingora_proxy::Session;

use super::ctx::{BodyState, RequestCtx};
use super::{Gateway, failure, idempotency, internal, presence, respond};
use crate::clock::Tick;
use crate::model::rejection::Rejection;
use crate::model::retry::{Failure, Request, is_repeatable};
use crate::model::retry_after;
use crate::snapshot::{Destination, Route};
use crate::telemetry::metrics::RetryResult;
use crate::upstream::retries::Failed;
use crate::upstream::upgrade::Handshake;
use crate::upstream::{Observed, Pool};

/// An answer that is dropped, because the request is tried again.
const AGAIN: ErrorType = ErrorType::Custom("again");
/// A service that closes a kept connection while a request is on its way to it does so within this time. One that closes
/// later may have worked on the request.
const STALE_WITHIN: Duration = Duration::from_millis(500);

/// What a request knows of its tries.
#[derive(Default)]
pub struct Retry {
    /// The retry that was decided.
    pending: Option<Pending>,
    /// When this try began.
    pub began: Tick,
    /// Whether the target said anything in this try, if only that it goes on (1xx).
    pub heard: bool,
    /// Whether the next try needs a connection that nobody used before.
    pub fresh: bool,
}

struct Pending {
    wait: Duration,
    /// What the client is told when no target takes the request.
    original: Rejection,
}

/// Most retries of a request of this route to this pool.
pub(super) fn most(route: &Route, pool: &Pool) -> u32 {
    route.retries.unwrap_or(pool.retry_policy().max)
}

/// Longest body that is read whole so that it can be sent again; 0 where nothing is.
pub(super) fn replay(ctx: &RequestCtx) -> u64 {
    let route = ctx.matched.as_ref().map(|matched| &*matched.route);
    match route.map(|route| (&route.destination, route)) {
        // Where places are few, a body is read before it takes one, so that a slow client holds none.
        Some((Destination::Pool { pool, .. }, route)) if most(route, pool) > 0 || pool.has_queue() => {
            pool.retry_policy().replay
        }
        _ => 0,
    }
}

/// Whether requests of this route may have to wait for a place at a target.
pub(super) fn has_queue(ctx: &RequestCtx) -> bool {
    let destination = ctx.matched.as_ref().map(|matched| &matched.route.destination);
    matches!(destination, Some(Destination::Pool { pool, .. }) if pool.has_queue())
}

impl Gateway {
    /// Whether the request goes on after its target could not be reached.
    pub(super) fn after_no_connection(&self, session: &mut Session, ctx: &mut RequestCtx, error: &mut Error) {
        let observed = Observed::from_error(error);
        self.observe(ctx, observed);
        let failed = matches!(observed, Observed::Failure(_));
        let again = failed && self.decide(session, ctx, Failure::Unsent, None);
        self.set(ctx, error, again);
    }

    /// Whether it goes on after its exchange broke.
    pub(super) fn after_exchange(&self, session: &mut Session, ctx: &mut RequestCtx, error: &mut Error, reused: bool) {
        if *error.etype() == AGAIN {
            return self.set(ctx, error, true);
        }
        let failure = self.failure(session, ctx, error, reused);
        if failure == Some(Failure::Stale) {
            self.observe(ctx, Observed::Stale);
        }
        if failure == Some(Failure::Unsent) {
            idempotency::resolved(ctx);
        }
        let again = failure.is_some_and(|failure| self.decide(session, ctx, failure, None));
        if again {
            self.observe(ctx, Observed::from_error(error));
        }
        self.set(ctx, error, again);
    }

    /// Drops this answer for another try, if there is one. It is dropped only then: else the client gets it as it is.
    pub(super) fn after_answer(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        response: &ResponseHeader,
    ) -> Result<()> {
        let text = response.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let asked = text.and_then(|text| retry_after::parse(text, self.clock.wall()));
        match self.decide(session, ctx, Failure::Status(response.status.as_u16()), asked) {
            true => {
                idempotency::resolved(ctx);
                Err(Error::explain(AGAIN, "tried again").into_up())
            }
            false => Ok(()),
        }
    }

    /// How the exchange failed, if that was the target's doing.
    fn failure(&self, session: &mut Session, ctx: &RequestCtx, error: &Error, reused: bool) -> Option<Failure> {
        if *error.esource() == ErrorSource::Downstream || ctx.rejection.is_some() {
            return None;
        }
        if error.retry == RetryType::Decided(true) {
            return Some(Failure::Unsent); // HTTP/2 says so: refused streams, connections that are being closed
        }
        if reused && !ctx.retry.heard && is_stale(error) {
            let at_once = self.clock.now().since(ctx.retry.began) <= STALE_WITHIN;
            return Some(if at_once { Failure::Stale } else { Failure::Broken });
        }
        let Observed::Failure(kind) = Observed::from_error(error) else { return None };
        let failure = kind.of_exchange();
        // Time that the client took is not the target's.
        let late = failure == Failure::Timeout && !session.as_downstream_mut().is_body_done();
        (!late).then_some(failure)
    }

    fn decide(&self, session: &Session, ctx: &mut RequestCtx, failure: Failure, asked: Option<Duration>) -> bool {
        let (Some(matched), Some(attempt)) = (&ctx.matched, &ctx.attempt) else { return false };
        let Destination::Pool { pool, .. } = &matched.route.destination else { return false };
        let failed = Failed {
            failure,
            request: Request {
                repeatable: ctx.idempotent || is_repeatable(&session.req_header().method),
                replayable: is_replayable(session, &ctx.body),
                answered: ctx.is_upgraded() || respond::status_sent(session).is_some(),
            },
            asked,
            retries: ctx.attempts.saturating_sub(1),
            most: most(&matched.route, pool),
            remaining: self.remaining(ctx),
            target: attempt.target(),
        };
        let Some(leave) = pool.leave_to_retry(&failed, &ctx.tried, self.clock.now()) else { return false };
        if leave.only_others {
            ctx.tried.bar();
        }
        ctx.retry.fresh = failure == Failure::Stale;
        let original = failure::refusal(failure, pool.service());
        ctx.retry.pending = Some(Pending { wait: leave.wait, original });
        true
    }

    /// Tells Pingora, and ends the try: its place is free before another is taken.
    fn set(&self, ctx: &mut RequestCtx, error: &mut Error, again: bool) {
        error.retry = RetryType::Decided(again);
        if again && let Some(attempt) = ctx.attempt.take() {
            ctx.tried.note(attempt.target());
            ctx.handshake = ctx.handshake.take().map(|_| Handshake::default());
        }
    }

    /// Waits and takes a target, when this is not the first try.
    pub(super) async fn next_try(&self, session: &Session, ctx: &mut RequestCtx) -> Result<()> {
        let Some(Pending { wait, original }) = ctx.retry.pending.take() else { return Ok(()) };
        if !wait.is_zero() {
            presence::unless_gone(session, tokio::time::sleep(wait)).await?;
        }
        if self.choose(session, ctx).await?.is_ok() {
            return Ok(());
        }
        if let Some(Destination::Pool { pool, .. }) = ctx.matched.as_ref().map(|matched| &matched.route.destination) {
            pool.count_retry(RetryResult::NoTarget);
        }
        ctx.rejection = Some(original);
        Err(internal("no target for another try"))
    }
}

/// Whether the body, as far as it came, can be sent again: Pingora kept all of it, or it is held back still.
fn is_replayable(session: &Session, body: &BodyState) -> bool {
    let held = matches!(body, BodyState::Held(held) if !held.is_empty());
    held || !session.as_downstream().retry_buffer_truncated()
}

/// Whether a connection that was used before was closed without a byte of this answer.
///
/// Pingora marks such errors, but also those after the first bytes of a head; only its message tells how many came.
/// What cannot be written to a closed connection was not taken either.
fn is_stale(error: &Error) -> bool {
    let cut_head = error.context.as_ref().is_some_and(|context| {
        let (_, count) = context.as_str().rsplit_once("bytes already read: ").unwrap_or(("", "0"));
        count != "0"
    });
    match error.etype() {
        ErrorType::WriteError => true,
        _ => error.retry == RetryType::ReusedOnly && !cut_head,
    }
}
