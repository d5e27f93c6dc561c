//! Places at targets and in pools, and the line for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::clock::{Clock, Tick};
use crate::config::spec::{BreakerSpec, ConcurrencySpec, PanicSpec, PoolSpec, TargetSpec};
use crate::model::health::{Circuit, HealthView};
use crate::model::rejection::Rejection;
use crate::upstream::registry::Registry;
use crate::upstream::testing::{Origin, Reply, checked, eventually, millis, put, registry, unchecked};
use crate::upstream::{Attempt, Demand, FailureKind, Observed, Pool, Tried};

const NEVER: Tick = Tick(u64::MAX);

fn urls(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("http://127.0.0.{n}:1")).collect()
}

fn limited(targets: &[String], per_target: u32, per_pool: u32) -> PoolSpec {
    let limits = ConcurrencySpec { per_target, per_pool, queue: 64, queue_timeout: millis(60_000) };
    PoolSpec { concurrency: Some(limits), ..unchecked(targets) }
}

async fn acquire(pool: &Pool, clock: &Clock) -> Result<Attempt, Rejection> {
    pool.acquire(&Demand { tried: &Tried::default(), key: None }, clock, NEVER).await
}

/// A place without a wait.
fn at_once(pool: &Pool, clock: &Clock) -> Attempt {
    futures_util::FutureExt::now_or_never(acquire(pool, clock)).expect("a wait").unwrap()
}

fn waiting(registry: &Registry) -> u64 {
    registry.pools()[0].waiting.unwrap()
}

/// A request that joins the line of `pool` as the `nth`.
async fn joins(
    registry: &Registry,
    pool: &Arc<Pool>,
    clock: &Clock,
    nth: u64,
) -> JoinHandle<Result<Attempt, Rejection>> {
    let (pool, clock) = (pool.clone(), clock.clone());
    let task = tokio::spawn(async move { acquire(&pool, &clock).await });
    eventually("it waits", || waiting(registry) == nth).await;
    task
}

async fn soon<T>(task: JoinHandle<T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), task).await.expect("in time").unwrap()
}

#[tokio::test]
async fn places_go_to_those_who_wait_in_their_order() {
    let clock = Clock::system();
    let registry = registry(&clock);
    let pool = put(&registry, &limited(&urls(1), 1, 0));
    let mut held = at_once(&pool, &clock);
    let mut line = Vec::new();
    for nth in 1..=5 {
        line.push(joins(&registry, &pool, &clock, nth).await);
    }
    for (index, task) in line.into_iter().enumerate() {
        let left = 4 - index as u64;
        // Whoever comes now goes behind the others, though a place is free.
        drop(held);
        assert!(futures_util::FutureExt::now_or_never(acquire(&pool, &clock)).is_none() || left == 0);
        held = soon(task).await.unwrap();
        eventually("one less", || waiting(&registry) == left).await;
        assert_eq!(registry.pools()[0].targets[0].in_flight, 1);
    }
    held.finish();
    assert_eq!(registry.pools()[0].targets[0].in_flight, 0, "the target has done its part");
    drop(held);
    drop(at_once(&pool, &clock));
    assert_eq!(registry.pools()[0].targets[0].in_flight, 0);
}

#[tokio::test]
async fn each_target_has_its_own_places_and_the_pool_a_sum() {
    let clock = Clock::system();
    let registry = registry(&clock);
    let pool = put(&registry, &limited(&urls(3), 1, 0));
    let held: Vec<Attempt> = (0..3).map(|_| at_once(&pool, &clock)).collect();
    let mut labels: Vec<&str> = held.iter().map(|attempt| &**attempt.target().label()).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["target-1", "target-2", "target-3"]);
    let fourth = joins(&registry, &pool, &clock, 1).await;
    drop(held);
    drop(soon(fourth).await.unwrap());

    let pool = put(&registry, &limited(&urls(3), 0, 2));
    let held = [at_once(&pool, &clock), at_once(&pool, &clock)];
    let third = joins(&registry, &pool, &clock, 1).await;
    drop(held);
    soon(third).await.unwrap();
}

#[tokio::test]
async fn a_full_line_refuses_at_once_and_a_wait_has_an_end() {
    let clock = Clock::system();
    let registry = registry(&clock);
    let mut spec = limited(&urls(1), 1, 0);
    let limits = spec.concurrency.as_mut().unwrap();
    (limits.queue, limits.queue_timeout) = (1, millis(60_000));
    let pool = put(&registry, &spec);
    let held = at_once(&pool, &clock);
    let first = joins(&registry, &pool, &clock, 1).await;
    let refused = futures_util::FutureExt::now_or_never(acquire(&pool, &clock)).expect("a wait");
    assert!(matches!(refused, Err(Rejection::Overloaded(wait)) if wait == Duration::from_secs(1)));
    first.abort();
    eventually("it left", || waiting(&registry) == 0).await;

    let tried = Tried::default();
    let soon_over = clock.now().after(Duration::from_millis(20));
    let late = pool.acquire(&Demand { tried: &tried, key: None }, &clock, soon_over).await;
    assert!(matches!(late, Err(Rejection::Overloaded(_))), "its own deadline");
    spec.concurrency.as_mut().unwrap().queue_timeout = millis(20);
    let pool = put(&registry, &spec);
    assert!(matches!(acquire(&pool, &clock).await, Err(Rejection::Overloaded(_))), "the queue's");
    assert_eq!(waiting(&registry), 0);
    drop(held);
    at_once(&pool, &clock);
}

#[tokio::test]
async fn a_waiter_that_goes_just_when_it_is_its_turn_passes_it_on() {
    let clock = Clock::system();
    let registry = registry(&clock);
    let pool = put(&registry, &limited(&urls(1), 1, 0));
    let held = at_once(&pool, &clock);
    let first = joins(&registry, &pool, &clock, 1).await;
    let second = joins(&registry, &pool, &clock, 2).await;
    drop(held);
    // On this runtime of one thread the first was woken and did not run yet.
    first.abort();
    let held = soon(second).await.unwrap();
    let third = joins(&registry, &pool, &clock, 1).await;
    let panics = tokio::spawn(async move {
        let _held = held;
        panic!("a request's task fails, as this test wants it to");
    });
    assert!(panics.await.is_err());
    soon(third).await.unwrap();
}

#[tokio::test]
async fn a_circuit_that_opens_sends_those_who_wait_away() {
    let clock = Clock::system();
    let registry = registry(&clock);
    let pool = put(&registry, &limited(&urls(1), 2, 0));
    let mut held = vec![at_once(&pool, &clock), at_once(&pool, &clock)];
    let line = [joins(&registry, &pool, &clock, 1).await, joins(&registry, &pool, &clock, 2).await];
    held[0].observe(Observed::Failure(FailureKind::Reset), clock.now());
    held[1].observe(Observed::Failure(FailureKind::Reset), clock.now());
    assert_eq!(registry.pools()[0].targets[0].circuit, Circuit::Closed);
    // One goes on, and fails; while the other place stays taken.
    drop(held.pop());
    eventually("one less", || waiting(&registry) == 1).await;
    let [first, second] = line;
    let mut third_failure = soon(first).await.unwrap();
    third_failure.observe(Observed::Failure(FailureKind::Reset), clock.now());
    assert!(matches!(soon(second).await, Err(Rejection::CircuitOpen(..))), "nothing to wait for any more");
    assert!(matches!(acquire(&pool, &clock).await, Err(Rejection::CircuitOpen(..))));
}

#[tokio::test]
async fn the_checks_send_those_who_wait_away_and_let_them_go_on() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    two.script("/health", Reply::Close);
    let clock = Clock::system();
    let registry = registry(&clock);
    let limits = limited(&[], 1, 0).concurrency;
    let spec = PoolSpec { concurrency: limits, panic: PanicSpec::FailFast, ..checked(&[one.url(), two.url()]) };
    let pool = put(&registry, &spec);
    eventually("probed", || registry.first_round_done()).await;
    let held = at_once(&pool, &clock);
    let waits = joins(&registry, &pool, &clock, 1).await;
    two.script("/health", Reply::status(200));
    let other = soon(waits).await.unwrap();
    assert_eq!(&**other.target().label(), "target-2", "it came back while the first was taken");
    let waits = joins(&registry, &pool, &clock, 1).await;
    one.script("/health", Reply::Close);
    two.script("/health", Reply::Close);
    assert!(matches!(soon(waits).await, Err(Rejection::ServiceUnavailable(..))));
    drop((held, other));
}

#[tokio::test]
async fn a_panic_takes_no_more_places_than_there_are() {
    let clock = Clock::system();
    let registry = registry(&clock);
    let pool = put(&registry, &PoolSpec { breaker: one_failure(), ..limited(&urls(2), 1, 0) });
    for _ in 0..2 {
        at_once(&pool, &clock).observe(Observed::Failure(FailureKind::Reset), clock.now());
    }
    // Whatever their circuits say: one at a time.
    let held = [at_once(&pool, &clock), at_once(&pool, &clock)];
    assert_ne!(held[0].target().label(), held[1].target().label());
    let third = joins(&registry, &pool, &clock, 1).await;
    drop(held);
    soon(third).await.unwrap();
}

/// Circuits that open at once, all of them.
fn one_failure() -> BreakerSpec {
    BreakerSpec { failures: 1, max_ejected: 100, ..unchecked(&[]).breaker }
}

#[tokio::test]
async fn a_half_open_circuit_loses_no_probe_for_want_of_a_place() {
    let (clock, hand) = Clock::manual();
    let registry = registry(&clock);
    let pool = put(&registry, &limited(&urls(1), 1, 0));
    let mut held = at_once(&pool, &clock);
    for _ in 0..3 {
        held.observe(Observed::Failure(FailureKind::Status), clock.now());
        if registry.pools()[0].targets[0].circuit == Circuit::Closed {
            drop(held);
            held = at_once(&pool, &clock);
        }
    }
    hand.advance(Duration::from_secs(67));
    assert_eq!(registry.pools()[0].targets[0].circuit, Circuit::HalfOpen);
    let probe = joins(&registry, &pool, &clock, 1).await;
    let _next = joins(&registry, &pool, &clock, 2).await;
    drop(held);
    let mut probe = soon(probe).await.expect("the place, and with it the probe");
    assert!(matches!(acquire(&pool, &clock).await, Err(Rejection::CircuitOpen(..))), "one probe at a time");
    probe.observe(Observed::Success, clock.now());
    drop(probe);
    assert!(at_once(&pool, &clock).target().socket().to_string().ends_with(":1"));
}

#[tokio::test]
async fn reloads_lose_nobody_and_count_on() {
    let clock = Clock::system();
    let registry = registry(&clock);
    let mut spec = limited(&urls(1), 1, 0);
    let pool = put(&registry, &spec);
    let first = at_once(&pool, &clock);
    let mut line = std::collections::VecDeque::new();
    for nth in 1..=4 {
        line.push_back(joins(&registry, &pool, &clock, nth).await);
    }
    // A change of something else: everybody waits on, and the place is still taken.
    spec.timeouts.read = millis(7_000);
    put(&registry, &spec);
    assert_eq!((waiting(&registry), registry.pools()[0].targets[0].in_flight), (4, 1));
    // A higher limit lets one more go on, and so does another target.
    spec.concurrency.as_mut().unwrap().per_target = 2;
    put(&registry, &spec);
    let second = soon(line.pop_front().unwrap()).await.unwrap();
    eventually("one less", || waiting(&registry) == 3).await;
    spec.concurrency.as_mut().unwrap().per_target = 1;
    spec.targets = urls(2).iter().map(|url| TargetSpec::at(url)).collect();
    let newest = put(&registry, &spec);
    let third = soon(line.pop_front().unwrap()).await.unwrap();
    assert_eq!(&**third.target().label(), "target-2");
    // The limit that is lower again holds for those who came before it.
    drop(first);
    assert_eq!(waiting(&registry), 2);
    // A pool that goes: whoever waits goes on as places become free.
    registry.publish(&BTreeMap::new());
    drop((second, newest, pool));
    let fourth = soon(line.pop_front().unwrap()).await.unwrap();
    drop(fourth);
    soon(line.pop_front().unwrap()).await.unwrap();
    drop(third);
}

#[tokio::test]
async fn a_limit_that_is_new_counts_what_is_under_way_and_one_that_goes_holds_nobody() {
    let clock = Clock::system();
    let registry = registry(&clock);
    let pool = put(&registry, &unchecked(&urls(1)));
    let before = at_once(&pool, &clock);
    for (per_target, per_pool) in [(1, 0), (0, 1)] {
        let pool = put(&registry, &limited(&urls(1), per_target, per_pool));
        let waits = joins(&registry, &pool, &clock, 1).await;
        put(&registry, &unchecked(&urls(1)));
        soon(waits).await.unwrap();
    }
    let pool = put(&registry, &limited(&urls(1), 1, 0));
    let waits = joins(&registry, &pool, &clock, 1).await;
    drop(before);
    soon(waits).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_more_than_the_limits_however_requests_end() {
    let clock = Clock::system();
    let registry = registry(&clock);
    let pool = put(&registry, &limited(&urls(3), 2, 5));
    let most: Arc<[AtomicU64; 4]> = Arc::default();
    let served = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let (pool, clock, most, served) = (pool.clone(), clock.clone(), most.clone(), served.clone());
        tasks.spawn(async move {
            for _ in 0..100 {
                let patience = Duration::from_micros(rand::random_range(0..3_000));
                let Ok(taken) = tokio::time::timeout(patience, acquire(&pool, &clock)).await else { continue };
                let mut attempt = taken.unwrap();
                let number = usize::from(attempt.target().socket().to_string().contains(".2:"))
                    + 2 * usize::from(attempt.target().socket().to_string().contains(".3:"));
                let here = most[number].fetch_add(1, Ordering::SeqCst) + 1;
                let all = most[3].fetch_add(1, Ordering::SeqCst) + 1;
                assert!(here <= 2 && all <= 5, "{here} at one target, {all} in all");
                tokio::time::sleep(Duration::from_micros(rand::random_range(0..200))).await;
                most[number].fetch_sub(1, Ordering::SeqCst);
                most[3].fetch_sub(1, Ordering::SeqCst);
                if rand::random() {
                    attempt.finish();
                }
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert!(served.load(Ordering::Relaxed) > 100);
    let report = &registry.pools()[0];
    assert_eq!((report.waiting, report.targets.iter().map(|target| target.in_flight).sum::<u64>()), (Some(0), 0));
    let all: Vec<Attempt> = (0..5).map(|_| at_once(&pool, &clock)).collect();
    assert_eq!(all.len(), 5, "every place came back");
}
