//! What is remembered of a target and of a pool across reloads: by the target's identity, by the pool's name.
//!
//! A configuration holds these by `Arc` and adds its policies; nothing here depends on a policy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::balancer::Position;
use super::bulkhead::Bulkhead;
use super::circuit::Circuit;
use super::ejection::Turn;
use crate::clock::Tick;
use crate::model::balance::{Ewma, WHOLE};
use crate::model::retry::Budget;

/// What survives of one target, for as long as some configuration names it.
#[derive(Debug)]
pub(super) struct TargetMemory {
    /// Its circuit.
    pub(super) circuit: Circuit,
    /// What it is working on.
    pub(super) load: Load,
    /// Since when its share of the requests grows.
    pub(super) ramp: Ramp,
}

impl TargetMemory {
    pub(super) fn new(now: Tick) -> Arc<TargetMemory> {
        Arc::new(TargetMemory { circuit: Circuit::new(now), load: Load::default(), ramp: Ramp::default() })
    }
}

/// How busy a target is, and how quick.
#[derive(Debug, Default)]
pub(super) struct Load {
    in_flight: AtomicU64,
    /// An [`Ewma`].
    latency: AtomicU64,
}

impl Load {
    /// Requests the target is working on.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// How long it takes to answer by now, in seconds; `None` before the first answer.
    pub(super) fn latency(&self, now: Tick) -> Option<f64> {
        Ewma::from_bits(self.latency.load(Ordering::Relaxed)).at(now)
    }

    /// Notes that it took so long to answer.
    pub(super) fn answered_after(&self, took: Duration, now: Tick) {
        let next = |bits| Some(Ewma::from_bits(bits).with(took, now).to_bits());
        let _ = self.latency.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

/// The slow start of a target that came back: its share grows from a tenth to the whole. Not at start-up.
#[derive(Debug, Default)]
pub(super) struct Ramp {
    /// A [`Tick`]; 0 when it never began.
    since: AtomicU64,
}

/// The share at the beginning of a ramp, in thousandths.
const FIRST: u32 = 100;

impl Ramp {
    /// Begins at `now`.
    pub(super) fn start(&self, now: Tick) {
        self.since.store(now.0.max(1), Ordering::Relaxed);
    }

    /// The share of the target's weight at `now`, in thousandths, when ramps take `slow_start`.
    pub(super) fn permille(&self, slow_start: Duration, now: Tick) -> u32 {
        let since = self.since.load(Ordering::Relaxed);
        let passed = now.since(Tick(since));
        if since == 0 || passed >= slow_start {
            return WHOLE;
        }
        let grown = passed.as_micros().saturating_mul(u128::from(WHOLE - FIRST)) / slow_start.as_micros().max(1);
        FIRST.saturating_add(u32::try_from(grown).unwrap_or(WHOLE)).min(WHOLE)
    }
}

/// What survives of one pool, for as long as there is one of its name.
#[derive(Debug, Clone, Default)]
pub(super) struct PoolMemory {
    /// Whose turn it is.
    pub(super) position: Position,
    /// Who waits for a place.
    pub(super) bulkhead: Arc<Bulkhead>,
    /// One at a time opens a circuit.
    pub(super) turn: Turn,
    /// Whether the pool was in panic when last asked, to say so once.
    pub(super) panic: Arc<AtomicBool>,
    /// How many retries it may make.
    pub(super) retries: Arc<Budget>,
}
