//! What operators decided about single users and addresses, as this process knows it: pulled from the store every few
//! seconds, kept while the store does not answer, ended by the wall clock between two pulls.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

use super::{Blocks, Overrides};
use crate::clock::Clock;
use crate::store::{LimitRuleStore, StoreError};
use crate::telemetry::metrics::LimitRuleMetrics;

/// How often the store is asked whether anything changed.
pub const PULL_EVERY: Duration = Duration::from_secs(5);

/// The operators' rules.
#[derive(Debug, Default)]
pub struct OperatorRules {
    overrides: Overrides,
    blocks: Blocks,
    /// Stamp of what was read last.
    known: Mutex<Option<i64>>,
}

impl OperatorRules {
    /// Other rates of single users.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Refused networks.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Takes in what was changed since the last pull.
    ///
    /// # Errors
    /// When the store does not answer; what is known stays.
    pub async fn pull(&self, store: &dyn LimitRuleStore) -> Result<(), StoreError> {
        let known = *self.known.lock();
        let Some(rules) = store.limit_rules(known).await? else { return Ok(()) };
        self.blocks.set(&rules.blocks);
        self.overrides.set(rules.overrides);
        *self.known.lock() = Some(rules.stamp);
        Ok(())
    }

    /// Pulls once, so that a start lets nobody in who is blocked, and then again and again on a runtime. The task ends
    /// when the rules are dropped.
    pub async fn follow(
        self: &Arc<Self>,
        store: Arc<dyn LimitRuleStore>,
        clock: Clock,
        metrics: LimitRuleMetrics,
        runtime: &Handle,
    ) {
        let mut healthy = self.pull_and_report(&*store, clock.unix_seconds(), &metrics, true).await;
        let rules = Arc::downgrade(self);
        runtime.spawn(async move {
            let mut ticks = tokio::time::interval(PULL_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let Some(rules) = rules.upgrade() else { return };
                healthy = rules.pull_and_report(&*store, clock.unix_seconds(), &metrics, healthy).await;
            }
        });
    }

    /// One pull, told of when it is the first that fails or succeeds again. Answers whether it succeeded.
    async fn pull_and_report(
        &self,
        store: &dyn LimitRuleStore,
        unix_seconds: i64,
        metrics: &LimitRuleMetrics,
        was_healthy: bool,
    ) -> bool {
        let result = self.pull(store).await;
        match (&result, was_healthy) {
            (Err(error), true) => {
                tracing::error!(%error, "new overrides and blocks are not seen; those that are known hold on");
            }
            (Ok(()), false) => tracing::info!("new overrides and blocks are seen again"),
            _ => {}
        }
        metrics.overrides.set(i64::try_from(self.overrides.count(unix_seconds)).unwrap_or(i64::MAX));
        metrics.blocks.set(i64::try_from(self.blocks.count(unix_seconds)).unwrap_or(i64::MAX));
        result.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use ipnet::IpNet;

    use super::*;
    use crate::model::identity::UserId;
    use crate::store::{AddressBlock, LimitOverride, LimitRules};
    use crate::telemetry::metrics::Metrics;

    /// Gives what it was given; nothing while it is down.
    #[derive(Default)]
    struct Stub {
        rules: Mutex<Option<LimitRules>>,
        down: AtomicBool,
    }

    #[async_trait]
    impl LimitRuleStore for Stub {
        async fn put_override(&self, _: LimitOverride) -> Result<(), StoreError> {
            unreachable!()
        }

        async fn remove_override(&self, _: UserId, _: &str, _: i64) -> Result<bool, StoreError> {
            unreachable!()
        }

        async fn put_block(&self, _: AddressBlock) -> Result<(), StoreError> {
            unreachable!()
        }

        async fn remove_block(&self, _: IpNet, _: i64) -> Result<bool, StoreError> {
            unreachable!()
        }

        async fn limit_rules(&self, known: Option<i64>) -> Result<Option<LimitRules>, StoreError> {
            if self.down.load(Ordering::Acquire) {
                return Err(StoreError::Unavailable("told so".into()));
            }
            Ok(self.rules.lock().clone().filter(|rules| known != Some(rules.stamp)))
        }
    }

    fn rules(stamp: i64, until_s: i64) -> LimitRules {
        let network = "192.0.2.0/24".parse().unwrap();
        let block = AddressBlock { network, until_s, reason: None, made_at_ms: 0 };
        LimitRules { stamp, overrides: Vec::new(), blocks: vec![block] }
    }

    /// A gateway whose clock was ahead when it read: what it took for over is in force once the clock is right.
    #[tokio::test]
    async fn what_is_over_by_a_wrong_clock_comes_back_with_the_right_one() {
        let (store, known) = (Stub::default(), OperatorRules::default());
        *store.rules.lock() = Some(rules(1, 100));
        let metrics = Metrics::new("test").unwrap().limit_rules();
        let refused = |now| known.blocks().refuse("192.0.2.7".parse().unwrap(), now);
        assert!(known.pull_and_report(&store, 5_000, &metrics, true).await);
        assert!(!refused(5_000) && metrics.blocks.get() == 0);
        assert!(known.pull_and_report(&store, 50, &metrics, true).await);
        assert!(refused(50) && metrics.blocks.get() == 1);
    }

    #[tokio::test]
    async fn a_store_that_is_down_takes_nothing_away() {
        let (store, known) = (Stub::default(), OperatorRules::default());
        let refused = |now| known.blocks().refuse("192.0.2.7".parse().unwrap(), now);
        known.pull(&store).await.unwrap();
        assert!(!refused(0));
        *store.rules.lock() = Some(rules(1, 100));
        known.pull(&store).await.unwrap();
        assert!(refused(99));
        store.down.store(true, Ordering::Release);
        known.pull(&store).await.unwrap_err();
        assert!(refused(99) && !refused(100), "it goes on, and ends in time");
        *store.rules.lock() = Some(rules(1, 900));
        store.down.store(false, Ordering::Release);
        known.pull(&store).await.unwrap();
        assert!(!refused(100), "nothing is taken in under the same stamp");
        *store.rules.lock() = Some(rules(2, 900));
        known.pull(&store).await.unwrap();
        assert!(refused(100));
    }
}
