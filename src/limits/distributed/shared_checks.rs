//! The shared policies of one request: what a lease pays for, what the store is asked about.

use std::sync::Arc;

use super::Distributed;
use crate::clock::Tick;
use crate::limits::leases::{self, Asked, Paid, Payment};
use crate::limits::{Check, Few, SharedCounting, Verdict};
use crate::store::{Charge, Found};

/// One shared policy of a request.
pub(super) struct SharedCheck<'c, 'p> {
    check: &'c Check<'p>,
    shared: &'p SharedCounting,
    by: Payment,
}

/// The shared policies of a request. Those that a lease paid for were charged.
pub(super) struct SharedChecks<'c, 'p> {
    shared_checks: Few<SharedCheck<'c, 'p>>,
    /// Read before anything was spent or asked for.
    sent: Tick,
}

impl<'c, 'p> SharedChecks<'c, 'p> {
    /// Lets leases pay for what they can.
    pub(super) fn new(distributed: &Distributed, checks: &'c [Check<'p>]) -> SharedChecks<'c, 'p> {
        let (sent, replicas) = (distributed.clock.now(), distributed.replicas.count());
        let shared_check = |check: &'c Check<'p>| {
            let shared = check.policy.shared.as_ref()?;
            Some(SharedCheck { check, shared, by: distributed.leases.spend(sent, check, replicas) })
        };
        SharedChecks { shared_checks: checks.iter().filter_map(shared_check).collect(), sent }
    }

    /// Whether leases paid for all of them.
    pub(super) fn are_paid(&self) -> bool {
        self.asked().next().is_none()
    }

    /// Those that no lease paid for.
    pub(super) fn unpaid(&self) -> impl Iterator<Item = (&'c Check<'p>, &'p SharedCounting)> {
        let unpaid = self.shared_checks.iter().filter(|shared_check| matches!(shared_check.by, Payment::Ask(_)));
        unpaid.map(|shared_check| (shared_check.check, shared_check.shared))
    }

    /// What the store is asked.
    pub(super) fn charges(&self) -> Vec<Charge> {
        self.asked().map(|(check, asked)| charge(check, asked)).collect()
    }

    /// What follows from what was found, about those that the store was asked about.
    pub(super) fn read(&self, distributed: &Distributed, now: Tick, found: &[Found]) -> Verdict {
        let mut verdict = Verdict::OPEN;
        for ((check, _), found) in self.asked().zip(found) {
            let decision = found.debt.decide(now.0, check.quota, check.cost);
            if !check.policy.shadow {
                distributed.denied.note(now, check, found.debt, leases::pause(check.quota));
            }
            verdict = verdict.with(check, decision);
        }
        let now = distributed.clock.now();
        for ((check, asked), found) in self.asked().zip(found) {
            if verdict.is_allowed() && !verdict.refuses(check.index) {
                distributed.leases.took(now, check, asked, found);
            } else {
                distributed.leases.missed(now, check, asked);
            }
        }
        verdict
    }

    /// The store did not answer.
    pub(super) fn unanswered(&self, distributed: &Distributed) {
        let now = distributed.clock.now();
        for (check, asked) in self.asked() {
            distributed.leases.missed(now, check, asked);
        }
    }

    /// The request passes: with the verdict of those that leases paid for. Leases that run low are filled beside it.
    pub(super) fn passed(&self, distributed: &Arc<Distributed>, verdict: Verdict) -> Verdict {
        self.paid().fold(verdict, |verdict, (check, paid)| {
            if paid.refill > 0 {
                refill(distributed, check, Asked { sent: self.sent, cost: 0, ahead: paid.refill });
            }
            verdict.with(check, paid.decision)
        })
    }

    /// The request is refused: leases get back what they paid.
    pub(super) fn refused(&self, distributed: &Distributed, verdict: Verdict) -> Verdict {
        self.paid().fold(verdict, |verdict, (check, paid)| {
            distributed.leases.refund(check, &paid);
            if paid.refill > 0 {
                distributed.leases.missed(self.sent, check, Asked { sent: self.sent, cost: 0, ahead: paid.refill });
            }
            verdict.with(check, paid.decision)
        })
    }

    fn asked(&self) -> impl Iterator<Item = (&'c Check<'p>, Asked)> {
        self.shared_checks.iter().filter_map(|shared_check| match shared_check.by {
            Payment::Ask(ahead) => {
                Some((shared_check.check, Asked { sent: self.sent, cost: shared_check.check.cost, ahead }))
            }
            Payment::Paid(_) => None,
        })
    }

    fn paid(&self) -> impl Iterator<Item = (&'c Check<'p>, Paid)> {
        self.shared_checks.iter().filter_map(|shared_check| match shared_check.by {
            Payment::Paid(paid) => Some((shared_check.check, paid)),
            Payment::Ask(_) => None,
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
fn refill(distributed: &Arc<Distributed>, check: &Check<'_>, asked: Asked) {
    let (distributed, policy) = (distributed.clone(), check.policy.clone());
    let Check { index, subject, quota, cost, .. } = *check;
    tokio::spawn(async move {
        let check = Check { index, policy: &policy, subject, quota, cost };
        match distributed.charge(&[charge(&check, asked)]).await.as_deref() {
            Some([found]) => distributed.leases.took(distributed.clock.now(), &check, asked, found),
            _ => distributed.leases.missed(distributed.clock.now(), &check, asked),
        }
    });
}
