//! `healthcheck`: asks a running gateway's admin listener, for container health checks without a shell or curl.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

/// Where to ask.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Address of the admin listener.
    #[arg(long, default_value = "127.0.0.1:5059")]
    pub admin: SocketAddr,
    /// Path to ask for: `/readyz` or `/livez`.
    #[arg(long, default_value = "/readyz")]
    pub path: String,
}

const TIMEOUT: Duration = Duration::from_secs(3);

/// Succeeds when the answer is 200.
pub fn run(args: &HealthcheckArgs) -> anyhow::Result<()> {
    let unreachable = || format!("no gateway answers on {}", args.admin);
    let mut stream = TcpStream::connect_timeout(&args.admin, TIMEOUT).with_context(unreachable)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", args.path, args.admin)?;
    let mut answer = String::new();
    stream.take(16 * 1024).read_to_string(&mut answer).with_context(unreachable)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("not ready: {}", body.trim());
    }
    println!("{}", body.trim());
    Ok(())
}
