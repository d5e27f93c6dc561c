//! The recent latency of a target: rises at once with a slow answer, and fades (peak-sensitive moving average).

use std::time::Duration;

use crate::clock::Tick;

/// After so long, what was measured counts for 1/e, 37 %. Also while nothing is measured: so a target that was slow
/// once is tried again.
pub const DECAY: Duration = Duration::from_secs(10);

/// A latency and when it was measured last, small enough for one atomic word.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ewma {
    /// In seconds; 0 before the first measurement.
    seconds: f32,
    /// In milliseconds of the [`Tick`], the low 32 bits: enough for pauses of up to 24 days.
    stamp: u32,
}

/// The shortest latency that is told from none: 1 µs.
const SHORTEST: f32 = 1e-6;

impl Ewma {
    /// The latency by now, in seconds; `None` when nothing was measured yet.
    pub fn at(self, now: Tick) -> Option<f64> {
        (self.seconds > 0.0).then(|| f64::from(self.seconds) * self.left(now))
    }

    /// With one more measurement. Longer than what it is by now: counts whole. Shorter: counts the more, the longer the last one
    /// is ago.
    #[must_use]
    pub fn with(self, measured: Duration, now: Tick) -> Ewma {
        let measured = measured.as_secs_f64();
        let next = match self.at(now) {
            Some(faded) => faded + measured * (1.0 - self.left(now)),
            None => measured,
        };
        // A measurement that took longer than the average is the new average.
        let seconds = next.max(measured.min(f64::from(f32::MAX))) as f32;
        Ewma { seconds: seconds.max(SHORTEST), stamp: stamp(now) }
    }

    /// As one word; 0 before the first measurement.
    pub fn to_bits(self) -> u64 {
        u64::from(self.seconds.to_bits()) << 32 | u64::from(self.stamp)
    }

    /// From such a word.
    pub fn from_bits(bits: u64) -> Ewma {
        let (high, low) = ((bits >> 32) as u32, bits as u32);
        Ewma { seconds: f32::from_bits(high), stamp: low }
    }

    /// What is left of the last measurement, 0 to 1. One from the future, by a reading of the clock before it, is whole.
    fn left(self, now: Tick) -> f64 {
        let passed = stamp(now).wrapping_sub(self.stamp);
        let passed = if passed > u32::MAX / 2 { 0 } else { passed };
        (-f64::from(passed) / DECAY.as_millis() as f64).exp()
    }
}

fn stamp(now: Tick) -> u32 {
    (now.0 / 1_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Tick = Tick(86_400_000_000);

    fn at(millis: u64) -> Tick {
        START.after(Duration::from_millis(millis))
    }

    #[test]
    fn it_rises_at_once_and_fades() {
        let none = Ewma::default();
        assert_eq!((none.at(START), none.to_bits()), (None, 0));
        let quick = none.with(Duration::from_millis(10), at(0));
        assert!((quick.at(at(0)).unwrap() - 0.010).abs() < 1e-6);
        let slow = quick.with(Duration::from_secs(2), at(1));
        assert!((slow.at(at(1)).unwrap() - 2.0).abs() < 1e-3, "a peak counts whole");
        let after = slow.with(Duration::from_millis(10), at(2)).at(at(2)).unwrap();
        assert!((1.9..2.0).contains(&after), "a quick answer right after changes little: {after}");
        let later = slow.with(Duration::from_millis(10), at(10_001)).at(at(10_001)).unwrap();
        assert!((0.73..0.76).contains(&later), "after the decay time a third is left: {later}");
        assert!(slow.at(at(120_000)).unwrap() < 0.001, "what was slow is tried again");
    }

    #[test]
    fn the_clock_may_wrap_and_step_back() {
        let near = Tick(u64::from(u32::MAX) * 1_000);
        let measured = Ewma::default().with(Duration::from_secs(1), near);
        let later = measured.at(near.after(Duration::from_secs(10))).unwrap();
        assert!((0.36..0.38).contains(&later), "{later}");
        assert!((measured.at(Tick(near.0 - 5_000_000)).unwrap() - 1.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn it_stays_between_the_least_and_the_most_measured(
            steps in proptest::collection::vec((0_u64..30_000, 1_u64..60_000_000), 1..50)
        ) {
            let (mut ewma, mut now) = (Ewma::default(), START);
            let most = steps.iter().map(|(_, micros)| *micros).max().unwrap() as f64 / 1e6;
            for (pause, micros) in steps {
                now = now.after(Duration::from_millis(pause));
                ewma = Ewma::from_bits(ewma.with(Duration::from_micros(micros), now).to_bits());
                let value = ewma.at(now).unwrap();
                prop_assert!(value >= micros as f64 / 1e6 * 0.999_999, "below the last measurement");
                prop_assert!(value <= most * 1.000_001);
            }
        }
    }
}
