//! When a try that failed is made again, and after how long. Knows neither targets nor connections.
//!
//! Two licences: the failure proves that no service has begun the request, or doing it twice is doing it once
//! (RFC 9110 §9.2.2). How many retries a pool may make at all is [`budget`]'s to say.

mod budget;

use std::time::Duration;

use http::Method;

pub use budget::{Budget, Share};

/// Most retries that can be configured for a request.
pub const MAX_RETRIES: u32 = 10;
/// What must be left of a request's time for a retry: less would turn a clear failure into a timeout.
const SHORTEST_TRY: Duration = Duration::from_millis(20);

/// What a pool's configuration says about retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Most retries of one request.
    pub max: u32,
    /// Statuses after which a request is tried again.
    pub statuses: Vec<u16>,
    /// How long to wait before.
    pub backoff: Backoff,
    /// The pool's share of retries.
    pub share: Share,
    /// Bodies of known length up to this many bytes are read whole before the first try, so that they can be sent
    /// again.
    pub replay: u64,
}

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nothing of the request was taken: no connection, a failed TLS handshake, a stream refused (RFC 9113 §8.7).
    Unsent,
    /// A kept connection was found closed at once, before a byte of an answer: the service had given it up while it was
    /// idle.
    Stale,
    /// The service answered so.
    Status(u16),
    /// No answer in time.
    Timeout,
    /// The connection broke, or what came was not HTTP.
    Broken,
}

/// What matters of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Whether doing it twice is doing it once.
    pub repeatable: bool,
    /// Whether its body, as far as it came, can be sent again.
    pub replayable: bool,
    /// Whether the client has a byte of an answer, or its connection became another protocol's.
    pub answered: bool,
}

/// Whether doing a request of this method twice is doing it once (RFC 9110 §9.2.2).
pub fn is_repeatable(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

impl Policy {
    /// Whether a request may be tried again after this failure.
    pub fn licenses(&self, failure: Failure, request: Request) -> bool {
        if request.answered {
            return false;
        }
        let again = request.repeatable && request.replayable;
        match failure {
            Failure::Unsent | Failure::Stale => request.replayable,
            Failure::Status(status) => again && self.statuses.contains(&status),
            Failure::Timeout | Failure::Broken => again,
        }
    }
}

/// Waiting times that grow from retry to retry, drawn at random so that retries of many requests do not come at
/// once ("full jitter": M. Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The most before the first retry.
    pub first: Duration,
    /// The most before any.
    pub longest: Duration,
}

impl Backoff {
    /// The most that is waited after `retries` retries: the first waiting time doubled as often, up to the longest.
    pub fn ceiling(&self, retries: u32) -> Duration {
        self.first.saturating_mul(1_u32.checked_shl(retries).unwrap_or(u32::MAX)).min(self.longest)
    }
}

/// How long to wait for a retry, when there is time for it: `drawn` at random, or as long as the target asked
/// (`Retry-After`, RFC 9110 §10.2.3) when it is the same one. None when what remains is too short.
pub fn wait(drawn: Duration, asked: Option<Duration>, remaining: Duration) -> Option<Duration> {
    let wait = asked.map_or(drawn, |asked| asked.max(drawn));
    (wait.saturating_add(SHORTEST_TRY) <= remaining).then_some(wait)
}

#[cfg(test)]
mod tests;
