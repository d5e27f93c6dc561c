//! Counters of one target's circuit, kept by the target.

use prometheus::{IntCounter, IntCounterVec};

use crate::model::health::Circuit;

/// How often the circuit of one target went to each state.
#[derive(Debug, Clone)]
pub struct CircuitMetrics {
    closed: IntCounter,
    half_open: IntCounter,
    open: IntCounter,
}

impl CircuitMetrics {
    /// All three are there from the start with 0, so that the first change is seen as an increase.
    pub(super) fn new(family: &IntCounterVec, pool: &str, target: &str) -> CircuitMetrics {
        let to = |state: Circuit| family.with_label_values(&[pool, target, state.as_str()]);
        CircuitMetrics { closed: to(Circuit::Closed), half_open: to(Circuit::HalfOpen), open: to(Circuit::Open) }
    }

    /// Counts one change to `state`.
    pub fn count(&self, state: Circuit) {
        match state {
            Circuit::Closed => self.closed.inc(),
            Circuit::HalfOpen => self.half_open.inc(),
            Circuit::Open => self.open.inc(),
        }
    }
}
