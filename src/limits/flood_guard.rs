//! The cap on requests per client address over all routes, and requests that no route takes. No filter: `proxy/` asks
//! it before anything else is answered, so that guessing paths and tokens is limited too.
//!
//! Two steps. A sieve (count-min sketch of `pingora-limits`, two windows of 10 s) counts every request; an address
//! that stays at or below half of the allowed rate in each window passes without a bucket of its own, so that
//! passers-by do not fill the exact table. Every other address is decided by an exact bucket.
//!
//! Why this admits no more than the exact bucket alone would: a sketch never counts too few. An address without
//! a bucket had at most `threshold` requests in each window, and `threshold` is at most half of what flows in during
//! one, so whatever it used before the previous window has flowed back in. When it gets a bucket, that bucket starts
//! with everything counted in both windows missing. A bucket that is not full is always charged. What the sketch
//! counts too many (colliding addresses) costs an address at most `2 · threshold` tokens, once.
//! Two exceptions: requests that race the very moment at which the sieve wakes up after a whole window without any
//! request may go uncounted, and for two windows after a reload that lowers the rate, what passed uncharged under the
//! old threshold counts only up to the new one.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pingora_limits::estimator::Estimator;

use super::{Buckets, Check, Policy, Subject};
use crate::clock::Tick;
use crate::config::spec::FloodGuardSpec;
use crate::model::gcra::{Outcome, Quota};
use crate::model::rejection::Rejection;

const WINDOW_MICROS: u64 = 10_000_000;
/// Rows and columns. Of n addresses in a window, the share that is counted too high is (1 − e^(−n/16384))⁴:
/// 0.24 % of 4 096, 16 % of 16 384. Those get an exact bucket earlier, nothing else.
const SKETCH: (usize, usize) = (4, 16_384);

/// The guard's memory. One per process; it outlives reloads.
pub struct FloodGuardState {
    sieve: Sieve,
    buckets: Buckets,
    policy: Policy,
}

impl FloodGuardState {
    /// An empty memory with at most `max_entries` exact buckets.
    pub fn new(max_entries: usize) -> FloodGuardState {
        let buckets = Buckets::new(max_entries);
        let policy = Policy::alone("flood_guard", &buckets);
        FloodGuardState { sieve: Sieve::new(), buckets, policy }
    }

    /// The exact buckets.
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }
}

/// Counts per subject in the current and the previous window. Three sketches: the one that comes next was cleared
/// a window ago, so nothing counted is lost when windows change.
struct Sieve {
    sketches: [Estimator; 3],
    window: AtomicU64,
}

impl Sieve {
    fn new() -> Sieve {
        let sketch = || Estimator::new(SKETCH.0, SKETCH.1);
        Sieve { sketches: [sketch(), sketch(), sketch()], window: AtomicU64::new(0) }
    }

    /// Counts one request; gives the counts of the previous window and of this one.
    fn observe(&self, now: Tick, subject: Subject) -> (u64, u64) {
        let window = self.turn_to(now.0 / WINDOW_MICROS);
        let previous = self.sketch(window + 2).map_or(0, |sketch| sketch.get(subject));
        let current = self.sketch(window).map_or(0, |sketch| sketch.incr(subject, 1));
        (u64::try_from(previous).unwrap_or(0), u64::try_from(current).unwrap_or(u64::MAX))
    }

    fn sketch(&self, window: u64) -> Option<&Estimator> {
        usize::try_from(window % 3).ok().and_then(|index| self.sketches.get(index))
    }

    /// The window in force: `wanted`, or a later one that another thread has turned to.
    fn turn_to(&self, wanted: u64) -> u64 {
        let known = self.window.fetch_max(wanted, Ordering::AcqRel);
        if known >= wanted {
            return known;
        }
        // Only the thread that moved the window comes here.
        if let Some(next) = self.sketch(wanted + 1) {
            next.reset();
        }
        if wanted - known > 1 {
            for stale in [wanted, wanted + 2].into_iter().filter_map(|window| self.sketch(window)) {
                stale.reset();
            }
        }
        wanted
    }
}

/// Refuses addresses that send too much.
pub struct FloodGuard {
    state: Arc<FloodGuardState>,
    quota: Quota,
    threshold: u64,
}

impl FloodGuard {
    /// A guard with this cap over the process's memory.
    pub fn new(spec: &FloodGuardSpec, state: Arc<FloodGuardState>) -> FloodGuard {
        let quota = Quota::new(spec.rate, spec.burst);
        let half = quota.flow(Duration::from_micros(WINDOW_MICROS)) / 2;
        FloodGuard { state, quota, threshold: half.min(quota.capacity() / 4) }
    }

    /// Counts one request of a client.
    ///
    /// # Errors
    /// [`Rejection::RateLimited`] when its address has spent what it may.
    pub fn check(&self, client: IpAddr, now: Tick) -> Result<(), Rejection> {
        let state = &*self.state;
        let subject = Subject::address(client);
        let (previous, current) = state.sieve.observe(now, subject);
        let quiet = current <= self.threshold;
        // Uncharged so far: at most `threshold` in each window, this request not among them.
        let unseen = previous.min(self.threshold) + current.saturating_sub(1).min(self.threshold);
        let check = Check::single(&state.policy, subject, self.quota, 1);
        match state.buckets.decide_seeded(now, check, unseen, quiet).map(|decision| decision.outcome) {
            Some(Outcome::Denied(wait)) => Err(Rejection::RateLimited(wait)),
            Some(Outcome::Allowed(_)) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;

    fn guard(rate: &str, burst: u32, state: &Arc<FloodGuardState>) -> FloodGuard {
        FloodGuard::new(&FloodGuardSpec { rate: rate.parse().unwrap(), burst }, state.clone())
    }

    fn passes(guard: &FloodGuard, address: &str, clock: &Clock) -> bool {
        guard.check(address.parse().unwrap(), clock.now()).is_ok()
    }

    #[test]
    fn a_flood_is_cut_at_the_capacity_and_survives_a_reload() {
        let (clock, hand) = Clock::manual();
        let state = Arc::new(FloodGuardState::new(10_000));
        let first = guard("600/min", 20, &state);
        let mut admitted = 0;
        for _ in 0..2_000 {
            admitted += u32::from(passes(&first, "192.0.2.1", &clock));
        }
        assert_eq!(admitted, 620);
        let reloaded = guard("600/min", 20, &state);
        assert!(!passes(&reloaded, "192.0.2.1", &clock));
        assert!(passes(&reloaded, "192.0.2.2", &clock));
        hand.advance(Duration::from_millis(100));
        assert!(passes(&reloaded, "192.0.2.1", &clock));
        assert!(!passes(&reloaded, "192.0.2.1", &clock));
    }

    #[test]
    fn what_passed_uncharged_before_the_edge_of_a_window_is_not_forgotten() {
        let (clock, hand) = Clock::manual();
        let state = Arc::new(FloodGuardState::new(10_000));
        let guard = guard("600/min", 20, &state);
        hand.advance(Duration::from_micros(WINDOW_MICROS - 1));
        for _ in 0..50 {
            assert!(passes(&guard, "192.0.2.1", &clock));
        }
        assert_eq!(state.buckets().len(), 0);
        hand.advance(Duration::from_micros(1));
        let mut admitted = 50;
        for _ in 0..2_000 {
            admitted += u32::from(passes(&guard, "192.0.2.1", &clock));
        }
        assert_eq!(admitted, 620);
    }

    #[test]
    fn passers_by_get_no_bucket() {
        let (clock, hand) = Clock::manual();
        let state = Arc::new(FloodGuardState::new(10_000));
        let guard = guard("600/min", 20, &state);
        for turn in 0..200 {
            assert!(passes(&guard, &format!("192.0.2.{turn}"), &clock));
            hand.advance(Duration::from_millis(50));
        }
        assert_eq!(state.buckets().len(), 0);
    }

    #[test]
    fn a_slow_rate_is_exact_from_the_first_request() {
        let (clock, _) = Clock::manual();
        let state = Arc::new(FloodGuardState::new(10_000));
        let guard = guard("3/day", 0, &state);
        let mut admitted = 0;
        for _ in 0..10 {
            admitted += u32::from(passes(&guard, "192.0.2.1", &clock));
        }
        assert_eq!(admitted, 3);
    }

    #[test]
    fn threads_that_turn_the_window_lose_no_count() {
        let sieve = Sieve::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for request in 0..4_000_u64 {
                        sieve.observe(Tick(request * WINDOW_MICROS / 1_000), Subject::V4(1));
                    }
                });
            }
        });
        // The windows 0 and 1, 8 000 requests at most, were cleared for later ones; nothing else may be missing.
        let total: isize = sieve.sketches.iter().map(|sketch| sketch.get(Subject::V4(1))).sum();
        assert!(total >= 8_000, "{total}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn never_more_than_capacity_plus_rate_in_any_window(
            // Around the edges of windows (10 s) and of the threshold (50), where something could slip by.
            bursts in prop::collection::vec((
                prop::sample::select(vec![0_u64, 1, 1_000_000, 5_000_000, 9_999_999, 10_000_000, 10_000_001, 62_000_000]),
                prop::sample::select(vec![1_usize, 25, 49, 50, 51, 100, 700]),
            ), 1..20),
        ) {
            let state = Arc::new(FloodGuardState::new(10_000));
            let guard = guard("600/min", 20, &state);
            let (clock, hand) = Clock::manual();
            let mut admitted: Vec<u64> = Vec::new();
            for (pause, requests) in bursts {
                hand.advance(Duration::from_micros(pause));
                for _ in 0..requests {
                    if passes(&guard, "192.0.2.1", &clock) {
                        admitted.push(clock.now().0);
                    }
                }
            }
            for (i, start) in admitted.iter().enumerate() {
                for (j, end) in admitted.iter().enumerate().skip(i) {
                    prop_assert!((j - i + 1) as u64 <= 620 + (end - start) / 100_000);
                }
            }
        }
    }
}
