//! The shape of `pools` in `routes.yaml`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::balance::BalanceSpec;
use super::breaker::{BreakerSpec, PanicSpec};
use super::concurrency::ConcurrencySpec;
use super::health::HealthSpec;
use super::retries::RetriesSpec;
use super::target::{self, TargetSpec};
use super::upstream_tls::UpstreamTlsSpec;
use crate::model::units::Span;

/// One upstream service.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Targets: `http://host:port`, `https://host[:port]`, `unix:/path`, or maps. One text may hold a comma-separated
    /// list.
    #[serde(deserialize_with = "target::list")]
    #[schemars(schema_with = "target::schema")]
    pub targets: Vec<TargetSpec>,
    /// How targets are chosen; default `round_robin`.
    #[serde(default)]
    pub balance: BalanceSpec,
    /// How long a target that comes back or joins takes to get its whole share; default 10s, 0s: none.
    #[serde(default = "defaults::slow_start")]
    pub slow_start: Span,
    /// Name of the service in health, metrics and messages; default: the pool's name with `-` as `_`.
    #[serde(default)]
    pub service: Option<String>,
    /// Active checks; without them a target is available until its circuit opens.
    #[serde(default)]
    pub health: Option<HealthSpec>,
    /// Circuit breaker per target.
    #[serde(default)]
    pub breaker: BreakerSpec,
    /// With several targets, what happens when less than half is available; default `route_all`.
    #[serde(default)]
    pub panic: PanicSpec,
    /// When a request that failed is sent again.
    #[serde(default)]
    pub retries: RetriesSpec,
    /// Waiting times towards the targets.
    #[serde(default)]
    pub timeouts: TimeoutsSpec,
    /// How many requests the targets get at a time; without it as many as come.
    #[serde(default)]
    pub concurrency: Option<ConcurrencySpec>,
    /// Trust and identity towards `https` targets; default: the system's authorities, no client certificate.
    #[serde(default)]
    pub tls: Option<UpstreamTlsSpec>,
    /// Whether the targets are spoken to in HTTP/2, as gRPC needs it; default false: HTTP/1.1.
    #[serde(default)]
    pub http2: bool,
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
    pub(super) fn slow_start() -> Span {
        Span(Duration::from_secs(10))
    }
}
