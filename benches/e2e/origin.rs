//! The origin: the least HTTP/1.1 server that a proxy accepts, so that it never is what is measured.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::client::read_message;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 63\r\n\r\n\
{\"matches\":[{\"job\":\"42\",\"score\":0.87}],\"algorithm\":\"smart-v2\"}\n";

/// A running origin; it ends with the runtime.
pub(crate) struct Origin {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    served: Arc<AtomicU64>,
}

impl Origin {
    /// Starts on a free loopback port.
    pub(crate) async fn start() -> Result<Origin> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("origin: no free loopback port")?;
        let origin = Origin { address: listener.local_addr()?, served: Arc::default() };
        let served = origin.served.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, served.clone()));
            }
        });
        Ok(origin)
    }

    /// Requests answered so far.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, served: Arc<AtomicU64>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    while read_message(&mut stream, &mut buffer).await?.is_some() {
        served.fetch_add(1, Ordering::Relaxed);
        stream.write_all(ANSWER).await?;
    }
    Ok(())
}
