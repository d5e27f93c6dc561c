//! How failed log-ins are slowed down: a count of failures and what waits it brings. Pure arithmetic; the script of the
//! shared throttle (`store/redis/throttle.lua`) does the same, step by step.
//!
//! An attempt is counted as failed **before** its password is checked and taken back when it was not, so that any
//! number of attempts at once get no more than the free ones.

use std::time::Duration;

/// Longest wait between two attempts, in seconds.
pub const LONGEST_WAIT_S: u64 = 900;

/// Free failures are forgotten so long after the last one, in milliseconds.
pub const KEEP_MS: u64 = 900_000;

/// Once waits began, failures are forgotten so long after the end of the last wait, in milliseconds. Longer than
/// [`KEEP_MS`], or a pause after each few waits would be the fastest way to guess.
pub const KEEP_WAITS_MS: u64 = 3_600_000;

/// How many failures are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// With this many failures the waits begin: 1, 2, 4 … [`LONGEST_WAIT_S`] seconds.
    pub free: u32,
}

/// Of one e-mail address, known or not, or of one e-mail address from one place.
pub const PER_EMAIL: Rule = Rule { free: 5 };

/// Of one client address, over all accounts.
pub const PER_ADDRESS: Rule = Rule { free: 20 };

/// Failures of one subject. Times are milliseconds on the keeper's time line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Failures that are remembered, attempts under way included.
    pub failures: u32,
    /// No attempt before this moment; 0: none was ever forbidden, or no longer is.
    pub until_ms: u64,
    /// From this moment on the count is as good as none.
    pub forget_ms: u64,
}

impl Count {
    /// The wait until the next attempt, if there is one.
    pub fn wait(&self, now_ms: u64) -> Option<Duration> {
        (now_ms < self.until_ms).then(|| Duration::from_millis(self.until_ms - now_ms))
    }

    /// Whether forgetting it now changes nothing.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.forget_ms <= now_ms
    }
}

/// Counts one more attempt as failed; the error is the wait until it may be made. An attempt that is refused changes
/// nothing: it does not make the wait longer.
pub fn reserve(count: Option<Count>, rule: Rule, now_ms: u64) -> Result<Count, Duration> {
    let count = count.filter(|count| !count.is_over(now_ms)).unwrap_or_default();
    if let Some(wait) = count.wait(now_ms) {
        return Err(wait);
    }
    let failures = count.failures.saturating_add(1);
    let Some(doublings) = failures.checked_sub(rule.free) else {
        return Ok(Count { failures, until_ms: 0, forget_ms: now_ms.saturating_add(KEEP_MS) });
    };
    let wait_s = 1_u64.checked_shl(doublings).map_or(LONGEST_WAIT_S, |wait_s| wait_s.min(LONGEST_WAIT_S));
    let until_ms = now_ms.saturating_add(wait_s * 1000);
    Ok(Count { failures, until_ms, forget_ms: until_ms.saturating_add(KEEP_WAITS_MS) })
}

/// Takes back an attempt that was no failure. `reserved_until_ms` is the `until_ms` that reserving it gave: a wait goes
/// with the attempt that brought it, unless a later one brought another.
pub fn release(count: Count, reserved_until_ms: u64) -> Option<Count> {
    let failures = count.failures.saturating_sub(1);
    let until_ms = if count.until_ms == reserved_until_ms { 0 } else { count.until_ms };
    (failures > 0).then_some(Count { failures, until_ms, ..count })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_000_000;

    #[test]
    fn five_are_free_then_waits_double_up_to_a_quarter_of_an_hour() {
        let (mut count, mut now, mut waits) = (None, START, Vec::new());
        for _ in 0..18 {
            let taken = reserve(count, PER_EMAIL, now).unwrap();
            let wait = taken.wait(now).unwrap_or_default();
            waits.push(wait.as_secs());
            count = Some(taken);
            if let Err(left) = reserve(count, PER_EMAIL, now) {
                assert_eq!(left, wait);
                // Nor a millisecond earlier.
                let end = taken.until_ms;
                assert_eq!(reserve(count, PER_EMAIL, end - 1), Err(Duration::from_millis(1)));
                now = end;
            }
        }
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
    }

    #[test]
    fn failures_are_forgotten_and_waits_are_remembered_longer() {
        let after = |failures: usize, pause: u64| {
            let (mut count, mut now) = (None, START);
            for _ in 0..failures {
                let taken = reserve(count, PER_EMAIL, now).unwrap();
                now = now.max(taken.until_ms);
                count = Some(taken);
            }
            reserve(count, PER_EMAIL, now + pause).unwrap().failures
        };
        assert_eq!((after(4, KEEP_MS - 1), after(4, KEEP_MS)), (5, 1));
        assert_eq!((after(6, KEEP_MS), after(6, KEEP_WAITS_MS - 1), after(6, KEEP_WAITS_MS)), (7, 7, 1));
    }

    #[test]
    fn what_was_no_failure_leaves_no_trace() {
        let one = reserve(None, PER_EMAIL, START).unwrap();
        assert_eq!(release(one, one.until_ms), None);
        let before = Count { failures: 4, until_ms: 0, forget_ms: START + 1 };
        let fifth = reserve(Some(before), PER_EMAIL, START).unwrap();
        let back = release(fifth, fifth.until_ms).unwrap();
        assert_eq!((back.failures, back.wait(START)), (4, None));
    }

    #[test]
    fn taking_one_back_does_not_end_the_wait_of_another() {
        let before = Count { failures: 4, until_ms: 0, forget_ms: START + 1 };
        let fifth = reserve(Some(before), PER_EMAIL, START).unwrap();
        let sixth = reserve(Some(fifth), PER_EMAIL, fifth.until_ms).unwrap();
        let back = release(sixth, fifth.until_ms).unwrap();
        assert_eq!((back.failures, back.until_ms), (5, sixth.until_ms));
    }

    proptest! {
        /// Whoever tries as fast as is allowed, with pauses as he likes, gets few attempts in any day.
        #[test]
        fn nobody_guesses_fast(pauses in prop::collection::vec(prop::sample::select(vec![0_u64, 1, 1_000, 60_000, KEEP_MS, KEEP_WAITS_MS]), 1..3000)) {
            const DAY_MS: u64 = 86_400_000;
            let (mut count, mut now, mut made) = (None, START, Vec::new());
            for pause in pauses {
                now += pause;
                match reserve(count, PER_EMAIL, now) {
                    Ok(taken) => { made.push(now); count = Some(taken) }
                    Err(wait) => now += u64::try_from(wait.as_millis()).unwrap(),
                }
            }
            let most = made.iter().enumerate().map(|(i, start)| made[i..].iter().take_while(|at| **at < start + DAY_MS).count()).max();
            prop_assert!(most.unwrap_or(0) <= 4 * 96 + 20, "{most:?} in a day");
        }

        #[test]
        fn times_never_overflow(failures: u32, until_ms: u64, forget_ms: u64, now: u64, free in 1_u32..50) {
            let count = Count { failures, until_ms, forget_ms };
            if let Ok(taken) = reserve(Some(count), Rule { free }, now) {
                prop_assert!(taken.until_ms == 0 || taken.until_ms >= now);
                let _ = release(taken, taken.until_ms);
            }
        }
    }
}
