//! Against the real Redis (`REDIS_URL`, else the local one), each test under a prefix of its own that it takes away.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use super::*;
use crate::clock::Clock;
use crate::store::LocalThrottle;
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

/// Takes every key of this prefix away; says how many there were and whether all of them end by themselves.
async fn sweep(redis: &SharedRedis) -> (usize, bool) {
    let script = Script::new(
        "local keys, all_end = redis.call('KEYS', ARGV[1] .. '*'), 1
         for _, key in ipairs(keys) do
           if redis.call('PTTL', key) < 0 then all_end = 0 end
           redis.call('DEL', key)
         end
         return { #keys, all_end }",
    );
    let mut call = script.prepare_invoke();
    call.arg(redis.key(""));
    let ask = |mut connection: redis::aio::MultiplexedConnection| async move {
        call.invoke_async::<(usize, u8)>(&mut connection).await
    };
    let (keys, all_end) = redis.ask(PATIENCE, ask).await.unwrap();
    (keys, all_end == 1)
}

fn claim(email: u8, address: u8) -> Claim {
    Claim {
        email_key: format!("{email}@example.com"),
        address: format!("192.0.2.{address}").parse().ok().filter(|_| address > 0),
    }
}

#[derive(Debug, Clone, Copy)]
enum End {
    Failed,
    Proven,
    Undecided,
}

fn steps() -> impl Strategy<Value = Vec<(u8, u8, End, u64)>> {
    let end = prop_oneof![6 => Just(End::Failed), 1 => Just(End::Proven), 1 => Just(End::Undecided)];
    let pause = prop::sample::select(vec![0, 0, 0, 1, 500, 1_000, 64_000, KEEP_MS, KEEP_WAITS_MS, KNOWN_MS]);
    prop::collection::vec((0_u8..2, 0_u8..3, end, pause), 1..120)
}

/// One after the other on both; every decision, with its times, must be the same.
#[test]
fn the_script_and_the_process_decide_alike() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    runner
        .run(&steps(), |steps| {
            runtime.block_on(async {
                let (clock, hand) = Clock::manual();
                let local = LocalThrottle::new(clock.clone()).unwrap();
                let mut shared = RedisThrottle::new(connected().await, Some(&"a secret".into()));
                for (email, address, end, pause) in steps {
                    hand.advance(Duration::from_millis(pause));
                    shared.now_ms = Some(clock.now().0 / 1000);
                    let claim = claim(email, address);
                    let (ours, theirs) = (local.try_reserve(&claim), shared.reserve(&claim).await.unwrap());
                    prop_assert_eq!(ours, theirs);
                    let Admission::Admitted(place) = ours else { continue };
                    match end {
                        End::Failed => {}
                        End::Proven => {
                            local.note_proven(&claim, Some(place));
                            shared.proven(&claim, Some(place)).await.unwrap();
                        }
                        End::Undecided => {
                            local.note_undecided(&claim, place);
                            shared.undecided(&claim, place).await.unwrap();
                        }
                    }
                }
                prop_assert!(sweep(&shared.redis).await.1, "a key that never ends");
                Ok(())
            })
        })
        .unwrap();
}

#[tokio::test]
async fn replicas_at_once_admit_the_free_ones_only_and_nothing_in_redis_names_anybody() {
    let redis = connected().await;
    let secret = "a secret".into();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let replica = RedisThrottle::new(redis.clone(), Some(&secret));
        // Patient, as a busy machine may be slow; a late answer would be no answer here.
        tasks.spawn(async move {
            soon("a decision", async {
                loop {
                    if let Ok(answer) = replica.reserve(&claim(1, 0)).await {
                        return answer;
                    }
                }
            })
            .await
        });
    }
    let answers = tasks.join_all().await;
    let admitted = answers.iter().filter(|answer| matches!(answer, Admission::Admitted(_))).count();
    assert_eq!(admitted, 5);
    let longest = answers
        .iter()
        .map(|answer| match answer {
            Admission::Wait(wait) => *wait,
            Admission::Admitted(_) => Duration::ZERO,
        })
        .max();
    assert!(longest.is_some_and(|wait| wait > Duration::ZERO && wait <= Duration::from_secs(1)));
    let list = redis::cmd("KEYS").arg(redis.key("*")).to_owned();
    let keys = redis
        .ask(PATIENCE, |mut connection| async move { list.query_async::<Vec<String>>(&mut connection).await })
        .await
        .unwrap();
    assert!(keys.len() == 1 && !keys[0].contains("example"), "{keys:?}");
    assert_eq!(sweep(&redis).await, (1, true));
}

#[tokio::test]
async fn without_a_common_secret_the_key_is_kept_in_redis() {
    let redis = connected().await;
    let (one, two) = (RedisThrottle::new(redis.clone(), None), RedisThrottle::new(redis.clone(), None));
    for n in 0..5 {
        let replica = if n % 2 == 0 { &one } else { &two };
        assert!(matches!(soon("a decision", replica.reserve(&claim(1, 1))).await, Ok(Admission::Admitted(_))));
    }
    assert!(matches!(one.reserve(&claim(1, 1)).await, Ok(Admission::Wait(_))));
    // The key has no end.
    assert_eq!(sweep(&redis).await, (3, false));
}

#[tokio::test]
async fn without_redis_there_is_an_error_at_once() {
    let mut server = PrivateRedis::start().await;
    let redis = SharedRedis::new(&SecretString::from(server.url()), "t:").unwrap();
    let throttle = RedisThrottle::new(redis.clone(), Some(&"a secret".into()));
    assert!(throttle.reserve(&claim(1, 1)).await.is_err());
    redis.connect().await.unwrap();
    assert!(throttle.reserve(&claim(1, 1)).await.is_ok());
    server.stop();
    assert!(throttle.reserve(&claim(1, 1)).await.is_err());
    assert!(throttle.proven(&claim(1, 1), None).await.is_err());
}
