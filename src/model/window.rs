//! How many requests of the last moments went well and how many did not: a sliding window of ten buckets.
//!
//! Shared without a lock. Counting costs one load and one `fetch_add` on a word of the target's own (about 5 ns; a few
//! times that when many threads count at the same target at once), and a compare-and-swap once per bucket. Two
//! threads that turn a bucket over at the same moment may lose one count, which no ratio of dozens of requests notices.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Tick;

/// Buckets of a window: what is counted fades out a tenth at a time.
pub const BUCKETS: u64 = 10;

/// A bucket is one word: which tenth it counts (24 bits), how many went well (20 bits), how many did not (20 bits).
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const ONE_GOOD: u64 = 1 << COUNT_BITS;
const ONE_BAD: u64 = 1;
/// The upper half of either count: from there on both are halved, which keeps their ratio.
const HALF_FULL: u64 = (1 << (COUNT_BITS - 1)) | (1 << (2 * COUNT_BITS - 1));
const EPOCH_SHIFT: u32 = 2 * COUNT_BITS;
const EPOCH_MASK: u64 = u64::MAX >> EPOCH_SHIFT;

/// The counts of the last moments.
#[derive(Debug, Default)]
pub struct Window([AtomicU64; BUCKETS as usize]);

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests that went well.
    pub good: u64,
    /// Requests that did not.
    pub bad: u64,
}

impl Tally {
    /// All of them.
    pub fn total(self) -> u64 {
        self.good.saturating_add(self.bad)
    }

    /// Whether fewer than `percent` of a hundred went well.
    pub fn is_below(self, percent: u32) -> bool {
        self.good.saturating_mul(100) < self.total().saturating_mul(u64::from(percent))
    }
}

impl Window {
    /// Counts one request that ended at `now`, in a window of `span`. Another span than before starts over.
    pub fn record(&self, good: bool, span: Duration, now: Tick) {
        let epoch = epoch(span, now);
        let Some(bucket) = usize::try_from(epoch % BUCKETS).ok().and_then(|index| self.0.get(index)) else { return };
        let one = if good { ONE_GOOD } else { ONE_BAD };
        let seen = bucket.load(Ordering::Relaxed);
        if seen >> EPOCH_SHIFT == epoch & EPOCH_MASK && seen & HALF_FULL == 0 {
            bucket.fetch_add(one, Ordering::Relaxed);
            return;
        }
        let next = |word: u64| {
            let counts = match word >> EPOCH_SHIFT == epoch & EPOCH_MASK {
                true if word & HALF_FULL != 0 => halved(word),
                true => word & !(EPOCH_MASK << EPOCH_SHIFT),
                false => 0,
            };
            Some(((epoch & EPOCH_MASK) << EPOCH_SHIFT) | (counts + one))
        };
        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// What it holds at `now`: the tenth under way and the nine before it.
    pub fn tally(&self, span: Duration, now: Tick) -> Tally {
        let epoch = epoch(span, now);
        let mut tally = Tally::default();
        for word in self.0.iter().map(|bucket| bucket.load(Ordering::Relaxed)) {
            // A bucket of another span, or one that comes up again after 2²⁴ tenths, looks as old as any.
            if epoch.wrapping_sub(word >> EPOCH_SHIFT) & EPOCH_MASK < BUCKETS {
                tally.good += (word >> COUNT_BITS) & COUNT_MASK;
                tally.bad += word & COUNT_MASK;
            }
        }
        tally
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.0.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
    }
}

fn epoch(span: Duration, now: Tick) -> u64 {
    let tenth = u64::try_from(span.as_micros()).unwrap_or(u64::MAX) / BUCKETS;
    now.0 / tenth.max(1)
}

fn halved(word: u64) -> u64 {
    let (good, bad) = ((word >> COUNT_BITS) & COUNT_MASK, word & COUNT_MASK);
    ((good / 2) << COUNT_BITS) | (bad / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const SPAN: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Tick {
        Tick(86_400_000_000).after(Duration::from_millis(millis))
    }

    #[test]
    fn what_is_older_than_the_window_fades_a_tenth_at_a_time() {
        let window = Window::default();
        for second in 0..10 {
            window.record(second % 2 == 0, SPAN, at(second * 1_000));
        }
        assert_eq!(window.tally(SPAN, at(9_999)), Tally { good: 5, bad: 5 });
        assert_eq!(window.tally(SPAN, at(10_000)), Tally { good: 4, bad: 5 });
        assert_eq!(window.tally(SPAN, at(18_999)), Tally { good: 0, bad: 1 });
        assert_eq!(window.tally(SPAN, at(19_000)), Tally::default());
    }

    #[test]
    fn a_bucket_that_is_half_full_keeps_its_ratio() {
        let window = Window::default();
        for n in 0..3_000_000_u64 {
            window.record(n % 4 != 0, SPAN, at(0));
        }
        let tally = window.tally(SPAN, at(0));
        assert!(tally.total() > 400_000, "{tally:?}");
        assert!(tally.is_below(76) && !tally.is_below(74), "{tally:?}");
    }

    #[test]
    fn another_span_starts_over_and_clear_forgets() {
        let window = Window::default();
        window.record(false, SPAN, at(0));
        for span in [SPAN * 6, SPAN / 2] {
            assert_eq!(window.tally(span, at(0)), Tally::default(), "{span:?}");
        }
        window.record(true, SPAN * 6, at(0));
        assert_eq!(window.tally(SPAN * 6, at(0)), Tally { good: 1, bad: 0 });
        window.clear();
        assert_eq!(window.tally(SPAN * 6, at(0)), Tally::default());
    }

    #[test]
    fn threads_lose_nothing_within_a_bucket() {
        let window = Window::default();
        window.record(true, SPAN, at(0));
        std::thread::scope(|scope| {
            for good in [true, false, true, false] {
                let window = &window;
                scope.spawn(move || (0..10_000).for_each(|_| window.record(good, SPAN, at(0))));
            }
        });
        assert_eq!(window.tally(SPAN, at(0)), Tally { good: 20_001, bad: 20_000 });
    }

    proptest! {
        #[test]
        fn it_counts_as_a_list_of_all_requests_would(
            steps in prop::collection::vec((any::<bool>(), 0_u64..3_000), 1..300), span_ms in 10_u64..60_000,
        ) {
            let (window, span) = (Window::default(), Duration::from_millis(span_ms));
            let mut all = VecDeque::new();
            let mut millis = 0;
            for (good, pause) in steps {
                millis += pause;
                window.record(good, span, at(millis));
                all.push_back((good, epoch(span, at(millis))));
                let oldest = epoch(span, at(millis)) - (BUCKETS - 1);
                all.retain(|(_, epoch)| *epoch >= oldest);
                let good = all.iter().filter(|(good, _)| *good).count() as u64;
                prop_assert_eq!(window.tally(span, at(millis)), Tally { good, bad: all.len() as u64 - good });
            }
        }
    }
}
