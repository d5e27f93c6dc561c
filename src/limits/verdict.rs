//! What is asked of each policy, and what all of them say together.

use super::{Key, Policy, Subject};
use crate::model::gcra::{Decision, Outcome, Quota};

/// One policy's part in the decision on a request.
#[derive(Debug, Clone, Copy)]
pub struct Check<'p> {
    /// Its index among the policies of the request.
    pub index: usize,
    /// The policy.
    pub policy: &'p Policy,
    /// Whose bucket. No two checks of a request may have the same bucket.
    pub subject: Subject,
    /// The quota in force.
    pub quota: Quota,
    /// Tokens that the request costs.
    pub cost: u32,
}

impl<'p> Check<'p> {
    /// The only check of a request.
    pub fn single(policy: &'p Policy, subject: Subject, quota: Quota, cost: u32) -> Check<'p> {
        Check { index: 0, policy, subject, quota, cost }
    }

    /// Its bucket.
    pub fn key(&self) -> Key {
        Key { scope: self.policy.scope_id, subject: self.subject }
    }
}

/// Some of the policies of a request, by their index: of the first 64. The check of the table allows 16 on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicySet(u64);

impl PolicySet {
    /// None of them.
    pub const EMPTY: PolicySet = PolicySet(0);

    /// Takes one in.
    pub fn insert(&mut self, index: usize) {
        self.0 |= PolicySet::bit(index);
    }

    /// Whether it is among them.
    pub fn contains(self, index: usize) -> bool {
        self.0 & PolicySet::bit(index) != 0
    }

    fn bit(index: usize) -> u64 {
        u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
    }
}

/// The policy closest to exhaustion: that which lets the fewest requests like this one pass, or on a refusal the one with
/// the longest wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tightest {
    /// Its index among the policies of the request.
    pub index: usize,
    /// What it decided.
    pub decision: Decision,
    /// The quota that it decided by: a share of the policy's where this process counts alone for a while.
    pub quota: Quota,
    /// How many requests like this one it still lets pass.
    passes: u64,
}

impl Tightest {
    fn is_closer_than(&self, other: &Tightest) -> bool {
        match (self.decision.outcome, other.decision.outcome) {
            (Outcome::Denied(_), Outcome::Allowed(_)) => true,
            (Outcome::Allowed(_), Outcome::Denied(_)) => false,
            (Outcome::Allowed(_), Outcome::Allowed(_)) => self.passes < other.passes,
            (Outcome::Denied(wait), Outcome::Denied(others)) => wait > others,
        }
    }
}

/// The decision on a request by all its policies. Shadow policies have no say: they are charged when the request passes
/// and they would let it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// `None` when all are shadow policies.
    pub tightest: Option<Tightest>,
    /// The policies that refused, or would have, if they were no shadows.
    refused: PolicySet,
}

impl Verdict {
    /// Before any policy was asked.
    pub const OPEN: Verdict = Verdict { tightest: None, refused: PolicySet::EMPTY };

    /// Whether every policy lets it pass; all are charged then, and none otherwise.
    pub fn is_allowed(&self) -> bool {
        self.tightest.is_none_or(|tightest| tightest.decision.is_allowed())
    }

    /// Whether the policy at `index` refused, or would have.
    pub fn refuses(&self, index: usize) -> bool {
        self.refused.contains(index)
    }

    /// With the decision of one more policy.
    #[must_use]
    pub fn with(mut self, check: &Check<'_>, decision: Decision) -> Verdict {
        if !decision.is_allowed() {
            self.refused.insert(check.index);
        }
        if check.policy.shadow {
            return self;
        }
        let passes = decision.remaining / u64::from(check.cost.max(1));
        let tightest = Some(Tightest { index: check.index, decision, quota: check.quota, passes });
        self.and(Verdict { tightest, ..self })
    }

    /// This and another verdict, about other policies of the same request.
    #[must_use]
    pub fn and(self, other: Verdict) -> Verdict {
        let tightest = match (self.tightest, other.tightest) {
            (Some(own), Some(others)) if others.is_closer_than(&own) => Some(others),
            (own, others) => own.or(others),
        };
        Verdict { tightest, refused: PolicySet(self.refused.0 | other.refused.0) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::gcra::Tat;

    fn verdict(index: usize, outcome: Outcome, remaining: u64) -> Verdict {
        let decision = Decision { outcome, remaining, reset_after: Duration::ZERO };
        let quota = Quota::new("1/s".parse().unwrap(), 0);
        let mut refused = PolicySet::EMPTY;
        if !decision.is_allowed() {
            refused.insert(index);
        }
        Verdict { tightest: Some(Tightest { index, decision, quota, passes: remaining }), refused }
    }

    #[test]
    fn two_verdicts_are_one_about_all_their_policies() {
        let passes = |index, remaining| verdict(index, Outcome::Allowed(Tat::FULL), remaining);
        let refuses = |index, seconds| verdict(index, Outcome::Denied(Duration::from_secs(seconds)), 0);
        let index = |verdict: Verdict| verdict.tightest.map(|tightest| tightest.index);
        assert_eq!(index(passes(0, 5).and(passes(1, 4))), Some(1));
        assert_eq!(index(passes(0, 4).and(passes(1, 4))), Some(0));
        assert_eq!(index(Verdict::OPEN.and(passes(1, 4))), Some(1));
        assert_eq!(index(passes(1, 4).and(Verdict::OPEN)), Some(1));
        let both = refuses(0, 1).and(refuses(3, 2)).and(passes(1, 0));
        assert_eq!((both.is_allowed(), index(both)), (false, Some(3)));
        assert_eq!([0, 1, 2, 3].map(|index| both.refuses(index)), [true, false, false, true]);
        assert!(!passes(1, 0).and(refuses(3, 1)).is_allowed());
        assert!(Verdict::OPEN.is_allowed() && passes(0, 0).and(passes(1, 1)).is_allowed());
    }

    #[test]
    fn a_set_holds_the_first_64() {
        let mut set = PolicySet::EMPTY;
        [0, 5, 63, 64, usize::MAX].into_iter().for_each(|index| set.insert(index));
        assert_eq!([0, 1, 5, 63, 64, 127].map(|index| set.contains(index)), [true, false, true, true, false, false]);
    }
}
