//! Calls of the gateway's own.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::clock::Clock;
use crate::config::spec::{PoolSpec, RetriesSpec};
use crate::model::health::{Circuit, HealthView};
use crate::model::rejection::Rejection;
use crate::upstream::Pool;
use crate::upstream::fetch::{Call, Fetched, get};
use crate::upstream::testing::{Origin, Reply, eventually, millis, nobody, put, registry, unchecked};

async fn fetch(pool: &Pool, path: &str) -> Result<Fetched, Rejection> {
    let headers = [(HeaderName::from_static("x-request-id"), HeaderValue::from_static("abcdefgh"))];
    let call =
        Call { path, headers: &headers, deadline: Duration::from_millis(300), max_body: 64, retries: None, key: None };
    get(pool, &call, &Clock::system()).await
}

#[tokio::test]
async fn answers_come_back_whole_with_any_status() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let pool = put(&registry, &unchecked(&[origin.url()]));
    for status in [200, 404, 500] {
        origin.script("/stats", Reply::Json(status, format!("{{\"n\":{status}}}")));
        let answer = fetch(&pool, "/stats").await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (status, format!("{{\"n\":{status}}}").as_bytes()));
        assert_eq!(answer.content_type.unwrap(), "application/json");
    }
    let head = origin.last().to_ascii_lowercase();
    assert!(head.contains("x-request-id: abcdefgh") && head.contains(&format!("host: {}", origin.addr)), "{head}");
    assert_eq!(origin.open(), 1, "one pooled connection");
    assert_eq!(registry.pools()[0].targets[0].failures, 1, "the 500");
}

#[tokio::test]
async fn failures_become_rejections_and_count() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let pool = put(&registry, &unchecked(&[origin.url()]));
    let service = pool.service().clone();
    for (reply, expected) in [
        (Reply::Hang, Rejection::UpstreamTimeout(service.clone())),
        (Reply::Garbage, Rejection::BadGateway(service.clone())),
        (Reply::Close, Rejection::BadGateway(service.clone())),
    ] {
        origin.script("/stats", reply);
        assert_eq!(fetch(&pool, "/stats").await.unwrap_err(), expected);
    }
    let target = registry.pools()[0].targets[0].clone();
    assert_eq!((target.failures, target.circuit, target.in_flight), (3, Circuit::Open, 0));
    assert!(matches!(fetch(&pool, "/stats").await, Err(Rejection::CircuitOpen(..))));

    let pool = put(&registry, &unchecked(&[nobody().await]));
    let Err(Rejection::ServiceUnavailable(_, wait)) = fetch(&pool, "/stats").await else { panic!("connected") };
    assert!(wait >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_body_that_is_too_long_or_breaks_off_is_a_bad_gateway() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let pool = put(&registry, &unchecked(&[origin.url()]));
    origin.script("/long", Reply::Json(200, "x".repeat(65))).script("/cut", Reply::Cut).script("/drip", Reply::Drip);
    assert!(matches!(fetch(&pool, "/long").await, Err(Rejection::BadGateway(_))));
    assert_eq!(registry.pools()[0].targets[0].failures, 0, "the target works");
    assert!(matches!(fetch(&pool, "/cut").await, Err(Rejection::BadGateway(_))));
    assert!(matches!(fetch(&pool, "/drip").await, Err(Rejection::UpstreamTimeout(_) | Rejection::BadGateway(_))));
    eventually("no connection is kept", || origin.open() == 0).await;
}

#[tokio::test]
async fn a_pooled_connection_that_died_is_no_failure() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let pool = put(&registry, &unchecked(&[origin.url()]));
    origin.script("/stats", Reply::Once);
    for _ in 0..5 {
        assert_eq!(fetch(&pool, "/stats").await.unwrap().status, 200);
    }
    assert_eq!(origin.count("/stats"), 9, "four of them were asked again, on a new connection");
    assert_eq!(registry.pools()[0].targets[0].failures, 0);
}

/// With two targets, and retries that come at once.
fn with_retries(urls: &[String]) -> PoolSpec {
    PoolSpec { retries: RetriesSpec { backoff: millis(1), ..RetriesSpec::default() }, ..unchecked(urls) }
}

#[tokio::test]
async fn another_target_is_asked_after_a_failure() {
    let (bad, good) = (Origin::start().await, Origin::start().await);
    let registry = registry(&Clock::system());
    for reply in [Reply::status(503), Reply::Close, Reply::Garbage] {
        bad.script("/stats", reply);
        let pool = put(&registry, &with_retries(&[bad.url(), good.url()]));
        for _ in 0..2 {
            assert_eq!(fetch(&pool, "/stats").await.unwrap().status, 200);
        }
    }
    let pool = put(&registry, &with_retries(&[nobody().await, good.url()]));
    for _ in 0..2 {
        assert_eq!(fetch(&pool, "/stats").await.unwrap().status, 200);
    }
    assert_eq!(good.count("/stats"), 8);
    assert!(bad.count("/stats") > 0);
}

#[tokio::test]
async fn the_last_answer_counts_when_all_fail() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let pool = put(&registry, &with_retries(&[origin.url()]));
    origin.script("/stats", Reply::status(503));
    assert_eq!(fetch(&pool, "/stats").await.unwrap().status, 503);
    assert_eq!(origin.count("/stats"), 3, "and the circuit is open then");
    assert!(matches!(fetch(&pool, "/stats").await, Err(Rejection::CircuitOpen(..))));
}
