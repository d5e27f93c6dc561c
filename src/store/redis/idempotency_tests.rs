//! Against real Redis servers, one for each test.

use super::*;
use crate::store::Kept;
use crate::store::idempotency::tests::{kept, scope};
use crate::testkit::redis_server::PrivateRedis;
use crate::testkit::wait::{PATIENCE, soon, until};

const LEASE: Duration = Duration::from_secs(600);
const TTL: Duration = Duration::from_secs(3_600);

async fn connected(server: &PrivateRedis) -> Arc<SharedRedis> {
    let redis = SharedRedis::new(&SecretString::from(server.url()), "t:").unwrap();
    redis.connect().await.unwrap();
    redis
}

fn replica(redis: &Arc<SharedRedis>, secret: Option<&SecretString>) -> RedisIdempotency {
    RedisIdempotency::new(redis.clone(), secret, Handle::current())
}

/// Patient, as a busy machine may be slow; a late answer would be no answer here.
async fn begin(store: &RedisIdempotency, key: &str, lease: Duration) -> Begun {
    soon("a decision", async {
        loop {
            if let Ok(begun) = store.begin(&scope(1, "r", key), lease).await {
                return begun;
            }
        }
    })
    .await
}

async fn first(store: &RedisIdempotency, key: &str) -> Ticket {
    match begin(store, key, LEASE).await {
        Begun::First(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

async fn end(store: &RedisIdempotency, ticket: Ticket, ending: Ending) {
    store.end(ticket, ending).unwrap().await.unwrap();
}

async fn ask<T: redis::FromRedisValue>(redis: &SharedRedis, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    redis.ask(PATIENCE, |mut connection| async move { command.query_async(&mut connection).await }).await.unwrap()
}

#[tokio::test]
async fn replicas_share_marks_and_answers_and_names_say_nothing() {
    let server = PrivateRedis::start().await;
    let (one, two) = (connected(&server).await, connected(&server).await);
    let secret = SecretString::from("a secret");
    let (a, b) = (replica(&one, Some(&secret)), replica(&two, Some(&secret)));
    let ticket = first(&a, "client-key").await;
    assert!(matches!(begin(&b, "client-key", LEASE).await, Begun::InFlight));
    end(&a, ticket, Ending::Keep(kept(100_000), TTL)).await;
    let Begun::Kept(copy) = begin(&b, "client-key", LEASE).await else { panic!("no answer") };
    assert_eq!(copy.answer.as_ref().map(|reply| reply.body.len()), Some(100_000));
    assert!(matches!(b.begin(&scope(2, "r", "client-key"), LEASE).await, Ok(Begun::First(_))));

    let names: Vec<String> = ask(&one, &["KEYS", "*"]).await;
    assert!(names.len() == 2 && names.iter().all(|name| name.starts_with("t:idem:") && !name.contains("client")));
    for name in names {
        let left: i64 = ask(&one, &["PTTL", &name]).await;
        assert!(left > 0 && left <= 3_600_000, "{left}");
    }
}

#[tokio::test]
async fn without_a_common_secret_the_key_is_kept_in_redis() {
    let server = PrivateRedis::start().await;
    let redis = connected(&server).await;
    first(&replica(&redis, None), "k").await;
    assert!(matches!(begin(&replica(&redis, None), "k", LEASE).await, Begun::InFlight));
}

#[tokio::test]
async fn a_mark_ends_with_its_lease_and_only_its_owner_moves_it() {
    let server = PrivateRedis::start().await;
    let redis = connected(&server).await;
    let store = replica(&redis, None);
    let Begun::First(late) = begin(&store, "k", Duration::from_millis(1)).await else { panic!("not new") };
    let second = until("the end of the lease", PATIENCE, || async {
        match begin(&store, "k", LEASE).await {
            Begun::First(ticket) => Some(ticket),
            _ => None,
        }
    })
    .await;
    end(&store, late, Ending::Free).await;
    end(&store, late, Ending::Keep(kept(1), TTL)).await;
    assert!(matches!(begin(&store, "k", LEASE).await, Begun::InFlight));
    end(&store, second, Ending::Free).await;
    let third = first(&store, "k").await;
    end(&store, third, Ending::Keep(Kept { fingerprint: [3; 32], answer: None }, TTL)).await;
    assert!(matches!(begin(&store, "k", LEASE).await, Begun::Kept(kept) if kept.answer.is_none()));
}

#[tokio::test]
async fn twenty_at_once_are_one() {
    let server = PrivateRedis::start().await;
    let redis = connected(&server).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = replica(&redis, Some(&"a secret".into()));
        tasks.spawn(async move { matches!(begin(&store, "k", LEASE).await, Begun::First(_)) });
    }
    let first = tasks.join_all().await.into_iter().filter(|first| *first).count();
    assert_eq!(first, 1);
}

#[tokio::test]
async fn without_redis_or_with_nonsense_in_it_nothing_is_decided() {
    let mut server = PrivateRedis::start().await;
    let redis = connected(&server).await;
    let store = replica(&redis, Some(&"a secret".into()));
    let ticket = first(&store, "k").await;
    let _: () = ask(&redis, &["SET", &redis.key(&name_of(&ticket.scope)), "K?"]).await;
    assert!(store.begin(&scope(1, "r", "k"), LEASE).await.is_err());
    server.stop();
    assert!(store.begin(&scope(1, "r", "other"), LEASE).await.is_err());
}
