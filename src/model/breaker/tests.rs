//! The breaker under every history.

use super::*;
use proptest::prelude::*;

const POLICY: Policy = Policy {
    failures: 3,
    success_percent: 0,
    min_requests: 10,
    window: Duration::from_secs(10),
    open_for: Duration::from_secs(60),
    longest_open: Duration::from_secs(300),
    close_after: 2,
    probe_lease: Duration::from_secs(30),
};
/// Opens by the ratio alone.
const RATIO: Policy = Policy { failures: u32::MAX, success_percent: 50, ..POLICY };

use Outcome::{Failure, Success, Throttled};

/// A breaker with its window, which opens whenever it should.
#[derive(Debug)]
struct Case {
    breaker: Breaker,
    window: Window,
    policy: Policy,
    jitter: u32,
}

impl Case {
    fn new(policy: Policy) -> Case {
        Case { breaker: Breaker::new(Tick(0)), window: Window::default(), policy, jitter: 0 }
    }

    fn tripped(now: Tick) -> Case {
        let mut case = Case::new(POLICY);
        (0..POLICY.failures).for_each(|_| case.next(Failure, now));
        assert_eq!(case.circuit(now), Circuit::Open);
        case
    }

    fn admit(&mut self, now: Tick) -> Option<Admission> {
        let admission = self.breaker.admit(&self.policy, now)?;
        self.breaker.sent(admission, now);
        Some(admission)
    }

    fn probe(&mut self, now: Tick) -> Admission {
        let admission = self.admit(now).expect("a free place");
        assert!(matches!(admission, Admission::Probe(_)));
        admission
    }

    fn tell(&mut self, admission: Admission, outcome: Outcome, retry_after: Option<Duration>, now: Tick) {
        let report = Report { admission, outcome, retry_after };
        if self.breaker.report(&report, &self.window, &self.policy, now, self.jitter) {
            self.breaker.trip(&self.policy, now, self.jitter);
        }
    }

    /// A request from admission to outcome.
    fn next(&mut self, outcome: Outcome, now: Tick) {
        let admission = self.admit(now).expect("let through");
        self.tell(admission, outcome, None, now);
    }

    fn wait(&self, now: Tick) -> Option<Duration> {
        self.breaker.wait(&self.policy, now)
    }

    fn circuit(&self, now: Tick) -> Circuit {
        self.breaker.circuit(&self.policy, now)
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn at(n: u64) -> Tick {
    Tick(0).after(seconds(n))
}

#[test]
fn it_opens_after_consecutive_failures_only() {
    let mut case = Case::new(POLICY);
    for _ in 0..10 {
        [Failure, Failure, Success].into_iter().for_each(|outcome| case.next(outcome, at(1)));
    }
    assert_eq!(case.circuit(at(1)), Circuit::Closed);
    (0..3).for_each(|_| case.next(Failure, at(1)));
    assert_eq!(case.circuit(at(1)), Circuit::Open);
}

#[test]
fn it_opens_when_less_than_half_of_enough_requests_went_well() {
    // Eleven requests of which five went well: never twice in a row the same, and still too few.
    for (bad, opens) in [(Failure, true), (Throttled, true), (Success, false)] {
        let mut case = Case::new(RATIO);
        (0..5).for_each(|n| [bad, Success].into_iter().for_each(|outcome| case.next(outcome, at(n))));
        assert_eq!(case.circuit(at(5)), Circuit::Closed, "half is enough");
        case.next(bad, at(5));
        assert_eq!(case.circuit(at(5)) == Circuit::Open, opens, "{bad:?}");
    }
}

#[test]
fn few_requests_and_old_ones_say_nothing() {
    let mut case = Case::new(RATIO);
    for n in 0..100 {
        case.next(Failure, at(n * 2));
    }
    assert_eq!(case.circuit(at(200)), Circuit::Closed, "five in ten seconds");
    let mut case = Case::new(Policy { success_percent: 0, ..RATIO });
    (0..100).for_each(|_| case.next(Failure, at(0)));
    assert_eq!(case.circuit(at(0)), Circuit::Closed, "off");
}

#[test]
fn too_many_requests_neither_count_in_a_row_nor_end_a_row() {
    let mut case = Case::new(POLICY);
    (0..100).for_each(|_| case.next(Throttled, at(0)));
    assert_eq!(case.circuit(at(0)), Circuit::Closed);
    let mut case = Case::new(Policy { success_percent: 1, min_requests: 1_000, ..POLICY });
    for outcome in [Failure, Throttled, Failure, Throttled] {
        case.next(outcome, at(0));
        assert_eq!(case.circuit(at(0)), Circuit::Closed);
    }
    case.next(Failure, at(0));
    assert_eq!(case.circuit(at(0)), Circuit::Open);
}

#[test]
fn a_window_starts_empty_after_closing() {
    let policy = Policy { open_for: seconds(1), ..RATIO };
    let mut case = Case::new(policy);
    (0..10).for_each(|_| case.next(Failure, at(0)));
    assert_eq!(case.circuit(at(0)), Circuit::Open);
    (0..2).for_each(|_| case.next(Success, at(1)));
    case.next(Failure, at(1));
    assert_eq!(case.circuit(at(1)), Circuit::Closed);
}

#[test]
fn open_half_open_closed() {
    let mut case = Case::tripped(at(0));
    assert_eq!(case.wait(at(20)), Some(seconds(40)));
    assert_eq!(case.admit(at(59)), None);
    assert_eq!(case.circuit(at(60)), Circuit::HalfOpen);
    for _ in 0..POLICY.close_after {
        let admission = case.probe(at(60));
        assert_eq!(case.admit(at(60)), None, "one at a time");
        case.tell(admission, Success, None, at(60));
    }
    assert_eq!(case.circuit(at(60)), Circuit::Closed);
    assert!(case.breaker.is_quiet());
}

#[test]
fn passing_checks_close_it_but_not_before_its_time() {
    let mut case = Case::tripped(at(0));
    let mut pass = |now| {
        case.breaker.check_passed(&case.window, &POLICY, now);
        case.breaker.last_change()
    };
    assert_eq!(pass(at(59)), Circuit::Open);
    assert_eq!(pass(at(60)), Circuit::HalfOpen);
    assert_eq!(pass(at(61)), Circuit::Closed);
    assert_eq!(pass(at(62)), Circuit::Closed);
    let mut case = Case::tripped(at(0));
    let probe = case.probe(at(60));
    case.breaker.check_passed(&case.window, &POLICY, at(60));
    assert_eq!(case.admit(at(60)), None, "a check takes no place away");
    case.tell(probe, Failure, None, at(60));
    assert_eq!(case.circuit(at(60)), Circuit::Open);
}

#[test]
fn a_probe_without_outcome_gives_its_place_back() {
    let now = at(60);
    let mut case = Case::tripped(at(0));
    let first = case.probe(now);
    case.breaker.release(Admission::Normal(case.breaker.generation()));
    assert_eq!(case.admit(now), None);
    case.breaker.release(first);
    assert_eq!(case.circuit(now), Circuit::HalfOpen, "neither closed nor opened");
    case.probe(now);
    case.breaker.release(first);
    assert_eq!(case.admit(now), None, "only its own place");
}

#[test]
fn a_probe_that_takes_too_long_loses_its_place_and_its_say() {
    let mut case = Case::tripped(at(0));
    let slow = case.probe(at(60));
    assert_eq!(case.wait(at(89)), Some(Duration::ZERO));
    assert_eq!(case.admit(at(89)), None);
    let now = at(90);
    assert_eq!(case.wait(now), None);
    let next = case.probe(now);
    let before = case.breaker.clone();
    case.tell(slow, Success, None, now);
    case.tell(slow, Failure, Some(seconds(99)), now);
    case.breaker.release(slow);
    assert_eq!(case.breaker, before);
    case.tell(next, Success, None, now);
    let last = case.probe(now);
    case.tell(last, Success, None, now);
    (0..POLICY.failures).for_each(|_| case.tell(slow, Failure, None, now));
    assert!(case.breaker.is_quiet());
}

#[test]
fn a_probe_whose_client_is_slow_to_send_it_loses_its_place_soon() {
    let mut case = Case::tripped(at(0));
    let dripping = case.breaker.admit(&POLICY, at(60)).unwrap();
    assert_eq!(case.admit(at(60)), None);
    let next = case.probe(at(61));
    case.breaker.sent(dripping, at(62));
    assert_eq!(case.admit(at(90)), None, "the place is the next one's, for its whole time");
    case.tell(next, Success, None, at(90));
    assert!(case.admit(at(90)).is_some());
}

#[test]
fn a_late_probe_whose_place_nobody_took_still_counts() {
    let mut case = Case::tripped(at(0));
    let slow = case.probe(at(60));
    case.tell(slow, Failure, None, at(600));
    assert_eq!(case.circuit(at(600)), Circuit::Open);
}

#[test]
fn each_ejection_doubles_the_open_time_up_to_the_longest_and_quiet_minutes_forgive() {
    let mut now = at(0);
    let mut case = Case::tripped(now);
    for expected in [120, 240, 300, 300] {
        now = now.after(case.wait(now).unwrap());
        case.next(Failure, now);
        assert_eq!(case.wait(now), Some(seconds(expected)));
    }
    now = now.after(seconds(300));
    (0..POLICY.close_after).for_each(|_| case.next(Success, now));
    now = now.after(seconds(125));
    (0..POLICY.failures).for_each(|_| case.next(Failure, now));
    assert_eq!(case.wait(now), Some(seconds(120)), "two of three doublings forgiven");
}

#[test]
fn jitter_lengthens_by_at_most_a_tenth() {
    let mut case = Case::tripped(at(0));
    case.jitter = 5_000;
    case.next(Failure, at(60));
    assert_eq!(case.wait(at(60)), Some(seconds(132)));
}

#[test]
fn the_service_says_when_it_is_back_and_is_believed_up_to_the_longest_time() {
    for (asked, waits) in [(10, 60), (90, 90), (86_400, 300)] {
        let mut case = Case::new(POLICY);
        for retry_after in [Some(seconds(asked)), None, None] {
            let admission = case.admit(at(0)).unwrap();
            case.tell(admission, Failure, retry_after, at(0));
        }
        assert_eq!(case.wait(at(0)), Some(seconds(waits)), "asked for {asked}");
        let probe = case.probe(at(waits));
        case.tell(probe, Throttled, Some(seconds(200)), at(waits));
        assert_eq!(case.circuit(at(waits)), Circuit::HalfOpen, "429 is a success where the ratio is off");
    }
}

#[test]
fn a_throttled_probe_opens_it_again_and_its_wish_counts() {
    let mut case = Case::tripped(at(0));
    case.policy.success_percent = 50;
    let probe = case.probe(at(60));
    case.tell(probe, Throttled, Some(seconds(200)), at(60));
    assert_eq!(case.wait(at(60)), Some(seconds(200)));
}

#[test]
fn a_success_takes_an_earlier_wish_back() {
    let mut case = Case::new(POLICY);
    let admission = case.admit(at(0)).unwrap();
    case.tell(admission, Failure, Some(seconds(250)), at(0));
    assert!(!case.breaker.is_quiet());
    case.next(Success, at(1));
    assert!(case.breaker.is_quiet());
    (0..3).for_each(|_| case.next(Failure, at(2)));
    assert_eq!(case.wait(at(2)), Some(seconds(60)));
}

#[test]
fn outcomes_of_requests_admitted_before_it_opened_do_not_count() {
    let mut case = Case::new(POLICY);
    let old = case.admit(at(0)).unwrap();
    (0..3).for_each(|_| case.next(Failure, at(0)));
    case.probe(at(60));
    let before = case.breaker.clone();
    for (admission, outcome) in [(old, Success), (old, Failure), (Admission::Forced, Failure)] {
        case.tell(admission, outcome, None, at(60));
    }
    assert_eq!(case.breaker, before);
    let mut case = Case::tripped(at(0));
    (0..2).for_each(|_| case.next(Success, at(60)));
    (0..10).for_each(|_| case.tell(old, Failure, None, at(60)));
    assert!(case.breaker.is_quiet(), "not even after it closed");
}

#[test]
fn who_may_not_open_goes_on_counting() {
    let mut case = Case::new(POLICY);
    let admission = case.admit(at(0)).unwrap();
    let failed = Report { admission, outcome: Failure, retry_after: None };
    let asks: Vec<bool> = (0..5).map(|_| case.breaker.report(&failed, &case.window, &POLICY, at(0), 0)).collect();
    assert_eq!(asks, [false, false, true, true, true]);
    assert_eq!(case.circuit(at(0)), Circuit::Closed);
}

#[test]
fn half_of_a_pool_may_be_out_but_one_always() {
    let expected = [(0, 50, 1), (1, 50, 1), (2, 50, 1), (3, 50, 1), (4, 50, 2), (8, 50, 4), (3, 100, 3), (10, 1, 1)];
    for (targets, percent, most) in expected {
        assert_eq!(most_open(targets, percent), most, "{percent} % of {targets}");
    }
}

#[test]
fn zero_failures_is_off() {
    let mut case = Case::new(Policy { failures: 0, success_percent: 50, ..POLICY });
    (0..100).for_each(|_| case.next(Failure, at(0)));
    assert_eq!(case.circuit(at(0)), Circuit::Closed);
    let mut case = Case::tripped(at(0));
    case.policy.failures = 0;
    assert!(matches!(case.admit(at(0)), Some(Admission::Normal(_))), "switched off while open");
}

proptest! {
    #[test]
    fn its_invariants_hold_under_any_history(
        failures in 1_u32..5, close_after in 1_u32..4, open_ms in 1_u64..600_000, lease_ms in 1_u64..60_000,
        success_percent in 0_u32..=100, min_requests in 1_u32..10,
        steps in prop::collection::vec((0_u8..6, 0_u64..90_000, 0_u32..200), 1..200),
    ) {
        let (open_for, probe_lease) = (Duration::from_millis(open_ms), Duration::from_millis(lease_ms));
        let policy =
            Policy { failures, open_for, close_after, probe_lease, success_percent, min_requests, ..POLICY };
        let mut now = Tick(1);
        let mut case = Case::new(policy);
        let mut out: Vec<(Admission, Tick)> = Vec::new();
        let mut opened: Option<Tick> = None;
        for (step, millis, jitter) in steps {
            now = now.after(Duration::from_millis(millis));
            case.jitter = jitter;
            let was = case.circuit(now);
            // The oldest ends first or the newest: probes that lost their place are told late, and early.
            let ended = if jitter % 2 == 0 { out.pop() } else { (!out.is_empty()).then(|| out.remove(0)) };
            match (step, ended) {
                (0 | 1, taken) => {
                    out.extend(taken);
                    let permitted = case.breaker.permits(&policy, now);
                    let admitted = case.admit(now);
                    prop_assert_eq!(permitted, admitted.is_some());
                    if was == Circuit::Open {
                        prop_assert_eq!(admitted, None);
                    }
                    if let (Some(since), Some(Admission::Probe(_))) = (opened, admitted) {
                        prop_assert!(now.since(since) >= policy.open_for, "admitted before its time");
                    }
                    out.extend(admitted.map(|admission| (admission, now)));
                }
                (2, Some((admission, _))) => case.tell(admission, Success, None, now),
                (3 | 5, Some((admission, _))) => {
                    let outcome = if step == 3 { Failure } else { Throttled };
                    case.tell(admission, outcome, Some(Duration::from_millis(millis * 10)), now);
                    if let Some(wait) = case.wait(now).filter(|wait| !wait.is_zero()) {
                        prop_assert!(wait <= policy.longest() + policy.longest() / 10);
                    }
                }
                (4, Some((admission, _))) => case.breaker.release(admission),
                _ => {}
            }
            let is = case.circuit(now);
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
        (0..close_after).for_each(|_| case.next(Success, now));
        prop_assert!(case.breaker.is_quiet());
    }
}
