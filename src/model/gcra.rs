//! The generic cell rate algorithm (GCRA, the "virtual scheduling" form of ITU-T I.371): one pure function that
//! decides whether a request fits a token bucket. It owns no state and reads no clock.
//!
//! All arithmetic is exact: times are kept in units of 1/limit microseconds, so that one token is worth a whole
//! number of units (the period in microseconds) whatever the rate, from 1/day to 1 000 000 000/s, and nothing
//! is ever rounded while deciding. Only the times given back are rounded, upwards, to a microsecond.

use std::time::Duration;

use super::units::Rate;

/// A token bucket's size and speed. It refills with `limit` tokens per `period` up to `limit + burst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    limit: u32,
    burst: u32,
    period_micros: u64,
}

/// The theoretical arrival time: the moment at which the bucket is full again, in units of 1/limit microseconds
/// of the quota it was computed with. A fresh bucket is [`Tat::FULL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tat(u128);

impl Tat {
    /// A full bucket.
    pub const FULL: Tat = Tat(0);
}

/// Whether a request fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It does; this is the bucket once charged.
    Allowed(Tat),
    /// It does not; it would after this wait, if nobody else is charged. A cost above the capacity never fits:
    /// its wait is the time until the bucket is full.
    Denied(Duration),
}

/// What [`decide`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request fits.
    pub outcome: Outcome,
    /// Whole tokens left after the decision.
    pub remaining: u64,
    /// Time until the bucket is full again, after the decision.
    pub reset_after: Duration,
}

impl Quota {
    /// A quota of `rate` with `burst` tokens on top.
    pub fn new(rate: Rate, burst: u32) -> Quota {
        let period_micros = u64::try_from(rate.period.as_micros()).unwrap_or(u64::MAX).clamp(1, 1 << 40);
        Quota { limit: rate.limit.max(1), burst, period_micros }
    }

    /// Tokens per period.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Tokens on top of the limit.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The time in which `limit` tokens flow in.
    pub fn period(&self) -> Duration {
        Duration::from_micros(self.period_micros)
    }

    /// Tokens in a full bucket.
    pub fn capacity(&self) -> u64 {
        u64::from(self.limit) + u64::from(self.burst)
    }

    fn token(&self) -> u128 {
        u128::from(self.period_micros)
    }

    fn tolerance(&self) -> u128 {
        u128::from(self.capacity()) * self.token()
    }

    fn at(&self, now_micros: u64) -> u128 {
        u128::from(now_micros) * u128::from(self.limit)
    }

    fn duration(&self, units: u128) -> Duration {
        Duration::from_micros(u64::try_from(units.div_ceil(u128::from(self.limit))).unwrap_or(u64::MAX))
    }

    /// Time from `now_micros` until a bucket with this `tat` is full; zero when it is.
    pub fn until_full(&self, tat: Tat, now_micros: u64) -> Duration {
        self.duration(tat.0.saturating_sub(self.at(now_micros)))
    }

    /// Whether a bucket with this `tat` is full, so that forgetting it changes nothing.
    pub fn is_full(&self, tat: Tat, now_micros: u64) -> bool {
        tat.0 <= self.at(now_micros)
    }

    /// A bucket that lacks `tokens` at `now_micros`; at most all it holds.
    pub fn lacking(&self, tokens: u64, now_micros: u64) -> Tat {
        Tat(self.at(now_micros) + u128::from(tokens.min(self.capacity())) * self.token())
    }
}

/// Decides whether `cost` tokens can be taken at `now_micros` (monotonic microseconds). A clock that steps back
/// grants nothing: the bucket then counts as emptier by the time stepped.
pub fn decide(tat: Tat, now_micros: u64, quota: Quota, cost: u32) -> Decision {
    let now = quota.at(now_micros);
    let tolerance = quota.tolerance();
    let debt = tat.0.saturating_sub(now);
    let charged = debt + u128::from(cost) * quota.token();
    let (outcome, after) = if charged <= tolerance {
        (Outcome::Allowed(Tat(now + charged)), charged)
    } else {
        (Outcome::Denied(quota.duration((charged - tolerance).min(debt))), debt)
    };
    let remaining = tolerance.saturating_sub(after) / quota.token();
    Decision { outcome, remaining: u64::try_from(remaining).unwrap_or(u64::MAX), reset_after: quota.duration(after) }
}

/// Carries a bucket over from one quota to another: the share that is left stays the same, so a changed limit
/// neither refills a spent bucket nor empties a full one. Rounds by less than one token, never in favour.
pub fn rescale(tat: Tat, now_micros: u64, from: Quota, to: Quota) -> Tat {
    // Tolerances are below 2^73 (capacity < 2^33, period ≤ 2^40 µs), so neither product leaves 128 bits.
    const SHARE_BITS: u32 = 48;
    let whole = from.tolerance();
    let debt = tat.0.saturating_sub(from.at(now_micros)).min(whole);
    let share = (debt << SHARE_BITS).div_ceil(whole);
    let carried = (share * to.tolerance()).div_ceil(1 << SHARE_BITS);
    Tat(to.at(now_micros) + carried.min(to.tolerance()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quota(limit: u32, seconds: u64, burst: u32) -> Quota {
        Quota::new(Rate { limit, period: Duration::from_secs(seconds) }, burst)
    }

    /// Sends one request at each of `times`; says when each admitted one came.
    fn run(quota: Quota, times: &[u64]) -> Vec<u64> {
        let mut tat = Tat::FULL;
        let mut admitted = Vec::new();
        for &now in times {
            if let Outcome::Allowed(next) = decide(tat, now, quota, 1).outcome {
                tat = next;
                admitted.push(now);
            }
        }
        admitted
    }

    #[test]
    fn a_fresh_client_may_use_the_whole_capacity_then_waits_for_the_next_token() {
        let quota = quota(20, 60, 20);
        let now = 1_000_000;
        assert_eq!(run(quota, &[now; 100]).len(), 40);
        let empty = quota.lacking(40, now);
        let denied = decide(empty, now, quota, 1);
        assert_eq!(denied.outcome, Outcome::Denied(Duration::from_secs(3)));
        assert_eq!((denied.remaining, denied.reset_after), (0, Duration::from_secs(120)));
        assert!(matches!(decide(empty, now + 3_000_000, quota, 1).outcome, Outcome::Allowed(_)));
        assert!(matches!(decide(empty, now + 2_999_999, quota, 1).outcome, Outcome::Denied(_)));
    }

    #[test]
    fn a_cost_above_the_capacity_never_fits() {
        let quota = quota(5, 1, 0);
        assert!(matches!(decide(Tat::FULL, 7, quota, 6).outcome, Outcome::Denied(_)));
        assert!(matches!(decide(Tat::FULL, 7, quota, 5).outcome, Outcome::Allowed(_)));
    }

    #[test]
    fn the_fastest_and_the_slowest_rates_are_exact() {
        let fast = quota(1_000_000_000, 1, 0);
        let empty = fast.lacking(fast.capacity(), 0);
        assert_eq!(decide(empty, 1, fast, 1).remaining, 999);
        let slow = quota(1, 86_400, 0);
        let empty = slow.lacking(1, 0);
        assert_eq!(decide(empty, 86_399_999_999, slow, 1).outcome, Outcome::Denied(Duration::from_micros(1)));
    }

    #[test]
    fn a_changed_limit_rescales_what_is_left() {
        let (old, new) = (quota(20, 60, 20), quota(100, 60, 100));
        let now = 50_000_000;
        let half = rescale(old.lacking(20, now), now, old, new);
        assert_eq!(decide(half, now, new, 0).remaining, 100);
        let spent = rescale(old.lacking(40, now), now, old, new);
        assert!(matches!(decide(spent, now, new, 1).outcome, Outcome::Denied(_)));
        assert!(new.is_full(rescale(Tat::FULL, now, old, new), now));
    }

    fn quotas() -> impl Strategy<Value = Quota> {
        (1_u32..200, prop::sample::select(vec![1_u64, 60, 3_600]), 0_u32..50).prop_map(|(l, p, b)| quota(l, p, b))
    }

    fn extreme_quotas() -> impl Strategy<Value = Quota> {
        (1_u32..=1_000_000_000, prop::sample::select(vec![1_u64, 60, 3_600, 86_400]), any::<u32>())
            .prop_map(|(l, p, b)| quota(l, p, b))
    }

    proptest! {
        #[test]
        fn never_more_than_capacity_plus_rate_in_any_window(
            quota in quotas(), steps in prop::collection::vec(0_u64..2_000_000, 1..300),
        ) {
            let times: Vec<u64> = steps.iter().scan(5, |now, step| { *now += step; Some(*now) }).collect();
            let admitted = run(quota, &times);
            for (i, start) in admitted.iter().enumerate() {
                for (j, end) in admitted.iter().enumerate().skip(i) {
                    let flowed = u128::from(end - start) * u128::from(quota.limit()) / quota.token();
                    prop_assert!((j - i + 1) as u128 <= u128::from(quota.capacity()) + flowed);
                }
            }
        }

        #[test]
        fn under_constant_pressure_no_token_is_withheld(quota in quotas(), step in 1_u64..100_000, n in 1_usize..400) {
            let times: Vec<u64> = (0..n as u64).map(|i| 5 + i * step).collect();
            let flowed = (n as u64 - 1) * step * u64::from(quota.limit()) / quota.period_micros;
            let owed = (quota.capacity() + flowed).min(n as u64);
            prop_assert!(run(quota, &times).len() as u64 + 1 >= owed);
        }

        #[test]
        fn a_clock_that_steps_back_grants_nothing(
            quota in quotas(), lacking in 0_u64..300, now in 1_000_000_000_u64..2_000_000_000, back in 0_u64..1_000_000_000,
        ) {
            let tat = quota.lacking(lacking, now);
            prop_assert!(decide(tat, now - back, quota, 0).remaining <= decide(tat, now, quota, 0).remaining);
        }

        #[test]
        fn the_wait_is_the_true_wait(quota in extreme_quotas(), now in 0_u64..1 << 50) {
            let spent = quota.lacking(quota.capacity(), now);
            let Outcome::Denied(wait) = decide(spent, now, quota, 1).outcome else { return Err(TestCaseError::fail("admitted")) };
            let later = now + u64::try_from(wait.as_micros()).unwrap();
            prop_assert!(matches!(decide(spent, later, quota, 1).outcome, Outcome::Allowed(_)));
            prop_assert!(matches!(decide(spent, later - 1, quota, 1).outcome, Outcome::Denied(_)));
        }

        #[test]
        fn rescaling_keeps_the_share_and_never_grants(
            from in extreme_quotas(), to in extreme_quotas(), share in 0.0_f64..=1.0, now in 0_u64..1 << 50,
        ) {
            let lacking = (from.capacity() as f64 * share) as u64;
            let tat = rescale(from.lacking(lacking, now), now, from, to);
            let left = u128::from(decide(tat, now, to, 0).remaining);
            let exact = u128::from(to.capacity()) * u128::from(from.capacity() - lacking.min(from.capacity()));
            let exact = exact / u128::from(from.capacity());
            prop_assert!(left <= exact && left + 1 >= exact, "{left} of {exact}");
        }
    }
}
