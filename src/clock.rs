//! The only reader of time. Everything else is handed a [`Clock`], so tests can move it by hand.

#![allow(clippy::disallowed_methods)] // the one place where the disallowed clocks are read

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A point on the process's monotonic time line, in microseconds since an arbitrary origin.
///
/// The origin lies one day before the process started, so that subtracting a window never underflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// The time from `earlier` to `self`; zero when `earlier` lies in the future.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The point `by` later.
    pub fn after(self, by: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

const ORIGIN_OFFSET_MICROS: u64 = 86_400_000_000;

/// Where time comes from: the system, or a test's hand.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { started: Instant },
    Manual(Arc<AtomicU64>),
}

/// The hand that moves a manual [`Clock`].
#[derive(Debug, Clone)]
pub struct Hand(Arc<AtomicU64>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Clock {
        Clock(Source::System { started: Instant::now() })
    }

    /// A clock that stands still until its [`Hand`] moves it; its wall time starts at 2026-01-01T00:00:00Z.
    pub fn manual() -> (Clock, Hand) {
        let micros = Arc::new(AtomicU64::new(ORIGIN_OFFSET_MICROS));
        (Clock(Source::Manual(micros.clone())), Hand(micros))
    }

    /// Monotonic time.
    pub fn now(&self) -> Tick {
        match &self.0 {
            Source::System { started } => Tick(ORIGIN_OFFSET_MICROS).after(started.elapsed()),
            Source::Manual(micros) => Tick(micros.load(Ordering::Acquire)),
        }
    }

    /// Wall-clock time, in whole microseconds.
    pub fn wall(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => Timestamp::now(),
            Source::Manual(micros) => {
                let since = micros.load(Ordering::Acquire).saturating_sub(ORIGIN_OFFSET_MICROS);
                Timestamp::from_microsecond(1_767_225_600_000_000 + i64::try_from(since).unwrap_or(0))
                    .unwrap_or(Timestamp::UNIX_EPOCH)
            }
        }
    }

    /// Wall-clock time in whole seconds since the Unix epoch.
    pub fn unix_seconds(&self) -> i64 {
        self.wall().as_second()
    }
}

impl Hand {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_micros()).unwrap_or(0), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_both_times_together() {
        let (clock, hand) = Clock::manual();
        let (tick, second) = (clock.now(), clock.unix_seconds());
        hand.advance(Duration::from_secs(90));
        assert_eq!(clock.now().since(tick), Duration::from_secs(90));
        assert_eq!(clock.unix_seconds() - second, 90);
    }
}
