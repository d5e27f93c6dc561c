//! The circuit breaker of one target: a pure state machine. Time and jitter are handed in; it reads neither.
//!
//! Closed → Open after so many consecutive failures → HalfOpen, one probe request at a time → Closed after so many
//! of them succeeded. Any failed probe request opens it again, for twice as long. The place of the probe request is
//! a lease: a request that takes too long keeps no other from finding out, and what becomes of it counts no more.

use std::time::Duration;

use super::health::Circuit;
use crate::clock::Tick;

/// Longest a circuit stays open by doubling, before jitter. A longer `open_for` is kept as it is.
pub const LONGEST_OPEN: Duration = Duration::from_secs(300);
/// Closed for this long, a circuit is forgiven one doubling.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// Jitter is at most this many thousandths of the open time.
pub const MAX_JITTER_PERMILLE: u32 = 100;

/// When a circuit opens and closes. It may change between calls, at a reload; the state survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open it; 0 turns the breaker off.
    pub failures: u32,
    /// How long it stays open the first time.
    pub open_for: Duration,
    /// Probe requests that must succeed to close it; 0 counts as 1.
    pub close_after: u32,
    /// How long a probe request holds its place to itself; then another may take the place over.
    pub probe_lease: Duration,
}

/// How a request was let through; its outcome must be reported with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Like any other.
    Normal,
    /// As the one probe request of a half-open circuit: reported by [`Breaker::success`] or [`Breaker::failure`],
    /// or given back by [`Breaker::release`]. Nothing of that counts once another took its place over.
    Probe(ProbeId),
}

/// Which probe request of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeId(u64);

/// The place of the probe request, taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    holder: ProbeId,
    taken: Tick,
}

impl Lease {
    fn is_live(&self, policy: &Policy, now: Tick) -> bool {
        now.since(self.taken) < policy.probe_lease
    }
}

/// The state of one circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    state: State,
    /// Doublings that the next opening gets.
    level: u32,
    /// Since when it is closed.
    closed_at: Tick,
    /// Probe requests so far.
    probes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Tick },
    HalfOpen { successes: u32, probing: Option<Lease> },
}

impl Breaker {
    /// A closed circuit.
    pub fn new(now: Tick) -> Breaker {
        Breaker { state: State::Closed { failures: 0 }, level: 0, closed_at: now, probes: 0 }
    }

    /// Whether the next request would be let through; changes nothing.
    pub fn permits(&self, policy: &Policy, now: Tick) -> bool {
        self.wait(policy, now).is_none()
    }

    /// How long until a request may be let through: `None` when now. Zero when that hangs on the outcome of the
    /// probe request under way.
    pub fn wait(&self, policy: &Policy, now: Tick) -> Option<Duration> {
        match self.state {
            _ if policy.failures == 0 => None,
            State::HalfOpen { probing: Some(lease), .. } if lease.is_live(policy, now) => Some(Duration::ZERO),
            State::Closed { .. } | State::HalfOpen { .. } => None,
            State::Open { until } => (now < until).then(|| until.since(now)),
        }
    }

    /// Lets a request through, or not.
    pub fn admit(&mut self, policy: &Policy, now: Tick) -> Option<Admission> {
        if policy.failures == 0 {
            return Some(Admission::Normal);
        }
        if !self.permits(policy, now) {
            return None;
        }
        let successes = match self.state {
            State::Closed { .. } => return Some(Admission::Normal),
            State::Open { .. } => 0,
            State::HalfOpen { successes, .. } => successes,
        };
        self.probes = self.probes.wrapping_add(1);
        let holder = ProbeId(self.probes);
        self.state = State::HalfOpen { successes, probing: Some(Lease { holder, taken: now }) };
        Some(Admission::Probe(holder))
    }

    /// Records that an admitted request went well.
    pub fn success(&mut self, admission: Admission, policy: &Policy, now: Tick) {
        match (&mut self.state, admission) {
            (State::Closed { failures }, Admission::Normal) => *failures = 0,
            (State::HalfOpen { successes, probing }, Admission::Probe(id)) if holds(*probing, id) => {
                *probing = None;
                *successes = successes.saturating_add(1);
                if *successes >= policy.close_after.max(1) {
                    self.state = State::Closed { failures: 0 };
                    self.closed_at = now;
                }
            }
            // Admitted before the circuit opened, or its place taken over: says nothing about the target as it is now.
            (State::HalfOpen { .. }, _) | (State::Open { .. }, _) | (State::Closed { .. }, Admission::Probe(_)) => {}
        }
    }

    /// Records that an admitted request failed. `jitter_permille` (0–100) lengthens the open time if it opens.
    pub fn failure(&mut self, admission: Admission, policy: &Policy, now: Tick, jitter_permille: u32) {
        match (&mut self.state, admission) {
            (State::Closed { failures }, Admission::Normal) => {
                *failures = failures.saturating_add(1);
                if policy.failures > 0 && *failures >= policy.failures {
                    let forgiven = now.since(self.closed_at).as_secs() / FORGIVEN_AFTER.as_secs();
                    self.level = self.level.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
                    self.open(policy, now, jitter_permille);
                }
            }
            (State::HalfOpen { probing, .. }, Admission::Probe(id)) if holds(*probing, id) => {
                self.open(policy, now, jitter_permille);
            }
            (State::HalfOpen { .. }, _) | (State::Open { .. }, _) | (State::Closed { .. }, Admission::Probe(_)) => {}
        }
    }

    /// Gives back the place of a probe request that ended without an outcome.
    pub fn release(&mut self, admission: Admission) {
        if let (State::HalfOpen { probing, .. }, Admission::Probe(id)) = (&mut self.state, admission) {
            *probing = probing.filter(|lease| lease.holder != id);
        }
    }

    /// The state as shown: an open circuit whose time is over is half-open.
    pub fn circuit(&self, policy: &Policy, now: Tick) -> Circuit {
        match self.state {
            _ if policy.failures == 0 => Circuit::Closed,
            State::Closed { .. } => Circuit::Closed,
            State::HalfOpen { .. } => Circuit::HalfOpen,
            State::Open { until } if now >= until => Circuit::HalfOpen,
            State::Open { .. } => Circuit::Open,
        }
    }

    /// Closed and without a failure: requests pass and successes change nothing.
    pub fn is_quiet(&self) -> bool {
        matches!(self.state, State::Closed { failures: 0 })
    }

    fn open(&mut self, policy: &Policy, now: Tick, jitter_permille: u32) {
        let cap = LONGEST_OPEN.max(policy.open_for);
        let doubled = policy.open_for.saturating_mul(1_u32.checked_shl(self.level).unwrap_or(u32::MAX));
        if doubled < cap {
            self.level = self.level.saturating_add(1).min(31);
        }
        let open = doubled.min(cap);
        let jitter = open.saturating_mul(jitter_permille.min(MAX_JITTER_PERMILLE)) / 1_000;
        self.state = State::Open { until: now.after(open.saturating_add(jitter)) };
    }
}

/// Whether the place is still that of this probe request; also when its time is over and nobody came.
fn holds(probing: Option<Lease>, id: ProbeId) -> bool {
    probing.is_some_and(|lease| lease.holder == id)
}

#[cfg(test)]
mod tests;
