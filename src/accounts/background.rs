//! What [`Accounts`] does by itself: sees what other processes revoked, and purges what is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

use super::Accounts;
use crate::store::StoreError;

/// How often facts of revocation written by other processes are pulled.
pub const PULL_EVERY: Duration = Duration::from_secs(5);

/// How many pulls lie between two purges of the store: an hour.
const PULLS_PER_PURGE: u32 = 720;

/// Facts that are pulled at once.
const PAGE: u32 = 1_000;

impl Accounts {
    /// Takes in facts of revocation and API keys that this process has not seen, and forgets those that no longer
    /// matter.
    pub async fn pull(&self) -> Result<(), StoreError> {
        let mut pulled = self.pulled.lock().await;
        let (began, number) = (self.clock.now(), self.revocations.pull_begins());
        let all_keys = self.api_keys.pull_begins();
        loop {
            let facts = self.witness.saw(self.store.revocations_since(*pulled, PAGE).await)?;
            *pulled = self.revocations.apply_all(&facts, *pulled);
            if u32::try_from(facts.len()).is_ok_and(|count| count < PAGE) {
                break;
            }
        }
        // Before the sweep: a fact may leave only when the key that it is about has left.
        self.pull_api_keys(all_keys).await?;
        self.revocations.pulled(number, began);
        self.revocations.sweep(self.clock.unix_seconds());
        Ok(())
    }

    /// Starts the pulls (every 5 s, and when one is asked for) and purges (hourly) on a runtime. The task ends when the service is dropped.
    pub fn spawn_background(self: &Arc<Self>, runtime: &Handle) {
        let (accounts, revocations) = (Arc::downgrade(self), self.revocations.clone());
        runtime.spawn(async move {
            let mut ticks = tokio::time::interval(PULL_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut turn, mut healthy) = (0_u32, true);
            loop {
                let on_time = tokio::select! {
                    _ = ticks.tick() => true,
                    () = revocations.pull_wanted() => false,
                };
                let Some(accounts) = accounts.upgrade() else { return };
                let result = accounts.pull().await;
                match (&result, healthy) {
                    (Err(error), true) => tracing::error!(%error, "revocations of other processes are not seen"),
                    (Ok(()), false) => tracing::info!("revocations of other processes are seen again"),
                    _ => {}
                }
                healthy = result.is_ok();
                if !on_time {
                    continue;
                }
                if turn.is_multiple_of(PULLS_PER_PURGE)
                    && let Err(error) = accounts.store.purge(accounts.now_ms()).await
                {
                    tracing::warn!(%error, "ended sessions could not be purged; trying again in an hour");
                }
                if turn.is_multiple_of(PULLS_PER_PURGE)
                    && let Err(error) = accounts.look_for_bcrypt().await
                {
                    tracing::warn!(%error, "bcrypt hashes could not be looked for; trying again in an hour");
                }
                turn = turn.wrapping_add(1);
            }
        });
    }
}
