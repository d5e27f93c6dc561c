//! The circuit of one target as requests see it: [`Breaker`] behind a small lock, which a target without failures
//! never takes. Shared by every configuration that names the target.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Tick;
use crate::model::breaker::{Admission, Breaker, MAX_JITTER_PERMILLE, Policy};
use crate::model::health::Circuit as State;

/// What survives a reload of a target: its circuit, its counters.
#[derive(Debug)]
pub struct Circuit {
    breaker: Mutex<Breaker>,
    /// Mirrors [`Breaker::is_quiet`]: requests pass and successes change nothing.
    quiet: AtomicBool,
    failures: AtomicU64,
    in_flight: AtomicU64,
}

impl Circuit {
    /// A closed circuit.
    pub fn new(now: Tick) -> Circuit {
        Circuit {
            breaker: Mutex::new(Breaker::new(now)),
            quiet: AtomicBool::new(true),
            failures: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
        }
    }

    /// Lets a request through, or not.
    pub fn admit(&self, policy: &Policy, now: Tick) -> Option<Admission> {
        if policy.failures == 0 || self.quiet.load(Ordering::Acquire) {
            return Some(Admission::Normal);
        }
        self.breaker.lock().admit(policy, now)
    }

    /// How long until a request may pass; see [`Breaker::wait`].
    pub fn wait(&self, policy: &Policy, now: Tick) -> Option<Duration> {
        self.breaker.lock().wait(policy, now)
    }

    /// Records a success; the change of state, if any.
    pub fn success(&self, admission: Admission, policy: &Policy, now: Tick) -> Option<State> {
        if self.quiet.load(Ordering::Acquire) {
            return None;
        }
        self.change(policy, now, |breaker| breaker.success(admission, policy, now))
    }

    /// Records a failure; the change of state, if any.
    pub fn failure(&self, admission: Admission, policy: &Policy, now: Tick) -> Option<State> {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let jitter = rand::random_range(0..=MAX_JITTER_PERMILLE);
        self.change(policy, now, |breaker| breaker.failure(admission, policy, now, jitter))
    }

    /// Gives back the place of a probe request that ended without an outcome.
    pub fn release(&self, admission: Admission) {
        if admission != Admission::Normal {
            self.breaker.lock().release(admission);
        }
    }

    fn change(&self, policy: &Policy, now: Tick, step: impl FnOnce(&mut Breaker)) -> Option<State> {
        if policy.failures == 0 {
            return None;
        }
        let mut breaker = self.breaker.lock();
        let before = breaker.circuit(policy, now);
        step(&mut breaker);
        self.quiet.store(breaker.is_quiet(), Ordering::Release);
        let after = breaker.circuit(policy, now);
        (before != after).then_some(after)
    }

    /// Its state.
    pub fn state(&self, policy: &Policy, now: Tick) -> State {
        self.breaker.lock().circuit(policy, now)
    }

    /// Failures since the process started.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Requests the target is working on.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quiet_path_ends_with_the_first_failure_and_returns_with_the_first_success() {
        let second = Duration::from_secs(1);
        let policy = Policy { failures: 2, open_for: second, close_after: 1, probe_lease: second };
        let now = Tick(0);
        let circuit = Circuit::new(now);
        assert_eq!(circuit.failure(Admission::Normal, &policy, now), None);
        assert!(!circuit.quiet.load(Ordering::Relaxed));
        assert_eq!(circuit.success(Admission::Normal, &policy, now), None);
        assert!(circuit.quiet.load(Ordering::Relaxed));
        circuit.failure(Admission::Normal, &policy, now);
        assert_eq!(circuit.failure(Admission::Normal, &policy, now), Some(State::Open));
        assert_eq!(circuit.admit(&policy, now), None);
        let later = now.after(Duration::from_millis(1_100));
        let admission = circuit.admit(&policy, later).unwrap();
        assert_eq!(circuit.success(admission, &policy, later), Some(State::Closed));
        assert_eq!(circuit.failures(), 3);
    }
}
