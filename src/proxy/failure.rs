//! What Pingora's errors mean to a client, and whose fault they were.

use std::time::Duration;

use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::ctx::RequestCtx;
use super::{Gateway, body, respond, service};
use crate::model::rejection::Rejection;
use crate::upstream::{FailureKind, Observed};

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
        None => judge(session, error, ctx),
    };
    gateway.observe(ctx, observed);
    let Some(rejection) = rejection.filter(|_| respond::status_sent(session).is_none()) else {
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    let code = rejection.status().as_u16();
    session.set_keepalive(None);
    // A client that left meanwhile cannot be told; the record says so.
    let _ = respond::refuse(gateway, session, ctx, rejection).await;
    FailToProxy { error_code: code, can_reuse_downstream: false }
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
        (Observed::Failure(_), None) | (Observed::Success | Observed::Neutral, _) => Rejection::Internal,
    };
    (Some(rejection), observed)
}
