//! One of three targets is killed or frozen while clients send: who notices, and is anything done twice?

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::processes::{OVERLAP, OriginProcess};
use crate::harness::table::table;
use crate::harness::{Client, Gateway, GatewayConfig, PATIENCE, try_send, until};

/// Connections that send at once: three of four read, one uploads.
const LANES: usize = 64;
/// Requests before the blow, and after it.
const BEFORE: usize = 400;
const AFTER: usize = 2_000;

const ROUTES: &str = "  - { name: read, match: { prefix: /read, methods: [GET] }, to: { pool: echo }, auth: public }
  - { name: upload, match: { prefix: /upload, methods: [POST] }, to: { pool: echo }, auth: public, timeout: 30s }";

/// One target takes one upload at a time; a silent one is given up after a second.
const POOL: &str = "    health: { path: /health, every: 500ms, timeout: 500ms }
    timeouts: { read: 1s }
    concurrency: { per_target: 1, queue: 128, queue_timeout: 20s }";

struct World {
    origins: Vec<OriginProcess>,
    gateway: Gateway,
    _folder: TempDir,
}

/// What clients saw.
#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    failed_reads: std::sync::Mutex<Vec<String>>,
    failed_uploads: std::sync::Mutex<Vec<String>>,
}

impl World {
    async fn start() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let mut origins = Vec::new();
        for _ in 0..3 {
            origins.push(OriginProcess::start(folder.path()).await);
        }
        let urls: Vec<String> = origins.iter().map(OriginProcess::url).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let gateway = Gateway::start(GatewayConfig::table(&table(&urls, POOL, ROUTES))).await;
        World { origins, gateway, _folder: folder }
    }

    /// Load with a blow in the middle; what the clients saw of it.
    async fn under_load(&self, blow: impl FnOnce(&OriginProcess)) -> Arc<Seen> {
        let seen = Arc::new(Seen::default());
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            lanes.spawn(send_on(self.gateway.client.clone(), lane, seen.clone()));
        }
        let reached = |count| {
            let seen = seen.clone();
            async move {
                let enough = || async { (seen.requests.load(Ordering::SeqCst) >= count).then_some(()) };
                until("requests", PATIENCE, enough).await;
            }
        };
        reached(BEFORE).await;
        blow(&self.origins[0]);
        while let Some(lane) = lanes.join_next().await {
            lane.expect("a lane");
        }
        seen
    }

    /// How often each upload was done.
    fn uploads_done(&self) -> HashMap<String, usize> {
        let mut done = HashMap::new();
        for line in self.origins.iter().flat_map(OriginProcess::done) {
            assert!(!line.contains(OVERLAP), "{line}");
            if let Some(marker) = line.strip_prefix("POST ") {
                *done.entry(marker.to_owned()).or_default() += 1;
            }
        }
        done
    }
}

async fn send_on(client: Client, lane: usize, seen: Arc<Seen>) {
    let mut turn = 0;
    while seen.requests.fetch_add(1, Ordering::SeqCst) < BEFORE + AFTER {
        let marker = format!("{lane}-{turn}");
        turn += 1;
        let uploads = lane.is_multiple_of(4);
        let request = if uploads {
            client.request("POST", "/upload").body(vec![b'u'; 96 << 10])
        } else {
            client.request("GET", "/read")
        };
        let problem = match try_send(request.header("x-marker", &marker)).await {
            Ok(got) if got.status == 200 && got.text() == marker => continue,
            Ok(got) => format!("{marker}: {} {}", got.status, got.text()),
            Err(error) => format!("{marker}: {error:?}"),
        };
        let list = if uploads { &seen.failed_uploads } else { &seen.failed_reads };
        list.lock().unwrap().push(problem);
    }
}

#[tokio::test]
async fn nobody_who_reads_notices_a_killed_target_and_uploads_lose_at_most_the_one_it_had() {
    let world = World::start().await;
    let seen = world.under_load(|origin| origin.signal("KILL")).await;
    assert_eq!(*seen.failed_reads.lock().unwrap(), Vec::<String>::new());
    let failed = seen.failed_uploads.lock().unwrap().clone();
    println!("killed: uploads that failed: {failed:?}");
    // At most the one that the target had when it died.
    assert!(failed.len() <= 1 && failed.iter().all(|one| one.contains("BAD_GATEWAY")), "{failed:?}");
    // On a kept connection that died without a byte of an answer, it was sent again: nobody can know that it was done.
    let twice = world.uploads_done().into_values().filter(|times| *times > 1).count();
    assert!(twice <= 1, "{twice} uploads were done twice");
}

#[tokio::test]
async fn nobody_who_reads_notices_a_frozen_target_and_no_upload_is_done_twice() {
    let world = World::start().await;
    let seen = world.under_load(|origin| origin.signal("STOP")).await;
    assert_eq!(*seen.failed_reads.lock().unwrap(), Vec::<String>::new());
    let failed = seen.failed_uploads.lock().unwrap().clone();
    println!("frozen: uploads that failed: {failed:?}");
    // Those that it had or got until its circuit opened.
    assert!(failed.len() <= 16 && failed.iter().all(|one| one.contains("UPSTREAM_TIMEOUT")), "{failed:?}");
    world.origins[0].signal("CONT");
    assert!(world.uploads_done().values().all(|times| *times == 1));
}
