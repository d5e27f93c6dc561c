//! The shape of `concurrency` of a pool in `routes.yaml`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::units::Span;

/// How many requests a pool works on at a time, and how many wait for a place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConcurrencySpec {
    /// Most requests that one target gets at a time; default 0: as many as come.
    pub per_target: u32,
    /// Most requests that all targets together get at a time; default 0: as many as come.
    pub per_pool: u32,
    /// Most requests that wait for a place; default 64. 0: none waits.
    #[schemars(range(max = 10000))]
    pub queue: u32,
    /// Longest that a request waits for a place; default 5s.
    pub queue_timeout: Span,
}

impl Default for ConcurrencySpec {
    fn default() -> Self {
        ConcurrencySpec { per_target: 0, per_pool: 0, queue: 64, queue_timeout: Span(Duration::from_secs(5)) }
    }
}
