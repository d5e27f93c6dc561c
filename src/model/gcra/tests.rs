//! Tests of the arithmetic: examples, and what must hold for every rate.

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
    let empty = quota.debt_of(40).due(now);
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
    let empty = fast.debt_of(fast.capacity()).due(0);
    assert_eq!(decide(empty, 1, fast, 1).remaining, 999);
    let slow = quota(1, 86_400, 0);
    let empty = slow.debt_of(1).due(0);
    assert_eq!(decide(empty, 86_399_999_999, slow, 1).outcome, Outcome::Denied(Duration::from_micros(1)));
}

#[test]
fn a_changed_limit_rescales_what_is_left() {
    let (old, new) = (quota(20, 60, 20), quota(100, 60, 100));
    let now = 50_000_000;
    let half = rescale(old.debt_of(20).due(now), now, old, new);
    assert_eq!(decide(half, now, new, 0).remaining, 100);
    let spent = rescale(old.debt_of(40).due(now), now, old, new);
    assert!(matches!(decide(spent, now, new, 1).outcome, Outcome::Denied(_)));
    assert!(rescale(Tat::FULL, now, old, new).is_full(now));
}

#[test]
fn a_debt_and_the_moment_at_which_it_is_paid_say_the_same() {
    let (now, debt) = (1_000_000, Debt { micros: 5, part: 3 });
    assert_eq!(debt.due(now), Tat { micros: 1_000_005, part: 3 });
    assert_eq!(debt.due(now).debt(now), debt);
    assert_eq!(debt.due(now).debt(now + 5), Debt { micros: 0, part: 3 });
    assert_eq!(debt.due(now).debt(now + 6), Debt::NONE);
    assert_eq!(debt.due(u64::MAX), Tat { micros: u64::MAX, part: 3 });
    let waits = [debt, Debt { micros: u64::MAX, part: 3 }, Debt::NONE].map(Debt::until_full);
    assert_eq!(waits, [Duration::from_micros(6), Duration::from_micros(u64::MAX), Duration::ZERO]);
}

#[test]
fn a_debt_is_at_most_what_the_bucket_holds() {
    let quota = quota(20, 60, 20).holding_back(Duration::from_secs(3));
    assert_eq!([0, 1, 39, 40, u64::MAX].map(|tokens| quota.debt_of(tokens).held(quota, 100)), [39, 38, 0, 0, 0]);
    assert_eq!(quota.debt_of(40), quota.fill_time());
    assert_eq!(Debt::NONE.held(quota, 7), 7, "no more than is asked for");
}

fn quotas() -> impl Strategy<Value = Quota> {
    (1_u32..200, prop::sample::select(vec![1_u64, 60, 3_600]), 0_u32..50).prop_map(|(l, p, b)| quota(l, p, b))
}

fn extreme_quotas() -> impl Strategy<Value = Quota> {
    (1_u32..=1_000_000_000, prop::sample::select(vec![1_u64, 60, 3_600, 86_400]), any::<u32>())
        .prop_map(|(l, p, b)| quota(l, p, b))
}

/// Parts of any size, of quotas and of none.
fn any_parts() -> impl Strategy<Value = QuotaParts> {
    let size = || prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), 1_u64..1 << 42];
    (prop_oneof![Just(0), any::<u32>()], any::<u32>(), size(), size()).prop_map(|(limit, burst, period, held_back)| {
        QuotaParts { limit, burst, period_micros: period, held_back_micros: held_back }
    })
}

proptest! {
    #[test]
    fn any_parts_make_a_quota_and_its_own_parts_make_the_same(parts in any_parts(), quota in extreme_quotas()) {
        let odd = Quota::from_parts(parts);
        prop_assert!(odd.limit() >= 1 && odd.period() > Duration::ZERO && odd.holds() >= 1, "{:?}", odd);
        prop_assert!(decide(Tat::FULL, 0, odd, 1).is_allowed(), "{:?}", odd);
        let held_back = quota.holding_back(Duration::from_millis(200));
        for quota in [odd, quota, held_back] {
            prop_assert_eq!(Quota::from_parts(quota.parts()), quota);
        }
    }

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
        quota in quotas(), taken in 0_u64..300, now in 1_000_000_000_u64..2_000_000_000, back in 0_u64..1_000_000_000,
    ) {
        let tat = quota.debt_of(taken).due(now);
        prop_assert!(decide(tat, now - back, quota, 0).remaining <= decide(tat, now, quota, 0).remaining);
    }

    #[test]
    fn the_wait_is_the_true_wait(quota in extreme_quotas(), now in 0_u64..1 << 50) {
        let spent = quota.debt_of(quota.capacity()).due(now);
        let Outcome::Denied(wait) = decide(spent, now, quota, 1).outcome else { return Err(TestCaseError::fail("admitted")) };
        let later = now + u64::try_from(wait.as_micros()).unwrap();
        prop_assert!(matches!(decide(spent, later, quota, 1).outcome, Outcome::Allowed(_)));
        prop_assert!(matches!(decide(spent, later - 1, quota, 1).outcome, Outcome::Denied(_)));
    }

    #[test]
    fn rescaling_keeps_the_share(
        from in extreme_quotas(), to in extreme_quotas(), share in 0.0_f64..=1.0, now in 0_u64..1 << 50,
    ) {
        let taken = ((from.capacity() as f64 * share) as u64).min(from.capacity());
        let tat = rescale(from.debt_of(taken).due(now), now, from, to);
        let carried = to.units(tat.debt(now));
        let exact = to.tolerance() * u128::from(taken) / u128::from(from.capacity());
        // A microsecond, and what a double does not hold of a long time.
        let slack = u128::from(to.limit()) * (2 + fill_micros(to) as u128 / (1 << 48));
        prop_assert!(carried + slack >= exact && carried <= exact + slack, "{carried} of {exact}, {slack}");
        prop_assert!(decide(tat, now, to, 0).remaining <= to.capacity());
    }
}
