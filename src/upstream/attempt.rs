//! One request's use of one target: a guard. What it took (a place in flight, the place of a half-open
//! circuit) it gives back when dropped, also when the request's task panics.

use std::sync::Arc;

use pingora::upstreams::peer::HttpPeer;

use super::outcome::Observed;
use super::target::Target;
use crate::clock::Tick;
use crate::model::breaker::Admission;
use crate::model::health::Circuit;

/// Leave to send one request to one target; made by [`super::Pool::pick`] only.
#[derive(Debug)]
pub struct Attempt {
    target: Arc<Target>,
    admission: Admission,
    observed: bool,
}

impl Attempt {
    pub(super) fn new(target: Arc<Target>, admission: Admission) -> Attempt {
        target.circuit.enter();
        Attempt { target, admission, observed: false }
    }

    /// Where to connect, with all timeouts.
    pub fn peer(&self) -> Box<HttpPeer> {
        Box::new(self.target.template().clone())
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Says what became of the request. Only the first call counts.
    pub fn observe(&mut self, observed: Observed, now: Tick) {
        if std::mem::replace(&mut self.observed, true) {
            return;
        }
        let settings = self.target.settings();
        let circuit = &self.target.circuit;
        let (change, reason) = match observed {
            Observed::Success => (circuit.success(self.admission, &settings.breaker, now), "success"),
            Observed::Failure(kind) => (circuit.failure(self.admission, &settings.breaker, now), kind.as_str()),
            Observed::Neutral => {
                circuit.release(self.admission);
                return;
            }
        };
        let (service, target) = (&*settings.service, &**self.target.label());
        match change {
            Some(Circuit::Open) => tracing::warn!(service, target, reason, "circuit opened"),
            Some(Circuit::Closed) => tracing::info!(service, target, reason, "circuit closed"),
            Some(Circuit::HalfOpen) | None => {}
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.observed {
            self.target.circuit.release(self.admission);
        }
        self.target.circuit.leave();
    }
}
