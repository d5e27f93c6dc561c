//! The shape of `idempotency` in `routes.yaml`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::units::{ByteSize, Span};

/// Whether requests with an `Idempotency-Key` are carried out once, however often they come. `{}` is with the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdempotencySpec {
    /// How long an answer is kept for repeats; default 24h.
    pub ttl: Span,
    /// Whether a request without a key is refused; default false.
    pub required: bool,
    /// Most bytes of an answer that is kept, its headers included; default 256KiB, at most 4MiB. Repeats of a request with
    /// a longer answer are refused.
    pub max_answer: ByteSize,
}

impl Default for IdempotencySpec {
    fn default() -> Self {
        let ttl = Span(Duration::from_secs(86_400));
        IdempotencySpec { ttl, required: false, max_answer: ByteSize(256 << 10) }
    }
}
