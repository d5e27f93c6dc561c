//! HTTP/2 by the frame library itself: an origin that does what its path says, and a client.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::wait::soon;

/// A request as the origin got it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub uri: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Default)]
struct State {
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    refused: AtomicUsize,
}

/// An origin that speaks HTTP/2 by prior knowledge. `/bidi` sends back what it gets as it gets it, `/reset` breaks the
/// stream, `/refuse-late` reads a part and refuses the stream, once; `/goaway` answers and lets the connection end, `/refuse` answers before it reads; every other path reads all
/// and sends it back. The answers end with a `grpc-status` of 0 in trailers.
pub struct H2Origin {
    pub address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl H2Origin {
    pub async fn start() -> H2Origin {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::<State>::default();
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream, shared.clone()));
            }
        });
        H2Origin { address, state, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, probes too, in the order their bodies ended.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let all = self.state.asked.lock().unwrap();
        all.iter().filter(|asked| asked.uri.ends_with(path)).cloned().collect()
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut streams = JoinSet::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if request.uri().path() == "/goaway" {
            connection.graceful_shutdown();
        }
        let state = state.clone();
        streams.spawn(async move {
            let (head, mut body) = request.into_parts();
            let response = || Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut asked = Asked {
                method: head.method.to_string(),
                uri: head.uri.to_string(),
                headers: head.headers,
                body: Bytes::new(),
            };
            match head.uri.path() {
                "/reset" => respond.send_reset(Reason::INTERNAL_ERROR),
                "/refuse-late" if state.refused.fetch_add(1, Ordering::SeqCst) == 0 => {
                    let mut seen = 0;
                    while seen < 150_000 {
                        let Some(Ok(data)) = next(&mut body).await else { break };
                        seen += data.len();
                    }
                    respond.send_reset(Reason::REFUSED_STREAM);
                    return;
                }
                "/refuse" => {
                    let mut send = respond.send_response(response(), false).unwrap();
                    let _ = send.send_trailers(status("7"));
                }
                "/bidi" => {
                    let mut send = respond.send_response(response(), false).unwrap();
                    while let Some(Ok(data)) = next(&mut body).await {
                        let _ = send.send_data(data, false);
                    }
                    let _ = send.send_trailers(status("0"));
                }
                _ => {
                    asked.body = read(&mut body).await.unwrap_or_default();
                    let mut send = respond.send_response(response(), false).unwrap();
                    let _ = send.send_data(asked.body.clone(), false);
                    let _ = send.send_trailers(status("0"));
                }
            }
            state.asked.lock().unwrap().push(asked);
        });
    }
    while streams.join_next().await.is_some() {}
}

fn status(text: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static(text))])
}

/// The next piece of a body.
pub async fn next(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let piece = body.data().await?;
    if let Ok(data) = &piece {
        let _ = body.flow_control().release_capacity(data.len());
    }
    Some(piece)
}

async fn read(body: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let mut all = BytesMut::new();
    while let Some(piece) = next(body).await {
        all.extend_from_slice(&piece?);
    }
    Ok(all.freeze())
}

/// A whole answer.
#[derive(Debug)]
pub struct H2Answer {
    pub status: u16,
    #[expect(dead_code, reason = "shown when a test fails")]
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl H2Answer {
    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        body["error"]["code"].as_str().or(body["code"].as_str()).unwrap_or_default().to_owned()
    }

    pub fn grpc_status(&self) -> &str {
        self.trailers.as_ref().and_then(|all| all.get("grpc-status")).map_or("", |status| status.to_str().unwrap())
    }
}

/// One connection of a client.
pub struct H2Client {
    send: SendRequest<Bytes>,
    authority: String,
    task: JoinHandle<Result<(), h2::Error>>,
}

impl H2Client {
    /// Connects by prior knowledge.
    pub async fn connect(address: SocketAddr) -> H2Client {
        let stream = TcpStream::connect(address).await.expect("a connection");
        H2Client::over(stream, &address.to_string()).await
    }

    /// Speaks over what was connected already.
    pub async fn over<S>(stream: S, authority: &str) -> H2Client
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) = soon("a handshake", h2::client::handshake(stream)).await.expect("HTTP/2");
        H2Client { send, authority: authority.to_owned(), task: tokio::spawn(connection) }
    }

    /// Begins a request.
    pub async fn begin(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        end: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.authority));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut send = self.send.clone().ready().await.expect("a connection that takes requests");
        send.send_request(request.body(()).expect("a request"), end).expect("sent")
    }

    /// Asks and waits for the whole answer.
    pub async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> H2Answer {
        let (response, mut send) = self.begin(method, path, headers, body.is_empty()).await;
        if !body.is_empty() {
            let _ = send.send_data(Bytes::copy_from_slice(body), true);
        }
        soon("an answer", answer(response)).await.expect("an answer")
    }

    /// Waits for the end of the connection.
    pub async fn ended(self) {
        let H2Client { send, task, .. } = self;
        let _ = soon("the end of the connection", task).await;
        drop(send);
    }
}

/// The whole answer.
pub async fn answer(response: h2::client::ResponseFuture) -> Result<H2Answer, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let bytes = read(&mut body).await?;
    let trailers = body.trailers().await?;
    Ok(H2Answer { status: head.status.as_u16(), headers: head.headers, body: bytes, trailers })
}
