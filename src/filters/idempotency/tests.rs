//! The filter, and what a recording says to its store, on the store of one process.

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::*;
use crate::clock::Clock;
use crate::filters::exchange::tests::Request;
use crate::model::role::Role;
use crate::store::{IdempotencyBounds, LocalIdempotency};
use crate::telemetry::metrics::Metrics;

const LEASE: Duration = Duration::from_secs(60);

fn filter(required: bool) -> Idempotency {
    on(Clock::manual().0, required)
}

fn on(clock: Clock, required: bool) -> Idempotency {
    let bounds = IdempotencyBounds { bytes: 1 << 20, entries: 100 };
    let store = LocalIdempotency::new(clock, bounds, |_| {}).unwrap();
    let metrics = Metrics::new("test").unwrap().idempotency("route");
    let spec = IdempotencySpec { required, max_answer: crate::model::units::ByteSize(100), ..Default::default() };
    Idempotency::new(Policy::new(&spec, Arc::new(store), metrics), "route")
}

fn post(body: &[u8]) -> Payload {
    let mut payload = Payload::new(&Method::POST, "/", None, &HeaderMap::new());
    payload.update(body);
    payload
}

async fn keyed(filter: &Idempotency, request: &Request) -> Result<Option<Keyed>, Rejection> {
    let mut exchange = request.exchange();
    filter.on_request(&mut exchange).await?;
    Ok(exchange.keyed)
}

async fn start(filter: &Idempotency, user: i64, body: &[u8]) -> Result<Start, Rejection> {
    let request = Request::get("/").method(Method::POST).by(user, Role::Candidat).with("idempotency-key", "k");
    keyed(filter, &request).await.unwrap().unwrap().begin(post(body), LEASE).await
}

/// A first request whose body is empty.
async fn first(filter: &Idempotency) -> Box<Recording> {
    let Ok(Start::First(mut recording)) = start(filter, 1, b"").await else { panic!("not the first") };
    assert!(recording.request_body(None, true).is_none());
    recording
}

async fn repeat(filter: &Idempotency) -> Result<Reply, Rejection> {
    match start(filter, 1, b"").await? {
        Start::Repeat(repeat) => repeat.answer(),
        Start::First(_) => Err(Rejection::NotFound),
    }
}

fn counted(filter: &Idempotency) -> Vec<u64> {
    IdempotencyResult::ALL.map(|result| filter.policy.metrics.of(result)).to_vec()
}

#[tokio::test]
async fn a_key_is_read_where_repeating_matters() {
    let with = |method: Method| Request::get("/").method(method).with("idempotency-key", "k");
    let without = Request::get("/").method(Method::POST);
    assert!(keyed(&filter(false), &with(Method::POST)).await.unwrap().is_some());
    assert!(keyed(&filter(true), &with(Method::GET)).await.unwrap().is_none());
    assert!(keyed(&filter(false), &without).await.unwrap().is_none());
    assert_eq!(keyed(&filter(true), &without).await.err(), Some(Rejection::MissingIdempotencyKey));
    let twice = with(Method::POST).with("idempotency-key", "k");
    assert_eq!(keyed(&filter(false), &twice).await.err(), Some(Rejection::InvalidIdempotencyKey));
}

#[tokio::test]
async fn a_key_is_its_caller_s() {
    let filter = filter(false);
    let _first = first(&filter).await;
    assert!(matches!(start(&filter, 1, b"").await, Err(Rejection::IdempotencyInFlight(_))));
    assert!(matches!(start(&filter, 2, b"").await, Ok(Start::First(_))));
    let anonymous = |address: &str| Request::get("/").method(Method::POST).from(address).with("idempotency-key", "k");
    let cookies =
        |texts: &[&str]| texts.iter().fold(anonymous("192.0.2.1"), |request, text| request.with("cookie", text));
    let requests = [
        (anonymous("192.0.2.1"), true),
        (anonymous("192.0.2.1"), false),
        (anonymous("192.0.2.2"), true),
        (cookies(&["a=1", "b=2"]), true),
        (cookies(&["a=1; b=2"]), false),
        (cookies(&["a=1"]), true),
        (anonymous("192.0.2.1").with("authorization", "a=1"), true),
        (anonymous("192.0.2.1").with("authorization", "Bearer b"), true),
    ];
    let mut alive = Vec::new();
    for (number, (request, expected)) in requests.iter().enumerate() {
        let keyed = keyed(&filter, request).await.unwrap().unwrap();
        let start = keyed.begin(post(b""), LEASE).await;
        assert_eq!(start.is_ok(), *expected, "{number}");
        alive.push(start);
    }
    let user = |cookie| {
        let request = Request::get("/").method(Method::POST).by(1, Role::Candidat);
        request.with("idempotency-key", "k").with("cookie", cookie)
    };
    // A proven user is one, whatever cookies come along.
    let keyed = keyed(&filter, &user("a=1")).await.unwrap().unwrap();
    assert!(matches!(keyed.begin(post(b""), LEASE).await, Err(Rejection::IdempotencyInFlight(_))));
}

#[tokio::test]
async fn a_whole_answer_is_given_again_without_what_framed_it() {
    let filter = filter(false);
    let mut recording = first(&filter).await;
    let mut headers = HeaderMap::new();
    for (name, value) in [("content-length", "4"), ("date", "today"), ("set-cookie", "a"), ("set-cookie", "b")] {
        headers.append(name, HeaderValue::from_static(value));
    }
    recording.answer_head(StatusCode::CREATED, &headers);
    recording.answer_body(Some(&Bytes::from_static(b"an")), false);
    assert!(matches!(repeat(&filter).await, Err(Rejection::IdempotencyInFlight(_))));
    recording.answer_body(Some(&Bytes::from_static(b"sw")), true);
    drop(recording);
    let reply = repeat(&filter).await.unwrap();
    assert_eq!((reply.status, &reply.body[..]), (StatusCode::CREATED, &b"answ"[..]));
    let names: Vec<&str> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["set-cookie", "set-cookie", "idempotency-replayed"]);
    let Ok(Start::Repeat(other)) = start(&filter, 1, b"other").await else { panic!("no repeat") };
    assert_eq!(other.answer().err(), Some(Rejection::IdempotencyMismatch));
    assert_eq!(counted(&filter), [1, 0, 0, 0, 1, 1, 1]);
}

#[tokio::test]
async fn failures_and_what_no_target_has_whole_free_the_key() {
    let filter = filter(false);
    for status in [500, 502, 503, 504, 408, 425, 429] {
        let mut recording = first(&filter).await;
        recording.answer_head(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        recording.answer_body(None, true);
    }
    // It said that it failed; the rest of its answer matters to nobody.
    first(&filter).await.answer_head(StatusCode::BAD_GATEWAY, &HeaderMap::new());
    let Ok(Start::First(mut unread)) = start(&filter, 1, b"").await else { panic!("not the first") };
    unread.answer_head(StatusCode::BAD_REQUEST, &HeaderMap::new());
    unread.answer_body(None, true);
    drop(unread);
    let Ok(Start::First(mut upload)) = start(&filter, 1, b"").await else { panic!("not the first") };
    upload.request_body(Some(&Bytes::from_static(b"half")), false);
    drop(upload);
    assert_eq!(counted(&filter), [0, 0, 10, 0, 0, 0, 0]);
    for status in [200, 204, 303, 400, 404, 409] {
        let filter = self::filter(false);
        let mut recording = first(&filter).await;
        recording.answer_head(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        recording.answer_body(None, true);
        assert_eq!(repeat(&filter).await.map(|reply| reply.status.as_u16()).ok(), Some(status));
    }
}

#[tokio::test]
async fn what_a_target_has_whole_stays_in_flight_until_the_lease_ends() {
    let (clock, hand) = Clock::manual();
    let filter = on(clock, false);
    let unheard = first(&filter).await;
    drop(unheard);
    let in_flight = async || matches!(repeat(&filter).await, Err(Rejection::IdempotencyInFlight(_)));
    assert!(in_flight().await);
    hand.advance(LEASE);
    let mut cut = first(&filter).await;
    cut.answer_head(StatusCode::OK, &HeaderMap::new());
    cut.answer_body(Some(&Bytes::from_static(b"half")), false);
    drop(cut);
    assert!(in_flight().await);
    hand.advance(LEASE);
    // The first target may be at work, whatever became of the next try.
    let mut retried = first(&filter).await;
    retried.restart();
    retried.request_body(None, true);
    retried.answer_head(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new());
    retried.answer_body(None, true);
    assert!(in_flight().await);
    hand.advance(LEASE);
    let mut refused = first(&filter).await;
    refused.resolved();
    refused.restart();
    drop(refused);
    first(&filter).await.answer_head(StatusCode::NO_CONTENT, &HeaderMap::new());
    assert!(repeat(&filter).await.is_ok());
    assert_eq!(counted(&filter), [1, 0, 1, 3, 1, 3, 0]);
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    for (status, length) in [(204, None), (304, None), (200, Some("0"))] {
        let filter = filter(false);
        let mut headers = HeaderMap::new();
        length.into_iter().for_each(|length| drop(headers.insert("content-length", HeaderValue::from_static(length))));
        first(&filter).await.answer_head(StatusCode::from_u16(status).unwrap(), &headers);
        assert!(repeat(&filter).await.is_ok(), "{status}");
    }
}

#[tokio::test]
async fn an_answer_over_the_cap_is_not_repeated_and_not_done_again() {
    for (header, body) in [(0, 101), (90, 11), (101, 0)] {
        let filter = filter(false);
        let mut recording = first(&filter).await;
        let mut headers = HeaderMap::new();
        if header > 0 {
            headers.insert("x", HeaderValue::from_str(&"v".repeat(header - 1)).unwrap());
        }
        recording.answer_head(StatusCode::OK, &headers);
        recording.answer_body(Some(&Bytes::from(vec![0; body])), true);
        drop(recording);
        assert_eq!(repeat(&filter).await.err(), Some(Rejection::IdempotencyAnswerTooLong));
        assert_eq!(counted(&filter), [0, 1, 0, 0, 0, 0, 0]);
    }
}

#[tokio::test]
async fn a_retry_begins_the_payload_and_the_answer_again() {
    let filter = filter(false);
    let Ok(Start::First(mut recording)) = start(&filter, 1, b"").await else { panic!("not the first") };
    recording.request_body(Some(&Bytes::from_static(b"body")), true);
    recording.restart();
    recording.request_body(Some(&Bytes::from_static(b"bo")), false);
    recording.answer_head(StatusCode::OK, &HeaderMap::new());
    recording.answer_body(Some(&Bytes::from_static(b"early")), true);
    assert!(matches!(repeat(&filter).await, Err(Rejection::IdempotencyInFlight(_))));
    recording.request_body(Some(&Bytes::from_static(b"dy")), false);
    recording.request_body(None, true);
    recording.request_body(None, true);
    let Ok(Start::Repeat(same)) = start(&filter, 1, b"body").await else { panic!("no repeat") };
    assert_eq!(&same.answer().unwrap().body[..], b"early");
}
