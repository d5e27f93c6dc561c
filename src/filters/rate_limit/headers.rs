//! The header lines that tell a client where it stands. What they mean is said at the head of the parent module.

use std::fmt::Write;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::filters::Edits;
use crate::model::gcra::{Decision, Outcome, Quota};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const WINDOW: HeaderName = HeaderName::from_static("x-ratelimit-window");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Where a client stands with one policy, in the figures it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// What is left of the rate's count.
    pub(super) remaining: u64,
    /// Whole seconds until the bucket is whole again, or on a refusal until the request can pass.
    pub(super) reset_seconds: u64,
}

impl Standing {
    pub(super) fn of(quota: Quota, decision: &Decision) -> Standing {
        let until = match decision.outcome {
            Outcome::Allowed(_) => decision.reset_after,
            Outcome::Denied(wait) => wait,
        };
        let remaining = decision.remaining.saturating_sub(u64::from(quota.burst()));
        Standing { remaining, reset_seconds: whole_seconds(until) }
    }
}

/// Rounded up, as `Retry-After` is: never earlier than the truth.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// Everything that can be written before a request comes: the policies of a route as one role sees them.
#[derive(Debug)]
pub(super) struct Announcement {
    policies: HeaderValue,
    lines: Box<[Line]>,
}

#[derive(Debug)]
struct Line {
    /// The policy's name as a Structured-Field string (RFC 8941 §3.3.3).
    quoted: Box<str>,
    limit: HeaderValue,
    window: HeaderValue,
}

impl Announcement {
    pub(super) fn new<'n>(policies: impl Iterator<Item = (&'n str, Quota)>) -> Announcement {
        let mut all = String::new();
        let mut lines = Vec::new();
        for (name, quota) in policies {
            let quoted = quote(name);
            let (limit, window) = (quota.limit(), quota.period().as_secs());
            let separator = if all.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(all, "{separator}{quoted};q={limit};w={window}");
            lines.push(Line { quoted: quoted.into(), limit: limit.into(), window: window.into() });
        }
        Announcement { policies: text(all), lines: lines.into() }
    }

    /// Writes the lines about the policy at `index`.
    pub(super) fn write(&self, index: usize, standing: Standing, unix_seconds: i64, edits: &mut Edits) {
        let Some(line) = self.lines.get(index) else { return };
        let Standing { remaining, reset_seconds } = standing;
        let reset_at = u64::try_from(unix_seconds).unwrap_or(0).saturating_add(reset_seconds);
        let mut state = String::with_capacity(line.quoted.len() + 32);
        let _ = write!(state, "{};r={remaining};t={reset_seconds}", line.quoted);
        edits.response.reserve(6);
        edits.set_response(LIMIT, line.limit.clone());
        edits.set_response(REMAINING, remaining.into());
        edits.set_response(RESET, reset_at.into());
        edits.set_response(WINDOW, line.window.clone());
        edits.set_response(POLICY, self.policies.clone());
        edits.set_response(STATE, text(state));
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Names were checked to be printable ASCII, so this never falls back.
fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
