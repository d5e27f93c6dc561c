//! What could not be kept: counted, and said aloud. Never silent.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::Clock;
use crate::store::AuditEntry;
use crate::telemetry::metrics::Counter;

/// Counts entries that were lost.
#[derive(Debug)]
pub(super) struct Loss {
    dropped: Counter,
    clock: Clock,
    /// The second in which a loss was last said: a flood of losses must not become a flood of log lines.
    said_at: AtomicI64,
}

impl Loss {
    pub(super) fn new(dropped: Counter, clock: Clock) -> Loss {
        Loss { dropped, clock, said_at: AtomicI64::new(i64::MIN) }
    }

    /// These entries are lost, because of `why`. The log tells of the first; once a second.
    pub(super) fn of(&self, entries: &[AuditEntry], why: &str) {
        let Some(first) = entries.first() else { return };
        self.count(entries.len() as u64);
        let now = self.clock.unix_seconds();
        if self.said_at.swap(now, Ordering::AcqRel) != now {
            let (actor, subject) = (first.actor.as_deref(), first.subject.as_deref());
            tracing::error!(
                event = first.event,
                actor,
                subject,
                entries = entries.len(),
                why,
                "audit entries are lost; gateway_audit_dropped_total counts them"
            );
        }
    }

    /// So many entries are lost; who calls says why.
    pub(super) fn count(&self, entries: u64) {
        self.dropped.inc_by(entries);
    }
}
