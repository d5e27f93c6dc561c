//! Services that take few requests at a time, and the line in front of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::client::RawClient;
use crate::harness::wire::{read_body, read_head, sha256};
use crate::harness::{
    Answer, Gateway, GatewayConfig, Got, Hold, Origin, PATIENCE, Reloaded, multipart, send, soon, table, until,
};

const ROUTES: &str = "  - { name: echo, match: { prefix: /echo, methods: [GET] }, to: { pool: echo }, auth: public }
  - { name: upload, match: { path: /upload, methods: [POST] }, to: { pool: echo }, auth: public, timeout: 2m, body: { max: 10MiB, content_types: [multipart/form-data] } }
  - { name: both, match: { path: /both, methods: [GET] }, to: { aggregate: { parts: { one: { pool: echo, path: /1 }, two: { pool: echo, path: /2 } }, on_failure: fail } }, auth: public }";

fn routes(targets: &[&str], concurrency: &str) -> String {
    table::table(targets, &format!("    concurrency: {concurrency}"), ROUTES)
}

async fn gateway(targets: &[&str], concurrency: &str) -> Gateway {
    Gateway::start(GatewayConfig::table(&routes(targets, concurrency))).await
}

/// A body that no other number has.
fn content(number: usize) -> Vec<u8> {
    (0..300 << 10).map(|at| (at % 251 * (number + 1) + at / 251) as u8).collect()
}

async fn upload(gateway: &Gateway, number: usize) -> (Got, String) {
    let (content_type, body) = multipart(&content(number));
    let sent = sha256(&body);
    (send(gateway.client.request("POST", "/upload").header("content-type", content_type).body(body)).await, sent)
}

/// The head of an upload of `length` bytes.
fn head(length: usize, id: &str) -> String {
    format!(
        "POST /upload HTTP/1.1\r\nHost: g\r\nX-Request-Id: {id}\r\nContent-Type: multipart/form-data; boundary=it\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

async fn wait_queue(gateway: &Gateway, depth: f64) {
    until(&format!("{depth} to wait"), PATIENCE, || async {
        (gateway.metric("gateway_queue_depth", &[("pool", "echo")]).await == Some(depth)).then_some(())
    })
    .await;
}

async fn wait_in_flight(gateway: &Gateway, count: f64) {
    until(&format!("{count} in flight"), PATIENCE, || async {
        (gateway.metric("gateway_in_flight", &[("pool", "echo")]).await == Some(count)).then_some(())
    })
    .await;
}

/// A service that can do one thing at a time: a request that meets another one gets 500, and so does the other. It
/// answers with the hash of what it got; `/halves` in two halves, the second of them when it is let go.
struct Fragile {
    address: SocketAddr,
    state: Arc<FragileState>,
    task: JoinHandle<()>,
}

struct FragileState {
    busy: AtomicUsize,
    most: AtomicUsize,
    second_half: Semaphore,
}

impl Drop for Fragile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fragile {
    async fn start() -> Fragile {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let (busy, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let state = Arc::new(FragileState { busy, most, second_half: Semaphore::new(0) });
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, shared.clone()));
            }
        });
        Fragile { address, state, task }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn most(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, state: Arc<FragileState>) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(head)) = read_head(&mut stream).await {
        let began = state.busy.fetch_add(1, Ordering::SeqCst) + 1;
        state.most.fetch_max(began, Ordering::SeqCst);
        let body = read_body(&mut stream, &head, false).await;
        if head.header("upgrade").is_some() {
            return switch(stream, &state).await;
        }
        let halves = head.word(1).contains("halves");
        // Enough that the first half does not wait in a buffer.
        let padding = "x".repeat(if halves { 400 << 10 } else { 0 });
        let text = json!({ "path": head.word(1), "sha256": body.sha256, "padding": padding }).to_string();
        let status = if state.most.load(Ordering::SeqCst) > 1 { 500 } else { 200 };
        let start =
            format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", text.len());
        let (first, second) = text.split_at(text.len() / 2);
        let stream = stream.get_mut();
        let _ = stream.write_all(start.as_bytes()).await;
        let _ = stream.write_all(first.as_bytes()).await;
        if halves {
            let _ = state.second_half.acquire().await.map(tokio::sync::SemaphorePermit::forget);
        }
        // Before the end of the answer: who has read it may send the next request.
        state.busy.fetch_sub(1, Ordering::SeqCst);
        if stream.write_all(second.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Switches protocols when it is let go, and stays until the other side ends.
async fn switch(mut stream: BufReader<TcpStream>, state: &FragileState) {
    let _ = state.second_half.acquire().await.map(tokio::sync::SemaphorePermit::forget);
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let _ = stream.get_mut().write_all(answer.as_bytes()).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    state.busy.fetch_sub(1, Ordering::SeqCst);
}

#[tokio::test]
async fn eight_uploads_at_once_reach_a_service_that_takes_one_at_a_time() {
    let fragile = Fragile::start().await;
    let gateway = gateway(&[&fragile.url()], "{ per_target: 1, queue: 64, queue_timeout: 2m }").await;
    let gateway = Arc::new(gateway);
    let mut uploads = JoinSet::new();
    for number in 0..8 {
        let gateway = gateway.clone();
        uploads.spawn(async move { upload(&gateway, number).await });
    }
    while let Some(ended) = uploads.join_next().await {
        let (got, sent) = ended.expect("a task");
        assert_eq!(got.expect(200).json()["sha256"], sent.as_str(), "another one's data");
    }
    assert_eq!(fragile.most(), 1);
    wait_in_flight(&gateway, 0.0).await;
    wait_queue(&gateway, 0.0).await;
    let line = gateway.access_line(|line| line["route"] == "upload").await;
    assert!(line["queue_ms"].as_f64().is_some(), "{line}");

    // Parts of an aggregate take places like everybody else.
    let merged = gateway.client.get("/both").await.expect(200).json();
    assert_eq!((&merged["one"]["path"], &merged["two"]["path"]), (&json!("/1"), &json!("/2")));
    assert_eq!(fragile.most(), 1);
}

#[tokio::test]
async fn three_targets_work_on_three_at_a_time() {
    let (one, two, three) = (Origin::start().await, Origin::start().await, Origin::start().await);
    let hold = Hold::new();
    for origin in [&one, &two, &three] {
        origin.on("/upload", Answer::json(200, json!({})).held(&hold));
    }
    let targets = [&*one.url(), &*two.url(), &*three.url()].map(str::to_owned);
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let gateway = Arc::new(gateway(&targets, "{ per_target: 1, queue_timeout: 2m }").await);
    let mut uploads = JoinSet::new();
    for number in 0..6 {
        let gateway = gateway.clone();
        uploads.spawn(async move { upload(&gateway, number).await.0.status });
    }
    wait_queue(&gateway, 3.0).await;
    for origin in [&one, &two, &three] {
        origin.wait_count(1).await;
        assert_eq!(origin.count(), 1);
    }
    assert_eq!(gateway.metric("gateway_in_flight", &[]).await, Some(3.0));
    hold.release();
    assert_eq!(soon("the uploads", uploads.join_all()).await, [200; 6]);
    assert_eq!(one.count() + two.count() + three.count(), 6);
    assert!(gateway.metric("gateway_queue_wait_seconds_count", &[("pool", "echo")]).await >= Some(3.0));
}

/// An origin that holds its answers to uploads, and an upload that it has.
async fn busy(concurrency: &str) -> (Origin, Hold, Arc<Gateway>, JoinHandle<u16>) {
    let origin = Origin::start().await;
    let hold = Hold::new();
    origin.on("/upload", Answer::json(200, json!({})).held(&hold));
    let gateway = Arc::new(gateway(&[&origin.url()], concurrency).await);
    let running = gateway.clone();
    let first = tokio::spawn(async move { upload(&running, 0).await.0.status });
    origin.wait_count(1).await;
    (origin, hold, gateway, first)
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_who_leaves_frees_a_turn() {
    let (origin, hold, gateway, first) = busy("{ per_target: 1, queue: 1, queue_timeout: 5m }").await;
    let mut leaves = gateway.raw().await;
    let body = content(1);
    leaves.send(head(body.len(), "leaves-0001").as_bytes()).await;
    leaves.send(&body[..64 << 10]).await;
    wait_queue(&gateway, 1.0).await;

    let (refused, _) = upload(&gateway, 2).await;
    assert_eq!(refused.number("retry-after"), 1);
    assert_eq!(refused.refusal(), (503, "OVERLOADED".to_owned()));

    // What it sent was not read yet; that it left is noticed all the same.
    drop(leaves);
    wait_queue(&gateway, 0.0).await;
    let line = gateway.access_line(|line| line["request_id"] == "leaves-0001").await;
    assert_eq!(
        (&line["status"], &line["outcome"], &line["upstream"]),
        (&json!(499), &json!("client_gone"), &Value::Null)
    );
    assert!(line["queue_ms"].as_f64() > Some(0.0), "{line}");
    let running = gateway.clone();
    let next = tokio::spawn(async move { upload(&running, 3).await.0.status });
    wait_queue(&gateway, 1.0).await;
    hold.release();
    assert_eq!((first.await.unwrap(), next.await.unwrap()), (200, 200));
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_wait_ends_with_the_queues_time() {
    let (origin, hold, gateway, first) = busy("{ per_target: 1, queue_timeout: 200ms }").await;
    let (late, _) = upload(&gateway, 1).await;
    assert_eq!(late.number("retry-after"), 1);
    assert_eq!(late.refusal(), (503, "OVERLOADED".to_owned()));
    let line = gateway.access_line(|line| line["code"] == "OVERLOADED").await;
    assert!(line["queue_ms"].as_f64() >= Some(200.0), "{line}");
    assert_eq!(gateway.metric("gateway_queue_wait_seconds_count", &[("pool", "echo")]).await, Some(1.0));
    hold.release();
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_client_that_aborts_its_upload_frees_its_place() {
    let origin = Origin::start().await;
    let gateway = Arc::new(gateway(&[&origin.url()], "{ per_target: 1, queue_timeout: 5m }").await);
    let mut aborts = gateway.raw().await;
    aborts.send(head(1 << 20, "aborts-0001").as_bytes()).await;
    aborts.send(b"--it\r\n").await;
    origin.wait_count(1).await;
    let running = gateway.clone();
    let next = tokio::spawn(async move { upload(&running, 1).await.0.status });
    wait_queue(&gateway, 1.0).await;
    assert_eq!(origin.count(), 1);
    drop(aborts);
    assert_eq!(soon("the next upload", next).await.unwrap(), 200);
    wait_in_flight(&gateway, 0.0).await;
}

#[tokio::test]
async fn a_service_that_fails_keeps_no_place() {
    let origin = Origin::start().await;
    // Nobody may wait, so a place that is lost shows at once.
    let targets = [&*origin.url()];
    let pool = "    breaker: { failures: 0 }\n    concurrency: { per_target: 1, queue: 0 }";
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&targets, pool, ROUTES))).await;
    for answer in [
        Answer::raw(b""),
        Answer::raw(b"not HTTP\r\n\r\n"),
        Answer::json(500, json!({})),
        Answer::bare(204),
        Answer::json(200, json!({})).closing(),
        Answer::chunked(&[b"one", b"two"]),
    ] {
        origin.on("/upload", answer);
        let (got, _) = upload(&gateway, 0).await;
        assert_ne!(got.status, 503, "{}", got.text());
        wait_in_flight(&gateway, 0.0).await;
    }
    origin.on("/echo", Answer::cut(1_000, b"half"));
    let _ = crate::harness::try_send(gateway.client.request("GET", "/echo")).await;
    wait_in_flight(&gateway, 0.0).await;
    gateway.client.get("/echo/more").await.expect(200);
}

#[tokio::test]
async fn a_place_is_kept_to_the_end_of_the_answer_and_not_for_a_slow_reader() {
    let fragile = Fragile::start().await;
    let gateway = Arc::new(gateway(&[&fragile.url()], "{ per_target: 1, queue_timeout: 5m }").await);
    let mut reads: RawClient = gateway.raw().await;
    reads.send(b"GET /echo/halves HTTP/1.1\r\nHost: g\r\n\r\n").await;
    // The answer has begun, but the service is still working on it.
    assert_eq!(reads.take(12).await.as_deref(), Some(b"HTTP/1.1 200".as_slice()));
    let running = gateway.clone();
    let next = tokio::spawn(async move { running.client.get("/echo").await.status });
    wait_queue(&gateway, 1.0).await;
    assert_eq!(gateway.metric("gateway_in_flight", &[]).await, Some(1.0));
    fragile.state.second_half.add_permits(1);
    // Nobody read on at `reads`.
    assert_eq!(soon("the next answer", next).await.unwrap(), 200);
    assert_eq!(fragile.most(), 1);

    let origin = Origin::start().await;
    origin.on("/echo", Answer::new(200, "application/octet-stream", vec![b'x'; 200 << 10]));
    assert_eq!(gateway.reload(&routes(&[&origin.url()], "{ per_target: 1, queue: 0 }")).await, Reloaded::Published);
    let mut slow = gateway.raw().await;
    slow.send(b"GET /echo HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert!(slow.take(12).await.is_some());
    wait_in_flight(&gateway, 0.0).await;
    gateway.client.get("/echo/more").await.expect(200);
}

#[tokio::test]
async fn an_upgraded_connection_keeps_its_place_to_its_end() {
    let fragile = Fragile::start().await;
    let gateway = gateway(&[&fragile.url()], "{ per_target: 1, queue: 0 }").await;
    let mut raw = gateway.raw().await;
    raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    wait_in_flight(&gateway, 1.0).await;
    until("the request at the service", PATIENCE, || async { (fragile.most() == 1).then_some(()) }).await;
    fragile.state.second_half.add_permits(1);
    assert_eq!(raw.response().await.expect("a switch").status(), 101);
    assert_eq!(gateway.client.get("/echo").await.refusal(), (503, "OVERLOADED".to_owned()));
    drop(raw);
    wait_in_flight(&gateway, 0.0).await;
    gateway.client.get("/echo").await;
    assert_eq!(gateway.metric("gateway_requests_total", &[("route", "echo"), ("status", "503")]).await, Some(1.0));
}

#[tokio::test]
async fn a_reload_loses_nobody_who_waits() {
    let (origin, hold, gateway, first) = busy("{ per_target: 1, queue_timeout: 5m }").await;
    let mut line = JoinSet::new();
    for number in 1..=4 {
        let running = gateway.clone();
        line.spawn(async move { upload(&running, number).await.0.status });
        wait_queue(&gateway, number as f64).await;
    }
    let more = "  - { name: more, match: { path: /more, methods: [GET] }, to: { pool: echo }, auth: public }";
    let next = routes(&[&origin.url()], "{ per_target: 1, queue: 4, queue_timeout: 5m }");
    assert_eq!(gateway.reload(&format!("{next}\n{more}\n")).await, Reloaded::Published);
    assert_eq!(gateway.metric("gateway_queue_depth", &[("pool", "echo")]).await, Some(4.0));
    assert_eq!(gateway.metric("gateway_in_flight", &[("pool", "echo")]).await, Some(1.0));
    let (refused, _) = upload(&gateway, 5).await;
    assert_eq!(refused.refusal(), (503, "OVERLOADED".to_owned()), "behind four others");
    assert_eq!(origin.count(), 1);

    // Room for two, and a target more: three go on.
    let other = Origin::start().await;
    other.on("/upload", Answer::json(200, json!({})).held(&hold));
    let next = routes(&[&origin.url(), &other.url()], "{ per_target: 2, queue_timeout: 5m }");
    assert_eq!(gateway.reload(&next).await, Reloaded::Published);
    until("the higher limit to be used", PATIENCE, || async { (origin.count() + other.count() == 4).then_some(()) })
        .await;
    wait_queue(&gateway, 1.0).await;
    hold.release();
    assert_eq!(soon("the uploads", line.join_all()).await, [200; 4]);
    assert_eq!(first.await.unwrap(), 200);
}

#[tokio::test]
async fn who_waits_for_a_service_that_goes_from_the_table_is_served() {
    let (origin, hold, gateway, first) = busy("{ per_target: 1, queue_timeout: 5m }").await;
    let running = gateway.clone();
    let waits = tokio::spawn(async move { upload(&running, 1).await.0.status });
    wait_queue(&gateway, 1.0).await;
    let other = Origin::start().await;
    let without = table::table(&[&other.url()], "", table::ECHO).replace("echo", "other").replace("/other", "/echo");
    assert_eq!(gateway.reload(&without).await, Reloaded::Published);
    assert_eq!(gateway.metric("gateway_queue_depth", &[]).await, None);
    hold.release();
    assert_eq!((first.await.unwrap(), soon("the other", waits).await.unwrap()), (200, 200));
    assert_eq!((origin.count(), other.count()), (2, 0));
}
