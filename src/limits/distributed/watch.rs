//! What goes on beside requests: looking whether the shared store is there, and telling other replicas that this one is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Distributed;
use crate::model::gcra::Quota;
use crate::model::lease::LEASE;
use crate::model::units::Rate;
use crate::store::Charge;

/// Time between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// Probes between two heartbeats: 5 s.
const HEARTBEAT_EVERY: u32 = 20;

/// Watches the shared store, for ever.
pub(in crate::limits) async fn watch(distributed: Arc<Distributed>) {
    warm_up(&distributed).await;
    let mut probes = interval(PROBE_EVERY);
    probes.reset();
    probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut until_heartbeat = 0_u32;
    loop {
        probes.tick().await;
        probe_store(&distributed).await;
        until_heartbeat = match until_heartbeat.checked_sub(1) {
            Some(fewer) => fewer,
            None if heartbeat(&distributed).await => HEARTBEAT_EVERY - 1,
            None => 0,
        };
    }
}

/// Waits a moment for the first connection, and makes the script known there before a request needs it.
async fn warm_up(distributed: &Distributed) {
    let mut tries = interval(PROBE_EVERY / 10);
    for _ in 0..10 {
        tries.tick().await;
        if distributed.store.is_up() && distributed.store.charge(&[probe()]).await.is_ok() {
            return;
        }
    }
}

/// Forgets leases that are over, and says how many tokens the others have; for ever.
pub(in crate::limits) async fn sweep_leases(distributed: Arc<Distributed>) {
    let mut rounds = interval(LEASE);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        distributed.metrics.leased(distributed.leases.sweep(distributed.clock.now()));
    }
}

/// Sees whether the store is there.
pub(super) async fn probe_store(distributed: &Distributed) {
    if !distributed.store.is_up() {
        distributed.health.degrade(&"it is not connected");
    } else if distributed.health.is_degraded() {
        distributed.health.tried(distributed.store.charge(&[probe()]).await.is_ok());
    }
}

/// Says that this replica is here; whether the store heard it.
pub(super) async fn heartbeat(distributed: &Distributed) -> bool {
    if distributed.health.is_degraded() {
        return false;
    }
    let replicas = distributed.store.heartbeat().await;
    if let Ok(replicas) = replicas {
        distributed.replicas.seen.store(replicas, Ordering::Relaxed);
    }
    replicas.is_ok()
}

/// A charge of nobody's: a store that answers, but takes nothing, is none.
fn probe() -> Charge {
    let quota = Quota::new(Rate { limit: 1_000, period: Duration::from_secs(1) }, 0);
    Charge { bucket: "probe".to_owned(), quota, cost: 1, ahead: 0, shadow: false }
}
