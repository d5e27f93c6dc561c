//! A Redis server of this bench's own.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::server::free_address;

/// A running server; dropped, it is killed.
pub(crate) struct Redis {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Redis {
    /// Starts an empty server that writes nothing to disk.
    pub(crate) async fn start() -> Result<Redis> {
        let (address, directory) = (free_address()?, TempDir::new()?);
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
            .arg(address.port().to_string())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server")?;
        let redis = Redis { child, address, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).await.is_err() {
            ensure!(Instant::now() < deadline, "redis-server does not listen on {address}");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(redis)
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Scripts that it ran so far.
    pub(crate) async fn script_calls(&self) -> Result<u64> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(b"INFO commandstats\r\nQUIT\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        let calls = line.and_then(|line| line.split(',').next()).map_or(Ok(0), str::parse);
        calls.context("INFO commandstats")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
