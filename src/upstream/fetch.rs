//! A GET of the gateway's own to a pool, for destinations that merge several answers. Its outcome counts for the
//! breaker like any request's.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::client::Get;
use super::outcome::{FailureKind, Observed, words};
use super::pool::Pool;
use crate::clock::Clock;
use crate::model::rejection::Rejection;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// HTTP status, 5xx included.
    pub status: u16,
    /// `Content-Type`, when there is one.
    pub content_type: Option<HeaderValue>,
    /// The body, as sent.
    pub body: Bytes,
}

/// Asks one target of `pool` for `path`, within `deadline`. `Host` is the target's.
///
/// # Errors
/// [`Rejection::ServiceUnavailable`] and [`Rejection::CircuitOpen`] when no target can be picked or reached,
/// [`Rejection::UpstreamTimeout`] past the deadline, [`Rejection::BadGateway`] when the answer is not HTTP, breaks
/// off, or is longer than `max_body` bytes.
pub async fn get(
    pool: &Pool,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
    clock: &Clock,
    deadline: Duration,
    max_body: usize,
) -> Result<Fetched, Rejection> {
    let mut attempt = pool.pick(clock.now())?;
    let peer = attempt.peer();
    let host = attempt.target().authority().clone();
    let get = Get { peer: &peer, host: &host, path, headers, max_body };
    let answer = tokio::time::timeout(deadline, get.pooled(&pool.prober().connector)).await;
    let now = clock.now();
    let (observed, error) = match &answer {
        Ok(Ok(answer)) => (Observed::from_status(answer.status), None),
        Ok(Err(error)) => (Observed::from_error(error), Some(words(error))),
        Err(_) => (Observed::Failure(FailureKind::Timeout), Some("no answer before the deadline")),
    };
    attempt.observe(observed, now);
    if let Some(error) = error {
        tracing::warn!(service = &**pool.service(), target = &**attempt.target().label(), path, error, "call failed");
    }
    match (answer, observed) {
        (Ok(Ok(answer)), _) => match answer.body {
            Some(body) => Ok(Fetched { status: answer.status, content_type: answer.content_type, body }),
            None => Err(Rejection::BadGateway(pool.service().clone())),
        },
        (_, Observed::Failure(kind)) => Err(kind.rejection(pool.service(), pool.retry_after(now))),
        (_, Observed::Success | Observed::Neutral) => Err(Rejection::BadGateway(pool.service().clone())),
    }
}
