//! The circuit breaker of one target: a pure state machine. Time and jitter are handed in; it reads neither.
//!
//! Closed → Open after so many failures in a row, or when too few of the last requests went well → HalfOpen, one
//! probe request at a time → Closed after so many of them succeeded. Any failed probe request opens it again, for
//! twice as long. The place of the probe request is a lease: a request that takes too long keeps no other from
//! finding out, and what becomes of it counts no more. Nor does what becomes of requests from before it last opened.
//!
//! Whether a closed circuit may open is not its own decision ([`most_open`]): [`Breaker::report`] says that it
//! should, [`Breaker::trip`] does it.

use std::time::Duration;

use super::health::Circuit;
use super::window::Window;
use crate::clock::Tick;

/// Closed for this long, a circuit is forgiven one doubling.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// Jitter is at most this many thousandths of the open time.
pub const MAX_JITTER_PERMILLE: u32 = 100;

/// When a circuit opens and closes. It may change between calls, at a reload; the state survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open it; 0 turns the breaker off, its ratio too.
    pub failures: u32,
    /// It opens when fewer of a hundred requests went well; 0: never for that.
    pub success_percent: u32,
    /// Requests in the window before the ratio says anything.
    pub min_requests: u32,
    /// What the ratio looks back on.
    pub window: Duration,
    /// How long it stays open the first time.
    pub open_for: Duration,
    /// Longest it stays open by doubling or by the service's own word, before jitter; a longer `open_for` is kept.
    pub longest_open: Duration,
    /// Probe requests that must succeed to close it; 0 counts as 1.
    pub close_after: u32,
    /// How long a probe request holds its place to itself; then another may take the place over.
    pub probe_lease: Duration,
}

impl Policy {
    fn longest(&self) -> Duration {
        self.longest_open.max(self.open_for)
    }
}

/// How many of a pool's `targets` may have a circuit that is not closed: `percent` of them, rounded down, but one.
pub fn most_open(targets: usize, percent: u32) -> usize {
    let share = targets.saturating_mul(usize::try_from(percent).unwrap_or(usize::MAX)) / 100;
    share.clamp(1, targets.max(1))
}

/// How a request was let through; its outcome must be reported with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Like any other.
    Normal(Generation),
    /// As the one probe request of a half-open circuit: reported by [`Breaker::report`], or given back by
    /// [`Breaker::release`]. Nothing of that counts once another took its place over.
    Probe(ProbeId),
    /// Past a circuit that did not let it through, because the pool is in panic: its outcome says nothing here.
    Forced,
}

/// How often a circuit had opened: an outcome from before counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Generation(u32);

impl Generation {
    /// As a number, for whoever keeps it packed.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The same one again, out of [`Generation::number`].
    pub const fn of(number: u32) -> Generation {
        Generation(number)
    }
}

/// Which probe request of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeId(u64);

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It went well.
    Success,
    /// The target has too much to do (429): bad in the ratio, and for a probe request; nothing in the count of
    /// failures in a row, which goes on. A success where the ratio is off.
    Throttled,
    /// It failed.
    Failure,
}

/// What an admitted request has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// How it was let through.
    pub admission: Admission,
    /// What became of it.
    pub outcome: Outcome,
    /// For how long the target asked to be left alone, if it did and the outcome is not a success.
    pub retry_after: Option<Duration>,
}

/// The place of the probe request, taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    holder: ProbeId,
    taken: Tick,
    /// Whether the target has the whole request.
    sent: bool,
}

/// How long a probe request holds its place while its client is still sending: a slow one must not keep the circuit
/// from closing.
const UNSENT_LEASE: Duration = Duration::from_secs(1);

impl Lease {
    fn is_live(&self, policy: &Policy, now: Tick) -> bool {
        let lease = if self.sent { policy.probe_lease } else { policy.probe_lease.min(UNSENT_LEASE) };
        now.since(self.taken) < lease
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
    /// Until when the target asked to be left alone since it last did something right; 0 when it did not.
    not_before: Tick,
    generation: Generation,
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
        Breaker {
            state: State::Closed { failures: 0 },
            level: 0,
            closed_at: now,
            not_before: Tick(0),
            generation: Generation::default(),
            probes: 0,
        }
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
            return Some(Admission::Normal(self.generation));
        }
        if !self.permits(policy, now) {
            return None;
        }
        let successes = match self.state {
            State::Closed { .. } => return Some(Admission::Normal(self.generation)),
            State::Open { .. } => 0,
            State::HalfOpen { successes, .. } => successes,
        };
        self.probes = self.probes.wrapping_add(1);
        let holder = ProbeId(self.probes);
        self.state = State::HalfOpen { successes, probing: Some(Lease { holder, taken: now, sent: false }) };
        Some(Admission::Probe(holder))
    }

    /// Records what became of an admitted request; whether the closed circuit should open now, by
    /// [`Breaker::trip`]. If nobody lets it, counting goes on. `jitter_permille` (0–100) lengthens the open time of
    /// one that a failed probe request opens again. `window` holds the outcomes while it is closed.
    #[must_use]
    pub fn report(
        &mut self,
        report: &Report,
        window: &Window,
        policy: &Policy,
        now: Tick,
        jitter_permille: u32,
    ) -> bool {
        let outcome = match report.outcome {
            Outcome::Throttled if policy.success_percent == 0 => Outcome::Success,
            outcome => outcome,
        };
        match (&self.state, report.admission) {
            (State::Closed { failures }, Admission::Normal(generation)) if generation == self.generation => {
                let failures = *failures;
                self.heed(report, outcome, policy, now);
                self.count(failures, outcome, window, policy, now)
            }
            (State::HalfOpen { successes, probing }, Admission::Probe(id)) if holds(*probing, id) => {
                let successes = *successes;
                self.heed(report, outcome, policy, now);
                match outcome {
                    Outcome::Success => self.succeeded(successes, None, window, policy, now),
                    Outcome::Throttled | Outcome::Failure => self.open(policy, now, jitter_permille),
                }
                false
            }
            // Admitted before the circuit opened, or its place taken over: says nothing about the target as it is now.
            (State::HalfOpen { .. } | State::Open { .. } | State::Closed { .. }, _) => false,
        }
    }

    /// Opens a closed circuit; `jitter_permille` (0–100) lengthens the open time.
    pub fn trip(&mut self, policy: &Policy, now: Tick, jitter_permille: u32) {
        let forgiven = now.since(self.closed_at).as_secs() / FORGIVEN_AFTER.as_secs();
        self.level = self.level.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        self.open(policy, now, jitter_permille);
    }

    /// Records that an active check passed: as good as a probe request, once the open time is over.
    pub fn check_passed(&mut self, window: &Window, policy: &Policy, now: Tick) {
        match self.state {
            _ if policy.failures == 0 => {}
            State::Open { until } if now >= until => self.succeeded(0, None, window, policy, now),
            State::HalfOpen { successes, probing } => self.succeeded(successes, probing, window, policy, now),
            State::Open { .. } | State::Closed { .. } => {}
        }
    }

    /// The target has the whole of a probe request: from now on it has its whole time.
    pub fn sent(&mut self, admission: Admission, now: Tick) {
        if let (State::HalfOpen { probing: Some(lease), .. }, Admission::Probe(id)) = (&mut self.state, admission)
            && lease.holder == id
        {
            (lease.taken, lease.sent) = (now, true);
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
            State::Open { until } if now >= until => Circuit::HalfOpen,
            _ => self.last_change(),
        }
    }

    /// The state it last went to; an open circuit becomes half-open only when somebody asks.
    pub fn last_change(&self) -> Circuit {
        match self.state {
            State::Closed { .. } => Circuit::Closed,
            State::HalfOpen { .. } => Circuit::HalfOpen,
            State::Open { .. } => Circuit::Open,
        }
    }

    /// How often it had opened.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Closed and without a failure: requests pass, and of successes only the window needs to know.
    pub fn is_quiet(&self) -> bool {
        matches!(self.state, State::Closed { failures: 0 }) && self.not_before == Tick(0)
    }

    fn heed(&mut self, report: &Report, outcome: Outcome, policy: &Policy, now: Tick) {
        match (outcome, report.retry_after) {
            (Outcome::Success, _) => self.not_before = Tick(0),
            (_, Some(wait)) => self.not_before = self.not_before.max(now.after(wait.min(policy.longest()))),
            (_, None) => {}
        }
    }

    fn count(&mut self, before: u32, outcome: Outcome, window: &Window, policy: &Policy, now: Tick) -> bool {
        if policy.success_percent > 0 {
            window.record(outcome == Outcome::Success, policy.window, now);
        }
        let failures = match outcome {
            Outcome::Success => 0,
            Outcome::Throttled => before,
            Outcome::Failure => before.saturating_add(1),
        };
        self.state = State::Closed { failures };
        if policy.failures == 0 || outcome == Outcome::Success {
            return false;
        }
        // Only what is bad can make the ratio worse, so only then it is judged.
        let tally = window.tally(policy.window, now);
        let in_a_row = outcome == Outcome::Failure && failures >= policy.failures;
        in_a_row || (tally.total() >= u64::from(policy.min_requests) && tally.is_below(policy.success_percent))
    }

    fn succeeded(&mut self, before: u32, probing: Option<Lease>, window: &Window, policy: &Policy, now: Tick) {
        let successes = before.saturating_add(1);
        if successes < policy.close_after.max(1) {
            self.state = State::HalfOpen { successes, probing };
            return;
        }
        self.state = State::Closed { failures: 0 };
        self.closed_at = now;
        self.not_before = Tick(0);
        window.clear();
    }

    fn open(&mut self, policy: &Policy, now: Tick, jitter_permille: u32) {
        let longest = policy.longest();
        let doubled = policy.open_for.saturating_mul(1_u32.checked_shl(self.level).unwrap_or(u32::MAX));
        if doubled < longest {
            self.level = self.level.saturating_add(1).min(31);
        }
        // The target's own word was cut when it was heard; the policy may have changed since.
        let open = doubled.max(self.not_before.since(now)).min(longest);
        let jitter = open.saturating_mul(jitter_permille.min(MAX_JITTER_PERMILLE)) / 1_000;
        self.state = State::Open { until: now.after(open.saturating_add(jitter)) };
        self.generation = Generation(self.generation.0.wrapping_add(1));
    }
}

/// Whether the place is still that of this probe request; also when its time is over and nobody came.
fn holds(probing: Option<Lease>, id: ProbeId) -> bool {
    probing.is_some_and(|lease| lease.holder == id)
}

#[cfg(test)]
mod tests;
