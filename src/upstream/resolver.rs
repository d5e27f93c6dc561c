//! Where the addresses of a name come from: the system, or a test.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::net::lookup_host;

/// Looks names up.
#[async_trait]
pub(super) trait Resolve: Send + Sync {
    /// All addresses that `host` has, with `port`. May take its time; the caller gives up.
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's own way: its hosts file and name servers.
pub(super) struct System;

#[async_trait]
impl Resolve for System {
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host((host, port)).await?.collect())
    }
}
