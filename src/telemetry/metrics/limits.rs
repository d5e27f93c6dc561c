//! Counters of rate limits: what each policy decided, and where decisions came from when replicas count together.

use super::{Counter, Gauge, Metrics};

/// Counters of one rate-limit policy.
#[derive(Debug, Clone)]
pub struct LimitMetrics {
    /// Requests that the policy let pass.
    pub allowed: Counter,
    /// Requests that it refused.
    pub denied: Counter,
    /// Let pass by a shadow policy that would have refused.
    pub would_deny: Counter,
}

/// Who answered for a request's policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    /// Buckets of this process, by policies that are not shared.
    Memory,
    /// The shared store.
    Redis,
    /// Tokens that this process took ahead.
    Lease,
    /// What the shared store had refused a moment ago.
    DeniedMemory,
    /// What policies say about a shared store that does not answer.
    Fallback,
}

impl AnsweredBy {
    /// All of them, in the order of their numbers.
    pub const ALL: [AnsweredBy; 5] =
        [AnsweredBy::Memory, AnsweredBy::Redis, AnsweredBy::Lease, AnsweredBy::DeniedMemory, AnsweredBy::Fallback];

    /// Its name in the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            AnsweredBy::Memory => "memory",
            AnsweredBy::Redis => "redis",
            AnsweredBy::Lease => "lease",
            AnsweredBy::DeniedMemory => "denied_memory",
            AnsweredBy::Fallback => "fallback",
        }
    }
}

/// Numbers about limits that replicas count together.
#[derive(Debug, Clone)]
pub struct SharedLimitMetrics {
    answers: [Counter; AnsweredBy::ALL.len()],
    degraded: Gauge,
    leased: Gauge,
}

impl SharedLimitMetrics {
    /// Counts one request.
    pub fn count(&self, by: AnsweredBy) {
        if let Some(counter) = self.answers.get(by as usize) {
            counter.inc();
        }
    }

    /// Whether limits go on without the shared store.
    pub fn degraded(&self, degraded: bool) {
        self.degraded.set(i64::from(degraded));
    }

    /// Tokens that were taken ahead and can be spent.
    pub fn leased(&self, tokens: u64) {
        self.leased.set(i64::try_from(tokens).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
impl SharedLimitMetrics {
    /// How many were counted.
    pub(crate) fn of(&self, by: AnsweredBy) -> u64 {
        self.answers[by as usize].get()
    }

    pub(crate) fn are_degraded(&self) -> bool {
        self.degraded.get() == 1
    }
}

impl Metrics {
    /// Counters of the rate-limit policy `name`, to be kept by the limiter.
    pub fn limit(&self, name: &str) -> LimitMetrics {
        let decision = |word| self.families.limit_decisions.with_label_values(&[name, word]);
        LimitMetrics { allowed: decision("allowed"), denied: decision("denied"), would_deny: decision("would_deny") }
    }

    /// Numbers about limits that replicas count together; only asked for where they do.
    pub fn shared_limits(&self) -> SharedLimitMetrics {
        const NONE: [&str; 0] = [];
        let counter = |by: AnsweredBy| self.families.limit_answers.with_label_values(&[by.as_str()]);
        let degraded = self.families.limits_degraded.with_label_values(&NONE);
        let leased = self.families.limits_leased.with_label_values(&NONE);
        SharedLimitMetrics { answers: AnsweredBy::ALL.map(counter), degraded, leased }
    }
}
