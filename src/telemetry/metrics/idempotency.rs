//! Counters of requests with an `Idempotency-Key`, per route.

use super::{Counter, Metrics};

/// What became of a request with a key, or of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdempotencyResult {
    /// A first request: its answer is kept.
    Stored,
    /// A first request: its answer was too long to keep.
    TooLong,
    /// A first request that failed: its key is new again.
    Freed,
    /// A first request that a target has whole, and whose end nobody knows: its key stays in flight for its lease.
    Unknown,
    /// A repeat: it got the answer that was kept.
    Replayed,
    /// A repeat while the first was in flight, or its end unknown.
    InFlight,
    /// The key of another request.
    Mismatch,
}

impl IdempotencyResult {
    /// All of them.
    pub const ALL: [IdempotencyResult; 7] = [
        IdempotencyResult::Stored,
        IdempotencyResult::TooLong,
        IdempotencyResult::Freed,
        IdempotencyResult::Unknown,
        IdempotencyResult::Replayed,
        IdempotencyResult::InFlight,
        IdempotencyResult::Mismatch,
    ];

    /// Its name in the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            IdempotencyResult::Stored => "stored",
            IdempotencyResult::TooLong => "too_long",
            IdempotencyResult::Freed => "freed",
            IdempotencyResult::Unknown => "unknown",
            IdempotencyResult::Replayed => "replayed",
            IdempotencyResult::InFlight => "in_flight",
            IdempotencyResult::Mismatch => "mismatch",
        }
    }
}

/// Counters of one route.
#[derive(Debug, Clone)]
pub struct IdempotencyMetrics([Counter; IdempotencyResult::ALL.len()]);

impl IdempotencyMetrics {
    /// Counts one request.
    pub fn count(&self, result: IdempotencyResult) {
        let of = IdempotencyResult::ALL.iter().zip(&self.0).find(|(one, _)| **one == result);
        if let Some((_, counter)) = of {
            counter.inc();
        }
    }
}

#[cfg(test)]
impl IdempotencyMetrics {
    /// How many were counted.
    pub(crate) fn of(&self, result: IdempotencyResult) -> u64 {
        IdempotencyResult::ALL
            .iter()
            .zip(&self.0)
            .find(|(one, _)| **one == result)
            .map_or(0, |(_, counter)| counter.get())
    }
}

impl Metrics {
    /// Counters of the route `name`, to be kept by its filter.
    pub fn idempotency(&self, name: &str) -> IdempotencyMetrics {
        let counter = |result: IdempotencyResult| self.families.idempotency.with_label_values(&[name, result.as_str()]);
        IdempotencyMetrics(IdempotencyResult::ALL.map(counter))
    }

    /// The counter of answers that were given up before their time, to be kept by their store.
    pub fn idempotency_evicted(&self) -> Counter {
        self.families.idempotency_evicted.clone()
    }
}
