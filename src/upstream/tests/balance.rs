//! The choice among targets: weights, tiers, load, latency, keys, slow start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Tick};
use crate::config::spec::{BalanceSpec, BalanceWord, HashKeySpec, HashSpec, HashWord, PoolSpec, TargetSpec};
use crate::model::health::HealthView;
use crate::upstream::testing::{Origin, Reply, checked, eventually, millis, nobody, put, registry, unchecked};
use crate::upstream::{Attempt, Demand, FailureKind, Observed, Pool, Tried};

async fn target(weight: u32) -> TargetSpec {
    TargetSpec { weight, ..TargetSpec::at(&nobody().await) }
}

async fn weighted(weights: &[u32], balance: BalanceSpec) -> PoolSpec {
    let mut spec = PoolSpec { balance, ..unchecked(&[]) };
    for weight in weights {
        spec.targets.push(target(*weight).await);
    }
    spec
}

/// How often each target comes up, by its label.
fn shares(pool: &Pool, now: Tick, picks: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..picks {
        *counts.entry(label(&pool.pick_any(now).unwrap())).or_default() += 1;
    }
    counts
}

fn label(attempt: &Attempt) -> String {
    attempt.target().label().to_string()
}

fn counts(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect()
}

#[tokio::test]
async fn weights_are_turns_within_the_tier_that_is_used() {
    let (clock, _hand) = Clock::manual();
    let registry = registry(&clock);
    let mut spec = weighted(&[3, 1, 5, 2, 4], BalanceSpec::default()).await;
    for backup in [2, 3] {
        spec.targets[backup].backup = true;
    }
    spec.targets[4].drain = true;
    let pool = put(&registry, &spec);
    assert_eq!(shares(&pool, clock.now(), 400), counts(&[("target-1", 300), ("target-2", 100)]));
    let reports = registry.pools()[0].targets.clone();
    let said: Vec<_> = reports.iter().map(|target| (target.weight, target.backup, target.draining)).collect();
    assert_eq!(said, [(3, false, false), (1, false, false), (5, true, false), (2, true, false), (4, false, true)]);

    // The primary ones fail: their circuits open, and the others take over, by their weights.
    while let Ok(mut attempt) = pool.pick_any(clock.now()) {
        if attempt.target().share().backup {
            break;
        }
        attempt.observe(Observed::Failure(FailureKind::Connect), clock.now());
    }
    assert_eq!(shares(&pool, clock.now(), 700), counts(&[("target-3", 500), ("target-4", 200)]));
}

#[tokio::test]
async fn the_less_busy_one_is_taken() {
    let (clock, _hand) = Clock::manual();
    let registry = registry(&clock);
    let pool = put(&registry, &weighted(&[2, 1], BalanceSpec::Word(BalanceWord::LeastRequest)).await);
    let held: Vec<Attempt> = (0..30).map(|_| pool.pick_any(clock.now()).unwrap()).collect();
    let heavy = held.iter().filter(|attempt| label(attempt) == "target-1").count();
    assert!((19..=21).contains(&heavy), "{heavy} of 30 at the one that weighs 2");
}

#[tokio::test]
async fn the_quicker_one_is_taken_and_a_failure_is_not_quick() {
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let pool = put(&registry, &weighted(&[1, 1], BalanceSpec::Word(BalanceWord::PeakEwma)).await);
    // Each is tried once before any is taken a second time.
    let (mut one, mut two) = (pool.pick_any(clock.now()).unwrap(), pool.pick_any(clock.now()).unwrap());
    let (quick, slow) = (label(&one), label(&two));
    assert_ne!(quick, slow);
    hand.advance(Duration::from_millis(10));
    one.observe(Observed::Success, clock.now());
    hand.advance(Duration::from_millis(90));
    two.sent(clock.now()); // its client took that long
    hand.advance(Duration::from_millis(40));
    two.observe(Observed::Success, clock.now());
    drop((one, two));
    assert_eq!(shares(&pool, clock.now(), 50), counts(&[(&quick, 50)]));
    // 10 ms for each of five at once is slower than 40 ms for one.
    let held: Vec<_> = (0..5).map(|_| pool.pick_any(clock.now()).unwrap()).collect();
    assert_eq!(held.iter().filter(|attempt| label(attempt) == quick).count(), 4);
    drop(held);

    let mut failing = pool.pick_any(clock.now()).unwrap();
    failing.observe(Observed::Failure(FailureKind::Connect), clock.now());
    drop(failing);
    assert_eq!(shares(&pool, clock.now(), 50), counts(&[(&slow, 50)]), "refusing at once is not quick");
    hand.advance(Duration::from_secs(300));
    for _ in 0..2 {
        let mut attempt = pool.pick_any(clock.now()).unwrap();
        hand.advance(Duration::from_millis(if label(&attempt) == quick { 10 } else { 40 }));
        attempt.observe(Observed::Success, clock.now());
    }
    // What was slow once fades, so it was tried again.
    assert!(shares(&pool, clock.now(), 50).contains_key(&quick));
}

#[tokio::test]
async fn latency_is_measured_only_where_it_counts_and_survives_a_reload() {
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let mut spec = weighted(&[1, 1], BalanceSpec::default()).await;
    let answer = |pool: &Pool| {
        let mut attempt = pool.pick_any(clock.now()).unwrap();
        hand.advance(Duration::from_millis(20));
        attempt.observe(Observed::Success, clock.now());
        let latency = attempt.target().memory().load.latency(clock.now());
        (label(&attempt), latency.map(|seconds| (seconds * 1_000.0).round()))
    };
    assert_eq!(answer(&put(&registry, &spec)).1, None);
    spec.balance = BalanceSpec::Word(BalanceWord::PeakEwma);
    let (first, latency) = answer(&put(&registry, &spec));
    assert_eq!(latency, Some(20.0));
    spec.timeouts.read = millis(9_000);
    assert_ne!(answer(&put(&registry, &spec)).0, first, "the first one's latency is known still");
}

#[tokio::test]
async fn the_same_key_goes_to_the_same_target_whatever_else_changes() {
    let (clock, _hand) = Clock::manual();
    let registry = registry(&clock);
    let hash = HashSpec { consistent_hash: HashKeySpec::Word(HashWord::Address) };
    let mut spec = weighted(&[1, 1, 1], BalanceSpec::Hash(hash)).await;
    let owner = |pool: &Pool, key: u64| {
        let (tried, now) = (Tried::default(), clock.now());
        pool.pick(&Demand { tried: &tried, key: Some(key) }, now).unwrap().target().socket()
    };
    let owners = |pool: &Pool| (0..300).map(|key| owner(pool, key)).collect::<Vec<_>>();
    let pool = put(&registry, &spec);
    let before = owners(&pool);
    assert_eq!(before, owners(&pool));
    // Another order and other timeouts: nothing moves. One that goes: only its keys do.
    spec.targets.rotate_left(1);
    spec.timeouts.read = millis(9_000);
    assert_eq!(owners(&put(&registry, &spec)), before);
    let gone = spec.targets.pop().unwrap();
    for (before, after) in before.iter().zip(owners(&put(&registry, &spec))) {
        assert!(*before == after || gone.url == format!("http://{before}"));
    }
}

/// The share of `label` in percent.
fn percent(pool: &Pool, now: Tick, label: &str) -> usize {
    shares(pool, now, 1_000).get(label).copied().unwrap_or_default() / 10
}

#[tokio::test]
async fn a_target_that_joins_or_comes_back_by_configuration_starts_slowly_and_never_at_the_start() {
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let mut spec = weighted(&[1], BalanceSpec::default()).await;
    spec.slow_start = millis(10_000);
    spec.targets.push(TargetSpec { drain: true, ..target(1).await });
    put(&registry, &spec);
    spec.targets.push(target(1).await);
    let pool = put(&registry, &spec);
    // A tenth beside a whole one: 9 percent. Then half of its way, and all of it.
    assert!((7..=11).contains(&percent(&pool, clock.now(), "target-3")), "a new one");
    assert_eq!(percent(&pool, clock.now(), "target-2"), 0, "it drains");
    hand.advance(Duration::from_secs(5));
    assert!((33..=38).contains(&percent(&pool, clock.now(), "target-3")));
    spec.targets[1].drain = false;
    let pool = put(&registry, &spec);
    hand.advance(Duration::from_secs(5));
    assert!((20..=24).contains(&percent(&pool, clock.now(), "target-2")), "0.55 of 2.55");
    hand.advance(Duration::from_secs(5));
    assert!((32..=34).contains(&percent(&pool, clock.now(), "target-2")));

    let (pool, all) = (put(&self::registry(&clock), &spec), ["target-1", "target-2", "target-3"]);
    assert!(all.iter().all(|label| (33..=34).contains(&percent(&pool, clock.now(), label))), "at the start");
}

#[tokio::test]
async fn a_target_that_the_checks_bring_back_starts_slowly() {
    let (stays, returns) = (Origin::start().await, Origin::start().await);
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let mut spec = checked(&[stays.url(), returns.url()]);
    spec.slow_start = millis(10_000);
    let pool = put(&registry, &spec);
    eventually("both are healthy", || registry.first_round_done()).await;
    assert_eq!(percent(&pool, clock.now(), "target-2"), 50, "not at the start");
    hand.advance(Duration::from_secs(60));
    returns.script("/health", Reply::status(500));
    eventually("out", || !registry.pools()[0].targets.iter().all(|target| target.health.as_str() == "healthy")).await;
    returns.script("/health", Reply::status(200));
    eventually("back", || registry.pools()[0].targets.iter().all(|target| target.health.as_str() == "healthy")).await;
    eventually("a tenth", || (7..=11).contains(&percent(&pool, clock.now(), "target-2"))).await;
    hand.advance(Duration::from_secs(10));
    assert_eq!(percent(&pool, clock.now(), "target-2"), 50);
}

#[tokio::test]
async fn one_target_alone_is_not_slowed() {
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let mut spec = weighted(&[1], BalanceSpec::default()).await;
    spec.slow_start = millis(10_000);
    let pool = put(&registry, &spec);
    pool.pick_any(clock.now()).unwrap().target().memory().ramp.start(clock.now());
    assert_eq!(shares(&pool, clock.now(), 100), counts(&[("target-1", 100)]));
    hand.advance(Duration::from_secs(1));
    assert_eq!(shares(&pool, clock.now(), 100), counts(&[("target-1", 100)]));
}

#[tokio::test]
async fn requests_of_a_removed_or_draining_target_go_on() {
    let (clock, _hand) = Clock::manual();
    let registry = registry(&clock);
    let mut spec = weighted(&[1, 1], BalanceSpec::default()).await;
    let pool = put(&registry, &spec);
    let both = [pool.pick_any(clock.now()).unwrap(), pool.pick_any(clock.now()).unwrap()];
    spec.targets[0].drain = true;
    let drained = put(&registry, &spec);
    assert_eq!(shares(&drained, clock.now(), 10), counts(&[("target-2", 10)]));
    let in_flight = || registry.pools()[0].targets.iter().map(|target| target.in_flight).collect::<Vec<_>>();
    assert_eq!(in_flight(), [1, 1]);
    spec.targets.remove(0);
    let removed = put(&registry, &spec);
    assert_eq!((in_flight(), shares(&removed, clock.now(), 10).len()), (vec![1], 1));
    for mut attempt in both {
        attempt.observe(Observed::Success, clock.now());
    }
    assert_eq!(in_flight(), [0]);
    assert!(Arc::strong_count(&pool) > 0);
}
