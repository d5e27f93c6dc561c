//! One request's use of one target: a guard. What it took (a place in flight, the place of a half-open
//! circuit) it gives back when dropped, also when the request's task panics.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use pingora::upstreams::peer::HttpPeer;

use super::bulkhead::Place;
use super::demand::Tried;
use super::outcome::Observed;
use super::target::{Settings, Target};
use crate::clock::{Clock, Tick};
use crate::model::balance::Algorithm;
use crate::model::breaker::{Admission, MAX_JITTER_PERMILLE, Outcome, Report};
use crate::model::retry_after;
use crate::telemetry::metrics::AttemptResult;

const TOO_MANY_REQUESTS: u16 = 429;

/// Leave to send one request to one target; made by [`super::Pool::pick`] only.
#[derive(Debug)]
pub struct Attempt {
    target: Arc<Target>,
    admission: Admission,
    /// When the target had all it needs to answer, as far as known.
    started: Tick,
    observed: bool,
    /// Whether the target is still working on it.
    working: bool,
    /// Its place, where places are limited.
    place: Option<Place>,
    /// Whether the request was tried before.
    retry: bool,
}

/// A try that failed counts as this slow at least: who refuses at once is not quick.
const FAILED: Duration = Duration::from_secs(1);

impl Attempt {
    pub(super) fn new(target: Arc<Target>, admission: Admission, now: Tick) -> Attempt {
        target.memory().load.enter();
        Attempt { target, admission, started: now, observed: false, working: true, place: None, retry: false }
    }

    /// Keeps `place` until the target's part is over.
    pub(super) fn hold(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// The target has done its part: its answer was read to the end. Gives back what this held of it.
    pub fn finish(&mut self) {
        if std::mem::take(&mut self.working) {
            self.target.memory().load.leave();
            // After the target counts one less: who is woken finds the place free.
            self.place = None;
        }
    }

    /// The same, for a request with these tries behind it.
    pub(super) fn after(mut self, tried: &Tried) -> Attempt {
        self.retry = !tried.labels().is_empty();
        self
    }

    /// Where to connect, with all timeouts.
    pub fn peer(&self) -> Box<HttpPeer> {
        Box::new(self.target.template().clone())
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Says that the request is wholly sent: how long the client took for that is not the target's doing.
    pub fn sent(&mut self, now: Tick) {
        self.started = now;
        self.target.memory().circuit.sent(self.admission, now);
    }

    /// Notes how long the target took, where that decides who is chosen.
    fn measure(&self, failed: bool, now: Tick) {
        if self.target.settings().algorithm == Algorithm::PeakEwma {
            let took = now.since(self.started);
            self.target.memory().load.answered_after(if failed { took.max(FAILED) } else { took }, now);
        }
    }

    fn count(&self, result: AttemptResult) {
        let Settings { metrics, pool, .. } = &**self.target.settings();
        metrics.upstream_attempt(pool, self.target.label(), result);
        if self.retry {
            metrics.retry(pool, result.of_retry());
        }
    }

    /// Says what became of the request, other than a head of an answer ([`Attempt::answered`]). Only the first word
    /// counts.
    pub fn observe(&mut self, observed: Observed, now: Tick) {
        match observed {
            Observed::Success => self.say(observed.result(), Outcome::Success, None, "success", now),
            Observed::Failure(kind) => self.say(observed.result(), Outcome::Failure, None, kind.as_str(), now),
            // Nothing for the breaker, but the place is free at once. A second time that frees nothing.
            Observed::Neutral | Observed::Stale => {
                if !std::mem::replace(&mut self.observed, true) {
                    self.count(observed.result());
                }
                self.target.memory().circuit.release(self.admission);
            }
        }
    }

    /// Says that the target answered with `status`, and `Retry-After` if it sent that. Whether it is a failure is the
    /// pool's to say. Only the first word counts.
    pub fn answered(&mut self, status: u16, retry_after: Option<&HeaderValue>, clock: &Clock) {
        let outcome = match status {
            _ if self.target.settings().failing.contains(status) => Outcome::Failure,
            TOO_MANY_REQUESTS => Outcome::Throttled,
            _ => Outcome::Success,
        };
        let retry_after = retry_after.filter(|_| outcome != Outcome::Success).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| retry_after::parse(value, clock.wall()));
        let reason = if outcome == Outcome::Success { "success" } else { "status" };
        self.say(Observed::from_status(status).result(), outcome, retry_after, reason, clock.now());
    }

    fn say(&mut self, result: AttemptResult, outcome: Outcome, retry_after: Option<Duration>, reason: &str, now: Tick) {
        if std::mem::replace(&mut self.observed, true) {
            return;
        }
        self.measure(outcome != Outcome::Success, now);
        self.count(result);
        let settings = self.target.settings();
        let jitter = if outcome == Outcome::Success { 0 } else { rand::random_range(0..=MAX_JITTER_PERMILLE) };
        let report = Report { admission: self.admission, outcome, retry_after };
        let circuit = &self.target.memory().circuit;
        let change = circuit.report(&report, &settings.breaker, &settings.ejections, now, jitter);
        self.target.changed(change, reason, now);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.observed {
            self.count(AttemptResult::Cancelled);
            self.target.memory().circuit.release(self.admission);
        }
        self.finish();
    }
}
