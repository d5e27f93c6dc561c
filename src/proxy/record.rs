//! Where a request becomes a log line: exactly one record, also when the client left.

use pingora::{Error, ErrorSource};
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::{Gateway, respond};
use crate::audit::{Actor, Event, EventKind};
use crate::model::access::{AccessRecord, LimitRecord, Outcome, UpstreamRecord};
use crate::model::rejection::Rejection;
use crate::snapshot::Destination;
use crate::telemetry::metrics::AuthEvent;

/// Status that the record gives a request whose client left before an answer began.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Writes the record of a finished request.
pub(super) fn write(gateway: &Gateway, session: &mut Session, error: Option<&Error>, ctx: &RequestCtx) {
    let now = gateway.clock.now();
    let written = respond::status_sent(session);
    let head = session.req_header();
    let (matched, sent) = (ctx.matched.as_ref(), head.uri.path());
    let trace_id = ctx.trace.trace_id();
    let tried = ctx.tried.labels();
    let target = ctx.attempt.as_ref().map(|attempt| attempt.target().label()).or(tried.last());
    let pool = match matched.map(|matched| &matched.route.destination) {
        Some(Destination::Pool { pool, .. }) => Some(&**pool.name()),
        _ => None,
    };
    let upstream = pool.zip(target).zip(ctx.upstream_started).map(|((pool, target), started)| UpstreamRecord {
        pool,
        target,
        status: ctx.upstream_status,
        duration: now.since(started),
        attempts: ctx.attempts,
        tried,
    });
    let record = AccessRecord {
        started_at: ctx.started_at,
        request_id: ctx.request_id(),
        trace_id: Some(&trace_id),
        client: ctx.peer.map(|_| ctx.client.address),
        method: head.method.as_str(),
        route: matched.map(|matched| &*matched.route.name),
        path: ctx.path(sent),
        status: written.unwrap_or(CLIENT_CLOSED_REQUEST),
        code: ctx.rejection.as_ref().map(Rejection::code).or(ctx.page_code),
        outcome: outcome(error, written, ctx.rejection.is_some()),
        bytes_in: session.body_bytes_read() as u64,
        bytes_out: session.body_bytes_sent() as u64,
        duration: now.since(ctx.started),
        first_byte: ctx.first_byte.map(|at| at.since(ctx.started)),
        queue: ctx.queued,
        upstream,
        identity: ctx.identity.as_ref(),
        limit: ctx.limit.as_ref().map(|limit| LimitRecord { policy: &limit.policy, remaining: limit.remaining }),
    };
    let metrics = matched.map_or(&gateway.unmatched, |matched| &matched.route.metrics);
    gateway.metrics.record(metrics, &record);
    gateway.access_log.write(&record);
    audit_refusal(gateway, ctx);
}

/// Records a refusal that matters: somebody proven may not do this, or a credential that was revoked is still in use.
/// Missing and bad tokens are not recorded: they prove nothing, and anybody can send any number of them.
fn audit_refusal(gateway: &Gateway, ctx: &RequestCtx) {
    let Some(rejection @ (Rejection::ForbiddenRole(_) | Rejection::ForbiddenScope | Rejection::TokenRevoked)) =
        &ctx.rejection
    else {
        return;
    };
    let route = ctx.matched.as_ref().map_or("none", |matched| &*matched.route.name);
    let mut event = Event::new(EventKind::Auth(AuthEvent::AuthzFail))
        .from(Some(ctx.client.address), Some(ctx.request_id()))
        .saying(format!("{} on route {route}", rejection.code()));
    event.actor = ctx.identity.as_ref().map(Actor::of);
    gateway.metrics.auth_event(AuthEvent::AuthzFail);
    gateway.audit.record(event);
}

fn outcome(error: Option<&Error>, written: Option<u16>, refused: bool) -> Outcome {
    match error {
        None => Outcome::Complete,
        Some(_) if refused && written.is_some() => Outcome::Complete, // the refusal was sent whole
        Some(error) if error.esource() == &ErrorSource::Downstream || written.is_none() => Outcome::ClientGone,
        Some(_) => Outcome::Truncated,
    }
}
