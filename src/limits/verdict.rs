//! What is asked of each policy, and what all of them say together.

use super::{Key, Policy, Subject};
use crate::model::gcra::{Decision, Outcome, Quota};

/// One policy's part in the decision on a request.
#[derive(Debug, Clone, Copy)]
pub struct Check<'p> {
    /// The policy.
    pub policy: &'p Policy,
    /// Whose bucket. No two checks of a request may have the same bucket.
    pub subject: Subject,
    /// The quota in force.
    pub quota: Quota,
    /// Tokens that the request costs.
    pub cost: u32,
}

impl Check<'_> {
    /// Its bucket.
    pub fn key(&self) -> Key {
        Key { slot: self.policy.slot, subject: self.subject }
    }
}

/// The decision on a request by all its policies. Shadow policies have no say: they are charged when the request passes
/// and they would let it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether every policy lets it pass; all are charged then, and none otherwise.
    pub allowed: bool,
    /// The policy closest to exhaustion, by its place in the list, and its decision: that which lets the fewest requests like
    /// this one pass, or on a refusal the longest wait. `None` when all are shadow policies.
    pub tightest: Option<(usize, Decision)>,
    /// How many requests like this one the tightest still lets pass.
    pub passes: u64,
    /// Bit i is set when policy i refused, or would have, if it were not a shadow.
    pub refused: u64,
}

impl Verdict {
    /// Before any policy was asked.
    pub const OPEN: Verdict = Verdict { allowed: true, tightest: None, passes: u64::MAX, refused: 0 };

    /// With the decision of the policy at `index`.
    #[must_use]
    pub fn with(self, index: usize, check: &Check<'_>, decision: Decision) -> Verdict {
        let allowed = decision.is_allowed();
        let refused = self.refused | if allowed { 0 } else { bit(index) };
        if check.policy.shadow {
            return Verdict { refused, ..self };
        }
        let passes = decision.remaining / u64::from(check.cost.max(1));
        self.and(Verdict { allowed, tightest: Some((index, decision)), passes, refused })
    }

    /// This and another verdict, about other policies of the same request.
    #[must_use]
    pub fn and(self, other: Verdict) -> Verdict {
        let closer = if other.is_closer_than(&self) { &other } else { &self };
        Verdict { allowed: self.allowed && other.allowed, refused: self.refused | other.refused, ..*closer }
    }

    /// The same, of policies that have these places among others: the first of them the first place, and so on.
    #[must_use]
    pub fn at(self, mut places: impl Iterator<Item = usize> + Clone) -> Verdict {
        let tightest = self.tightest.and_then(|(index, decision)| Some((places.clone().nth(index)?, decision)));
        let mut refused = 0;
        for index in 0.. {
            let Some(place) = places.next() else { break };
            refused |= if self.refuses(index) { bit(place) } else { 0 };
        }
        Verdict { tightest, refused, ..self }
    }

    /// Whether the policy at `index` refused, or would have.
    pub fn refuses(&self, index: usize) -> bool {
        self.refused & bit(index) != 0
    }

    fn is_closer_than(&self, other: &Verdict) -> bool {
        match (self.tightest.map(|(_, own)| own.outcome), other.tightest.map(|(_, others)| others.outcome)) {
            (None, _) => false,
            (Some(_), None) | (Some(Outcome::Denied(_)), Some(Outcome::Allowed(_))) => true,
            (Some(Outcome::Allowed(_)), Some(Outcome::Denied(_))) => false,
            (Some(Outcome::Allowed(_)), Some(Outcome::Allowed(_))) => self.passes < other.passes,
            (Some(Outcome::Denied(wait)), Some(Outcome::Denied(others))) => wait > others,
        }
    }
}

fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn verdict(place: usize, outcome: Outcome, remaining: u64, refused: u64) -> Verdict {
        let decision = Decision { outcome, remaining, reset_after: Duration::ZERO };
        let allowed = decision.is_allowed();
        Verdict { allowed, tightest: Some((place, decision)), passes: remaining, refused }
    }

    #[test]
    fn two_verdicts_are_one_about_all_their_policies() {
        let passes = |place, remaining| verdict(place, Outcome::Allowed(crate::model::gcra::Tat::FULL), remaining, 0);
        let refuses = |place, seconds| verdict(place, Outcome::Denied(Duration::from_secs(seconds)), 0, bit(place));
        let place = |verdict: Verdict| verdict.tightest.map(|(place, _)| place);
        assert_eq!(place(passes(0, 5).and(passes(1, 4))), Some(1));
        assert_eq!(place(passes(0, 4).and(passes(1, 4))), Some(0));
        assert_eq!(place(Verdict::OPEN.and(passes(1, 4))), Some(1));
        assert_eq!(place(passes(1, 4).and(Verdict::OPEN)), Some(1));
        let both = refuses(0, 1).and(refuses(3, 2)).and(passes(1, 0));
        assert_eq!((both.allowed, place(both), both.refused), (false, Some(3), 0b1001));
    }

    #[test]
    fn a_verdict_about_some_names_their_places_among_all() {
        let some = Verdict { refused: 0b101, ..verdict(2, Outcome::Denied(Duration::from_secs(1)), 0, 0) };
        let all = some.at([1, 2, 6].into_iter());
        assert_eq!((all.allowed, all.tightest.map(|(place, _)| place), all.refused), (false, Some(6), 0b100_0010));
        assert_eq!(Verdict::OPEN.at(std::iter::empty()), Verdict::OPEN);
    }
}
