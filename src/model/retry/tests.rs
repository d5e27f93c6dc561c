//! Every failure with every kind of request, and the waiting times.

use super::*;
use proptest::prelude::*;

fn policy() -> Policy {
    Policy {
        max: 2,
        statuses: vec![502, 503, 504],
        backoff: Backoff { first: Duration::from_millis(25), longest: Duration::from_millis(250) },
        share: Share { percent: 20, floor: 10 },
        replay: 64 << 10,
    }
}

const FAILURES: [Failure; 8] = [
    Failure::Unsent,
    Failure::Stale,
    Failure::Timeout,
    Failure::Broken,
    Failure::Status(500),
    Failure::Status(502),
    Failure::Status(503),
    Failure::Status(200),
];

#[test]
fn every_failure_with_every_kind_of_request() {
    for bits in 0..8_u8 {
        let request = Request { repeatable: bits & 1 != 0, replayable: bits & 2 != 0, answered: bits & 4 != 0 };
        let expected: [bool; 8] = match (request.answered, request.replayable, request.repeatable) {
            (true, _, _) => [false; 8],
            (false, false, _) => [false; 8],
            (false, true, false) => [true, true, false, false, false, false, false, false],
            (false, true, true) => [true, true, true, true, false, true, true, false],
        };
        let licensed = FAILURES.map(|failure| policy().licenses(failure, request));
        assert_eq!(licensed, expected, "{request:?}");
    }
}

#[test]
fn statuses_are_those_of_the_configuration() {
    let request = Request { repeatable: true, replayable: true, answered: false };
    let only = |statuses: &[u16]| Policy { statuses: statuses.to_vec(), ..policy() };
    assert!(only(&[500]).licenses(Failure::Status(500), request));
    assert!(!only(&[500]).licenses(Failure::Status(503), request));
    assert!(!only(&[]).licenses(Failure::Status(503), request));
}

#[test]
fn methods_by_what_doing_them_twice_does() {
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        assert!(is_repeatable(&method.parse().unwrap()), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "LOCK", "get"] {
        assert!(!is_repeatable(&method.parse().unwrap()), "{method}");
    }
}

#[test]
fn the_waiting_time_doubles_up_to_the_longest() {
    let ceilings: Vec<u128> = (0..6).map(|retries| policy().backoff.ceiling(retries).as_millis()).collect();
    assert_eq!(ceilings, [25, 50, 100, 200, 250, 250]);
    assert_eq!(policy().backoff.ceiling(u32::MAX), Duration::from_millis(250));
}

#[test]
fn a_retry_needs_time_for_the_wait_and_for_itself() {
    let ms = Duration::from_millis;
    for (drawn, asked, remaining, expected) in [
        (0, None, 20, Some(0)),
        (0, None, 19, None),
        (30, None, 50, Some(30)),
        (30, None, 49, None),
        (30, Some(1_000), 1_020, Some(1_000)),
        (30, Some(1_000), 1_019, None),
        (30, Some(0), 50, Some(30)),
    ] {
        assert_eq!(wait(ms(drawn), asked.map(ms), ms(remaining)), expected.map(ms), "{drawn} {asked:?} {remaining}");
    }
}

proptest! {
    #[test]
    fn a_wait_never_passes_the_deadline(drawn: u32, asked: Option<u32>, remaining: u32) {
        let ms = |n: u32| Duration::from_millis(n.into());
        if let Some(wait) = wait(ms(drawn), asked.map(ms), ms(remaining)) {
            prop_assert!(wait < ms(remaining));
            prop_assert!(wait >= ms(drawn) && asked.is_none_or(|asked| wait >= ms(asked)));
        } else {
            prop_assert!(ms(drawn).max(ms(asked.unwrap_or(0))) + SHORTEST_TRY > ms(remaining));
        }
    }

    #[test]
    fn no_answer_is_ever_followed_by_another(index in 0..FAILURES.len(), repeatable: bool, replayable: bool) {
        let request = Request { repeatable, replayable, answered: true };
        prop_assert!(!policy().licenses(FAILURES[index], request));
    }
}
