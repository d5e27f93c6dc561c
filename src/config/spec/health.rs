//! The shape of `health` of a pool in `routes.yaml`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StatusesSpec;
use crate::model::units::Span;

/// Active health checks of a pool: by HTTP with `path`, or by connecting with `tcp`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthSpec {
    /// Path of the HTTP probe; this or `tcp`.
    #[serde(default)]
    pub path: Option<String>,
    /// Whether it is enough that a target takes connections, and nothing is asked; default false.
    #[serde(default)]
    pub tcp: bool,
    /// Statuses of a healthy answer to the HTTP probe; default 200-299.
    #[serde(default)]
    pub statuses: Option<StatusesSpec>,
    /// Time between probes of one target, ± 10 %; default 10s.
    #[serde(default = "defaults::every")]
    pub every: Span,
    /// Longest a probe may take; default 5s.
    #[serde(default = "defaults::timeout")]
    pub timeout: Span,
    /// Passing probes in a row that bring a target back; default 2.
    #[serde(default = "defaults::rise")]
    #[schemars(range(min = 1))]
    pub rise: u32,
    /// Failing probes in a row that take a target out; default 3. The very first probe decides alone.
    #[serde(default = "defaults::fall")]
    #[schemars(range(min = 1))]
    pub fall: u32,
}

impl HealthSpec {
    /// Whether an HTTP probe that is answered so passes.
    pub fn passes(&self, status: u16) -> bool {
        self.statuses.as_ref().map_or((200..300).contains(&status), |statuses| statuses.contains(status))
    }

    /// Whether both ask targets the same, so that what one found holds for the other.
    pub fn asks_the_same(&self, other: &HealthSpec) -> bool {
        let asked = |spec: &HealthSpec| (spec.path.clone(), spec.tcp, spec.statuses.clone());
        asked(self) == asked(other)
    }
}

mod defaults {
    use super::Span;
    use std::time::Duration;

    pub(super) fn every() -> Span {
        Span(Duration::from_secs(10))
    }
    pub(super) fn timeout() -> Span {
        Span(Duration::from_secs(5))
    }
    pub(super) fn rise() -> u32 {
        2
    }
    pub(super) fn fall() -> u32 {
        3
    }
}
