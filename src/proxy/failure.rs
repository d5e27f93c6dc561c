//! What Pingora's errors mean to a client, and whose fault they were.

use std::sync::Arc;
use std::time::Duration;

use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::ctx::RequestCtx;
use super::{Gateway, body, respond, service};
use crate::model::rejection::Rejection;
use crate::model::retry::Failure;
use crate::upstream::{Attempt, FailureKind, Observed};

/// Wait that is suggested when a service refuses connections and nothing better is known.
const RETRY_SOON: Duration = Duration::from_secs(1);

const DEADLINE: ErrorType = ErrorType::Custom("deadline");

/// The whole request took longer than its route allows.
pub(super) fn deadline() -> Box<Error> {
    Error::explain(DEADLINE, "the route's time is over")
}

/// Answers a request whose exchange broke, if it can still be answered, and tells the breaker if it was the target.
pub(super) async fn answer(
    gateway: &Gateway,
    session: &mut Session,
    error: &Error,
    ctx: &mut RequestCtx,
) -> FailToProxy {
    let (rejection, observed) = match ctx.rejection.take() {
        Some(rejection) => (Some(rejection), Observed::Neutral),
        None if handshake_is_late(gateway, ctx) => judge(session, &deadline(), ctx),
        None => judge(session, error, ctx),
    };
    gateway.observe(ctx, observed);
    // Its connection is closed: what the client still sends is not its business.
    ctx.attempt.iter_mut().for_each(Attempt::finish);
    let Some(rejection) = rejection.filter(|_| respond::status_sent(session).is_none()) else {
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    let code = rejection.status().as_u16();
    session.set_keepalive(None);
    // A client that left meanwhile cannot be told; the record says so.
    let _ = respond::refuse(gateway, session, ctx, rejection).await;
    FailToProxy { error_code: code, can_reuse_downstream: false }
}

/// Whether a request for an upgrade got no answer in its time. Its connection ends the wait with an error of its own.
fn handshake_is_late(gateway: &Gateway, ctx: &RequestCtx) -> bool {
    ctx.handshake.is_some() && ctx.upstream_status.is_none() && gateway.clock.now() >= ctx.deadline
}

/// What a client is told when a try failed so and there is no other.
pub(super) fn refusal(failure: Failure, service: &Arc<str>) -> Rejection {
    let kind = match failure {
        Failure::Unsent => FailureKind::Connect,
        Failure::Timeout => FailureKind::Timeout,
        Failure::Status(_) => FailureKind::Status,
        Failure::Stale | Failure::Broken => FailureKind::Reset,
    };
    kind.rejection(service, RETRY_SOON)
}

/// The refusal that fits, none when the client is gone; and what the error says about the target.
///
/// A target is not to blame for time that a client took: to send its body, or to read its answer.
fn judge(session: &mut Session, error: &Error, ctx: &RequestCtx) -> (Option<Rejection>, Observed) {
    use ErrorType as E;
    let timeout = matches!(error.etype(), E::ReadTimedout) || *error.etype() == DEADLINE;
    if *error.esource() == ErrorSource::Downstream {
        let rejection = match error.etype() {
            E::ReadError | E::WriteError | E::ConnectionClosed | E::WriteTimedout => None,
            E::ReadTimedout => Some(Rejection::BadRequest(body::LATE)),
            _ => Some(Rejection::BadRequest("malformed request")),
        };
        return (rejection, Observed::Neutral);
    }
    if timeout && !session.as_downstream_mut().is_body_done() {
        return (Some(Rejection::BadRequest(body::LATE)), Observed::Neutral);
    }
    let observed = match *error.etype() == DEADLINE {
        true if ctx.upstream_status.is_some() => Observed::Neutral,
        true => Observed::Failure(FailureKind::Timeout),
        false => Observed::from_error(error),
    };
    let rejection = match (observed, service(ctx)) {
        (Observed::Failure(kind), Some(service)) => kind.rejection(service, RETRY_SOON),
        // The side-listener is ours, and so is the fault when it does not answer.
        (Observed::Failure(_), None) | (Observed::Success | Observed::Neutral | Observed::Stale, _) => {
            Rejection::Internal
        }
    };
    (Some(rejection), observed)
}
