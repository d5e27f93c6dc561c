//! The shared policies of one request: what a lease pays for, what the store is asked about.

use std::sync::Arc;

use super::{Shared, shared_of};
use crate::clock::Tick;
use crate::limits::leases::{self, Answer, Asked, Paid};
use crate::limits::{Check, Verdict};
use crate::model::gcra;
use crate::store::{Charge, Found};

/// One shared policy of a request.
pub(super) struct Part<'c, 'p> {
    /// Its place among all policies.
    place: usize,
    check: &'c Check<'p>,
    by: Answer,
}

/// The shared policies of a request. Those that a lease paid for were charged.
pub(super) struct Parts<'c, 'p> {
    parts: Vec<Part<'c, 'p>>,
    /// Read before anything was spent or asked for.
    sent: Tick,
}

impl<'c, 'p> Parts<'c, 'p> {
    /// Lets leases pay for what they can.
    pub(super) fn new(shared: &Shared, checks: &'c [Check<'p>]) -> Parts<'c, 'p> {
        let (sent, replicas) = (shared.clock.now(), shared.replicas());
        let part = |(place, check)| Part { place, check, by: shared.leases.spend(sent, check, replicas) };
        Parts { parts: shared_of(checks).map(part).collect(), sent }
    }

    /// Whether leases paid for all of them.
    pub(super) fn are_paid(&self) -> bool {
        self.asked().next().is_none()
    }

    /// Whether the store has to be asked about this one.
    pub(super) fn asks_about(&self, check: &Check<'_>) -> bool {
        self.asked().any(|(_, other, _)| other.key() == check.key())
    }

    /// What the store is asked.
    pub(super) fn charges(&self) -> Vec<Charge> {
        self.asked().map(|(_, check, asked)| charge(check, asked)).collect()
    }

    /// What follows from what was found, about those that the store was asked about.
    pub(super) fn read(&self, shared: &Shared, now: Tick, found: &[Found]) -> Verdict {
        let mut verdict = Verdict::OPEN;
        for ((place, check, _), found) in self.asked().zip(found) {
            let decision = gcra::decide(found.lacking, 0, check.quota, check.cost);
            if !check.policy.shadow {
                shared.denied.note(now, check, &leases::held_off(check.quota, decision));
            }
            verdict = verdict.with(place, check, decision);
        }
        let now = shared.clock.now();
        for ((place, check, asked), found) in self.asked().zip(found) {
            if verdict.allowed && !verdict.refuses(place) {
                shared.leases.took(now, check, asked, found);
            } else {
                shared.leases.missed(now, check, asked);
            }
        }
        verdict
    }

    /// The store did not answer.
    pub(super) fn unanswered(&self, shared: &Shared) {
        let now = shared.clock.now();
        for (_, check, asked) in self.asked() {
            shared.leases.missed(now, check, asked);
        }
    }

    /// The request passes: with the verdict of those that leases paid for. Leases that run low are filled beside it.
    pub(super) fn passed(&self, shared: &Arc<Shared>, verdict: Verdict) -> Verdict {
        self.paid().fold(verdict, |verdict, (place, check, paid)| {
            if paid.refill > 0 {
                refill(shared, check, Asked { sent: self.sent, cost: 0, ahead: paid.refill });
            }
            verdict.with(place, check, paid.decision)
        })
    }

    /// The request is refused: leases get back what they paid.
    pub(super) fn refused(&self, shared: &Shared, verdict: Verdict) -> Verdict {
        self.paid().fold(verdict, |verdict, (place, check, paid)| {
            shared.leases.refund(check, &paid);
            if paid.refill > 0 {
                shared.leases.missed(self.sent, check, Asked { sent: self.sent, cost: 0, ahead: paid.refill });
            }
            verdict.with(place, check, paid.decision)
        })
    }

    fn asked(&self) -> impl Iterator<Item = (usize, &'c Check<'p>, Asked)> {
        self.parts.iter().filter_map(|part| match part.by {
            Answer::Ask(ahead) => {
                Some((part.place, part.check, Asked { sent: self.sent, cost: part.check.cost, ahead }))
            }
            Answer::Paid(_) => None,
        })
    }

    fn paid(&self) -> impl Iterator<Item = (usize, &'c Check<'p>, Paid)> {
        self.parts.iter().filter_map(|part| match part.by {
            Answer::Paid(paid) => Some((part.place, part.check, paid)),
            Answer::Ask(_) => None,
        })
    }
}

/// What the store is asked about one policy.
fn charge(check: &Check<'_>, asked: Asked) -> Charge {
    Charge {
        bucket: check.policy.bucket_of(check.subject),
        quota: check.quota,
        cost: asked.cost,
        ahead: asked.ahead,
        shadow: check.policy.shadow,
    }
}

/// Takes tokens ahead that no request waits for.
fn refill(shared: &Arc<Shared>, check: &Check<'_>, asked: Asked) {
    let (shared, policy) = (shared.clone(), check.policy.clone());
    let (subject, quota, cost) = (check.subject, check.quota, check.cost);
    tokio::spawn(async move {
        let check = Check { policy: &policy, subject, quota, cost };
        match shared.charge(&[charge(&check, asked)]).await.as_deref() {
            Some([found]) => shared.leases.took(shared.clock.now(), &check, asked, found),
            _ => shared.leases.missed(shared.clock.now(), &check, asked),
        }
    });
}
