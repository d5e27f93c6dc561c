//! Everything said about one finished request. Made exactly once per request, also under aborts; the
//! metrics and the access log read it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::identity::Identity;

/// One finished request.
#[derive(Debug, Clone)]
pub struct AccessRecord<'a> {
    /// When its first byte was read.
    pub started_at: Timestamp,
    /// Its id.
    pub request_id: &'a str,
    /// The trace it belongs to (W3C `traceparent`), when it has one.
    pub trace_id: Option<&'a str>,
    /// The client's address; `None` when it came over a Unix socket.
    pub client: Option<IpAddr>,
    /// Method, as sent.
    pub method: &'a str,
    /// Name of the route; `None` when none was found.
    pub route: Option<&'a str>,
    /// Path, without query.
    pub path: &'a str,
    /// Status sent; 499 when the client left before one was.
    pub status: u16,
    /// Code of the refusal, when the gateway refused.
    pub code: Option<&'static str>,
    /// How the exchange ended.
    pub outcome: Outcome,
    /// Body bytes read from the client.
    pub bytes_in: u64,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
    /// From first byte read to last byte sent.
    pub duration: Duration,
    /// From first byte read to the answer's head.
    pub first_byte: Option<Duration>,
    /// Of that, waiting for a place at a target; where places are limited.
    pub queue: Option<Duration>,
    /// The upstream that was asked, if one was.
    pub upstream: Option<UpstreamRecord<'a>>,
    /// Who asked, when proven.
    pub identity: Option<&'a Identity>,
    /// The limit closest to exhaustion, on limited routes.
    pub limit: Option<LimitRecord<'a>>,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer was sent whole.
    Complete,
    /// The client left first.
    ClientGone,
    /// The upstream broke off after the answer had begun.
    Truncated,
}

impl Outcome {
    /// Its name in the log line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Complete => "complete",
            Outcome::ClientGone => "client_gone",
            Outcome::Truncated => "truncated",
        }
    }
}

/// The upstream's part in a request.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamRecord<'a> {
    /// Pool.
    pub pool: &'a str,
    /// Label of the target asked last.
    pub target: &'a str,
    /// Its status, when it answered.
    pub status: Option<u16>,
    /// From the first try to the end of its answer.
    pub duration: Duration,
    /// Tries made.
    pub attempts: u32,
    /// Targets of the tries after which there was another, in their order.
    pub tried: &'a [Arc<str>],
}

/// The limit's part in a request.
#[derive(Debug, Clone, Copy)]
pub struct LimitRecord<'a> {
    /// Name of the policy.
    pub policy: &'a str,
    /// Requests left in it.
    pub remaining: u64,
}
