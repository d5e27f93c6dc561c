//! Policies with leases, over a model of the store and clocks that are moved by hand.

use std::time::Duration;

use super::*;
use crate::clock::Hand;
use crate::config::spec::Sharing;
use crate::limits::{Limits, Policy, PolicyOptions, Scope, Subject};
use crate::model::gcra::Quota;
use crate::model::units::Rate;
use crate::store::limits_model::{ModelBucketStore, Mood};
use crate::telemetry::metrics::Metrics;

/// One process and its clock.
struct Replica {
    limits: Limits,
    metrics: SharedLimitMetrics,
    clock: Clock,
    hand: Hand,
}

impl Replica {
    fn new(store: &Arc<ModelBucketStore>) -> Replica {
        let metrics = Metrics::new("test").unwrap().shared_limits();
        let (clock, hand) = Clock::manual();
        let limits = Limits::local(1_000).distributed(store.clone(), 2, metrics.clone(), clock.clone());
        Replica { limits, metrics, clock, hand }
    }

    fn policy(&self, name: &str, sharing: Sharing) -> Policy {
        let options = PolicyOptions { sharing, ..PolicyOptions::default() };
        Policy::new(name, Scope::AllRoutes, options, self.limits.buckets())
    }

    /// So many tokens a second.
    fn check<'p>(&self, policy: &'p Policy, tokens: u32) -> Check<'p> {
        let quota = Quota::new(Rate { limit: tokens, period: Duration::from_secs(1) }, 0);
        Check::single(policy, Subject::Everyone, self.limits.quota_of(policy, quota), 1)
    }

    /// Decides, and lets what runs beside requests run.
    async fn ask(&self, checks: &[Check<'_>]) -> Verdict {
        let checks: Vec<_> = checks.iter().enumerate().map(|(index, check)| Check { index, ..*check }).collect();
        let verdict = self.limits.decide(self.clock.now(), &checks).await.unwrap();
        tokio::task::yield_now().await;
        verdict
    }
}

fn store() -> Arc<ModelBucketStore> {
    Arc::new(ModelBucketStore::new(1_767_225_600_000_000))
}

#[tokio::test]
async fn replicas_with_leases_seldom_ask_and_admit_together_what_one_would() {
    let store = store();
    let replicas = [Replica::new(&store), Replica::new(&store)];
    let policies = replicas.each_ref().map(|replica| replica.policy("p", Sharing::Lease));
    let (mut admitted, mut all) = (0, 0);
    for turn in 0..40_000 {
        let (replica, policy) = (&replicas[turn % 2], &policies[turn % 2]);
        let verdict = replica.ask(&[replica.check(policy, 2_000)]).await;
        admitted += u32::from(verdict.is_allowed());
        all += 1;
        for replica in &replicas {
            replica.hand.advance(Duration::from_micros(50));
        }
        store.advance(Duration::from_micros(50));
    }
    // 1600 to begin with, and 2000 in each of two seconds; some are on their way.
    assert!((5_200..=5_600).contains(&admitted), "{admitted}");
    let of = |by| replicas.iter().map(|replica| replica.metrics.of(by)).sum::<u64>();
    let [lease, redis, denied] = [AnsweredBy::Lease, AnsweredBy::Redis, AnsweredBy::DeniedMemory].map(of);
    assert_eq!(lease + redis + denied, all);
    assert!(redis * 20 < all && lease * 10 > u64::from(admitted) * 9, "{redis} calls, {lease} leased of {admitted}");
}

#[tokio::test]
async fn remaining_counts_down_whoever_answers() {
    let store = store();
    let replica = Replica::new(&store);
    let policy = replica.policy("p", Sharing::Lease);
    for asked in 0..800 {
        let verdict = replica.ask(&[replica.check(&policy, 1_000)]).await;
        assert!(verdict.is_allowed(), "{asked}");
        assert_eq!(verdict.tightest.unwrap().decision.remaining, 799 - asked);
    }
    assert!(replica.metrics.of(AnsweredBy::Lease) > 700);
    assert!(!replica.ask(&[replica.check(&policy, 1_000)]).await.is_allowed());
}

#[tokio::test]
async fn small_limits_stay_exact() {
    let store = store();
    let replica = Replica::new(&store);
    let policy = replica.policy("p", Sharing::Lease);
    for asked in 0..30 {
        assert_eq!(replica.ask(&[replica.check(&policy, 15)]).await.is_allowed(), asked < 15, "{asked}");
    }
    assert_eq!((replica.metrics.of(AnsweredBy::Lease), store.calls()), (0, 16));
}

#[tokio::test]
async fn what_another_policy_refuses_costs_the_lease_nothing() {
    let store = store();
    let replica = Replica::new(&store);
    let (leased, exact) = (replica.policy("leased", Sharing::Lease), replica.policy("exact", Sharing::Exact));
    let alone = [replica.check(&leased, 1_000)];
    for _ in 0..10 {
        replica.ask(&alone).await;
    }
    let before = replica.ask(&alone).await.tightest.unwrap().decision.remaining;
    let both = [replica.check(&leased, 1_000), replica.check(&exact, 2)];
    for asked in 0..20 {
        let verdict = replica.ask(&both).await;
        assert_eq!((verdict.is_allowed(), verdict.refuses(0)), (asked < 2, false), "{asked}");
        replica.hand.advance(Duration::from_millis(1));
    }
    // Of the time that passed nothing flowed in, for the store's stood still.
    let after = replica.ask(&alone).await.tightest.unwrap().decision.remaining;
    assert!((before - 3..=before + 20).contains(&after), "{before}, {after}");
}

#[tokio::test]
async fn without_the_store_leases_pay_until_they_are_spent() {
    let store = store();
    let replica = Replica::new(&store);
    let policy = replica.policy("p", Sharing::Lease);
    let check = [replica.check(&policy, 1_000)];
    for _ in 0..100 {
        replica.ask(&check).await;
    }
    let paid = replica.metrics.of(AnsweredBy::Lease);
    store.behave(Mood::Away);
    for _ in 0..100 {
        assert!(replica.ask(&check).await.is_allowed());
    }
    assert!(replica.metrics.of(AnsweredBy::Lease) > paid);
    assert!(replica.metrics.of(AnsweredBy::Fallback) > 0 && replica.metrics.are_degraded());
    replica.hand.advance(Duration::from_millis(200));
    let paid = replica.metrics.of(AnsweredBy::Lease);
    assert!(replica.ask(&check).await.is_allowed());
    assert_eq!(replica.metrics.of(AnsweredBy::Lease), paid, "leases are over");
}
