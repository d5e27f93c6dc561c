//! Retries: which requests get another try, with what body, how many the pool allows, and what is said of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::gateway::free_port;
use crate::harness::wire::sha256;
use crate::harness::{Answer, Gateway, GatewayConfig, Origin, PATIENCE, send, table, until};

/// Without a breaker, and with retries that come at once.
const QUICK: &str = "    breaker: { failures: 0 }
    retries: { backoff: 1ms, longest_backoff: 2ms }";

const ROUTES: &str = "  - { name: echo, match: { prefix: /echo, methods: [GET, POST, PUT] }, to: { pool: echo }, auth: public, body: { max: 4MiB } }
  - { name: once, match: { path: /once, methods: [GET] }, to: { pool: echo }, auth: public, retries: 0 }
  - { name: often, match: { path: /often, methods: [GET] }, to: { pool: echo }, auth: public, retries: 5 }
  - { name: short, match: { path: /short, methods: [GET] }, to: { pool: echo }, auth: public, timeout: 1s }
  - { name: capped, match: { path: /capped, methods: [PUT] }, to: { pool: echo }, auth: public, body: { max: 60000B } }
  - { name: json, match: { path: /json, methods: [PUT] }, to: { pool: echo }, auth: public, body: { json: true } }
  - { name: sum, match: { path: /sum, methods: [GET] }, to: { aggregate: { parts: { one: { pool: echo, path: /part } } } }, auth: public }";

async fn gateway(targets: &[&str], pool: &str) -> Gateway {
    Gateway::start(GatewayConfig::table(&table::table(targets, pool, ROUTES))).await
}

async fn in_front_of(origins: &[Origin], pool: &str) -> Gateway {
    let urls: Vec<String> = origins.iter().map(Origin::url).collect();
    gateway(&urls.iter().map(String::as_str).collect::<Vec<_>>(), pool).await
}

async fn origins<const N: usize>() -> [Origin; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Origin::start().await);
    }
    all.try_into().ok().expect("as many")
}

fn total(origins: &[Origin]) -> usize {
    origins.iter().map(Origin::count).sum()
}

/// Retries with this result.
async fn retries(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric("gateway_retries_total", &[("pool", "echo"), ("result", result)]).await.unwrap_or(0.0)
}

fn busy() -> Answer {
    Answer::json(503, json!({"code": "OWN"}))
}

#[tokio::test]
async fn a_retry_goes_to_another_target_and_is_told_of() {
    let all = origins::<2>().await;
    all[0].on("/echo", busy());
    let gateway = in_front_of(&all, QUICK).await;
    for number in 0..4 {
        let id = format!("retried-{number}");
        send(gateway.client.request("GET", "/echo").header("x-request-id", &id)).await.expect(200);
        gateway.access_line(|line| line["request_id"] == id.as_str()).await;
    }
    let failed = all[0].count() as f64;
    assert!(failed > 0.0);
    assert_eq!(retries(&gateway, "success").await, failed);
    let lines = gateway.access_log();
    let retried: Vec<_> = lines.iter().filter(|line| line["upstream"]["attempts"] == 2).collect();
    assert_eq!(retried.len() as f64, failed);
    for line in retried {
        let upstream = &line["upstream"];
        assert_eq!((&upstream["tried"], &upstream["target"]), (&json!(["target-1"]), &json!("target-2")), "{line}");
        assert_eq!((&upstream["status"], &line["status"]), (&json!(200), &json!(200)), "{line}");
    }
    assert!(lines.iter().all(|line| line["upstream"]["attempts"] == 2 || line["upstream"]["tried"].is_null()));
}

#[tokio::test]
async fn routes_say_how_often() {
    let [origin] = origins().await;
    for path in ["/once", "/often", "/echo"] {
        origin.on(path, busy());
    }
    let gateway = in_front_of(std::slice::from_ref(&origin), QUICK).await;
    for (path, tries) in [("/once", 1), ("/often", 6), ("/echo", 3)] {
        let before = origin.count();
        assert_eq!(gateway.client.get(path).await.refusal(), (503, "OWN".to_owned()));
        assert_eq!(origin.count() - before, tries, "{path}");
    }
}

#[tokio::test]
async fn a_budget_that_is_spent_leaves_the_answer_as_it_is() {
    let [origin] = origins().await;
    origin.on("/echo", busy().header("X-Own", "yes"));
    let pool = "    breaker: { failures: 0 }\n    retries: { budget: 0, floor: 0 }";
    let gateway = in_front_of(std::slice::from_ref(&origin), pool).await;
    let got = gateway.client.get("/echo").await;
    assert_eq!((got.refusal(), got.header("x-own")), ((503, "OWN".to_owned()), Some("yes")));
    assert_eq!((origin.count(), retries(&gateway, "budget_exhausted").await), (1, 1.0));
}

#[tokio::test]
async fn an_open_circuit_leaves_the_answer_as_it_is() {
    let [origin] = origins().await;
    origin.on("/echo", busy());
    let pool = "    breaker: { failures: 2, open_for: 60s }\n    retries: { backoff: 1ms, longest_backoff: 2ms }";
    let gateway = in_front_of(std::slice::from_ref(&origin), pool).await;
    assert_eq!(gateway.client.get("/echo").await.refusal(), (503, "OWN".to_owned()));
    assert_eq!((origin.count(), retries(&gateway, "no_target").await), (2, 1.0));
    assert_eq!(gateway.client.get("/echo").await.refusal(), (503, "CIRCUIT_OPEN".to_owned()));
}

#[tokio::test]
async fn the_deadline_bounds_all_tries() {
    let [origin] = origins().await;
    origin.on("/short", Answer::silence());
    let pool = "    timeouts: { read: 700ms }\n    breaker: { failures: 0 }\n    retries: { backoff: 1ms, longest_backoff: 2ms }";
    let gateway = in_front_of(std::slice::from_ref(&origin), pool).await;
    let got = gateway.client.get("/short").await;
    assert_eq!(got.refusal(), (504, "UPSTREAM_TIMEOUT".to_owned()));
    assert_eq!((origin.count(), retries(&gateway, "no_time").await), (2, 1.0), "700 ms, and what was left");
}

/// A body that tells when a part is missing or twice.
fn body(length: usize) -> String {
    (0..length).map(|index| char::from(b'a' + (index / 7 % 26) as u8)).collect()
}

/// Puts a body to a pool whose one target breaks the connection after each request, and whose other takes it.
async fn put(pool: &str, path: &str, length: usize) -> (u16, [Origin; 2]) {
    let all = origins::<2>().await;
    all[0].on(path, Answer::reset(b""));
    let gateway = in_front_of(&all, pool).await;
    let mut last = 0;
    for _ in 0..8 {
        let request = gateway.client.request("PUT", path).header("content-type", "application/json");
        last = send(request.body(format!("{:?}", body(length - 2)))).await.status;
        if all[0].count() > 0 {
            break;
        }
    }
    assert!(all[0].count() > 0, "the faulty target was never asked");
    (last, all)
}

const KEEPS: &str = "    breaker: { failures: 0 }
    retries: { backoff: 1ms, longest_backoff: 2ms, replay: 2MiB }";

#[tokio::test]
async fn bodies_come_whole_again() {
    for (pool, path, length) in [
        (QUICK, "/echo", 60_000),
        (QUICK, "/capped", 60_000),
        (QUICK, "/json", 200_000),
        (KEEPS, "/echo", 64 * 1024 + 1),
        (KEEPS, "/echo", 2 << 20),
    ] {
        let (status, all) = put(pool, path, length).await;
        assert_eq!(status, 200, "{path} {length}");
        for origin in &all {
            let last = origin.last();
            assert_eq!(last.body.length, length as u64, "{path} {length}");
            let whole = format!("{:?}", body(length - 2));
            assert_eq!(last.body.sha256, sha256(whole.as_bytes()), "{path} {length}");
        }
    }
}

#[tokio::test]
async fn a_long_body_that_streamed_is_not_sent_again() {
    for (pool, length) in [(QUICK, 1 << 20), (KEEPS, (2 << 20) + 1)] {
        let (status, all) = put(pool, "/echo", length).await;
        assert_eq!(status, 502);
        assert!(all[1].received().iter().all(|one| one.body.complete && one.body.length == length as u64));
    }
}

#[tokio::test]
async fn bodies_for_which_there_is_no_memory_stream() {
    let origin = Origin::start().await;
    let gateway = gateway(&[&origin.url()], KEEPS).await;
    let mut uploads = JoinSet::new();
    for _ in 0..24 {
        uploads.spawn(send(gateway.client.request("PUT", "/echo").body(body(2 << 20))));
    }
    while let Some(got) = uploads.join_next().await {
        got.expect("an answer").expect(200);
    }
    assert!(origin.received().iter().all(|one| one.body.complete && one.body.length == 2 << 20));
}

#[tokio::test]
async fn whatever_was_not_sent_goes_to_another_target() {
    let origin = Origin::start().await;
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let gateway = gateway(&[&nobody, &origin.url()], QUICK).await;
    for _ in 0..4 {
        send(gateway.client.request("POST", "/echo").body(body(1 << 20))).await.expect(200);
        assert!(origin.last().body.complete && origin.last().body.length == 1 << 20);
    }
    assert_eq!(origin.count(), 4);
    assert!(retries(&gateway, "success").await > 0.0);
}

#[tokio::test]
async fn aggregates_are_tried_again() {
    let all = origins::<2>().await;
    all[0].on("/part", busy());
    let gateway = in_front_of(&all, QUICK).await;
    for _ in 0..4 {
        assert_eq!(gateway.client.get("/sum").await.expect(200).json()["one"]["path"], "/part");
    }
    assert!(all[0].count() > 0);
    assert_eq!(retries(&gateway, "success").await, all[0].count() as f64);
}

#[tokio::test]
async fn the_only_target_is_asked_again_when_it_said() {
    let [origin] = origins().await;
    origin.on("/echo", busy().header("Retry-After", "1"));
    let gateway = in_front_of(std::slice::from_ref(&origin), QUICK).await;
    let began = Instant::now();
    let asking = tokio::spawn(send(gateway.client.request("GET", "/echo")));
    origin.wait_count(1).await;
    origin.on("/echo", Answer::json(200, json!({})));
    assert_eq!(asking.await.expect("a task").status, 200);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn nobody_is_asked_for_a_client_that_left() {
    let [origin] = origins().await;
    origin.on("/echo", busy().header("Retry-After", "20"));
    let gateway = in_front_of(std::slice::from_ref(&origin), QUICK).await;
    let mut raw = gateway.raw().await;
    raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\nX-Request-Id: leaves-0001\r\n\r\n").await;
    origin.wait_count(1).await;
    drop(raw);
    let line = gateway.access_line(|line| line["request_id"] == "leaves-0001").await;
    assert_eq!((&line["status"], &line["upstream"]["attempts"]), (&json!(499), &json!(1)), "{line}");
    assert_eq!(origin.count(), 1);
}

/// Sends GETs from many clients at once; counts the statuses.
async fn burst(gateway: &Gateway, clients: usize, each: usize) -> HashMap<u16, usize> {
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let client = gateway.client.clone();
        tasks.spawn(async move {
            let mut statuses = Vec::new();
            for _ in 0..each {
                statuses.push(client.get("/echo").await.status);
            }
            statuses
        });
    }
    let mut counts = HashMap::new();
    tasks.join_all().await.into_iter().flatten().for_each(|status| *counts.entry(status).or_default() += 1);
    counts
}

#[tokio::test]
async fn a_storm_gets_a_fifth_more_and_the_floor() {
    const CLIENTS: usize = 48;
    const EACH: usize = 60;
    let all = origins::<3>().await;
    all.iter().for_each(|origin| origin.on("/echo", busy()));
    let gateway = in_front_of(&all, "    breaker: { failures: 0 }").await;
    let began = Instant::now();
    let counts = burst(&gateway, CLIENTS, EACH).await;
    let took = began.elapsed();
    let seconds = took.as_secs() as usize + 1;
    assert_eq!(counts, HashMap::from([(503, CLIENTS * EACH)]));
    let extra = total(&all) - CLIENTS * EACH;
    let most = CLIENTS * EACH / 5 + 10 * (seconds + 1);
    println!("{} requests in {took:?}, {extra} more at the origins, {most} allowed", CLIENTS * EACH);
    assert!(extra <= most, "{extra} retries of {most}");
    assert!(extra >= CLIENTS * EACH / 5, "the budget is there to be used: {extra}");
    let (failed, refused) = (retries(&gateway, "failure").await, retries(&gateway, "budget_exhausted").await);
    assert_eq!(failed, extra as f64);
    assert!(refused > 0.0);
}

/// What workers saw that sent GETs and POSTs without a pause.
#[derive(Default)]
struct Seen {
    gets: AtomicUsize,
    posts: AtomicUsize,
    failed_gets: AtomicUsize,
    /// Broken off at the target: not sent again.
    broken_posts: AtomicUsize,
    odd_posts: AtomicUsize,
    enough: AtomicBool,
}

impl Seen {
    async fn work(&self, gateway: &Gateway, worker: usize) {
        let client = &gateway.client;
        for number in 0.. {
            if self.enough.load(Ordering::SeqCst) {
                return;
            }
            let got = client.get("/echo").await;
            self.gets.fetch_add(1, Ordering::SeqCst);
            self.failed_gets.fetch_add(usize::from(got.status != 200), Ordering::SeqCst);
            let id = format!("post-{worker:04}-{number:06}");
            let got = send(client.request("POST", "/echo").header("x-request-id", id).body("once")).await;
            self.posts.fetch_add(1, Ordering::SeqCst);
            match got.status {
                200 => {}
                502 => drop(self.broken_posts.fetch_add(1, Ordering::SeqCst)),
                _ => drop(self.odd_posts.fetch_add(1, Ordering::SeqCst)),
            }
        }
    }

    async fn wait_posts(&self, count: usize) {
        let there = || async { (self.posts.load(Ordering::SeqCst) >= count).then_some(()) };
        until("enough requests", PATIENCE, there).await;
    }
}

#[tokio::test]
async fn a_target_that_dies_under_load_costs_no_request_that_may_be_sent_again() {
    const WORKERS: usize = 32;
    let [dies, stays, stays_too] = origins().await;
    let urls = [&dies, &stays, &stays_too].map(Origin::url);
    let gateway = Arc::new(gateway(&urls.each_ref().map(String::as_str), "").await);
    let seen = Arc::new(Seen::default());
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (gateway, seen) = (gateway.clone(), seen.clone());
        workers.spawn(async move { seen.work(&gateway, worker).await });
    }
    seen.wait_posts(400).await;
    dies.kill().await;
    let then = seen.posts.load(Ordering::SeqCst);
    seen.wait_posts(then + 400).await;
    seen.enough.store(true, Ordering::SeqCst);
    workers.join_all().await;
    let count = |what: &AtomicUsize| what.load(Ordering::SeqCst);
    assert_eq!(count(&seen.failed_gets), 0, "of {}", count(&seen.gets));
    assert_eq!(count(&seen.odd_posts), 0, "only what was under way at the target may fail");
    assert!(count(&seen.broken_posts) <= WORKERS, "{}", count(&seen.broken_posts));
    assert!(retries(&gateway, "success").await > 0.0);
    let mut ids = HashMap::new();
    for one in [&stays, &stays_too].into_iter().flat_map(Origin::received).filter(|one| one.method == "POST") {
        *ids.entry(one.header("x-request-id").unwrap_or_default().to_owned()).or_insert(0) += 1;
    }
    assert!(ids.values().all(|count| *count == 1), "a POST was done twice");
}
