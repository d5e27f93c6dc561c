//! Several processes over one store, which is a model that tests move and make fail.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Handle;

use super::*;
use crate::config::spec::{OnStoreFailure, Sharing};
use crate::limits::{Limits, Policy, PolicyOptions, Scope, Subject};
use crate::model::gcra::Quota;
use crate::model::identity::UserId;
use crate::model::units::Rate;
use crate::store::limits_model::{ModelBucketStore, Mood};
use crate::telemetry::metrics::Metrics;

const NOW: Tick = Tick(1_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

/// One process.
struct Replica {
    limits: Limits,
    metrics: SharedLimitMetrics,
}

impl Replica {
    fn new(store: &Arc<ModelBucketStore>, replicas: u32) -> Replica {
        let metrics = Metrics::new("test").unwrap().shared_limits();
        let limits = Limits::local(1_000).distributed(store.clone(), replicas, metrics.clone(), Clock::manual().0);
        Replica { limits, metrics }
    }

    fn distributed(&self) -> &Distributed {
        self.limits.distributed.as_ref().unwrap()
    }

    fn policy(&self, name: &str, sharing: Sharing) -> Policy {
        self.policy_that(name, PolicyOptions { sharing, ..PolicyOptions::default() })
    }

    fn policy_that(&self, name: &str, options: PolicyOptions) -> Policy {
        Policy::new(name, Scope::AllRoutes, options, self.limits.buckets())
    }

    async fn ask(&self, checks: &[Check<'_>]) -> Verdict {
        self.limits.decide(NOW, &numbered(checks)).await.unwrap()
    }

    /// How many of `tries` requests pass.
    async fn admit(&self, tries: u32, checks: &[Check<'_>]) -> u32 {
        let mut admitted = 0;
        for _ in 0..tries {
            admitted += u32::from(self.ask(checks).await.is_allowed());
        }
        admitted
    }
}

/// With the indexes that they have here.
fn numbered<'p>(checks: &[Check<'p>]) -> Vec<Check<'p>> {
    checks.iter().enumerate().map(|(index, check)| Check { index, ..*check }).collect()
}

/// The index of the tightest policy and the tokens it has left.
fn told(verdict: &Verdict) -> Option<(usize, u64)> {
    verdict.tightest.map(|tightest| (tightest.index, tightest.decision.remaining))
}

/// The indexes of those that refused.
fn refused_by(verdict: &Verdict) -> Vec<usize> {
    (0..64).filter(|index| verdict.refuses(*index)).collect()
}

fn store() -> Arc<ModelBucketStore> {
    Arc::new(ModelBucketStore::new(1_767_225_600_000_000))
}

/// So many tokens an hour, and no burst.
fn check(policy: &Policy, tokens: u32) -> Check<'_> {
    let quota = Quota::new(Rate { limit: tokens, period: HOUR }, 0);
    Check::single(policy, Subject::User(UserId(1)), quota, 1)
}

#[tokio::test]
async fn replicas_admit_together_what_one_would() {
    let store = store();
    let replicas = [Replica::new(&store, 1), Replica::new(&store, 1)];
    let mut admitted = 0;
    for turn in 0..60 {
        let replica = &replicas[turn % 2];
        let policy = replica.policy("p", Sharing::Exact);
        let verdict = replica.ask(&[check(&policy, 40)]).await;
        let (index, decision) = verdict.tightest.map(|tightest| (tightest.index, tightest.decision)).unwrap();
        assert_eq!((index, decision.remaining), (0, 39_u64.saturating_sub(admitted)));
        assert_eq!(verdict.is_allowed(), turn < 40);
        admitted += u64::from(verdict.is_allowed());
    }
    assert_eq!(replicas.each_ref().map(|replica| replica.metrics.of(AnsweredBy::Redis)), [21, 21]);
    assert_eq!(replicas.each_ref().map(|replica| replica.metrics.of(AnsweredBy::DeniedMemory)), [9, 9]);
}

#[tokio::test]
async fn who_was_refused_is_not_asked_for_until_it_may_be_otherwise() {
    let (store, second) = (store(), Duration::from_secs(1));
    let replica = Replica::new(&store, 1);
    let policy = replica.policy("p", Sharing::Exact);
    let check = [check(&policy, 2)];
    assert_eq!(replica.admit(100, &check).await, 2);
    assert_eq!(store.calls(), 3);
    let name = policy.bucket_of(check[0].subject);
    store.reset(&[name]).await.unwrap();
    let almost = NOW.after(second - Duration::from_micros(1));
    assert!(!replica.limits.decide(almost, &check).await.unwrap().is_allowed());
    assert!(replica.limits.decide(NOW.after(second), &check).await.unwrap().is_allowed());
    assert_eq!(store.calls(), 4);
    // The wait is the true one, from when it was asked: in one hour two flow in, one is there.
    let second_later = NOW.after(second);
    assert!(replica.limits.decide(second_later, &check).await.unwrap().is_allowed());
    assert!(!replica.limits.decide(second_later, &check).await.unwrap().is_allowed());
    store.advance(HOUR / 2);
    assert!(replica.limits.decide(second_later.after(HOUR / 2), &check).await.unwrap().is_allowed());
}

#[tokio::test]
async fn what_was_taken_here_is_given_back_when_the_store_refuses() {
    let store = store();
    let replica = Replica::new(&store, 1);
    let here = replica.policy("here", Sharing::None);
    let shadow = replica
        .policy_that("shadow", PolicyOptions { shadow: true, sharing: Sharing::None, ..PolicyOptions::default() });
    let there = replica.policy("there", Sharing::Exact);
    let other = replica.policy("other", Sharing::Exact);
    let both = [check(&shadow, 4), check(&there, 3), check(&here, 7)];
    assert_eq!(replica.admit(3, &both).await, 3);
    let refused = replica.ask(&both).await;
    assert_eq!((refused.is_allowed(), told(&refused), refused_by(&refused)), (false, Some((1, 0)), vec![1]));
    // Each has what is left after three, whatever was tried since.
    let rest = [check(&other, 9), check(&shadow, 4), check(&here, 7)];
    let next = replica.ask(&rest).await;
    assert_eq!((next.is_allowed(), told(&next), refused_by(&next)), (true, Some((2, 3)), vec![]));
    let next = replica.ask(&rest).await;
    assert_eq!((next.is_allowed(), refused_by(&next)), (true, vec![1]), "the shadow has counted four");
    assert_eq!(replica.admit(10, &rest).await, 2);
}

#[tokio::test]
async fn who_is_refused_here_takes_nothing_there() {
    let store = store();
    let replica = Replica::new(&store, 1);
    let (here, there) = (replica.policy("here", Sharing::None), replica.policy("there", Sharing::Exact));
    assert_eq!(replica.admit(10, &[check(&there, 5), check(&here, 2)]).await, 2);
    assert_eq!((store.calls(), replica.metrics.of(AnsweredBy::Memory)), (2, 8));
    assert_eq!(replica.admit(10, &[check(&there, 5)]).await, 3);
}

#[tokio::test]
async fn a_refusal_tells_the_longest_wait_that_is_known() {
    let store = store();
    let replica = Replica::new(&store, 1);
    let here = replica.policy("here", Sharing::None);
    let [quick, slow] = ["quick", "slow"].map(|name| replica.policy(name, Sharing::Exact));
    let (here, quick, slow) = (check(&here, 2), check(&quick, 4), check(&slow, 1));
    let refusal = |verdict: Verdict| {
        let tightest = verdict.tightest.unwrap();
        (tightest.index, tightest.decision.outcome, refused_by(&verdict))
    };
    assert_eq!(replica.admit(9, &[quick]).await, 4);
    assert_eq!(replica.admit(9, &[slow]).await, 1);
    assert_eq!(replica.admit(9, &[here]).await, 2);
    let calls = store.calls();
    let both = refusal(replica.ask(&[quick, here]).await);
    assert_eq!(both, (1, Outcome::Denied(HOUR / 2), vec![0, 1]));
    let both = refusal(replica.ask(&[here, slow]).await);
    assert_eq!(both, (1, Outcome::Denied(HOUR), vec![0, 1]));
    assert_eq!(store.calls(), calls);
}

#[tokio::test]
async fn the_tightest_of_all_is_told_wherever_it_is_counted() {
    let store = store();
    let replica = Replica::new(&store, 1);
    let (here, there) = (replica.policy("here", Sharing::None), replica.policy("there", Sharing::Exact));
    let unseen = replica.policy_that("shadow", PolicyOptions { shadow: true, ..PolicyOptions::default() });
    let verdict = replica.ask(&[check(&unseen, 1), check(&here, 9), check(&there, 5)]).await;
    assert_eq!((told(&verdict), refused_by(&verdict)), (Some((2, 4)), vec![]));
    let verdict = replica.ask(&[check(&here, 9), check(&unseen, 1), check(&there, 5)]).await;
    assert_eq!((told(&verdict), refused_by(&verdict)), (Some((2, 3)), vec![1]));
    let few = replica.policy("few", Sharing::None);
    let verdict = replica.ask(&[check(&there, 5), check(&few, 2)]).await;
    assert_eq!(told(&verdict), Some((1, 1)));
}

#[tokio::test]
async fn without_the_store_each_replica_admits_its_share() {
    let store = store();
    let replicas = [Replica::new(&store, 2), Replica::new(&store, 2)];
    store.behave(Mood::Fails);
    let mut admitted = 0;
    for replica in &replicas {
        let policy = replica.policy("p", Sharing::Exact);
        admitted += replica.admit(100, &[check(&policy, 41)]).await;
        assert_eq!(replica.metrics.of(AnsweredBy::Fallback), 100);
        assert!(replica.metrics.are_degraded());
    }
    assert_eq!((admitted, store.calls()), (40, 6), "three tries each, then none");
}

#[tokio::test]
async fn a_store_that_is_away_is_not_tried_again_and_one_that_is_back_is() {
    let store = store();
    let replica = Replica::new(&store, 1);
    let policy = replica.policy("p", Sharing::Exact);
    let ask = [check(&policy, 2)];
    assert_eq!(replica.admit(1, &ask).await, 1);
    store.behave(Mood::Away);
    assert_eq!(replica.admit(5, &ask).await, 2, "buckets of their own");
    assert_eq!((store.calls(), replica.metrics.are_degraded()), (2, true));
    watch::probe_store(replica.distributed()).await;
    store.behave(Mood::Fails);
    watch::probe_store(replica.distributed()).await;
    assert!(replica.metrics.are_degraded());
    for mood in [Mood::Answers, Mood::Answers, Mood::Answers, Mood::Fails] {
        store.behave(mood);
        watch::probe_store(replica.distributed()).await;
    }
    store.behave(Mood::Answers);
    for good in 1..=4 {
        assert!(replica.metrics.are_degraded(), "{good} good tries in a row are too few");
        watch::probe_store(replica.distributed()).await;
    }
    assert!(!replica.metrics.are_degraded());
    assert_eq!(replica.admit(5, &ask).await, 1);
    // Nobody asks, and it is seen all the same.
    store.behave(Mood::Away);
    watch::probe_store(replica.distributed()).await;
    assert!(replica.metrics.are_degraded());
}

#[tokio::test]
async fn single_failures_degrade_nothing() {
    let store = store();
    let replica = Replica::new(&store, 1);
    let policy = replica.policy("p", Sharing::Exact);
    for _ in 0..5 {
        store.behave(Mood::LosesAnswers);
        assert_eq!(replica.admit(2, &[check(&policy, 100)]).await, 2);
        store.behave(Mood::Answers);
        assert_eq!(replica.admit(1, &[check(&policy, 100)]).await, 1);
    }
    assert!(!replica.metrics.are_degraded());
    assert_eq!(store.calls(), 15);
}

#[tokio::test]
async fn each_policy_says_what_becomes_of_it_without_the_store() {
    let store = store();
    let replica = Replica::new(&store, 1);
    store.behave(Mood::Away);
    let options = |shadow, on_store_failure| PolicyOptions { shadow, sharing: Sharing::Exact, on_store_failure };
    let allow = replica.policy_that("allow", options(false, OnStoreFailure::Allow));
    let deny = replica.policy_that("deny", options(false, OnStoreFailure::Deny));
    let watched = replica.policy_that("watched", options(true, OnStoreFailure::Deny));
    let local = replica.policy_that("local", options(false, OnStoreFailure::Local));
    let here = replica.policy("here", Sharing::None);

    let verdict = replica.ask(&[check(&allow, 1)]).await;
    assert_eq!((verdict.is_allowed(), verdict.tightest), (true, None), "uncounted, so nothing is told");
    assert_eq!(replica.admit(10, &[check(&allow, 1)]).await, 10);
    let verdict = replica.ask(&[check(&local, 3), check(&here, 3), check(&deny, 3)]).await;
    let expected = Decision { outcome: Outcome::Denied(DENIED_WAIT), remaining: 0, reset_after: DENIED_WAIT };
    assert_eq!(verdict.tightest.map(|tightest| (tightest.index, tightest.decision)), Some((2, expected)));
    assert_eq!(refused_by(&verdict), [2]);
    // Nothing was taken for it.
    let rest = [check(&watched, 1), check(&allow, 1), check(&here, 3), check(&local, 3)];
    let verdict = replica.ask(&rest).await;
    assert_eq!((verdict.is_allowed(), refused_by(&verdict)), (true, vec![0]));
    assert_eq!(replica.admit(10, &rest).await, 2);
}

#[tokio::test]
async fn replicas_are_those_that_must_be_there_or_more() {
    let store = store();
    let replica = Replica::new(&store, 2);
    assert_eq!(replica.distributed().replicas.count(), 2);
    for (seen, known) in [(1, 2), (5, 5), (2, 2)] {
        store.set_replicas(seen);
        assert!(watch::heartbeat(replica.distributed()).await);
        assert_eq!(replica.distributed().replicas.count(), known);
    }
    store.behave(Mood::Fails);
    assert!(!watch::heartbeat(replica.distributed()).await);
    assert_eq!(replica.distributed().replicas.count(), 2);
    let policy = replica.policy("p", Sharing::Exact);
    let costly = Check { cost: 9, ..check(&policy, 10) };
    assert_eq!(replica.admit(5, &[costly]).await, 1, "more than its share, and one passes all the same");
}

#[tokio::test(start_paused = true)]
async fn the_watch_tells_and_ends_the_degraded_state() {
    let store = store();
    store.set_replicas(3);
    let replica = Replica::new(&store, 1);
    replica.limits.watch_store(&Handle::current());
    let a_second = || tokio::time::sleep(Duration::from_secs(1));
    a_second().await;
    assert_eq!(replica.distributed().replicas.count(), 3);
    store.behave(Mood::Away);
    a_second().await;
    assert!(replica.metrics.are_degraded());
    store.behave(Mood::Answers);
    a_second().await;
    assert!(!replica.metrics.are_degraded());
}

/// Whatever the store does: a policy of this process has lost one token for each request that passed, and none for others; and
/// the shared one has not let more through than the store's bucket and that of the fallback hold.
#[tokio::test]
async fn nothing_leaks_whoever_refuses_and_however_the_store_behaves() {
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let store = store();
        let replica = Replica::new(&store, 2);
        let options = |on_store_failure| PolicyOptions { on_store_failure, ..PolicyOptions::default() };
        let shared = replica.policy_that("local", options(OnStoreFailure::Local));
        let policies = [
            replica.policy("own", Sharing::None),
            shared.clone(),
            replica.policy_that("deny", options(OnStoreFailure::Deny)),
            replica.policy_that("allow", options(OnStoreFailure::Allow)),
            replica.policy_that(
                "shadow",
                PolicyOptions { shadow: true, sharing: Sharing::None, ..PolicyOptions::default() },
            ),
        ];
        let tokens = [1_000, 40, 60, 80, 50];
        let (mut passed, mut passed_shared, mut now) = (0, 0, NOW);
        for _ in 0..300 {
            if random.random_ratio(1, 20) {
                let moods = [Mood::Answers, Mood::Answers, Mood::Away, Mood::Fails, Mood::LosesAnswers];
                store.behave(moods[random.random_range(0..moods.len())]);
                watch::probe_store(replica.distributed()).await;
            }
            now = now.after(Duration::from_millis(random.random_range(0..2)));
            let some = |index: &usize| *index == 0 || random.random_ratio(1, 2);
            let indexes: Vec<usize> = (0..policies.len()).filter(some).collect();
            let checks: Vec<Check<'_>> = indexes.iter().map(|index| check(&policies[*index], tokens[*index])).collect();
            if replica.limits.decide(now, &numbered(&checks)).await.unwrap().is_allowed() {
                passed += 1;
                passed_shared += u64::from(indexes.contains(&1));
            }
        }
        let own = Check { cost: 0, ..check(&policies[0], tokens[0]) };
        let left = replica.limits.buckets().decide_all(now, &[own]).unwrap().tightest.unwrap().decision.remaining;
        assert_eq!(left, 1_000 - passed, "seed {seed}");
        assert!(passed_shared <= 40 + 20, "seed {seed}: {passed_shared}");
    }
}
