//! How many retries a pool may make: a share of its requests, and a few per second on top, so that services that
//! are all failing get little more than their usual load ("Handling Overload", Site Reliability Engineering, 2016).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Tick;

/// Seconds over which requests and retries are compared, the one under way included.
const WINDOW: u64 = 10;
/// Seconds that are kept; a power of two above [`WINDOW`].
const KEPT: usize = 16;
const SECOND: u64 = 1_000_000;

/// What a pool allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Retries in a hundred requests of the last ten seconds.
    pub percent: u32,
    /// Retries per second that are allowed on top, for pools with few requests.
    pub floor: u32,
}

/// The count of one pool. Counting a request takes no lock; only who wants a retry does.
#[derive(Debug, Default)]
pub struct Budget {
    requests: Counts,
    spent: Mutex<Spent>,
}

#[derive(Debug, Default)]
struct Spent {
    /// Retries that requests paid for.
    paid: Counts,
    /// When the floor is whole again, as a [`Tick`]: a bucket by the generic cell rate algorithm.
    whole_at: u64,
}

impl Budget {
    /// A request is sent for the first time.
    pub fn count(&self, now: Tick) {
        self.requests.add(now);
    }

    /// Takes a retry out of the budget, if there is one.
    ///
    /// Up to any moment, retries are at most `percent` of the requests, plus `floor` per second and `floor` once;
    /// and so in any span of time, when the requests of the ten seconds before it count as well.
    pub fn take(&self, share: Share, now: Tick) -> bool {
        let mut spent = self.spent.lock();
        let earned = self.requests.sum(now).saturating_mul(u64::from(share.percent)) / 100;
        if spent.paid.sum(now) < earned {
            spent.paid.add(now);
            return true;
        }
        spent.take_from_floor(share.floor, now)
    }
}

impl Spent {
    fn take_from_floor(&mut self, floor: u32, now: Tick) -> bool {
        let Some(each) = SECOND.checked_div(u64::from(floor)) else { return false };
        let whole_at = self.whole_at.max(now.0).saturating_add(each.max(1));
        let fits = whole_at <= now.after(Duration::from_secs(1)).0;
        if fits {
            self.whole_at = whole_at;
        }
        fits
    }
}

/// Events per second of the last ones: in each slot the second (upper half) and its count (lower half).
#[derive(Debug, Default)]
struct Counts([AtomicU64; KEPT]);

impl Counts {
    fn add(&self, now: Tick) {
        let second = now.0 / SECOND;
        let Some(slot) = usize::try_from(second).ok().and_then(|second| self.0.get(second % KEPT)) else { return };
        let (fresh, mut seen) = ((second << 32) | 1, slot.load(Ordering::Relaxed));
        // A slot of an earlier round begins anew; who loses the race for that finds it begun.
        while seen >> 32 < second & u64::from(u32::MAX) {
            match slot.compare_exchange_weak(seen, fresh, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(newer) => seen = newer,
            }
        }
        slot.fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self, now: Tick) -> u64 {
        let second = (now.0 / SECOND) & u64::from(u32::MAX);
        let recent = |slot: &AtomicU64| {
            let seen = slot.load(Ordering::Relaxed);
            let age = second.checked_sub(seen >> 32);
            age.filter(|age| *age < WINDOW).map_or(0, |_| seen & u64::from(u32::MAX))
        };
        self.0.iter().map(recent).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const SHARE: Share = Share { percent: 20, floor: 10 };

    fn taken(budget: &Budget, share: Share, wanted: u32, now: Tick) -> u32 {
        (0..wanted).map(|_| u32::from(budget.take(share, now))).sum()
    }

    fn at(millis: u64) -> Tick {
        Tick(86_400_000_000).after(Duration::from_millis(millis))
    }

    #[test]
    fn a_share_of_the_requests_and_the_floor_at_once() {
        let budget = Budget::default();
        (0..100).for_each(|_| budget.count(at(0)));
        assert_eq!(taken(&budget, SHARE, 1_000, at(0)), 20 + 10);
        assert_eq!(taken(&budget, SHARE, 1_000, at(500)), 5, "half a second of the floor");
        assert_eq!(taken(&budget, SHARE, 1_000, at(9_999)), 10, "the requests have paid already");
        (0..50).for_each(|_| budget.count(at(10_000)));
        assert_eq!(taken(&budget, SHARE, 1_000, at(10_000)), 10, "of the last ten seconds");
    }

    #[test]
    fn requests_pay_for_ten_seconds() {
        for (millis, expected) in [(0, 20), (9_999, 20), (10_000, 0), (100_000, 0)] {
            let budget = Budget::default();
            (0..100).for_each(|_| budget.count(at(0)));
            assert_eq!(taken(&budget, Share { floor: 0, ..SHARE }, 1_000, at(millis)), expected, "{millis} ms");
        }
    }

    #[test]
    fn nothing_is_allowed_where_nothing_is() {
        let budget = Budget::default();
        assert_eq!(taken(&budget, Share { percent: 100, floor: 0 }, 10, at(0)), 0);
        (0..100).for_each(|_| budget.count(at(0)));
        assert_eq!(taken(&budget, Share { percent: 0, floor: 0 }, 10, at(0)), 0);
        assert_eq!(taken(&budget, Share { percent: 100, floor: 0 }, 1_000, at(0)), 100);
    }

    #[test]
    fn threads_together_get_no_more() {
        let budget = Budget::default();
        let counted = std::thread::scope(|scope| {
            let run = || {
                (0..1_000)
                    .map(|_| {
                        budget.count(at(0));
                        u32::from(budget.take(SHARE, at(0)))
                    })
                    .sum::<u32>()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
        });
        assert!(counted <= 800 + 10, "{counted}");
        assert_eq!(counted + taken(&budget, SHARE, 1_000, at(0)), 800 + 10);
    }

    /// The times of something that happened, in order.
    #[derive(Default)]
    struct Log(Vec<Tick>);

    impl Log {
        /// How many in the span of this length that ends at `end`, both ends included.
        fn within(&self, span: Duration, end: Tick) -> u64 {
            let begin = Tick(end.0.saturating_sub(u64::try_from(span.as_micros()).unwrap()));
            let before = |tick: Tick| self.0.partition_point(|seen| *seen < tick);
            (self.0.partition_point(|seen| *seen <= end) - before(begin)) as u64
        }
    }

    /// Whether no span that ends now holds more retries than its requests and the floor allow.
    fn holds(share: Share, requests: &Log, retries: &Log, now: Tick) -> Result<(), String> {
        for seconds in [0, 1, 5, 10, 30, 100, 100_000] {
            let span = Duration::from_secs(seconds);
            let made = retries.within(span, now);
            let asked = requests.within(span + Duration::from_secs(WINDOW), now);
            let most = asked * u64::from(share.percent) / 100 + (seconds + 1) * u64::from(share.floor);
            if made > most {
                return Err(format!("{made} retries in {seconds} s, {most} allowed ({asked} requests), {share:?}"));
            }
        }
        Ok(())
    }

    /// Requests and wishes for retries in bursts and pauses, by seed.
    fn simulate(seed: u64, steps: u32) {
        let mut random = StdRng::seed_from_u64(seed);
        let share = Share { percent: random.random_range(0..=100), floor: random.random_range(0..=30) };
        let (budget, mut requests, mut retries) = (Budget::default(), Log::default(), Log::default());
        let (mut now, mut pause, mut greed) = (at(0), 100, 50);
        for _ in 0..steps {
            if random.random_ratio(1, 1_000) {
                pause = [0, 10, 1_000, 30_000, 3_000_000][random.random_range(0..5)];
                greed = random.random_range(0..=100);
            }
            now = now.after(Duration::from_micros(random.random_range(0..=pause)));
            if random.random_ratio(greed, 100) {
                if budget.take(share, now) {
                    retries.0.push(now);
                    holds(share, &requests, &retries, now).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                }
            } else {
                budget.count(now);
                requests.0.push(now);
            }
        }
        // Over the whole run the requests pay once each.
        let most = requests.0.len() as u64 * u64::from(share.percent) / 100;
        let floor = (now.since(at(0)).as_secs() + 2) * u64::from(share.floor);
        assert!(retries.0.len() as u64 <= most + floor, "seed {seed}");
        assert!(!retries.0.is_empty() || share.percent + share.floor < 5, "seed {seed}: the run shows nothing");
    }

    #[test]
    fn a_million_steps_never_make_more_retries_than_allowed() {
        (0..20).for_each(|seed| simulate(seed, 50_000));
    }

    proptest! {
        #[test]
        fn the_floor_is_there_every_second(floor in 1_u32..=1_000, start in 0_u64..100_000) {
            let budget = Budget::default();
            let share = Share { percent: 0, floor };
            prop_assert_eq!(taken(&budget, share, 5_000, at(start)), floor);
            prop_assert!(taken(&budget, share, 5_000, at(start + 1_000)) >= floor - 1);
        }
    }
}
