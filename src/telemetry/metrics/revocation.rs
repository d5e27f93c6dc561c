//! What is known of revocations, asked for at each scrape, and what became of the messages about them.

use std::time::Duration;

use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge, Registry, Result};

use super::{scrape, seconds};

const FACTS: &str = "gateway_revocations";
const STALENESS: &str = "gateway_revocation_staleness_seconds";

/// Names of all families made here.
pub(super) const NAMES: [&str; 2] = [FACTS, STALENESS];

/// What this process knows of revocations at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationState {
    /// Facts in memory.
    pub facts: usize,
    /// Time since the last pull from the store that succeeded began.
    pub staleness: Duration,
}

/// Says how things are now. Must not block.
pub(super) type Read = Box<dyn Fn() -> RevocationState + Send + Sync>;

/// What became of one message between replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationMessage {
    /// Ours, taken by Redis.
    Sent,
    /// Ours, not taken by Redis.
    Failed,
    /// Ours, not even tried: too many waited.
    Dropped,
    /// Another's, felt by the next request.
    Applied,
    /// Another's or our own, known already.
    Known,
    /// Not a message of this version, or about what is over.
    Ignored,
    /// Another's, and too many were waiting to be seen in the store.
    Surplus,
}

impl RevocationMessage {
    /// Every end of a message.
    pub const ALL: [RevocationMessage; 7] = [
        RevocationMessage::Sent,
        RevocationMessage::Failed,
        RevocationMessage::Dropped,
        RevocationMessage::Applied,
        RevocationMessage::Known,
        RevocationMessage::Ignored,
        RevocationMessage::Surplus,
    ];

    /// Its name in the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            RevocationMessage::Sent => "sent",
            RevocationMessage::Failed => "failed",
            RevocationMessage::Dropped => "dropped",
            RevocationMessage::Applied => "applied",
            RevocationMessage::Known => "known",
            RevocationMessage::Ignored => "ignored",
            RevocationMessage::Surplus => "surplus",
        }
    }
}

/// The families of this moment.
pub(super) fn gather(state: RevocationState) -> Result<Vec<MetricFamily>> {
    let registry = Registry::new();
    let facts = scrape::keep(&registry, IntGauge::new(FACTS, "Facts of revocation in memory."))?;
    facts.set(i64::try_from(state.facts).unwrap_or(i64::MAX));
    let help = "Seconds since what is revoked was last pulled from the store.";
    scrape::keep(&registry, Gauge::new(STALENESS, help))?.set(seconds(state.staleness));
    Ok(registry.gather())
}
