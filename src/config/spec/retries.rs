//! The shape of `retries` of a pool in `routes.yaml`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::units::{ByteSize, Span};

/// When a request that failed at one target is sent again, to another where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetriesSpec {
    /// Most retries of one request; default 2, at most 10. 0 turns them off.
    #[schemars(range(max = 10))]
    pub max: u32,
    /// Statuses after which a request is sent again, when doing it twice is doing it once (GET, HEAD, OPTIONS, PUT,
    /// DELETE); default 502, 503, 504.
    pub statuses: Vec<u16>,
    /// Longest wait before the first retry; the wait is drawn at random up to it. It doubles with each; default 25ms.
    pub backoff: Span,
    /// Longest wait before any; default 250ms.
    pub longest_backoff: Span,
    /// Retries in a hundred requests of the pool's last ten seconds; default 20.
    #[schemars(range(max = 100))]
    pub budget: u32,
    /// Retries per second on top of that; default 10.
    #[schemars(range(max = 1000))]
    pub floor: u32,
    /// Bodies of known length up to this are read whole first, so that they can be sent again; default 64KiB, so much
    /// of any body is kept while it streams. At most 2MiB.
    pub replay: ByteSize,
}

impl Default for RetriesSpec {
    fn default() -> Self {
        RetriesSpec {
            max: 2,
            statuses: vec![502, 503, 504],
            backoff: Span(Duration::from_millis(25)),
            longest_backoff: Span(Duration::from_millis(250)),
            budget: 20,
            floor: 10,
            replay: ByteSize(64 << 10),
        }
    }
}
