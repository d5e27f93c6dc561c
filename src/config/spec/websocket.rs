//! The shape of `websocket` in `routes.yaml`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::units::Span;

/// Upgraded connections of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebsocketSpec {
    /// Longest silence of both sides, after which the connection is ended; default 60s.
    pub idle: Span,
}

impl Default for WebsocketSpec {
    fn default() -> Self {
        WebsocketSpec { idle: Span(Duration::from_secs(60)) }
    }
}
