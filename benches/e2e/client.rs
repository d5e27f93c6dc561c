//! The load generator: raw keep-alive connections that send one prepared request again and again.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longer than any answer takes, so that a server that hangs ends the bench.
const PATIENCE: Duration = Duration::from_secs(30);

/// One prepared request, byte for byte.
#[derive(Debug, Clone)]
pub(crate) struct Request(pub(crate) bytes::Bytes);

impl Request {
    /// A request with an optional JSON body and bearer token, as a browser at an allowed origin sends it.
    pub(crate) fn new(method: &str, path: &str, body: Option<&str>, token: Option<&str>) -> Request {
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: gateway.test\r\nAccept: application/json\r\n\
             Origin: http://localhost:3000\r\nUser-Agent: e2e\r\n"
        );
        if let Some(token) = token {
            text.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        if let Some(body) = body {
            text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body.unwrap_or_default());
        Request(text.into())
    }
}

/// Open connections to one server.
pub(crate) struct Load(Vec<TcpStream>);

impl Load {
    /// Opens the connections and sends one request on each, so that accepting is not measured.
    pub(crate) async fn open(server: SocketAddr, connections: u32, request: &Request) -> Result<Load> {
        let mut streams = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(server).await.with_context(|| format!("connecting to {server}"))?;
            stream.set_nodelay(true)?;
            streams.push(repeat(stream, request.clone(), 1).await?);
        }
        Ok(Load(streams))
    }

    /// Sends `requests` in all, divided evenly, and gives the number really sent.
    pub(crate) async fn send(self, requests: u32, request: &Request) -> Result<u32> {
        let connections = u32::try_from(self.0.len())?.max(1);
        let each = requests.div_ceil(connections);
        let mut tasks = JoinSet::new();
        for stream in self.0 {
            tasks.spawn(repeat(stream, request.clone(), each));
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(each * connections)
    }
}

async fn repeat(mut stream: TcpStream, request: Request, times: u32) -> Result<TcpStream> {
    let mut buffer = Vec::with_capacity(4096);
    for _ in 0..times {
        stream.write_all(&request.0).await?;
        let answer = timeout(PATIENCE, read_message(&mut stream, &mut buffer)).await.context("no answer in 30 s")??;
        ensure!(answer.context("the server closed the connection")?.starts_with("HTTP/1.1 200 "), refused(&buffer));
        buffer.clear();
    }
    Ok(stream)
}

fn refused(answer: &[u8]) -> String {
    format!("not answered with 200:\n{}", String::from_utf8_lossy(answer))
}

/// One exchange on a connection of its own; gives the answer's body.
pub(crate) async fn once(server: SocketAddr, request: &Request) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await.with_context(|| format!("connecting to {server}"))?;
    stream.write_all(&request.0).await?;
    let mut buffer = Vec::new();
    let head = timeout(PATIENCE, read_message(&mut stream, &mut buffer)).await.context("no answer in 30 s")??;
    let head = head.context("the server closed the connection")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), refused(&buffer));
    Ok(buffer.split_off(head.len() + 4))
}

/// Reads one message with its body into `buffer`, which is emptied first, and gives its head without the blank line;
/// `None` when the peer closed between two messages. Bodies need a Content-Length.
pub(crate) async fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<String>> {
    buffer.clear();
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await? == 0 {
            ensure!(buffer.is_empty(), "the peer closed within a message");
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(buffer.get(..head_end).unwrap_or_default()).into_owned();
    let whole = head_end + 4 + content_length(&head)?;
    while buffer.len() < whole {
        ensure!(stream.read_buf(buffer).await? > 0, "the peer closed within a body");
    }
    ensure!(buffer.len() == whole, "bytes after the end of a message");
    Ok(Some(head))
}

fn content_length(head: &str) -> Result<usize> {
    for line in head.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            return value.trim().parse().context("Content-Length");
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("a chunked body, which this client does not read:\n{head}");
        }
    }
    Ok(0)
}
