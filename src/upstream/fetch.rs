//! A GET of the gateway's own to a pool, for destinations that merge several answers. Its outcome counts for the
//! breaker like any request's, and it is tried again like any GET.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::attempt::Attempt;
use super::client::Get;
use super::demand::{Demand, Tried};
use super::outcome::{FailureKind, Observed, words};
use super::pool::Pool;
use super::retries::Failed;
use crate::clock::Clock;
use crate::model::rejection::Rejection;
use crate::model::retry::{Failure, Request};
use crate::model::retry_after;
use crate::telemetry::metrics::RetryResult;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The path.
    pub path: &'a str,
    /// Headers beside `Host`, which is the target's.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// Time for all tries.
    pub deadline: Duration,
    /// Most bytes of an answer's body.
    pub max_body: usize,
    /// Most retries, where it is not the pool's number.
    pub retries: Option<u32>,
    /// What the pool tells requests apart by, where it does.
    pub key: Option<u64>,
}

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

/// How one try ended.
struct Ended {
    result: Result<Fetched, Rejection>,
    failure: Option<Failure>,
    asked: Option<Duration>,
}

/// Asks `pool`, one target after the other where its policy says so.
///
/// # Errors
/// [`Rejection::ServiceUnavailable`], [`Rejection::CircuitOpen`] and [`Rejection::Overloaded`] when no target can be picked or reached,
/// [`Rejection::UpstreamTimeout`] past the deadline, [`Rejection::BadGateway`] when the answer is not HTTP, breaks
/// off, or is longer than `max_body` bytes.
pub async fn get(pool: &Pool, call: &Call<'_>, clock: &Clock) -> Result<Fetched, Rejection> {
    let end = clock.now().after(call.deadline);
    let most = call.retries.unwrap_or(pool.retry_policy().max);
    let mut tried = Tried::default();
    let mut before = None;
    for retries in 0.. {
        let mut attempt = match (pool.acquire(&Demand { tried: &tried, key: call.key }, clock, end).await, before) {
            (Ok(attempt), _) => attempt,
            (Err(rejection), None) => return Err(rejection),
            (Err(_), Some(result)) => {
                pool.count_retry(RetryResult::NoTarget);
                return result;
            }
        };
        if retries == 0 {
            pool.count_request(clock.now());
        }
        let remaining = end.since(clock.now());
        let Ended { result, failure, asked } = once(pool, &mut attempt, call, clock, remaining).await;
        let Some(failure) = failure else { return result };
        let request = Request { repeatable: true, replayable: true, answered: false };
        let remaining = end.since(clock.now());
        let failed = Failed { failure, request, asked, retries, most, remaining, target: attempt.target() };
        let Some(leave) = pool.leave_to_retry(&failed, &tried, clock.now()) else { return result };
        tried.note(attempt.target());
        if leave.only_others {
            tried.bar();
        }
        drop(attempt);
        tokio::time::sleep(leave.wait).await;
        before = Some(result);
    }
    Err(Rejection::Internal) // nobody counts that far
}

async fn once(pool: &Pool, attempt: &mut Attempt, call: &Call<'_>, clock: &Clock, time: Duration) -> Ended {
    let peer = attempt.peer();
    let host = attempt.target().authority().clone();
    let get = Get { peer: &peer, host: &host, path: call.path, headers: call.headers, max_body: call.max_body };
    let answer = tokio::time::timeout(time, get.pooled(&pool.prober().connector)).await;
    let now = clock.now();
    let (observed, error) = match &answer {
        Ok(Ok(answer)) => (Observed::from_status(answer.status), None),
        Ok(Err(error)) => (Observed::from_error(error), Some(words(error))),
        Err(_) => (Observed::Failure(FailureKind::Timeout), Some("no answer before the deadline")),
    };
    match &answer {
        Ok(Ok(answer)) => attempt.answered(answer.status, answer.retry_after.as_ref(), clock),
        Ok(Err(_)) | Err(_) => attempt.observe(observed, now),
    }
    if let Some(error) = error {
        let (service, target, path) = (&**pool.service(), &**attempt.target().label(), call.path);
        tracing::warn!(service, target, path, error, "call failed");
    }
    let bad = || Rejection::BadGateway(pool.service().clone());
    match (answer, observed) {
        (Ok(Ok(answer)), _) => {
            let text = answer.retry_after.as_ref().and_then(|value| value.to_str().ok());
            let asked = text.and_then(|text| retry_after::parse(text, clock.wall()));
            let (status, content_type) = (answer.status, answer.content_type);
            let result = answer.body.map(|body| Fetched { status, content_type, body }).ok_or_else(bad);
            Ended { result, failure: Some(Failure::Status(status)), asked }
        }
        (_, Observed::Failure(kind)) => {
            let result = Err(kind.rejection(pool.service(), pool.retry_after(now)));
            Ended { result, failure: Some(kind.of_call()), asked: None }
        }
        (_, Observed::Success | Observed::Neutral | Observed::Stale) => {
            Ended { result: Err(bad()), failure: None, asked: None }
        }
    }
}
