//! The shape of `breaker` and `panic` of a pool in `routes.yaml`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::statuses::StatusesSpec;
use crate::model::units::Span;

/// Circuit breaker of each target of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSpec {
    /// Failures in a row that open the circuit; default 5. 0 turns the breaker off, the ratio too.
    pub failures: u32,
    /// The circuit also opens when fewer of a hundred requests went well; default 50. 0: never for that.
    #[schemars(range(max = 100))]
    pub success_percent: u32,
    /// Requests in the window before their ratio says anything; default 20.
    #[schemars(range(min = 1))]
    pub min_requests: u32,
    /// What the ratio looks back on; default 10s.
    pub window: Span,
    /// How long it stays open before one probe request is let through; default 60s.
    pub open_for: Span,
    /// Longest it stays open, by doubling or by the service's `Retry-After`; default 5m. A longer `open_for` is kept.
    pub longest_open: Span,
    /// Probe requests that must succeed to close it; default 3.
    #[schemars(range(min = 1))]
    pub close_after: u32,
    /// Statuses that are failures; default `["500-599"]`.
    pub statuses: StatusesSpec,
    /// Most of a hundred targets whose circuits may be out of use at the same time, rounded down, but one; default 50.
    #[schemars(range(min = 1, max = 100))]
    pub max_ejected: u32,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        let seconds = |n| Span(Duration::from_secs(n));
        BreakerSpec {
            failures: 5,
            success_percent: 50,
            min_requests: 20,
            window: seconds(10),
            open_for: seconds(60),
            longest_open: seconds(300),
            close_after: 3,
            statuses: StatusesSpec::server_errors(),
            max_ejected: 50,
        }
    }
}

/// What a pool of several targets does when less than half of them is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PanicSpec {
    /// Requests go to all targets that were ever probed and are not draining, whatever checks and circuits say.
    #[default]
    RouteAll,
    /// Requests are refused.
    FailFast,
}
