//! How long to wait before the next try to connect: doubling, with jitter, so that replicas do not come all at once.

use std::time::Duration;

/// Longest wait before the second try.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait of all; a pull of revocations is as far apart.
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that grow with each failure in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked: the next failure is a first one again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: between half of its bound and all of it.
    pub(super) fn next(&mut self) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        bound.saturating_mul(rand::random_range(500..=1_000)) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again() {
        let mut backoff = Backoff::default();
        for bound_ms in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            let bound = Duration::from_millis(bound_ms);
            let wait = backoff.next();
            assert!(wait >= bound / 2 && wait <= bound, "{wait:?} for {bound:?}");
        }
        for _ in 0..100 {
            assert!(backoff.next() <= LONGEST);
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
