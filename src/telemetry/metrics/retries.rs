//! What became of retries.

use super::AttemptResult;

/// What became of one retry, made or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryResult {
    /// It was answered with a status below 500.
    Success,
    /// It failed as well.
    Failure,
    /// The client left first, or the gateway gave up.
    Cancelled,
    /// Not made: the pool's budget was spent.
    BudgetExhausted,
    /// Not made: no target could take it.
    NoTarget,
    /// Not made: too little of the request's time was left.
    NoTime,
}

impl RetryResult {
    /// Its name in the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            RetryResult::Success => "success",
            RetryResult::Failure => "failure",
            RetryResult::Cancelled => "cancelled",
            RetryResult::BudgetExhausted => "budget_exhausted",
            RetryResult::NoTarget => "no_target",
            RetryResult::NoTime => "no_time",
        }
    }
}

impl AttemptResult {
    /// What the end of a try says about it as a retry.
    pub const fn of_retry(self) -> RetryResult {
        match self {
            AttemptResult::Success => RetryResult::Success,
            AttemptResult::Cancelled => RetryResult::Cancelled,
            AttemptResult::ServerError
            | AttemptResult::ConnectError
            | AttemptResult::Timeout
            | AttemptResult::Broken
            | AttemptResult::Stale => RetryResult::Failure,
        }
    }
}
