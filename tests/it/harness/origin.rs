//! A scripted origin: records every request as it was on the wire and answers as told. Delays are by notification:
//! a held answer waits until the test lets it go.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::wait::{PATIENCE, until};
use super::wire::{Body, Head, read_body, read_head};

/// One request, as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub target: String,
    pub head: Head,
    pub body: Body,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// What comes after the head of an answer.
#[derive(Debug, Clone)]
enum Content {
    /// A body with its length.
    Sized(Vec<u8>),
    /// A body in chunks.
    Chunked(Vec<Vec<u8>>),
    /// A body that announces more than it sends, then the end of the connection.
    Cut { announced: usize, sent: Vec<u8> },
    /// These bytes instead of an answer, then the end of the connection.
    Raw(Vec<u8>),
    /// These bytes instead of an answer, then a reset of the connection.
    Reset(Vec<u8>),
    /// A body with its length, byte by byte with this pause between.
    Slow(Vec<u8>, Duration),
    /// No answer at all: the connection stays open and silent.
    Silence,
}

/// An answer of the script.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    content: Content,
    early: bool,
    hold: Option<Hold>,
    close: bool,
    once: bool,
}

/// Holds answers back until they are let go. Clones are the same hold.
#[derive(Debug, Clone)]
pub struct Hold(Arc<Semaphore>);

impl Hold {
    pub fn new() -> Hold {
        Hold(Arc::new(Semaphore::new(0)))
    }

    /// Lets everything go, now and later.
    pub fn release(&self) {
        self.0.close();
    }

    /// Waits for that.
    pub async fn wait(&self) {
        let _ = self.0.acquire().await; // closed means released
    }
}

impl Answer {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: vec![("Content-Type".into(), content_type.into())],
            content: Content::Sized(body.into()),
            early: false,
            hold: None,
            close: false,
            once: false,
        }
    }

    pub fn json(status: u16, body: serde_json::Value) -> Answer {
        Answer::new(status, "application/json", body.to_string())
    }

    /// A status without body and without content headers.
    pub fn bare(status: u16) -> Answer {
        Answer { headers: Vec::new(), ..Answer::new(status, "", "") }
    }

    pub fn chunked(chunks: &[&[u8]]) -> Answer {
        let content = Content::Chunked(chunks.iter().map(|chunk| chunk.to_vec()).collect());
        Answer { content, ..Answer::new(200, "application/octet-stream", "") }
    }

    pub fn cut(announced: usize, sent: &[u8]) -> Answer {
        Answer { content: Content::Cut { announced, sent: sent.to_vec() }, ..Answer::new(200, "text/plain", "") }
    }

    pub fn raw(bytes: &[u8]) -> Answer {
        Answer { content: Content::Raw(bytes.to_vec()), ..Answer::new(0, "", "") }
    }

    /// Breaks the connection after these bytes.
    pub fn reset(bytes: &[u8]) -> Answer {
        Answer { content: Content::Reset(bytes.to_vec()), ..Answer::new(0, "", "") }
    }

    pub fn slow(body: &[u8], pause: Duration) -> Answer {
        Answer { content: Content::Slow(body.to_vec(), pause), ..Answer::new(200, "text/plain", "") }
    }

    pub fn silence() -> Answer {
        Answer { content: Content::Silence, ..Answer::new(0, "", "") }
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Answers as soon as the head is read.
    pub fn early(self) -> Answer {
        Answer { early: true, ..self }
    }

    /// Answers only once `hold` is released.
    pub fn held(self, hold: &Hold) -> Answer {
        Answer { hold: Some(hold.clone()), ..self }
    }

    /// Answers only the first request of a connection; the next one finds it closed, and is not looked at.
    pub fn once(self) -> Answer {
        Answer { once: true, ..self }
    }

    /// Ends the connection after the answer.
    pub fn closing(self) -> Answer {
        Answer { close: true, ..self }
    }
}

#[derive(Default)]
struct State {
    script: Mutex<HashMap<String, Answer>>,
    received: Mutex<Vec<Received>>,
    heads: AtomicUsize,
    probes: AtomicUsize,
    connections: AtomicUsize,
    unhealthy: AtomicBool,
}

/// The running origin; ends when dropped.
pub struct Origin {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Origin {
    /// Starts on a free loopback port, healthy, answering 200 with what it was asked.
    pub async fn start() -> Origin {
        Origin::start_at(0).await
    }

    /// Starts on the given loopback port.
    pub async fn start_at(port: u16) -> Origin {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State::default());
        let task = tokio::spawn(accept(listener, state.clone()));
        Origin { address, state, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on answers requests for `path` (without query) so.
    pub fn on(&self, path: &str, answer: Answer) {
        self.state.script.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Whether probes are answered with 200 or 500.
    pub fn set_healthy(&self, healthy: bool) {
        self.state.unhealthy.store(!healthy, Ordering::SeqCst);
    }

    /// Every request so far except probes, in the order their bodies ended.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// How many requests, except probes, have begun.
    pub fn count(&self) -> usize {
        self.state.heads.load(Ordering::SeqCst)
    }

    pub fn probes(&self) -> usize {
        self.state.probes.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The latest request.
    pub fn last(&self) -> Received {
        self.received().pop().expect("the origin received no request")
    }

    /// Waits until so many requests have begun.
    pub async fn wait_count(&self, count: usize) {
        until(&format!("{count} requests at the origin"), PATIENCE, || async { (self.count() >= count).then_some(()) })
            .await;
    }

    /// Stops listening and breaks every connection.
    pub async fn kill(mut self) -> u16 {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.address.port()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    connections.spawn(serve(stream, state.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    let mut used = false;
    while let Ok(Some(head)) = read_head(&mut stream).await {
        if !exchange(&mut stream, head, &state, used).await {
            return;
        }
        used = true;
    }
}

/// One request and its answer; whether the connection goes on.
async fn exchange(stream: &mut BufReader<TcpStream>, head: Head, state: &State, used: bool) -> bool {
    let (method, target) = (head.word(0).to_owned(), head.word(1).to_owned());
    let path = target.split('?').next().unwrap_or_default().to_owned();
    if path == "/health" || path == "/api/v1/health" {
        state.probes.fetch_add(1, Ordering::SeqCst);
        let status = if state.unhealthy.load(Ordering::SeqCst) { 500 } else { 200 };
        let answer = Answer::json(status, serde_json::json!({"status": "healthy", "version": "1.2.3"}));
        return write(stream, &method, answer).await;
    }
    let scripted = state.script.lock().unwrap().get(&path).cloned();
    if used && scripted.as_ref().is_some_and(|answer| answer.once) {
        return false;
    }
    state.heads.fetch_add(1, Ordering::SeqCst);
    let answer = scripted.unwrap_or_else(|| Answer::json(200, serde_json::json!({"method": method, "path": target})));
    if answer.early && !write(stream, &method, answer.clone()).await {
        return false;
    }
    if head.header("expect").is_some() && stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
        return false;
    }
    let body = read_body(stream, &head, false).await;
    let complete = body.complete;
    state.received.lock().unwrap().push(Received { method: method.clone(), target, head, body });
    complete && (answer.early || write(stream, &method, answer).await)
}

async fn write(stream: &mut BufReader<TcpStream>, method: &str, answer: Answer) -> bool {
    if let Some(hold) = &answer.hold {
        hold.wait().await;
    }
    if let Content::Silence = answer.content {
        std::future::pending::<()>().await;
    }
    let (bytes, ends) = render(method, &answer);
    let stream = stream.get_mut();
    let mut sent = stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok();
    match &answer.content {
        Content::Reset(_) => {
            stream.set_zero_linger().expect("a socket option");
            return false;
        }
        Content::Slow(body, pause) => {
            for byte in body {
                tokio::time::sleep(*pause).await;
                sent = sent && stream.write_all(&[*byte]).await.is_ok();
            }
        }
        _ => {}
    }
    if ends || answer.close {
        let _ = stream.shutdown().await;
        return false;
    }
    sent
}

/// The bytes of an answer, and whether the connection ends with them.
fn render(method: &str, answer: &Answer) -> (Vec<u8>, bool) {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if answer.close {
        head.push_str("Connection: close\r\n");
    }
    let (framing, body, ends) = match &answer.content {
        Content::Raw(bytes) | Content::Reset(bytes) => return (bytes.clone(), true),
        Content::Silence => return (Vec::new(), true),
        Content::Sized(_) if matches!(answer.status, 204 | 304) => (String::new(), Vec::new(), false),
        Content::Sized(body) => (format!("Content-Length: {}\r\n", body.len()), body.clone(), false),
        Content::Slow(body, _) => (format!("Content-Length: {}\r\n", body.len()), Vec::new(), false),
        Content::Cut { announced, sent } => (format!("Content-Length: {announced}\r\n"), sent.clone(), true),
        Content::Chunked(chunks) => {
            let mut body = Vec::new();
            for chunk in chunks {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            ("Transfer-Encoding: chunked\r\n".to_owned(), body, false)
        }
    };
    let mut bytes = format!("{head}{framing}\r\n").into_bytes();
    if method != "HEAD" {
        bytes.extend_from_slice(&body);
    }
    (bytes, ends)
}
