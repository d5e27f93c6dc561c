//! The one gate: may this target be used now? Healthy by the checks, and its circuit lets requests through, and it is
//! not draining. And what a pool does when too few of its targets pass: panic.
//!
//! A second opinion anywhere else would deadlock: a target that an open circuit also marks as unhealthy never gets
//! the probe request that would close it.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::Attempt;
use super::target::Target;
use crate::clock::Tick;
use crate::config::spec::PanicSpec;
use crate::model::breaker::Admission;

/// Which of two groups a target is in: the second stands by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    /// Used while enough of it is available.
    Primary,
    /// Used when the other is not.
    Backup,
}

/// What the decision needs to know of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its group.
    pub(super) tier: Tier,
    /// Whether it counts as one of its group: it is not draining, and was probed or need not be. One that was never
    /// probed is as if it were not there yet, or scaling a service out would look like losing most of it.
    pub(super) counts: bool,
    /// Whether it may be used now.
    pub(super) available: bool,
}

/// Where the requests of a pool may go at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// To the available targets of this group.
    Gate(Tier),
    /// Panic: to every target of this group that counts, whatever checks and circuits say.
    Everyone(Tier),
    /// Nowhere; the pool is in panic, or has but one target that counts, or none.
    Nowhere {
        /// Whether it is in panic.
        panic: bool,
    },
}

impl Passage {
    /// Decides. A group is usable when at least half of it is available. In a pool of several targets, none of whose
    /// groups is, it is likelier that the findings are wrong than that all of them are broken: panic. A pool of one
    /// never panics.
    pub(super) fn of(candidates: impl Iterator<Item = Candidate>, panic: PanicSpec) -> Passage {
        let (mut primary, mut backup) = (Group::default(), Group::default());
        for candidate in candidates.filter(|candidate| candidate.counts) {
            let group = if candidate.tier == Tier::Primary { &mut primary } else { &mut backup };
            group.members += 1;
            group.available += usize::from(candidate.available);
        }
        if primary.is_usable() {
            Passage::Gate(Tier::Primary)
        } else if backup.is_usable() {
            Passage::Gate(Tier::Backup)
        } else if primary.members + backup.members <= 1 {
            Passage::Nowhere { panic: false }
        } else if panic == PanicSpec::FailFast {
            Passage::Nowhere { panic: true }
        } else {
            Passage::Everyone(if primary.members > 0 { Tier::Primary } else { Tier::Backup })
        }
    }

    /// Whether the pool is in panic.
    pub(super) fn is_panic(self) -> bool {
        matches!(self, Passage::Everyone(_) | Passage::Nowhere { panic: true })
    }
}

#[derive(Debug, Default)]
struct Group {
    members: usize,
    available: usize,
}

impl Group {
    fn is_usable(&self) -> bool {
        self.available > 0 && self.available * 2 >= self.members
    }
}

impl Target {
    /// What the pool's decision needs to know of it. Two loads while its circuit is closed.
    pub(super) fn candidate(&self, now: Tick) -> Candidate {
        let breaker = &self.settings().breaker;
        let counts = self.verdict.is_known() && !self.share().drain;
        let available = counts && self.verdict.is_healthy() && self.memory().circuit.permits(breaker, now);
        Candidate { tier: self.tier(), counts, available }
    }

    /// Its group.
    pub(super) fn tier(&self) -> Tier {
        if self.share().backup { Tier::Backup } else { Tier::Primary }
    }

    /// Takes a place at it, if it may be used. A target without a free place is passed over before its circuit is
    /// asked, so that no probe request is taken and then lost.
    pub(super) fn admit(self: &Arc<Self>, now: Tick) -> Option<Attempt> {
        if !self.verdict.is_healthy() || self.share().drain || self.is_full() {
            return None;
        }
        self.through_circuit(now)
    }

    /// Takes a place at it in a panic: whatever is known of it, as long as something is, and there is a free one. If its circuit has a place
    /// for a probe request, this is one, so that a panic finds its own end.
    pub(super) fn admit_in_panic(self: &Arc<Self>, now: Tick) -> Option<Attempt> {
        if !self.verdict.is_known() || self.share().drain || self.is_full() {
            return None;
        }
        self.through_circuit(now).or_else(|| Some(Attempt::new(self.clone(), Admission::Forced, now)))
    }

    /// Whether it has as many requests as it may. Exact under the lock of its pool's bulkhead only.
    pub(super) fn is_full(&self) -> bool {
        let limits = self.settings().concurrency.as_ref().filter(|limits| limits.per_target > 0);
        limits.is_some_and(|limits| self.memory().load.in_flight() >= u64::from(limits.per_target))
    }

    fn through_circuit(self: &Arc<Self>, now: Tick) -> Option<Attempt> {
        let (admission, change) = self.memory().circuit.admit(&self.settings().breaker, now);
        self.changed(change, "its time is over", now);
        Some(Attempt::new(self.clone(), admission?, now))
    }

    /// How long until its circuit lets a request through: `None` when it does, or when its circuit is not what keeps
    /// requests away. Zero when that hangs on a probe request under way.
    pub(super) fn circuit_wait(&self, now: Tick) -> Option<Duration> {
        let asks = self.verdict.is_healthy() && !self.share().drain;
        asks.then(|| self.memory().circuit.wait(&self.settings().breaker, now)).flatten()
    }
}

#[cfg(test)]
mod tests;
