//! Whether the shared store is asked at all. When it is away, or failed three times in a row, no request waits for it any
//! more until [`watch`](mod@super::watch) finds that it answers again.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::telemetry::metrics::SharedLimitMetrics;

/// So many failures in a row are no accident.
const FAILURES: u32 = 3;
/// So many successes in a row are none, either: whoever goes back too early goes back and forth.
const SUCCESSES: u32 = 4;

#[derive(Debug)]
pub(super) struct Health {
    degraded: AtomicBool,
    failures: AtomicU32,
    /// Tries in a row that succeeded while degraded.
    successes: AtomicU32,
    /// One change at a time, so that gauge and log tell the same story.
    changes: Mutex<SharedLimitMetrics>,
}

impl Health {
    pub(super) fn new(metrics: SharedLimitMetrics) -> Health {
        metrics.degraded(false);
        Health {
            degraded: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            successes: AtomicU32::new(0),
            changes: Mutex::new(metrics),
        }
    }

    pub(super) fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Acquire)
    }

    /// It answered a request.
    pub(super) fn answered(&self) {
        // Nearly always so: a line of memory that all threads only read.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// It did not answer a request; `up`: whether it is there at all.
    pub(super) fn failed(&self, why: &dyn Display, up: bool) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if !up || failures >= FAILURES {
            self.degrade(why);
        }
    }

    /// From now on it is not asked.
    pub(super) fn degrade(&self, why: &dyn Display) {
        let metrics = self.changes.lock();
        self.successes.store(0, Ordering::Relaxed);
        if !self.degraded.swap(true, Ordering::AcqRel) {
            metrics.degraded(true);
            tracing::warn!(error = %why, "rate limits go on without the store that replicas share");
        }
    }

    /// It was tried while nobody asked it.
    pub(super) fn tried(&self, answered: bool) {
        let successes = if answered { self.successes.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.successes.store(successes, Ordering::Relaxed);
        if successes >= SUCCESSES {
            self.recover();
        }
    }

    /// From now on it is asked again.
    fn recover(&self) {
        let metrics = self.changes.lock();
        self.failures.store(0, Ordering::Relaxed);
        if self.degraded.swap(false, Ordering::AcqRel) {
            metrics.degraded(false);
            tracing::info!("rate limits are counted together with other replicas again");
        }
    }
}
