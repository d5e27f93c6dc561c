//! Several processes over one store, which is a model that tests move and make fail.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Handle;

use super::*;
use crate::config::spec::{OnStoreFailure, Sharing};
use crate::limits::{Limits, Policy, Reach, Subject};
use crate::model::gcra::Quota;
use crate::model::identity::UserId;
use crate::model::units::Rate;
use crate::store::limits_model::{ModelLimits, Mood};
use crate::telemetry::metrics::Metrics;

const NOW: Tick = Tick(1_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

/// One process.
struct Replica {
    limits: Limits,
    metrics: SharedLimitMetrics,
}

impl Replica {
    fn new(store: &Arc<ModelLimits>, replicas: u32) -> Replica {
        let metrics = Metrics::new("test").unwrap().shared_limits();
        Replica { limits: Limits::shared(1_000, store.clone(), replicas, metrics.clone(), Clock::manual().0), metrics }
    }

    fn shared(&self) -> &Shared {
        self.limits.shared.as_ref().unwrap()
    }

    fn policy(&self, name: &str, sharing: Sharing) -> Policy {
        self.policy_that(name, (false, sharing, OnStoreFailure::Local))
    }

    fn policy_that(&self, name: &str, how: (bool, Sharing, OnStoreFailure)) -> Policy {
        Policy::new(name, Reach::AllRoutes, how, self.limits.buckets())
    }

    async fn ask(&self, checks: &[Check<'_>]) -> Verdict {
        self.limits.decide(NOW, checks).await.unwrap()
    }

    /// How many of `tries` requests pass.
    async fn admit(&self, tries: u32, checks: &[Check<'_>]) -> u32 {
        let mut admitted = 0;
        for _ in 0..tries {
            admitted += u32::from(self.ask(checks).await.allowed);
        }
        admitted
    }
}

fn store() -> Arc<ModelLimits> {
    Arc::new(ModelLimits::new(1_767_225_600_000_000))
}

/// So many tokens an hour, and no burst.
fn check(policy: &Policy, tokens: u32) -> Check<'_> {
    let quota = Quota::new(Rate { limit: tokens, period: HOUR }, 0);
    Check { policy, subject: Subject::User(UserId(1)), quota, cost: 1 }
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
        let (place, decision) = verdict.tightest.unwrap();
        assert_eq!((place, decision.remaining), (0, 39_u64.saturating_sub(admitted)));
        assert_eq!(verdict.allowed, turn < 40);
        admitted += u64::from(verdict.allowed);
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
    store.forget(&[name]).await.unwrap();
    let almost = NOW.after(second - Duration::from_micros(1));
    assert!(!replica.limits.decide(almost, &check).await.unwrap().allowed);
    assert!(replica.limits.decide(NOW.after(second), &check).await.unwrap().allowed);
    assert_eq!(store.calls(), 4);
    // The wait is the true one, from when it was asked: in one hour two flow in, one is there.
    let second_later = NOW.after(second);
    assert!(replica.limits.decide(second_later, &check).await.unwrap().allowed);
    assert!(!replica.limits.decide(second_later, &check).await.unwrap().allowed);
    store.advance(HOUR / 2);
    assert!(replica.limits.decide(second_later.after(HOUR / 2), &check).await.unwrap().allowed);
}

#[tokio::test]
async fn what_was_taken_here_is_given_back_when_the_store_refuses() {
    let store = store();
    let replica = Replica::new(&store, 1);
    let here = replica.policy("here", Sharing::None);
    let shadow = replica.policy_that("shadow", (true, Sharing::None, OnStoreFailure::Local));
    let there = replica.policy("there", Sharing::Exact);
    let other = replica.policy("other", Sharing::Exact);
    let both = [check(&shadow, 4), check(&there, 3), check(&here, 7)];
    assert_eq!(replica.admit(3, &both).await, 3);
    let refused = replica.ask(&both).await;
    assert_eq!((refused.allowed, refused.tightest.unwrap().0, refused.refused), (false, 1, 0b010));
    // Each has what is left after three, whatever was tried since.
    let rest = [check(&other, 9), check(&shadow, 4), check(&here, 7)];
    let next = replica.ask(&rest).await;
    assert_eq!((next.allowed, next.refused, next.tightest.unwrap().0), (true, 0, 2));
    let next = replica.ask(&rest).await;
    assert_eq!((next.allowed, next.refused), (true, 0b010), "the shadow has counted four");
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
async fn the_tightest_of_all_is_told_wherever_it_is_counted() {
    let store = store();
    let replica = Replica::new(&store, 1);
    let (here, there) = (replica.policy("here", Sharing::None), replica.policy("there", Sharing::Exact));
    let unseen = replica.policy_that("shadow", (true, Sharing::Exact, OnStoreFailure::Local));
    let told = |verdict: Verdict| verdict.tightest.map(|(place, decision)| (place, decision.remaining));
    let verdict = replica.ask(&[check(&unseen, 1), check(&here, 9), check(&there, 5)]).await;
    assert_eq!((told(verdict), verdict.refused), (Some((2, 4)), 0));
    let verdict = replica.ask(&[check(&here, 9), check(&unseen, 1), check(&there, 5)]).await;
    assert_eq!((told(verdict), verdict.refused), (Some((2, 3)), 0b010));
    let few = replica.policy("few", Sharing::None);
    let verdict = replica.ask(&[check(&there, 5), check(&few, 2)]).await;
    assert_eq!(told(verdict), Some((1, 1)));
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
    watch::look(replica.shared()).await;
    store.behave(Mood::Fails);
    watch::look(replica.shared()).await;
    assert!(replica.metrics.are_degraded());
    for mood in [Mood::Answers, Mood::Answers, Mood::Answers, Mood::Fails] {
        store.behave(mood);
        watch::look(replica.shared()).await;
    }
    store.behave(Mood::Answers);
    for good in 1..=4 {
        assert!(replica.metrics.are_degraded(), "{good} good tries in a row are too few");
        watch::look(replica.shared()).await;
    }
    assert!(!replica.metrics.are_degraded());
    assert_eq!(replica.admit(5, &ask).await, 1);
    // Nobody asks, and it is seen all the same.
    store.behave(Mood::Away);
    watch::look(replica.shared()).await;
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
    let how = |shadow, on_store_failure| (shadow, Sharing::Exact, on_store_failure);
    let allow = replica.policy_that("allow", how(false, OnStoreFailure::Allow));
    let deny = replica.policy_that("deny", how(false, OnStoreFailure::Deny));
    let watched = replica.policy_that("watched", how(true, OnStoreFailure::Deny));
    let local = replica.policy_that("local", how(false, OnStoreFailure::Local));
    let here = replica.policy("here", Sharing::None);

    let verdict = replica.ask(&[check(&allow, 1)]).await;
    assert_eq!((verdict.allowed, verdict.tightest), (true, None), "uncounted, so nothing is told");
    assert_eq!(replica.admit(10, &[check(&allow, 1)]).await, 10);
    let verdict = replica.ask(&[check(&local, 3), check(&here, 3), check(&deny, 3)]).await;
    let expected = Decision { outcome: Outcome::Denied(DENIED_WAIT), remaining: 0, reset_after: DENIED_WAIT };
    assert_eq!((verdict.tightest, verdict.refused), (Some((2, expected)), 0b100));
    // Nothing was taken for it.
    let rest = [check(&watched, 1), check(&allow, 1), check(&here, 3), check(&local, 3)];
    let verdict = replica.ask(&rest).await;
    assert_eq!((verdict.allowed, verdict.refused), (true, 0b0001));
    assert_eq!(replica.admit(10, &rest).await, 2);
}

#[tokio::test]
async fn replicas_are_those_that_must_be_there_or_more() {
    let store = store();
    let replica = Replica::new(&store, 2);
    assert_eq!(replica.shared().replicas(), 2);
    for (seen, known) in [(1, 2), (5, 5), (2, 2)] {
        store.set_replicas(seen);
        assert!(watch::tell(replica.shared()).await);
        assert_eq!(replica.shared().replicas(), known);
    }
    store.behave(Mood::Fails);
    assert!(!watch::tell(replica.shared()).await);
    assert_eq!(replica.shared().replicas(), 2);
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
    assert_eq!(replica.shared().replicas(), 3);
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
        let how = |on_store_failure| (false, Sharing::Exact, on_store_failure);
        let shared = replica.policy_that("local", how(OnStoreFailure::Local));
        let policies = [
            replica.policy("own", Sharing::None),
            shared.clone(),
            replica.policy_that("deny", how(OnStoreFailure::Deny)),
            replica.policy_that("allow", how(OnStoreFailure::Allow)),
            replica.policy_that("shadow", (true, Sharing::None, OnStoreFailure::Local)),
        ];
        let tokens = [1_000, 40, 60, 80, 50];
        let (mut passed, mut passed_shared, mut now) = (0, 0, NOW);
        for _ in 0..300 {
            if random.random_ratio(1, 20) {
                let moods = [Mood::Answers, Mood::Answers, Mood::Away, Mood::Fails, Mood::LosesAnswers];
                store.behave(moods[random.random_range(0..moods.len())]);
                watch::look(replica.shared()).await;
            }
            now = now.after(Duration::from_millis(random.random_range(0..2)));
            let some = |place: &usize| *place == 0 || random.random_ratio(1, 2);
            let places: Vec<usize> = (0..policies.len()).filter(some).collect();
            let checks: Vec<Check<'_>> = places.iter().map(|place| check(&policies[*place], tokens[*place])).collect();
            if replica.limits.decide(now, &checks).await.unwrap().allowed {
                passed += 1;
                passed_shared += u64::from(places.contains(&1));
            }
        }
        let own = Check { cost: 0, ..check(&policies[0], tokens[0]) };
        let left = replica.limits.decide_here(now, std::iter::once(own)).unwrap().tightest.unwrap().1.remaining;
        assert_eq!(left, 1_000 - passed, "seed {seed}");
        assert!(passed_shared <= 40 + 20, "seed {seed}: {passed_shared}");
    }
}
