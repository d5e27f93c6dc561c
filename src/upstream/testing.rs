//! Scripted origins on loopback, and waiting with a deadline.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::registry::{Pools, Registry};
use super::resolver::Resolve;
use crate::clock::{Clock, Tick};
use crate::config::spec::{
    BalanceSpec, BreakerSpec, HealthSpec, PanicSpec, PoolSpec, RetriesSpec, TargetSpec, TimeoutsSpec,
};
use crate::model::rejection::Rejection;
use crate::model::units::Span;
use crate::telemetry::metrics::Metrics;

/// What an origin does with a request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// A status and a JSON body.
    Json(u16, String),
    /// Nothing, until the other side closes.
    Hang,
    /// Bytes that are not HTTP.
    Garbage,
    /// Closes without an answer.
    Close,
    /// Promises more of a body than it sends, and closes.
    Cut,
    /// 200 to the first request of a connection; a second one finds it closed.
    Once,
    /// One byte of body at a time, for ever.
    Drip,
}

impl Reply {
    pub(super) fn status(status: u16) -> Reply {
        Reply::Json(status, "{}".to_owned())
    }
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    open: AtomicUsize,
}

/// An origin on a free port; gone when dropped.
pub(super) struct Origin {
    pub(super) addr: SocketAddr,
    replies: Arc<Mutex<BTreeMap<String, Reply>>>,
    seen: Arc<Seen>,
    task: AbortHandle,
}

impl Origin {
    /// Answers 200 to everything until told otherwise.
    pub(super) async fn start() -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let replies = Arc::<Mutex<BTreeMap<String, Reply>>>::default();
        let seen = Arc::<Seen>::default();
        let (script, log) = (replies.clone(), seen.clone());
        let task = tokio::spawn(async move {
            // A set, so that connections end with the origin.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, script.clone(), log.clone()));
            }
        });
        Origin { addr, replies, seen, task: task.abort_handle() }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Answers `path` with `reply` from now on.
    pub(super) fn script(&self, path: &str, reply: Reply) -> &Origin {
        self.replies.lock().insert(path.to_owned(), reply);
        self
    }

    /// Requests for `path` so far.
    pub(super) fn count(&self, path: &str) -> usize {
        self.seen.requests.lock().iter().filter(|head| head.starts_with(&format!("GET {path} "))).count()
    }

    /// The last request head.
    pub(super) fn last(&self) -> String {
        self.seen.requests.lock().last().cloned().unwrap_or_default()
    }

    /// Open connections.
    pub(super) fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Open(Arc<Seen>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<BTreeMap<String, Reply>>>, seen: Arc<Seen>) {
    seen.open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(seen.clone());
    let mut head = Vec::new();
    let mut first = true;
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&std::mem::take(&mut head)).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        seen.requests.lock().push(text);
        let reply = script.lock().get(&path).cloned().unwrap_or_else(|| Reply::status(200));
        let reply = match reply {
            Reply::Once if first => Reply::status(200),
            other => other,
        };
        if !answer(&mut stream, reply).await {
            return;
        }
        first = false;
    }
}

/// Whether the connection goes on.
async fn answer(stream: &mut TcpStream, reply: Reply) -> bool {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\n";
    match reply {
        Reply::Json(status, body) => {
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            stream.write_all(text.as_bytes()).await.is_ok()
        }
        Reply::Hang => {
            while stream.read_u8().await.is_ok() {}
            false
        }
        Reply::Garbage => {
            let _ = stream.write_all(b"\x00\x01 this is not HTTP\r\n\r\n").await;
            false
        }
        Reply::Close | Reply::Once => false,
        Reply::Cut => {
            let _ = stream.write_all(format!("{head}abc").as_bytes()).await;
            false
        }
        Reply::Drip => {
            let _ = stream.write_all(head.as_bytes()).await;
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while stream.write_all(b"x").await.is_ok() {
                tick.tick().await;
            }
            false
        }
    }
}

/// An address that nobody listens on.
pub(super) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Waits until `condition` holds; fails after ten seconds.
#[track_caller]
pub(super) fn eventually(what: &str, condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    let mut condition = condition;
    async move {
        let wait = async {
            let mut tick = tokio::time::interval(Duration::from_millis(2));
            while !condition() {
                tick.tick().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), wait).await;
        assert!(waited.is_ok(), "{what} ({caller})");
    }
}

pub(super) fn millis(n: u64) -> Span {
    Span(Duration::from_millis(n))
}

/// A pool without active checks.
pub(super) fn unchecked(targets: &[String]) -> PoolSpec {
    PoolSpec {
        targets: targets.iter().map(|url| TargetSpec::at(url)).collect(),
        balance: BalanceSpec::default(),
        // Tests of other things count on whole shares.
        slow_start: millis(0),
        service: None,
        health: None,
        breaker: BreakerSpec { failures: 3, open_for: millis(60_000), close_after: 2, ..BreakerSpec::default() },
        panic: PanicSpec::default(),
        retries: RetriesSpec { max: 0, ..RetriesSpec::default() },
        timeouts: TimeoutsSpec::default(),
        concurrency: None,
        tls: None,
        http2: false,
        resolve_every: millis(10_000),
    }
}

/// A pool with quick checks on `/health`: rise 2, fall 3.
pub(super) fn checked(targets: &[String]) -> PoolSpec {
    let health = HealthSpec {
        path: Some("/health".to_owned()),
        tcp: false,
        statuses: None,
        every: millis(20),
        timeout: millis(500),
        rise: 2,
        fall: 3,
    };
    PoolSpec { health: Some(health), ..unchecked(targets) }
}

/// A registry on the test's runtime.
pub(super) fn registry(clock: &Clock) -> Arc<Registry> {
    Registry::new(clock.clone(), tokio::runtime::Handle::current(), metrics())
}

pub(super) fn metrics() -> Arc<Metrics> {
    Metrics::new("test").unwrap()
}

/// Builds and publishes one pool named `p`.
pub(super) fn put(registry: &Registry, spec: &PoolSpec) -> Arc<super::Pool> {
    let pools: Pools = registry.build(&BTreeMap::from([("p".to_owned(), spec.clone())]));
    registry.publish(&pools);
    pools["p"].clone()
}

impl super::Pool {
    /// Chooses a target for a first try.
    pub(super) fn pick_any(&self, now: Tick) -> Result<super::Attempt, Rejection> {
        self.pick(&super::Demand { tried: &super::Tried::default(), key: None }, now)
    }
}

/// A resolver that knows what the test says. Names that it does not know do not resolve.
#[derive(Default)]
pub(super) struct Names(Mutex<BTreeMap<String, Vec<SocketAddr>>>);

impl Names {
    /// From now on `name` has these addresses.
    pub(super) fn set(&self, name: &str, origins: &[&Origin]) {
        self.0.lock().insert(name.to_owned(), origins.iter().map(|origin| origin.addr).collect());
    }
}

#[async_trait::async_trait]
impl Resolve for Names {
    async fn addresses(&self, host: &str, _port: u16) -> std::io::Result<Vec<SocketAddr>> {
        self.0.lock().get(host).cloned().ok_or(std::io::ErrorKind::NotFound.into())
    }
}

/// A registry that knows these names only.
pub(super) fn resolving(clock: &Clock, names: &Arc<Names>) -> Arc<Registry> {
    Registry::resolving(names.clone(), clock.clone(), tokio::runtime::Handle::current(), metrics())
}
