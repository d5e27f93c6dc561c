//! Wraps the proxy as Pingora's server application: caps on connections, and an end to silent ones.
//!
//! Pingora waits without bound for a request head on a kept connection, and per read on a new one.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use crate::proxy::Gateway;
use crate::proxy::connections::Connections;
use crate::telemetry::metrics::Metrics;

/// The proxy behind its connection caps.
pub struct Guarded {
    proxy: Arc<HttpProxy<Gateway>>,
    connections: Arc<Connections>,
    metrics: Arc<Metrics>,
}

impl Guarded {
    /// Guards `proxy`.
    pub fn new(proxy: HttpProxy<Gateway>, connections: Arc<Connections>, metrics: Arc<Metrics>) -> Guarded {
        Guarded { proxy: Arc::new(proxy), connections, metrics }
    }
}

#[async_trait]
impl ServerApp for Guarded {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let address = stream
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::ip));
        match self.connections.guard(address, self.proxy.process_new(stream, shutdown)).await {
            Ok(reusable) => reusable,
            Err(refused) => {
                self.metrics.connection_refused(refused.as_str());
                None
            }
        }
    }

    async fn cleanup(&self) {
        self.proxy.cleanup().await; // else idle connections would survive the shutdown
    }
}
