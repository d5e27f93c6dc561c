//! The circuit of one target as requests see it: [`Breaker`] behind a small lock, which a target without failures
//! never takes. Shared by every configuration that names the target.
//!
//! What a request pays at a quiet closed circuit: one load to be let through; one load and one `fetch_add` on a word
//! of this target's own for its success ([`Window`]), or the load alone where the ratio is off. No lock, no
//! allocation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::ejection::Ejections;
use crate::clock::Tick;
use crate::model::breaker::{Admission, Breaker, Generation, Outcome, Policy, Report};
use crate::model::health::Circuit as State;
use crate::model::window::Window;

/// The circuit of a target and the failures it counted.
#[derive(Debug)]
pub struct Circuit {
    breaker: Mutex<Breaker>,
    /// Mirrors what requests ask first: [`Breaker::is_quiet`], whether it is closed, and its generation.
    mirror: AtomicU64,
    window: Window,
    failures: AtomicU64,
}

const QUIET: u64 = 1;
const CLOSED: u64 = 2;
const GENERATION_SHIFT: u32 = 2;

fn mirrored(breaker: &Breaker) -> u64 {
    let quiet = if breaker.is_quiet() { QUIET } else { 0 };
    let closed = if breaker.last_change() == State::Closed { CLOSED } else { 0 };
    (u64::from(breaker.generation().number()) << GENERATION_SHIFT) | closed | quiet
}

fn generation(mirror: u64) -> Generation {
    Generation::of(u32::try_from(mirror >> GENERATION_SHIFT).unwrap_or_default())
}

impl Circuit {
    /// A closed circuit.
    pub fn new(now: Tick) -> Circuit {
        let breaker = Breaker::new(now);
        Circuit {
            mirror: AtomicU64::new(mirrored(&breaker)),
            breaker: Mutex::new(breaker),
            window: Window::default(),
            failures: AtomicU64::new(0),
        }
    }

    /// Lets a request through, or not; the change of state, if any.
    pub fn admit(&self, policy: &Policy, now: Tick) -> (Option<Admission>, Option<State>) {
        let mirror = self.mirror.load(Ordering::Acquire);
        if policy.failures == 0 || mirror & CLOSED != 0 {
            return (Some(Admission::Normal(generation(mirror))), None);
        }
        self.change(|breaker| breaker.admit(policy, now))
    }

    /// Whether the next request would be let through; changes nothing.
    pub fn permits(&self, policy: &Policy, now: Tick) -> bool {
        policy.failures == 0 || self.is_closed() || self.breaker.lock().permits(policy, now)
    }

    /// How long until a request may pass; see [`Breaker::wait`].
    pub fn wait(&self, policy: &Policy, now: Tick) -> Option<Duration> {
        if self.is_closed() { None } else { self.breaker.lock().wait(policy, now) }
    }

    /// Records what became of a request; the change of state, if any. A circuit that should open does so only if
    /// `ejections` has a place for it. `jitter_permille` is 0 to 100, and means nothing for a success.
    pub fn report(
        &self,
        report: &Report,
        policy: &Policy,
        ejections: &Ejections,
        now: Tick,
        jitter_permille: u32,
    ) -> Option<State> {
        if report.outcome == Outcome::Failure && report.admission != Admission::Forced {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        if policy.failures == 0 || self.is_success_as_usual(report, policy, now) {
            return None;
        }
        let step = |breaker: &mut Breaker| {
            if !breaker.report(report, &self.window, policy, now, jitter_permille) {
                return;
            }
            // The place is held until the mirror says that this circuit is not closed: the next one counts it.
            if let Some(_place) = ejections.place() {
                breaker.trip(policy, now, jitter_permille);
                self.mirror.store(mirrored(breaker), Ordering::Release);
            }
        };
        self.change(step).1
    }

    /// Records that an active check passed; the change of state, if any.
    pub fn check_passed(&self, policy: &Policy, now: Tick) -> Option<State> {
        if self.is_closed() {
            return None;
        }
        self.change(|breaker| breaker.check_passed(&self.window, policy, now)).1
    }

    /// Says that the target has the whole of a request; see [`Breaker::sent`].
    pub fn sent(&self, admission: Admission, now: Tick) {
        if matches!(admission, Admission::Probe(_)) {
            self.breaker.lock().sent(admission, now);
        }
    }

    /// Gives back the place of a probe request that ended without an outcome.
    pub fn release(&self, admission: Admission) {
        if matches!(admission, Admission::Probe(_)) {
            self.breaker.lock().release(admission);
        }
    }

    /// Its state.
    pub fn state(&self, policy: &Policy, now: Tick) -> State {
        self.breaker.lock().circuit(policy, now)
    }

    /// Whether it is neither open nor half-open; without a lock.
    pub fn is_closed(&self) -> bool {
        self.mirror.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Failures since the process started.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// The path of nearly every request: a success that only the window wants to know of.
    fn is_success_as_usual(&self, report: &Report, policy: &Policy, now: Tick) -> bool {
        let mirror = self.mirror.load(Ordering::Acquire);
        let usual = mirror & QUIET != 0 && report.admission == Admission::Normal(generation(mirror));
        if !usual || report.outcome != Outcome::Success {
            return false;
        }
        if policy.success_percent > 0 {
            self.window.record(true, policy.window, now);
        }
        true
    }

    fn change<T>(&self, step: impl FnOnce(&mut Breaker) -> T) -> (T, Option<State>) {
        let mut breaker = self.breaker.lock();
        let before = breaker.last_change();
        let done = step(&mut breaker);
        self.mirror.store(mirrored(&breaker), Ordering::Release);
        let after = breaker.last_change();
        (done, (before != after).then_some(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const POLICY: Policy = Policy {
        failures: 2,
        success_percent: 0,
        min_requests: 20,
        window: Duration::from_secs(10),
        open_for: SECOND,
        longest_open: SECOND,
        close_after: 1,
        probe_lease: SECOND,
    };

    fn tell(circuit: &Circuit, admission: Admission, outcome: Outcome, now: Tick) -> Option<State> {
        let report = Report { admission, outcome, retry_after: None };
        circuit.report(&report, &POLICY, &Ejections::default(), now, 0)
    }

    fn admitted(circuit: &Circuit, now: Tick) -> Admission {
        circuit.admit(&POLICY, now).0.expect("a place")
    }

    #[test]
    fn the_quiet_path_ends_with_the_first_failure_and_returns_with_the_first_success() {
        let now = Tick(1);
        let circuit = Circuit::new(now);
        let quiet = || circuit.mirror.load(Ordering::Relaxed) & QUIET != 0;
        let normal = admitted(&circuit, now);
        assert_eq!(tell(&circuit, normal, Outcome::Failure, now), None);
        assert!(!quiet());
        assert_eq!(tell(&circuit, normal, Outcome::Success, now), None);
        assert!(quiet());
        tell(&circuit, normal, Outcome::Failure, now);
        assert_eq!(tell(&circuit, normal, Outcome::Failure, now), Some(State::Open));
        assert_eq!(circuit.admit(&POLICY, now), (None, None));
        let later = now.after(SECOND);
        let (probe, change) = circuit.admit(&POLICY, later);
        assert_eq!(change, Some(State::HalfOpen));
        assert_eq!(tell(&circuit, probe.unwrap(), Outcome::Success, later), Some(State::Closed));
        assert!(quiet());
        assert_eq!(circuit.failures(), 3);
    }

    #[test]
    fn a_quiet_circuit_takes_no_lock() {
        let now = Tick(1);
        let circuit = Circuit::new(now);
        let _held = circuit.breaker.lock();
        let ratio = Policy { success_percent: 50, ..POLICY };
        let admission = circuit.admit(&ratio, now).0.unwrap();
        let report = Report { admission, outcome: Outcome::Success, retry_after: None };
        assert_eq!(circuit.report(&report, &ratio, &Ejections::default(), now, 0), None);
        assert!(circuit.permits(&ratio, now) && circuit.wait(&ratio, now).is_none());
        assert_eq!(circuit.window.tally(ratio.window, now).good, 1);
    }

    #[test]
    fn what_was_admitted_before_it_opened_says_nothing_after_it_closed() {
        let now = Tick(1);
        let circuit = Circuit::new(now);
        let before = admitted(&circuit, now);
        for _ in 0..2 {
            tell(&circuit, before, Outcome::Failure, now);
        }
        assert!(!circuit.is_closed());
        let later = now.after(SECOND);
        let probe = admitted(&circuit, later);
        assert_eq!(tell(&circuit, probe, Outcome::Success, later), Some(State::Closed));
        for _ in 0..10 {
            assert_eq!(tell(&circuit, before, Outcome::Failure, later), None);
        }
        assert!(circuit.mirror.load(Ordering::Relaxed) & QUIET != 0);
    }
}
