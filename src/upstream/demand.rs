//! What a request asks of its pool: a target that was not tried yet, the one of its key.

use std::sync::Arc;

use super::target::Target;

/// The targets that a request was sent to, in order. Empty for the first try, and then nothing is allocated.
#[derive(Debug, Default)]
pub struct Tried {
    labels: Vec<Arc<str>>,
    only_others: bool,
}

impl Tried {
    /// Notes a target.
    pub fn note(&mut self, target: &Target) {
        self.labels.push(target.label().clone());
    }

    /// Whether `target` is among them.
    pub fn contains(&self, target: &Target) -> bool {
        self.labels.iter().any(|label| **label == **target.label())
    }

    /// Their labels.
    pub fn labels(&self) -> &[Arc<str>] {
        &self.labels
    }

    /// None of them may get the request again: one said when to come back, and that is too late.
    pub fn bar(&mut self) {
        self.only_others = true;
    }

    /// Whether only other targets may get the request.
    pub fn only_others(&self) -> bool {
        self.only_others
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// Targets to avoid while there are others.
    pub tried: &'a Tried,
    /// What the request is told apart by, for pools that choose by that.
    pub key: Option<u64>,
}
