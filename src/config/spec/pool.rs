//! The shape of `pools` in `routes.yaml`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::list;
use crate::model::units::Span;

/// One upstream service.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Targets: `http://host:port`. One entry may hold a comma-separated list.
    #[serde(deserialize_with = "list::texts")]
    #[schemars(schema_with = "list::schema")]
    pub targets: Vec<String>,
    /// Name of the service in health, metrics and messages; default: the pool's name with `-` as `_`.
    #[serde(default)]
    pub service: Option<String>,
    /// Active checks; without them a target is available until its circuit opens.
    #[serde(default)]
    pub health: Option<HealthSpec>,
    /// Circuit breaker per target.
    #[serde(default)]
    pub breaker: BreakerSpec,
    /// Waiting times towards the targets.
    #[serde(default)]
    pub timeouts: TimeoutsSpec,
    /// How often names are looked up again; default 10s.
    #[serde(default = "defaults::resolve_every")]
    pub resolve_every: Span,
}

impl PoolSpec {
    /// Name of the service of the pool called `pool`.
    pub fn service(&self, pool: &str) -> String {
        self.service.clone().unwrap_or_else(|| pool.replace('-', "_"))
    }
}

/// Active health checks of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthSpec {
    /// Path of the HTTP probe; a 2xx answer is healthy.
    pub path: String,
    /// Time between probes of one target, ± 10 %; default 10s.
    #[serde(default = "defaults::health_every")]
    pub every: Span,
    /// Longest a probe may take; default 5s.
    #[serde(default = "defaults::health_timeout")]
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

/// Circuit breaker of each target of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSpec {
    /// Failures in a row that open the circuit; default 5. 0 turns the breaker off.
    pub failures: u32,
    /// How long it stays open before one probe request is let through; default 60s.
    pub open_for: Span,
    /// Probe requests that must succeed to close it; default 3.
    #[schemars(range(min = 1))]
    pub close_after: u32,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        BreakerSpec { failures: 5, open_for: Span(std::time::Duration::from_secs(60)), close_after: 3 }
    }
}

/// Waiting times towards the targets of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsSpec {
    /// To open a connection; default 2s.
    pub connect: Span,
    /// Silence while reading an answer, its head included; default 30s.
    pub read: Span,
    /// Silence while sending a request; default 30s.
    pub write: Span,
    /// How long an unused connection is kept; default 4s, below the 5s of common Python servers.
    pub idle: Span,
}

impl Default for TimeoutsSpec {
    fn default() -> Self {
        let seconds = |n| Span(std::time::Duration::from_secs(n));
        TimeoutsSpec { connect: seconds(2), read: seconds(30), write: seconds(30), idle: seconds(4) }
    }
}

mod defaults {
    use super::Span;
    use std::time::Duration;

    pub(super) fn resolve_every() -> Span {
        Span(Duration::from_secs(10))
    }
    pub(super) fn health_every() -> Span {
        Span(Duration::from_secs(10))
    }
    pub(super) fn health_timeout() -> Span {
        Span(Duration::from_secs(5))
    }
    pub(super) fn rise() -> u32 {
        2
    }
    pub(super) fn fall() -> u32 {
        3
    }
}
