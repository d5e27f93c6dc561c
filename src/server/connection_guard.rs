//! Wraps the proxy as Pingora's server application: caps on connections, and an end to silent ones.
//!
//! Pingora waits without bound for a request head on a kept connection, and per read on a new one; for the first bytes
//! of HTTP/2 without TLS it waits without bound, too. All of it happens within the guard.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use crate::proxy::connections::{Connection, Connections, on};
use crate::proxy::{Gateway, HeadLimits};
use crate::telemetry::metrics::Metrics;

/// Room that HTTP/2 counts for each header line beside its bytes (RFC 9113 §6.5.2).
const PER_HEADER: usize = 32;
/// How HTTP/2 without TLS begins (RFC 9113 §3.4), as far as no other request does.
const PREFACE: [u8; 4] = *b"PRI ";

/// The proxy behind its connection caps.
pub struct Guarded {
    proxy: Arc<HttpProxy<Gateway>>,
    connections: Arc<Connections>,
    metrics: Arc<Metrics>,
    http2: bool,
}

impl Guarded {
    /// Guards `proxy`, which speaks HTTP/2 where clients ask for it when `http2`.
    pub fn new(
        proxy: HttpProxy<Gateway>,
        connections: Arc<Connections>,
        metrics: Arc<Metrics>,
        http2: bool,
    ) -> Guarded {
        Guarded { proxy: Arc::new(proxy), connections, metrics, http2 }
    }

    async fn serve(&self, mut stream: Stream, shutdown: &ShutdownWatch, connection: Arc<Connection>) -> Option<Stream> {
        let mut options = HttpServerOptions::default();
        if self.http2 {
            options.h2_idle_timeout = Some(self.connections.keepalive().max(Duration::from_secs(1)));
            options.h2c = stream.get_ssl_digest().is_none() && begins_http2(&mut stream).await?;
        }
        Arc::new(OneConnection { proxy: self.proxy.clone(), connection, options }).process_new(stream, shutdown).await
    }
}

/// Whether a client without TLS begins as HTTP/2 does. Pingora would wait for 24 bytes of everybody, and the shortest
/// request of HTTP/1.0 has 18.
async fn begins_http2(stream: &mut Stream) -> Option<bool> {
    let mut start = [0; PREFACE.len()];
    stream.try_peek(&mut start).await.ok().map(|peeked| peeked && start == PREFACE)
}

/// Bounds of HTTP/2 connections of clients. The head limits proper are checked like those of HTTP/1.1; here they only
/// must not be cut below.
pub fn http2_options(limits: HeadLimits) -> H2Options {
    let mut options = default_h2_options();
    let list = limits.bytes.saturating_add(limits.headers.saturating_mul(PER_HEADER));
    options.max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX).max(64 << 10));
    options
}

#[async_trait]
impl ServerApp for Guarded {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let address = stream
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::ip));
        match self.connections.guard(address, |connection| self.serve(stream, shutdown, connection)).await {
            Ok(reusable) => reusable,
            Err(refused) => {
                self.metrics.connection_refused(refused.as_str());
                None
            }
        }
    }

    // No `cleanup`: it would close kept connections at once, and with them requests that are on their way. See
    // [`Connections::close_unused`].
}

/// The proxy for one connection: Pingora serves each request of HTTP/2 in a task of its own, which is told here on
/// which connection it is.
struct OneConnection {
    proxy: Arc<HttpProxy<Gateway>>,
    connection: Arc<Connection>,
    options: HttpServerOptions,
}

#[async_trait]
impl HttpServerApp for OneConnection {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        on(self.connection.clone(), self.proxy.process_new_http(session, shutdown)).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}
