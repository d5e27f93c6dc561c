//! Takes records away that are older than they must be kept. The chain's anchor moves, so the rest stays provable;
//! that it was done is a record itself. Harmless when several replicas do it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

use super::event::{Actor, Event, EventKind};
use super::{Desk, Shared};
use crate::store::{AuditStore, StoreError};

/// How often.
const EVERY: Duration = Duration::from_secs(86_400);

/// Starts it: at once, then daily, until the trail is closed.
pub(super) fn spawn(runtime: &Handle, shared: Weak<Shared>, store: Arc<dyn AuditStore>, keep: Duration) {
    runtime.spawn(async move {
        let mut days = tokio::time::interval(EVERY);
        days.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            days.tick().await;
            let Some(desk) = shared.upgrade().map(|shared| shared.desk.clone()) else { return };
            match trim(&*store, &desk, keep).await {
                Ok(Some(event)) => {
                    let Some(shared) = shared.upgrade() else { return };
                    shared.record(event);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "old audit records could not be taken away; trying again tomorrow")
                }
            }
        }
    });
}

/// Takes away what is too old; the event to record when there was something.
async fn trim(store: &dyn AuditStore, desk: &Desk, keep: Duration) -> Result<Option<Event>, StoreError> {
    let before_ms = desk.now_ms().saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
    let gone = store.trim_audit(before_ms).await?;
    if gone == 0 {
        return Ok(None);
    }
    let before = Timestamp::from_millisecond(before_ms).unwrap_or(Timestamp::MIN);
    let details = format!("{gone} records from before {before}");
    Ok(Some(Event::new(EventKind::Trimmed).by(Actor::Gateway).saying(details)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::{Stub, entry};
    use crate::audit::{Audit, verify};
    use crate::clock::Clock;
    use crate::telemetry::metrics::Metrics;

    #[tokio::test]
    async fn old_records_go_the_rest_is_still_one_chain_and_it_is_recorded() {
        let (clock, hand) = Clock::manual();
        let metrics = Metrics::new("1").unwrap();
        let (audit, mut queue) = Audit::in_memory(clock.clone(), &metrics);
        let shared = audit.0.clone().unwrap();
        let store = Stub::default();
        let now_ms = clock.wall().as_millisecond();
        let old = crate::store::AuditEntry { at_ms: now_ms - 5_000, ..entry("old") };
        let new = crate::store::AuditEntry { at_ms: now_ms, ..entry("new") };
        store.append_audit(vec![old.clone(), old, new]).await.unwrap();
        let keep = Duration::from_secs(10);
        assert!(trim(&store, &shared.desk, keep).await.unwrap().is_none());
        hand.advance(Duration::from_secs(8));
        let event = trim(&store, &shared.desk, keep).await.unwrap().unwrap();
        shared.record(event);
        let entry = queue.try_recv().unwrap();
        assert_eq!((entry.event.as_str(), entry.actor.as_deref()), ("audit_trimmed", Some("gateway")));
        assert!(entry.details.clone().unwrap().starts_with("2 records from before 2025-12-31T23:59:58"), "{entry:?}");
        store.append_audit(vec![entry]).await.unwrap();
        let whole = verify::chain(&store).await.unwrap();
        assert_eq!((whole.first, whole.last, whole.records), (3, 4, 2));
    }
}
