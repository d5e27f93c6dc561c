//! `Idempotency-Key` on several replicas: keys and answers are in their Redis, and without it nothing is promised.

use serde_json::json;
use uuid::Uuid;

use crate::harness::relay::Relay;
use crate::harness::{Answer, Gateway, GatewayConfig, Got, Hold, Origin, PATIENCE, PrivateRedis, send, table, until};

const ROUTES: &str = "  - { name: orders, match: { path: /orders, methods: [POST] }, to: { pool: echo }, auth: public, idempotency: {} }";

struct Replicas {
    origin: Origin,
    a: Gateway,
    b: Gateway,
}

impl Replicas {
    async fn start(redis: &str) -> Replicas {
        let origin = Origin::start().await;
        let config = GatewayConfig::table(&table::table(&[&origin.url()], "", ROUTES))
            .setting("redis", json!({ "prefix": format!("it-{}:", Uuid::new_v4().simple()) }))
            .env("REDIS_URL", redis);
        let (a, b) = tokio::join!(Gateway::start(config.clone()), Gateway::start(config));
        let replicas = Replicas { origin, a, b };
        replicas.connected().await;
        replicas
    }

    async fn connected(&self) {
        for gateway in [&self.a, &self.b] {
            until("a connection to Redis", PATIENCE, || async {
                (gateway.metric("gateway_store_up", &[("store", "redis")]).await == Some(1.0)).then_some(())
            })
            .await;
        }
    }
}

async fn order(gateway: &Gateway, key: &str, body: &str) -> Got {
    send(gateway.client.request("POST", "/orders").header("idempotency-key", key).body(body.to_owned())).await
}

/// The answer once it is there: a client may have it a moment before Redis does.
async fn settled(gateway: &Gateway, key: &str, body: &str) -> Got {
    until("the end of the first", PATIENCE, || async {
        let got = order(gateway, key, body).await;
        (got.status != 409 || got.code() != "IDEMPOTENCY_IN_FLIGHT").then_some(got)
    })
    .await
}

#[tokio::test]
async fn what_one_replica_did_the_other_does_not_do_again() {
    let redis = PrivateRedis::start().await;
    let Replicas { origin, a, b } = &Replicas::start(&redis.url()).await;
    origin.on("/orders", Answer::new(201, "text/plain", "x".repeat(200 << 10)).header("Set-Cookie", "a=1"));
    let first = order(a, "k", "body").await.expect(201);
    let second = settled(b, "k", "body").await.expect(201);
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!((&first.body, second.header("set-cookie")), (&second.body, Some("a=1")));
    assert_eq!(order(b, "k", "other").await.refusal(), (422, "IDEMPOTENCY_MISMATCH".into()));

    origin.on("/orders", Answer::new(200, "text/plain", "x".repeat(300 << 10)));
    order(b, "long", "").await.expect(200);
    assert_eq!(settled(a, "long", "").await.refusal(), (409, "IDEMPOTENCY_ANSWER_TOO_LONG".into()));
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn duplicates_on_both_replicas_are_done_once() {
    let redis = PrivateRedis::start().await;
    let Replicas { origin, a, b } = &Replicas::start(&redis.url()).await;
    let hold = Hold::new();
    origin.on("/orders", Answer::json(200, json!({})).held(&hold));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let request = if number % 2 == 0 { a } else { b }.client.request("POST", "/orders");
        tasks.spawn(send(request.header("idempotency-key", "k")));
    }
    let mut refused = 0;
    while refused < 19 {
        let got = tasks.join_next().await.unwrap().unwrap();
        // A busy machine may be too slow for Redis; then the gateway may not go on either.
        assert!(got.status == 409 || got.status == 503, "{got:?}");
        refused += 1;
    }
    hold.release();
    tasks.join_next().await.unwrap().unwrap().expect(200);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_failure_frees_the_key_for_the_other_replica_and_a_client_that_left_does_not() {
    let redis = PrivateRedis::start().await;
    let Replicas { origin, a, b } = &Replicas::start(&redis.url()).await;
    origin.on("/orders", Answer::bare(500));
    order(a, "k", "").await.expect(500);
    let hold = Hold::new();
    origin.on("/orders", Answer::bare(204).held(&hold));
    let mut raw = a.raw().await;
    raw.send(b"POST /orders HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n").await;
    origin.wait_count(2).await;
    assert_eq!(order(b, "k", "").await.refusal(), (409, "IDEMPOTENCY_IN_FLIGHT".into()));
    drop(raw);
    a.access_line(|line| line["status"] == 499).await;
    hold.release();
    let labels = [("route", "orders"), ("result", "unknown")];
    until("its end", PATIENCE, || async {
        a.metric("gateway_idempotency_total", &labels).await.filter(|count| *count >= 1.0)
    })
    .await;
    assert_eq!(order(b, "k", "").await.refusal(), (409, "IDEMPOTENCY_IN_FLIGHT".into()));
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn without_redis_only_requests_without_a_key_are_served() {
    let mut redis = PrivateRedis::start().await;
    let replicas = Replicas::start(&redis.url()).await;
    let Replicas { origin, a, .. } = &replicas;
    order(a, "k", "").await.expect(200);
    redis.stop();
    let got = order(a, "k", "").await;
    assert_eq!(got.refusal(), (503, "IDEMPOTENCY_UNAVAILABLE".into()));
    assert!(got.number("retry-after") >= 1);
    send(a.client.request("POST", "/orders")).await.expect(200);
    assert_eq!(origin.count(), 2);
    redis.start_again().await;
    replicas.connected().await;
    until("a request with a key", PATIENCE, || async { (order(a, "k", "").await.status == 200).then_some(()) }).await;
}

#[tokio::test]
async fn a_redis_that_falls_silent_is_as_good_as_none() {
    let redis = PrivateRedis::start().await;
    let relay = Relay::to(redis.address()).await;
    let Replicas { origin, a, .. } = &Replicas::start(&format!("redis://{}", relay.address())).await;
    order(a, "k", "").await.expect(200);
    relay.freeze();
    assert_eq!(order(a, "new", "").await.refusal(), (503, "IDEMPOTENCY_UNAVAILABLE".into()));
    send(a.client.request("POST", "/orders")).await.expect(200);
    assert_eq!(origin.count(), 2);
    relay.thaw();
    // The mark that was made all the same is lifted, too.
    until("the key", PATIENCE, || async { (order(a, "new", "").await.status == 200).then_some(()) }).await;
}
