//! What [`Accounts`] does by itself: sees what other processes revoked, and purges what is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

use super::Accounts;
use crate::store::StoreError;

/// How often facts of revocation written by other processes are pulled.
pub(super) const PULL_EVERY: Duration = Duration::from_secs(5);

/// How many pulls lie between two purges of the store: an hour.
const PULLS_PER_PURGE: u32 = 720;

impl Accounts {
    /// Takes in facts of revocation that this process has not seen, and forgets those that no longer matter.
    pub async fn pull(&self) -> Result<(), StoreError> {
        let mut pulled = self.pulled.lock().await;
        let facts = self.witness.saw(self.store.revocations_since(*pulled).await)?;
        *pulled = self.revocations.apply_all(&facts, *pulled);
        self.revocations.sweep(self.clock.unix_seconds());
        Ok(())
    }

    /// Starts the pulls (every 5 s) and purges (hourly) on a runtime. The task ends when the service is dropped.
    pub fn spawn_background(self: &Arc<Self>, runtime: &Handle) {
        let accounts = Arc::downgrade(self);
        runtime.spawn(async move {
            let mut ticks = tokio::time::interval(PULL_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut turn, mut healthy) = (0_u32, true);
            loop {
                ticks.tick().await;
                let Some(accounts) = accounts.upgrade() else { return };
                let result = accounts.pull().await;
                match (&result, healthy) {
                    (Err(error), true) => tracing::error!(%error, "revocations of other processes are not seen"),
                    (Ok(()), false) => tracing::info!("revocations of other processes are seen again"),
                    _ => {}
                }
                healthy = result.is_ok();
                if turn.is_multiple_of(PULLS_PER_PURGE)
                    && let Err(error) = accounts.store.purge(accounts.now_ms()).await
                {
                    tracing::warn!(%error, "ended sessions could not be purged; trying again in an hour");
                }
                turn = turn.wrapping_add(1);
            }
        });
    }
}
