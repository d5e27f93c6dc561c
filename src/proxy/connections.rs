//! What is known of each client connection while it lives: whether a request is on it, and since when not.
//!
//! The state travels with the request's task, so a request finds its own without any shared map.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::{Clock, Tick};
use crate::model::forwarded::{is_trusted, subscriber};
use crate::telemetry::metrics::Gauge;

tokio::task_local! {
    static CURRENT: Arc<Connection>;
}

/// How long a kept connection without a request is left open once none are to be kept: a request that is on its way
/// still gets its answer.
const LINGER: Duration = Duration::from_secs(1);

/// Caps and waiting times of client connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Most connections at once; 0 is no cap.
    pub total: usize,
    /// Most connections at once from one address (IPv6: one /64); 0 is no cap. Trusted proxies have none: many clients
    /// come over theirs.
    pub per_address: usize,
    /// Longest from the start of a connection to the end of its first request head; kept connections get it on top of
    /// `keepalive`.
    pub header_timeout: Duration,
    /// Longest that a kept connection stays without a byte of a next request.
    pub keepalive: Duration,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The process has all it may have.
    Total,
    /// The address has all it may have.
    PerAddress,
}

impl Refused {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refused::Total => "total",
            Refused::PerAddress => "per_address",
        }
    }
}

/// All client connections.
pub struct Connections {
    clock: Clock,
    limits: ConnectionLimits,
    trusted_proxies: Box<[IpNet]>,
    open: AtomicUsize,
    gauge: Gauge,
    requests: AtomicUsize,
    per_address: Mutex<HashMap<IpAddr, usize>>,
    /// Whether each connection ends with its next answer.
    closing: AtomicBool,
    /// Since when connections without a request are closed; `None`: they are kept.
    leaving: watch::Sender<Option<Tick>>,
}

/// One client connection.
pub struct Connection {
    busy: AtomicU32,
    idle_since: AtomicU64,
    served: AtomicU64,
}

/// Holds a connection's place under the caps.
struct Place<'a> {
    all: &'a Connections,
    address: Option<IpAddr>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.all.open.fetch_sub(1, Ordering::Relaxed);
        self.all.gauge.dec();
        let Some(address) = self.address else { return };
        let mut counts = self.all.per_address.lock();
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

/// Marks a request in flight, on its connection and in the process, until dropped.
pub struct InFlight {
    all: Arc<Connections>,
    connection: Option<Arc<Connection>>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.all.requests.fetch_sub(1, Ordering::AcqRel);
        if let Some(connection) = &self.connection {
            connection.idle_since.store(self.all.clock.now().0, Ordering::Relaxed);
            connection.served.fetch_add(1, Ordering::Relaxed);
            connection.busy.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Serves one request on a connection, in whichever task: those of HTTP/2 have one each.
pub async fn on<T>(connection: Arc<Connection>, serve: impl Future<Output = T>) -> T {
    CURRENT.scope(connection, serve).await
}

impl Connections {
    /// No connections yet.
    pub fn new(clock: Clock, limits: ConnectionLimits, trusted_proxies: &[IpNet], gauge: Gauge) -> Arc<Connections> {
        Arc::new(Connections {
            clock,
            limits,
            trusted_proxies: trusted_proxies.into(),
            open: AtomicUsize::new(0),
            gauge,
            requests: AtomicUsize::new(0),
            per_address: Mutex::new(HashMap::new()),
            closing: AtomicBool::new(false),
            leaving: watch::Sender::new(None),
        })
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Requests in flight now.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// From now on each connection ends with its next answer, which says so.
    pub fn close_with_answers(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether connections end with their next answer.
    pub fn are_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// From now on connections without a request are closed, each a moment after its last one.
    pub fn close_unused(&self) {
        self.close_with_answers();
        self.leaving.send_replace(Some(self.clock.now()));
    }

    /// How long an unused connection is kept.
    pub fn keepalive(&self) -> Duration {
        self.limits.keepalive
    }

    /// Serves one connection under the caps, until `serve` ends or the client is silent for too long. Whatever tasks
    /// serve requests of it do so [`on`] it.
    pub async fn guard<T, F: Future<Output = Option<T>>>(
        &self,
        address: Option<IpAddr>,
        serve: impl FnOnce(Arc<Connection>) -> F,
    ) -> Result<Option<T>, Refused> {
        let _place = self.take_place(address)?;
        let connection = Arc::new(Connection {
            busy: AtomicU32::new(0),
            idle_since: AtomicU64::new(self.clock.now().0),
            served: AtomicU64::new(0),
        });
        let watchdog = self.silence(connection.clone());
        tokio::select! {
            biased; // a request that has come is served, also when the wait for it is just over
            served = serve(connection) => Ok(served),
            () = watchdog => Ok(None),
        }
    }

    /// Ends when the connection has had no request for longer than it may.
    async fn silence(&self, connection: Arc<Connection>) {
        let mut leaving = self.leaving.subscribe();
        loop {
            let left = *leaving.borrow_and_update();
            let first = connection.served.load(Ordering::Relaxed) == 0;
            let allowed = match left {
                Some(_) => LINGER,
                None if first => self.limits.header_timeout,
                None => self.limits.keepalive + self.limits.header_timeout,
            };
            let idle_since = Tick(connection.idle_since.load(Ordering::Relaxed)).max(left.unwrap_or(Tick(0)));
            let silent = self.clock.now().since(idle_since);
            let pause = if connection.busy.load(Ordering::Acquire) > 0 {
                allowed
            } else if silent >= allowed {
                return;
            } else {
                allowed - silent
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = leaving.changed() => {} // its sender is `self`
            }
        }
    }

    fn take_place(&self, address: Option<IpAddr>) -> Result<Place<'_>, Refused> {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.gauge.inc();
        let mut place = Place { all: self, address: None };
        if self.limits.total > 0 && open > self.limits.total {
            return Err(Refused::Total);
        }
        let capped = |address: &IpAddr| self.limits.per_address > 0 && !is_trusted(*address, &self.trusted_proxies);
        let Some(address) = address.filter(capped).map(subscriber) else { return Ok(place) };
        let mut counts = self.per_address.lock();
        let count = counts.entry(address).or_insert(0);
        if *count >= self.limits.per_address {
            return Err(Refused::PerAddress);
        }
        *count += 1;
        place.address = Some(address);
        Ok(place)
    }

    /// Marks the start of a request on the connection that this task serves.
    pub fn begin_request(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::AcqRel);
        let connection = CURRENT.try_with(Arc::clone).ok();
        if let Some(connection) = &connection {
            connection.busy.fetch_add(1, Ordering::AcqRel);
        }
        InFlight { all: self.clone(), connection }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn connections(total: usize, per_address: usize) -> Arc<Connections> {
        let (header_timeout, keepalive) = (Duration::from_secs(10), Duration::from_secs(60));
        let limits = ConnectionLimits { total, per_address, header_timeout, keepalive };
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        Connections::new(Clock::manual().0, limits, &trusted, Metrics::new("test").unwrap().connections())
    }

    fn place<'a>(all: &'a Connections, address: &str) -> Result<Place<'a>, Refused> {
        all.take_place(Some(address.parse().unwrap()))
    }

    #[test]
    fn the_cap_counts_subscribers_in_whatever_form_their_address_comes() {
        let all = connections(0, 2);
        let first = place(&all, "192.0.2.1").unwrap();
        let _second = place(&all, "::ffff:192.0.2.1").unwrap();
        assert_eq!(place(&all, "192.0.2.1").err(), Some(Refused::PerAddress));
        assert_eq!(place(&all, "::ffff:192.0.2.1").err(), Some(Refused::PerAddress));
        drop(first);
        let _again = place(&all, "::ffff:192.0.2.1").unwrap();

        let _v6 = [place(&all, "2001:db8::1").unwrap(), place(&all, "2001:db8::ffff:1").unwrap()];
        assert_eq!(place(&all, "2001:db8::2").err(), Some(Refused::PerAddress));
        let _other = place(&all, "2001:db8:0:1::1").unwrap();
        assert_eq!(all.open(), 5);
    }

    #[test]
    fn trusted_proxies_have_no_cap_of_their_own() {
        let all = connections(7, 1);
        let proxies = ["10.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "fd00::1", "fd00::1"];
        let _held = proxies.map(|proxy| place(&all, proxy).unwrap());
        let _client = place(&all, "192.0.2.1").unwrap();
        assert_eq!(place(&all, "192.0.2.1").err(), Some(Refused::PerAddress));
        let _last = place(&all, "10.0.0.1").unwrap();
        assert_eq!(place(&all, "10.0.0.1").err(), Some(Refused::Total));
    }

    #[tokio::test]
    async fn unused_connections_stay_a_moment_when_leaving_and_used_ones_until_their_request_ends() {
        let limits = ConnectionLimits {
            total: 0,
            per_address: 0,
            header_timeout: Duration::from_secs(10),
            keepalive: Duration::from_secs(60),
        };
        let all = Connections::new(Clock::system(), limits, &[], Metrics::new("test").unwrap().connections());
        let go_on = Arc::new(tokio::sync::Notify::new());
        let (told, served) = (go_on.clone(), all.clone());
        let busy = tokio::spawn({
            let all = all.clone();
            async move {
                let serve = async {
                    let request = served.begin_request();
                    told.notified().await;
                    drop(request);
                    std::future::pending::<Option<()>>().await
                };
                all.guard(None, |connection| on(connection, serve)).await.map(|_| ())
            }
        });
        let unused = tokio::spawn({
            let all = all.clone();
            async move { all.guard(None, |_| std::future::pending::<Option<()>>()).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        all.close_unused();
        assert!(all.are_closing());
        assert_eq!(unused.await.unwrap(), Ok(()));
        assert_eq!((all.open(), all.requests()), (1, 1));
        go_on.notify_one();
        tokio::task::yield_now().await;
        assert_eq!((all.open(), all.requests()), (1, 0), "it lingers");
        assert_eq!(busy.await.unwrap(), Ok(()));
        assert_eq!(all.open(), 0);
    }

    #[test]
    fn places_come_back_and_nothing_of_an_address_stays() {
        let all = connections(1, 1);
        let only = place(&all, "192.0.2.1").unwrap();
        assert_eq!(place(&all, "192.0.2.2").err(), Some(Refused::Total));
        drop(only);
        assert_eq!((all.open(), all.per_address.lock().len()), (0, 0));
    }
}
