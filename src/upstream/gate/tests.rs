//! The decision, case by case.

use super::*;

/// `A` available, `x` not, `.` does not count; the first tier, then `|`, then the backup tier.
fn passage(pool: &str, panic: PanicSpec) -> Passage {
    let (primary, backup) = pool.split_once('|').unwrap_or((pool, ""));
    let one = |tier| move |sign: char| Candidate { tier, counts: sign != '.', available: sign == 'A' };
    Passage::of(primary.chars().map(one(Tier::Primary)).chain(backup.chars().map(one(Tier::Backup))), panic)
}

#[test]
fn the_first_group_of_which_half_is_available_wins_and_else_there_is_panic() {
    use Passage::{Everyone, Gate, Nowhere};
    use Tier::{Backup, Primary};
    for (pool, expected) in [
        ("A", Gate(Primary)),
        ("Ax", Gate(Primary)),
        ("Axx", Everyone(Primary)),
        ("xx", Everyone(Primary)),
        ("x", Nowhere { panic: false }),
        ("", Nowhere { panic: false }),
        ("..", Nowhere { panic: false }),
        ("x.", Nowhere { panic: false }),
        ("A..", Gate(Primary)),
        ("Axx|A", Gate(Backup)),
        ("xx|Axx", Everyone(Primary)),
        ("x|x", Everyone(Primary)),
        (".|xx", Everyone(Backup)),
        ("|A", Gate(Backup)),
        ("Ax|A", Gate(Primary)),
    ] {
        assert_eq!(passage(pool, PanicSpec::RouteAll), expected, "{pool}");
        let refused = match expected {
            Everyone(_) => Nowhere { panic: true },
            other => other,
        };
        assert_eq!(passage(pool, PanicSpec::FailFast), refused, "{pool}");
        assert_eq!(expected.is_panic(), matches!(expected, Everyone(_)));
        assert_eq!(refused.is_panic(), matches!(expected, Everyone(_)));
    }
}
