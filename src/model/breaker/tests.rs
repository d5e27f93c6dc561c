//! The breaker under every history.

use super::*;
use proptest::prelude::*;

const POLICY: Policy =
    Policy { failures: 3, open_for: Duration::from_secs(60), close_after: 2, probe_lease: Duration::from_secs(30) };

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn tripped(now: Tick) -> Breaker {
    let mut breaker = Breaker::new(now);
    for _ in 0..POLICY.failures {
        let admission = breaker.admit(&POLICY, now).unwrap();
        breaker.failure(admission, &POLICY, now, 0);
    }
    breaker
}

fn probe(breaker: &mut Breaker, now: Tick) -> Admission {
    let admission = breaker.admit(&POLICY, now).expect("a free place");
    assert!(matches!(admission, Admission::Probe(_)));
    admission
}

#[test]
fn it_opens_after_consecutive_failures_only() {
    let now = Tick(0);
    let mut breaker = Breaker::new(now);
    for _ in 0..10 {
        breaker.failure(Admission::Normal, &POLICY, now, 0);
        breaker.failure(Admission::Normal, &POLICY, now, 0);
        breaker.success(Admission::Normal, &POLICY, now);
    }
    assert_eq!(breaker.circuit(&POLICY, now), Circuit::Closed);
    assert_eq!(tripped(now).circuit(&POLICY, now), Circuit::Open);
}

#[test]
fn open_half_open_closed() {
    let now = Tick(0);
    let mut breaker = tripped(now);
    assert_eq!(breaker.wait(&POLICY, now.after(seconds(20))), Some(seconds(40)));
    assert_eq!(breaker.admit(&POLICY, now.after(seconds(59))), None);
    let now = now.after(seconds(60));
    assert_eq!(breaker.circuit(&POLICY, now), Circuit::HalfOpen);
    for _ in 0..POLICY.close_after {
        let admission = probe(&mut breaker, now);
        assert_eq!(breaker.admit(&POLICY, now), None, "one at a time");
        breaker.success(admission, &POLICY, now);
    }
    assert_eq!(breaker.circuit(&POLICY, now), Circuit::Closed);
    assert!(breaker.is_quiet());
}

#[test]
fn a_probe_without_outcome_gives_its_place_back() {
    let now = Tick(0).after(seconds(60));
    let mut breaker = tripped(Tick(0));
    let first = probe(&mut breaker, now);
    breaker.release(Admission::Normal);
    assert_eq!(breaker.admit(&POLICY, now), None);
    breaker.release(first);
    assert_eq!(breaker.circuit(&POLICY, now), Circuit::HalfOpen, "neither closed nor opened");
    probe(&mut breaker, now);
    breaker.release(first);
    assert_eq!(breaker.admit(&POLICY, now), None, "only its own place");
}

#[test]
fn a_probe_that_takes_too_long_loses_its_place_and_its_say() {
    let now = Tick(0).after(seconds(60));
    let mut breaker = tripped(Tick(0));
    let slow = probe(&mut breaker, now);
    assert_eq!(breaker.wait(&POLICY, now.after(seconds(29))), Some(Duration::ZERO));
    assert_eq!(breaker.admit(&POLICY, now.after(seconds(29))), None);
    let now = now.after(seconds(30));
    assert_eq!(breaker.wait(&POLICY, now), None);
    let next = probe(&mut breaker, now);
    let before = breaker.clone();
    breaker.success(slow, &POLICY, now);
    breaker.failure(slow, &POLICY, now, 0);
    breaker.release(slow);
    assert_eq!(breaker, before);
    breaker.success(next, &POLICY, now);
    let last = probe(&mut breaker, now);
    breaker.success(last, &POLICY, now);
    for _ in 0..POLICY.failures {
        breaker.failure(slow, &POLICY, now, 0);
    }
    assert!(breaker.is_quiet());
}

#[test]
fn a_late_probe_whose_place_nobody_took_still_counts() {
    let late = Tick(0).after(seconds(600));
    let mut breaker = tripped(Tick(0));
    let slow = probe(&mut breaker, Tick(0).after(seconds(60)));
    breaker.failure(slow, &POLICY, late, 0);
    assert_eq!(breaker.circuit(&POLICY, late), Circuit::Open);
}

#[test]
fn each_ejection_doubles_the_open_time_up_to_five_minutes_and_quiet_minutes_forgive() {
    let mut now = Tick(0);
    let mut breaker = tripped(now);
    for expected in [120, 240, 300, 300] {
        now = now.after(breaker.wait(&POLICY, now).unwrap());
        let admission = probe(&mut breaker, now);
        breaker.failure(admission, &POLICY, now, 0);
        assert_eq!(breaker.wait(&POLICY, now), Some(seconds(expected)));
    }
    now = now.after(seconds(300));
    for _ in 0..POLICY.close_after {
        let admission = breaker.admit(&POLICY, now).unwrap();
        breaker.success(admission, &POLICY, now);
    }
    now = now.after(seconds(125));
    for _ in 0..POLICY.failures {
        breaker.failure(Admission::Normal, &POLICY, now, 0);
    }
    assert_eq!(breaker.wait(&POLICY, now), Some(seconds(120)), "two of three doublings forgiven");
}

#[test]
fn jitter_lengthens_by_at_most_a_tenth() {
    let mut breaker = tripped(Tick(0));
    let now = Tick(0).after(seconds(60));
    let admission = probe(&mut breaker, now);
    breaker.failure(admission, &POLICY, now, 5_000);
    assert_eq!(breaker.wait(&POLICY, now), Some(seconds(132)));
}

#[test]
fn outcomes_of_requests_admitted_before_it_opened_do_not_count() {
    let mut breaker = tripped(Tick(0));
    let now = Tick(0).after(seconds(60));
    breaker.success(Admission::Normal, &POLICY, now);
    probe(&mut breaker, now);
    let before = breaker.clone();
    breaker.success(Admission::Normal, &POLICY, now);
    breaker.failure(Admission::Normal, &POLICY, now, 0);
    assert_eq!(breaker, before);
}

#[test]
fn zero_failures_is_off() {
    let off = Policy { failures: 0, ..POLICY };
    let mut breaker = Breaker::new(Tick(0));
    for _ in 0..100 {
        let admission = breaker.admit(&off, Tick(0)).unwrap();
        breaker.failure(admission, &off, Tick(0), 0);
    }
    assert_eq!(breaker.circuit(&off, Tick(0)), Circuit::Closed);
    assert_eq!(tripped(Tick(0)).admit(&off, Tick(0)), Some(Admission::Normal), "switched off while open");
}

proptest! {
    #[test]
    fn its_invariants_hold_under_any_history(
        failures in 1_u32..5, close_after in 1_u32..4, open_ms in 1_u64..600_000, lease_ms in 1_u64..60_000,
        steps in prop::collection::vec((0_u8..5, 0_u64..90_000, 0_u32..200), 1..200),
    ) {
        let (open_for, probe_lease) = (Duration::from_millis(open_ms), Duration::from_millis(lease_ms));
        let policy = Policy { failures, open_for, close_after, probe_lease };
        let mut now = Tick(1);
        let mut breaker = Breaker::new(now);
        let mut out: Vec<(Admission, Tick)> = Vec::new();
        let mut opened: Option<Tick> = None;
        for (step, millis, jitter) in steps {
            now = now.after(Duration::from_millis(millis));
            let was = breaker.circuit(&policy, now);
            // The oldest ends first or the newest: probes that lost their place are told late, and early.
            let ended = if jitter % 2 == 0 { out.pop() } else { (!out.is_empty()).then(|| out.remove(0)) };
            match (step, ended) {
                (0 | 1, taken) => {
                    out.extend(taken);
                    let permitted = breaker.permits(&policy, now);
                    let admitted = breaker.admit(&policy, now);
                    prop_assert_eq!(permitted, admitted.is_some());
                    if was == Circuit::Open {
                        prop_assert_eq!(admitted, None);
                    }
                    if let (Some(since), Some(Admission::Probe(_))) = (opened, admitted) {
                        prop_assert!(now.since(since) >= policy.open_for, "admitted before its time");
                    }
                    out.extend(admitted.map(|admission| (admission, now)));
                }
                (2, Some((admission, _))) => breaker.success(admission, &policy, now),
                (3, Some((admission, _))) => {
                    breaker.failure(admission, &policy, now, jitter);
                    if let Some(wait) = breaker.wait(&policy, now).filter(|wait| !wait.is_zero()) {
                        let cap = LONGEST_OPEN.max(policy.open_for);
                        prop_assert!(wait <= cap + cap / 10);
                    }
                }
                (4, Some((admission, _))) => breaker.release(admission),
                _ => {}
            }
            let is = breaker.circuit(&policy, now);
            if is == Circuit::Open && was != Circuit::Open {
                opened = Some(now);
            }
            let live = |(admission, taken): &&(Admission, Tick)| {
                matches!(admission, Admission::Probe(_)) && now.since(*taken) < probe_lease
            };
            prop_assert!(out.iter().filter(live).count() <= 1, "two live leases");
        }
        // Whatever happened, and whoever still holds what: time, and enough successes in a row, close it.
        now = now.after(Duration::from_secs(3_600));
        for _ in 0..close_after {
            let admission = breaker.admit(&policy, now).expect("time is over");
            breaker.success(admission, &policy, now);
        }
        prop_assert!(breaker.is_quiet());
    }
}
