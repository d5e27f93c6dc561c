//! A pool's part in retries: its policy, its budget, and whether another target could take the request.

use std::time::Duration;

use super::demand::Tried;
use super::pool::Pool;
use super::target::Target;
use crate::clock::Tick;
use crate::model::retry::{self, Failure, Policy, Request};
use crate::telemetry::metrics::RetryResult;

/// A try that failed, of a request that may be tried again.
#[derive(Debug)]
pub struct Failed<'a> {
    /// How.
    pub failure: Failure,
    /// Of what.
    pub request: Request,
    /// When the target wants to be asked again (`Retry-After`).
    pub asked: Option<Duration>,
    /// Retries made so far.
    pub retries: u32,
    /// Most of them.
    pub most: u32,
    /// Time left for the request.
    pub remaining: Duration,
    /// Where it failed.
    pub target: &'a Target,
}

/// Leave to try a request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// How long to wait before.
    pub wait: Duration,
    /// Whether only a target may take it that was not tried yet.
    pub only_others: bool,
}

impl Pool {
    /// When its requests are tried again.
    pub fn retry_policy(&self) -> &Policy {
        &self.settings().retries
    }

    /// A request is sent for the first time: it pays into the budget of retries.
    pub fn count_request(&self, now: Tick) {
        self.memory().retries.count(now);
    }

    /// Whether a request that failed is tried again; counts why not, where it would be but for target, time or budget.
    pub fn leave_to_retry(&self, failed: &Failed<'_>, tried: &Tried, now: Tick) -> Option<Leave> {
        let policy = self.retry_policy();
        if failed.retries >= failed.most || !policy.licenses(failed.failure, failed.request) {
            return None;
        }
        let granted = self.grant(failed, tried, now);
        if let Err(result) = granted {
            self.count_retry(result);
        }
        granted.ok()
    }

    /// Counts what became of a retry that was not made.
    pub fn count_retry(&self, result: RetryResult) {
        self.settings().metrics.retry(self.name(), result);
    }

    fn grant(&self, failed: &Failed<'_>, tried: &Tried, now: Tick) -> Result<Leave, RetryResult> {
        let policy = self.retry_policy();
        let fresh = |target: &Target| !tried.contains(target) && target.label() != failed.target.label();
        let others = self.could_take(now, |target| fresh(target) && !target.is_full());
        // Who says when to come back is not asked before, but there may be others.
        let asked = failed.asked.filter(|_| !others);
        // An answer is not thrown away for a place at the end of a line.
        let in_line = matches!(failed.failure, Failure::Status(_)) && self.memory().bulkhead.waiting() > 0;
        if !others && (tried.only_others() || in_line || !self.could_take(now, |_| true)) {
            return Err(RetryResult::NoTarget);
        }
        let drawn = rand::random_range(Duration::ZERO..=policy.backoff.ceiling(failed.retries));
        let wait = retry::wait(drawn, asked, failed.remaining).ok_or(RetryResult::NoTime)?;
        if !self.memory().retries.take(policy.share, now) {
            return Err(RetryResult::BudgetExhausted);
        }
        Ok(Leave { wait, only_others: others && failed.asked.is_some() })
    }
}
