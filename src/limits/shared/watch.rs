//! What goes on beside requests: looking whether the shared store is there, and telling other replicas that this one is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use crate::model::gcra::Quota;
use crate::model::lease::LEASE;
use crate::model::units::Rate;
use crate::store::Charge;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Looks between two rounds of telling: 5 s.
const TELL_EVERY: u32 = 20;

/// Watches the shared store, for ever.
pub(in crate::limits) async fn watch(shared: Arc<Shared>) {
    warm_up(&shared).await;
    let mut looks = interval(LOOK_EVERY);
    looks.reset();
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks_until_tell = 0_u32;
    loop {
        looks.tick().await;
        look(&shared).await;
        looks_until_tell = match looks_until_tell.checked_sub(1) {
            Some(fewer) => fewer,
            None if tell(&shared).await => TELL_EVERY - 1,
            None => 0,
        };
    }
}

/// Waits a moment for the first connection, and makes the script known there before a request needs it.
async fn warm_up(shared: &Shared) {
    let mut tries = interval(LOOK_EVERY / 10);
    for _ in 0..10 {
        tries.tick().await;
        if shared.store.is_up() && shared.store.charge(&[probe()]).await.is_ok() {
            return;
        }
    }
}

/// Forgets leases that are over, and says how many tokens the others have; for ever.
pub(in crate::limits) async fn sweep_leases(shared: Arc<Shared>) {
    let mut rounds = interval(LEASE);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        shared.metrics.leased(shared.leases.sweep(shared.clock.now()));
    }
}

/// Sees whether the store is there.
pub(super) async fn look(shared: &Shared) {
    if !shared.store.is_up() {
        shared.health.degrade(&"it is not connected");
    } else if shared.health.is_degraded() {
        shared.health.tried(shared.store.charge(&[probe()]).await.is_ok());
    }
}

/// Says that this replica is here; whether the store heard it.
pub(super) async fn tell(shared: &Shared) -> bool {
    if shared.health.is_degraded() {
        return false;
    }
    let replicas = shared.store.replicas().await;
    if let Ok(replicas) = replicas {
        shared.replicas.1.store(replicas, Ordering::Relaxed);
    }
    replicas.is_ok()
}

/// A charge of nobody's: a store that answers, but takes nothing, is none.
fn probe() -> Charge {
    let quota = Quota::new(Rate { limit: 1_000, period: Duration::from_secs(1) }, 0);
    Charge { bucket: "probe".to_owned(), quota, cost: 1, ahead: 0, shadow: false }
}
