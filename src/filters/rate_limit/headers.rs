//! The header lines that tell a client where it stands. What they mean is said at the head of the parent module.

use std::fmt::Write;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::config::spec::{IetfForm, LimitHeadersSpec};
use crate::filters::Edits;
use crate::limits::Tightest;
use crate::model::gcra::Quota;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const WINDOW: HeaderName = HeaderName::from_static("x-ratelimit-window");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Digits of the longest `u64`.
const DIGITS: usize = 20;

/// Where a client stands with one policy, in the figures it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// What is left of the rate's count.
    pub(super) remaining: u64,
    /// Time until the bucket is whole again, or on a refusal until the request can pass.
    pub(super) until: Duration,
}

impl Standing {
    /// `wait` is what a refused client is told to wait.
    pub(super) fn of(tightest: &Tightest, wait: Option<Duration>) -> Standing {
        let Tightest { decision, quota, .. } = tightest;
        let remaining = decision.remaining.saturating_sub(u64::from(quota.burst()));
        Standing { remaining, until: wait.unwrap_or(decision.reset_after) }
    }
}

/// Rounded up, as `Retry-After` is: never earlier than the truth.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// A moment as the time since the Unix epoch.
pub(super) fn unix_time(at: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(at.as_microsecond()).unwrap_or(0))
}

/// Everything that can be written before a request comes: the policies of a route as one role sees them.
#[derive(Debug)]
pub(super) struct HeaderTemplate {
    /// The value of `RateLimit-Policy`, where it is sent.
    policies: Option<HeaderValue>,
    x_ratelimit: bool,
    /// One for each policy; none for those that clients are not told of.
    lines: Box<[Option<Line>]>,
}

#[derive(Debug)]
struct Line {
    /// What stands in `RateLimit` before the tokens left and before the seconds: `"name";r=` and `;t=`.
    state: [Box<str>; 2],
    limit: HeaderValue,
    window: HeaderValue,
}

impl HeaderTemplate {
    pub(super) fn new<'n>(
        policies: impl Iterator<Item = Option<(&'n str, Quota)>>,
        headers: &LimitHeadersSpec,
    ) -> HeaderTemplate {
        let [left, seconds] = parameters(headers.ietf);
        let mut all = String::new();
        let mut lines = Vec::new();
        for announced in policies {
            let Some((name, quota)) = announced else {
                lines.push(None);
                continue;
            };
            let (limit, window) = (quota.limit(), quota.period().as_secs());
            let separator = if all.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(all, "{separator}\"{name}\";q={limit};w={window}");
            let state = [format!("\"{name}\";{left}=").into(), format!(";{seconds}=").into()];
            lines.push(Some(Line { state, limit: limit.into(), window: window.into() }));
        }
        let policies = (headers.ietf != IetfForm::Off).then(|| text(all));
        HeaderTemplate { policies, x_ratelimit: headers.x_ratelimit, lines: lines.into() }
    }

    /// Writes the lines about the policy at `index`, so long after the Unix epoch.
    pub(super) fn write(&self, index: usize, standing: Standing, now: Duration, edits: &mut Edits) {
        let Some(Some(line)) = self.lines.get(index) else { return };
        let Standing { remaining, until } = standing;
        edits.response.reserve(6);
        if self.x_ratelimit {
            edits.set_response(LIMIT, line.limit.clone());
            edits.set_response(REMAINING, remaining.into());
            edits.set_response(RESET, whole_seconds(now.saturating_add(until)).into());
            edits.set_response(WINDOW, line.window.clone());
        }
        if let Some(policies) = &self.policies {
            let [left, seconds] = &line.state;
            let mut state = String::with_capacity(left.len() + seconds.len() + 2 * DIGITS);
            let _ = write!(state, "{left}{remaining}{seconds}{}", whole_seconds(until));
            edits.set_response(POLICY, policies.clone());
            edits.set_response(STATE, text(state));
        }
    }
}

/// Names of what is left and of the seconds that it takes, in `RateLimit`.
fn parameters(form: IetfForm) -> [&'static str; 2] {
    match form {
        IetfForm::Draft10 | IetfForm::Off => ["r", "t"],
        IetfForm::Draft11 => ["a", "w"],
    }
}

/// Names of policies are lower-case letters, digits and `-`, so this never falls back.
fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
