//! HTTP/1.1 by hand, for both ends of a test: heads and bodies exactly as they are on the wire. Accepts what it
//! is given; judging it is the tests' business.

use std::io;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Bytes of a body that are kept; the rest is only counted and hashed.
const KEPT: usize = 1 << 20;

/// Start line and headers, names in the case they were sent in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    pub start: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Every value of a header, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a header; fails when there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "several {name}: {all:?}");
        all.first().copied()
    }

    /// A word of the start line.
    pub fn word(&self, index: usize) -> &str {
        self.start.split(' ').nth(index).unwrap_or_default()
    }

    /// The status code of a response.
    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_default()
    }

    fn chunked(&self) -> bool {
        self.all("transfer-encoding").iter().any(|value| value.to_ascii_lowercase().contains("chunked"))
    }

    fn length(&self) -> Option<u64> {
        self.all("content-length").first().and_then(|value| value.trim().parse().ok())
    }
}

/// A body, counted and hashed; its first MiB is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub length: u64,
    pub sha256: String,
    pub kept: Vec<u8>,
    /// Whether it came whole, by its own framing.
    pub complete: bool,
}

impl Body {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.kept).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

/// Reads one head; `None` at the end of the connection.
pub async fn read_head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Head>> {
    let mut head = Head::default();
    loop {
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        if line.is_empty() && !head.start.is_empty() {
            return Ok(Some(head));
        }
        if head.start.is_empty() {
            head.start = line;
        } else if let Some((name, value)) = line.split_once(':') {
            head.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }
}

/// Reads the body that `head` announces. `until_end`: without a length it lasts to the end of the connection.
pub async fn read_body(from: &mut (impl AsyncBufRead + Unpin), head: &Head, until_end: bool) -> Body {
    let mut sink = Sink { hash: Sha256::new(), length: 0, kept: Vec::new() };
    let complete = if head.chunked() {
        read_chunks(from, &mut sink).await.is_ok()
    } else {
        match head.length() {
            Some(length) => sink.take(from, length).await.is_ok(),
            None if until_end => sink.take(from, u64::MAX).await.is_err(),
            None => true,
        }
    };
    let sha256 = sink.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Body { length: sink.length, sha256, kept: sink.kept, complete }
}

async fn read_chunks(from: &mut (impl AsyncBufRead + Unpin), sink: &mut Sink) -> io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line).await?;
        let size = line.trim().split(';').next().unwrap_or_default().to_owned();
        let size = u64::from_str_radix(&size, 16).map_err(|_| io::Error::other(format!("chunk size {size:?}")))?;
        sink.take(from, size).await?;
        let mut end = [0; 2];
        from.read_exact(&mut end).await?;
        if size == 0 {
            return Ok(());
        }
    }
}

struct Sink {
    hash: Sha256,
    length: u64,
    kept: Vec<u8>,
}

impl Sink {
    /// Takes exactly `count` bytes, or fails at the end of the connection.
    async fn take(&mut self, from: &mut (impl AsyncBufRead + Unpin), count: u64) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let available = from.fill_buf().await?;
            if available.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let now = available.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.hash.update(&available[..now]);
            let room = KEPT.saturating_sub(self.kept.len()).min(now);
            self.kept.extend_from_slice(&available[..room]);
            from.consume(now);
            self.length += now as u64;
            left -= now as u64;
        }
        Ok(())
    }
}

/// The SHA-256 of some bytes, as [`Body::sha256`] writes it.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
