//! Against the real Redis (`REDIS_URL`, else the local one), each test under a prefix of its own that it takes away.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use secrecy::SecretString;
use tokio::task::JoinSet;

use super::*;
use crate::model::units::{ONE_YEAR, Rate};
use crate::store::limits_model::ModelBucketStore;
use crate::testkit::redis_server::PrivateRedis;
use crate::testkit::wait::{PATIENCE, soon};

#[allow(clippy::disallowed_methods)] // where the tests' server is
async fn connected() -> Arc<SharedRedis> {
    let url = std::env::var("REDIS_URL").ok().filter(|url| !url.is_empty());
    let url = SecretString::from(url.unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned()));
    let redis = SharedRedis::new(&url, &format!("test-{}:", Uuid::new_v4().simple())).unwrap();
    redis.connect().await.unwrap();
    redis
}

/// Patient, as a busy machine may be slow.
fn patient(redis: &Arc<SharedRedis>) -> RedisBucketStore {
    RedisBucketStore { within: PATIENCE, ..RedisBucketStore::new(redis.clone()) }
}

/// Sends one command to the Redis of these tests.
async fn command<T: redis::FromRedisValue>(redis: &SharedRedis, words: &[&str]) -> T {
    let mut command = redis::Cmd::new();
    command.arg(words);
    redis.ask(PATIENCE, |mut connection| async move { command.query_async(&mut connection).await }).await.unwrap()
}

/// Takes every key of this prefix away; says how many there were. None may stay for ever.
async fn sweep(redis: &SharedRedis) -> usize {
    let keys: Vec<String> = command(redis, &["KEYS", &redis.key("*")]).await;
    for key in &keys {
        assert!(command::<i64>(redis, &["PTTL", key]).await != -1, "{key} never ends");
        command::<u64>(redis, &["DEL", key]).await;
    }
    keys.len()
}

fn quota(limit: u32, seconds: u64, burst: u32) -> Quota {
    Quota::new(Rate { limit, period: Duration::from_secs(seconds) }, burst)
}

fn charge(bucket: &str, quota: Quota) -> Charge {
    Charge { bucket: bucket.to_owned(), quota, cost: 1, ahead: 0, shadow: false }
}

/// A number of any size up to `most`.
fn any_size(random: &mut StdRng, most: u32) -> u32 {
    let bits = random.random_range(0..=most.ilog2());
    random.random_range(0..=(2_u32 << bits) - 1).min(most)
}

/// From 1/day to 1 000 000 000/s, with a bucket that fills within a year: all that a table may say.
fn any_quota(random: &mut StdRng) -> Quota {
    loop {
        let seconds = [1, 60, 3_600, 86_400][random.random_range(0..4)];
        let quota = quota(any_size(random, 1_000_000_000).max(1), seconds, any_size(random, 1 << 30));
        let quota = if random.random_ratio(1, 4) { quota.holding_back(Duration::from_millis(200)) } else { quota };
        if quota.fill_time().until_full() < ONE_YEAR {
            return quota;
        }
    }
}

/// Time passes: not at all, by some tokens, until everything is full; and steps back, by little and by much.
fn any_time_after(random: &mut StdRng, now: u64, quota: Quota) -> u64 {
    let tokens = quota.time_of(u64::from(any_size(random, 1_000))).micros;
    match random.random_range(0..21) {
        0..5 => now,
        5..10 => now + u64::from(any_size(random, 10_000_000)),
        10..16 => now + tokens.min(1 << 40),
        16 => now + quota.fill_time().micros,
        17 | 18 => now - u64::from(any_size(random, 2_000_000)),
        19 => now - random.random_range(60_000_000..=60_000_001),
        _ => now - random.random_range(60_000_000..200_000_000),
    }
}

/// A step that may need nearly all there is, or next to nothing.
fn any_charges(random: &mut StdRng, quotas: &mut [Quota]) -> Vec<Charge> {
    let mut charges = Vec::new();
    for (bucket, quota) in quotas.iter_mut().enumerate() {
        if random.random_ratio(1, 60) {
            *quota = any_quota(random);
        }
        if random.random_ratio(1, 2) {
            continue;
        }
        let capacity = u32::try_from(quota.capacity()).unwrap_or(u32::MAX);
        let some = |random: &mut StdRng, one_in: u32, most: u32| {
            if random.random_ratio(1, one_in) { any_size(random, most) } else { 0 }
        };
        let cost = if random.random_ratio(1, 2) { 1 } else { any_size(random, capacity.saturating_add(1)).max(1) };
        charges.push(Charge {
            bucket: format!("b{bucket}"),
            quota: *quota,
            cost,
            ahead: some(random, 3, 8_000),
            shadow: random.random_ratio(1, 5),
        });
    }
    charges
}

/// One sequence of decisions on both, by seed: every answer must be the same, and what is kept at the end.
async fn agree(redis: Arc<SharedRedis>, seed: u64, steps: u32) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut now = 1_767_225_600_000_000;
    let model = ModelBucketStore::new(now);
    let mut shared = patient(&redis);
    let mut quotas = [(); 4].map(|()| any_quota(&mut random));
    for step in 0..steps {
        let mut charges = any_charges(&mut random, &mut quotas);
        charges.iter_mut().for_each(|charge| charge.bucket.insert_str(0, &format!("{seed}:")));
        let speed = quotas[random.random_range(0..quotas.len())];
        now = any_time_after(&mut random, now, speed);
        model.set_time(now);
        shared.now_micros = Some(now);
        let ours = model.charge_now(&charges);
        let theirs = shared.charge(&charges).await.unwrap();
        assert_eq!(ours, theirs, "seed {seed}, step {step}, at {now}: {charges:?}");
    }
    let names: Vec<String> = (0..quotas.len()).map(|bucket| format!("{seed}:b{bucket}")).collect();
    assert_eq!(model.peek(&names).await.unwrap(), shared.peek(&names).await.unwrap(), "seed {seed}");
    assert_eq!(model.reset(&names).await.unwrap(), shared.reset(&names).await.unwrap(), "seed {seed}");
}

/// 400 sequences of 250 steps; 50 at a time, so that their calls fill the connection.
#[tokio::test]
async fn the_script_and_the_function_agree_on_a_hundred_thousand_steps() {
    let redis = connected().await;
    let first = u64::from(rand::random::<u32>());
    let mut running = JoinSet::new();
    for seed in first..first + 400 {
        if running.len() == 50 {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(agree(redis.clone(), seed, 250));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    sweep(&redis).await;
}

#[tokio::test]
async fn replicas_at_once_take_what_there_is_and_no_more() {
    let redis = connected().await;
    let mut replicas = JoinSet::new();
    for _ in 0..4 {
        let limits = patient(&redis);
        replicas.spawn(async move {
            let (ask, quota) = ([charge("p:all:user:1", quota(20, 3_600, 20))], quota(20, 3_600, 20));
            let mut admitted = 0;
            for _ in 0..25 {
                let found = limits.charge(&ask).await.unwrap();
                admitted += found[0].debt.held(quota, 1);
            }
            admitted
        });
    }
    assert_eq!(replicas.join_all().await.iter().sum::<u32>(), 40);
    assert_eq!(sweep(&redis).await, 1);
}

#[tokio::test]
async fn by_the_time_of_redis_tokens_flow_in_and_a_full_bucket_is_none() {
    let redis = connected().await;
    let limits = patient(&redis);
    let (fast, slow) = (quota(1_000_000_000, 1, 0), quota(1, 86_400, 0));
    let both = [charge("fast", fast), charge("slow", slow)];
    assert_eq!(limits.charge(&both).await.unwrap()[1].debt, Debt::NONE);
    let again = limits.charge(&both).await.unwrap();
    assert_eq!(again[0].debt, Debt::NONE, "a token flows in within a nanosecond");
    let day = Duration::from_secs(86_400);
    let left = again[1].debt.until_full();
    assert!(left <= day && left > day - PATIENCE, "{left:?}");
    let names = ["fast", "slow", "other"].map(str::to_owned);
    let kept = limits.peek(&names).await.unwrap();
    assert_eq!(kept.iter().map(|kept| kept.map(|kept| kept.quota)).collect::<Vec<_>>(), [None, Some(slow), None]);
    assert_eq!(limits.reset(&names).await.unwrap().iter().flatten().count(), 1);
    assert_eq!(limits.charge(&both[1..]).await.unwrap()[0].debt, Debt::NONE);
    sweep(&redis).await;
}

#[tokio::test]
async fn keys_share_a_hash_tag_and_end_when_the_bucket_is_full() {
    let redis = connected().await;
    let limits = patient(&redis);
    limits.charge(&[charge("p:all:user:1", quota(1, 60, 0))]).await.unwrap();
    let keys: Vec<String> = command(&redis, &["KEYS", &redis.key("*")]).await;
    assert_eq!(keys, [redis.key("{limits}:p:all:user:1")]);
    let left: u64 = command(&redis, &["PTTL", &keys[0]]).await;
    assert!(left <= 61_001 && left > 30_000, "{left}");
    assert_eq!(sweep(&redis).await, 1);
}

#[tokio::test]
async fn what_is_no_bucket_is_written_over() {
    let redis = connected().await;
    let limits = patient(&redis);
    let (name, quota) = ("p:all:user:1", quota(2, 3_600, 0));
    let key = redis.key(&format!("{{limits}}:{name}"));
    let (ask, names) = ([charge(name, quota)], [name.to_owned()]);
    let garbage =
        ["", "full", "1 2 3", "9999999999999999 0 1 0 0 0", "9999999999999999 5 1 0 60000000 0", "-1 0 1 1 1 1"];
    for value in garbage {
        command::<String>(&redis, &["SET", &key, value]).await;
        assert_eq!(limits.charge(&ask).await.unwrap()[0].debt, Debt::NONE, "{value:?}");
        assert_ne!(limits.charge(&ask).await.unwrap()[0].debt, Debt::NONE, "{value:?}");
        command::<u64>(&redis, &["DEL", &key]).await;
    }
    command::<u64>(&redis, &["RPUSH", &key, "x"]).await;
    assert_eq!(limits.peek(&names).await.unwrap(), [None]);
    assert_eq!(limits.charge(&ask).await.unwrap()[0].debt, Debt::NONE);
    assert!(limits.peek(&names).await.unwrap()[0].is_some());
    assert_eq!(sweep(&redis).await, 1);
}

#[tokio::test]
async fn replicas_are_counted_while_they_say_that_they_are_here() {
    let redis = connected().await;
    let (one, two) = (patient(&redis), patient(&redis));
    assert_eq!(one.heartbeat().await.unwrap(), 1);
    assert_eq!(two.heartbeat().await.unwrap(), 2);
    assert_eq!(one.heartbeat().await.unwrap(), 2);
    // One that has been silent for 15 s, and one whose Redis had another time.
    let key = redis.key("{limits}:replicas");
    let now = u64::try_from(crate::clock::Clock::system().wall().as_millisecond()).unwrap();
    for (name, said) in [("silent", now - 16_000), ("odd", now + 86_400_000)] {
        command::<u64>(&redis, &["ZADD", &key, &said.to_string(), name]).await;
    }
    assert_eq!(one.heartbeat().await.unwrap(), 2);
    command::<String>(&redis, &["SET", &key, "nobody's"]).await;
    assert_eq!(one.heartbeat().await.unwrap(), 1);
    assert_eq!(sweep(&redis).await, 1);
}

#[tokio::test]
async fn without_redis_there_is_an_error_at_once_and_with_a_silent_one_soon() {
    let mut server = PrivateRedis::start().await;
    let redis = SharedRedis::new(&SecretString::from(server.url()), "t:").unwrap();
    let (limits, ask) = (RedisBucketStore::new(redis.clone()), [charge("b", quota(1, 60, 0))]);
    assert!(!limits.is_up() && limits.charge(&ask).await.is_err());
    redis.connect().await.unwrap();
    assert!(limits.is_up());
    soon("an answer in time", async { while limits.charge(&ask).await.is_err() {} }).await;
    server.command(&["CLIENT", "PAUSE", "60000"]);
    let late = limits.charge(&ask).await.unwrap_err().to_string();
    assert_eq!(late, "Redis did not answer within 25 ms");
    server.stop();
    assert!(limits.charge(&ask).await.is_err());
    assert!(limits.peek(&["b".to_owned()]).await.is_err() && limits.heartbeat().await.is_err());
}
