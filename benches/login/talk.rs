//! One keep-alive connection to the gateway, and what is asked over it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::read_message;

const PATIENCE: Duration = Duration::from_secs(60);

/// An open connection.
pub(crate) struct Talk {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Talk {
    pub(crate) async fn open(server: SocketAddr) -> Result<Talk> {
        let stream = TcpStream::connect(server).await.with_context(|| format!("connecting to {server}"))?;
        stream.set_nodelay(true)?;
        Ok(Talk { stream, buffer: Vec::new() })
    }

    /// Sends a request; gives the status and how long the answer took.
    pub(crate) async fn ask(&mut self, request: &str) -> Result<(u16, Duration)> {
        let started = Instant::now();
        self.stream.write_all(request.as_bytes()).await?;
        let head = timeout(PATIENCE, read_message(&mut self.stream, &mut self.buffer))
            .await
            .context("no answer in 60 s")??;
        let took = started.elapsed();
        let head = head.context("the server closed the connection")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
        Ok((status, took))
    }

    /// The access token of the answer read last.
    pub(crate) fn token(&self) -> Result<String> {
        let body = self.buffer.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
        let answer: serde_json::Value = serde_json::from_slice(self.buffer.get(body..).unwrap_or_default())?;
        let token = answer.get("access_token").and_then(serde_json::Value::as_str);
        Ok(token.context("the log-in's answer has no access_token")?.to_owned())
    }
}

/// A log-in from the client with this number; each has an address of its own.
pub(crate) fn login(email: &str, password: &str, client: u32) -> String {
    let [_, a, b, c] = client.to_be_bytes();
    let body = serde_json::json!({"email": email, "password": password}).to_string();
    format!(
        "POST /api/gateway/auth/login HTTP/1.1\r\nHost: gateway.test\r\nX-Forwarded-For: 10.{a}.{b}.{c}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A proxied request.
pub(crate) fn proxied(token: &str) -> String {
    format!("GET /api/gateway/match/algorithms HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\n\r\n")
}
