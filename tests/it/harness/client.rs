//! Two clients: one with a method per endpoint, for what well-behaved clients do, and a raw one for the others.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wait::soon;
use super::wire::{Body, Head, read_body, read_head};

/// Prefix of every public path.
pub const P: &str = "/api/gateway";

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{} not JSON ({error}): {}", self.status, self.text()))
    }

    /// The code of the error envelope.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and code, to compare both at once.
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.code())
    }

    /// The one value of a header; fails when there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.get_all(name).iter();
        let first = all.next().map(|value| value.to_str().expect("a text header"));
        assert!(all.next().is_none(), "several {name}");
        first
    }

    /// Whether `Vary` names this header, on any of its lines.
    pub fn varies_by(&self, name: &str) -> bool {
        let lines = self.headers.get_all("vary").iter().filter_map(|value| value.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|one| one.trim().eq_ignore_ascii_case(name))
    }

    /// A header that is a whole number.
    pub fn number(&self, name: &str) -> u64 {
        let text = self.header(name).unwrap_or_else(|| panic!("{}: no {name} in {:?}", self.status, self.headers));
        text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, not plain digits"))
    }

    /// Fails with the whole answer unless the status is this one.
    pub fn expect(self, status: u16) -> Got {
        assert_eq!(self.status, status, "{:?}\n{}", self.headers, self.text());
        self
    }
}

/// A logged-in account.
#[derive(Debug, Clone, Default)]
pub struct Session {
    pub id: i64,
    pub email: String,
    pub password: String,
    pub role: String,
    pub access: String,
    pub refresh: String,
}

impl Session {
    /// The value of `Authorization`.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.access)
    }

    /// The session that a token response describes.
    pub fn of(answer: &Got, password: &str) -> Session {
        let body = answer.json();
        let text = |pointer: &str| {
            let value = body.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_else(|| panic!("no {pointer} in {body}")).to_owned()
        };
        Session {
            id: body["user"]["id"].as_i64().expect("user.id"),
            email: text("/user/email"),
            password: password.to_owned(),
            role: text("/user/role"),
            access: text("/access_token"),
            refresh: text("/refresh_token"),
        }
    }
}

/// A client that keeps to the rules.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    pub fn new(address: SocketAddr) -> Client {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
        Client { base: format!("http://{address}"), http: http.expect("a client") }
    }

    /// A request to a path of the gateway, to be finished with [`send`].
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// The same with a session's token.
    pub fn as_user(&self, session: &Session, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.request(method, path).header("authorization", session.bearer())
    }

    pub async fn get(&self, path: &str) -> Got {
        send(self.request("GET", path)).await
    }

    pub async fn get_as(&self, session: &Session, path: &str) -> Got {
        send(self.as_user(session, "GET", path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Got {
        send(self.request("POST", path).json(body)).await
    }

    pub async fn post_as(&self, session: &Session, path: &str, body: &Value) -> Got {
        send(self.as_user(session, "POST", path).json(body)).await
    }

    pub async fn register(&self, email: &str, password: &str, role: &str) -> Got {
        let body = json!({"email": email, "password": password, "full_name": "Camille Test", "role": role});
        self.post(&format!("{P}/auth/register"), &body).await
    }

    pub async fn login(&self, email: &str, password: &str) -> Got {
        self.post(&format!("{P}/auth/login"), &json!({"email": email, "password": password})).await
    }

    pub async fn refresh(&self, token: &str) -> Got {
        self.post(&format!("{P}/auth/refresh"), &json!({ "refresh_token": token })).await
    }

    pub async fn logout(&self, session: &Session) -> Got {
        send(self.as_user(session, "POST", &format!("{P}/auth/logout"))).await
    }

    pub async fn me(&self, session: &Session) -> Got {
        self.get_as(session, &format!("{P}/auth/me")).await
    }

    pub async fn algorithms(&self, session: &Session) -> Got {
        self.get_as(session, &format!("{P}/match/algorithms")).await
    }

    pub async fn match_jobs(&self, session: &Session, body: &Value) -> Got {
        self.post_as(session, &format!("{P}/match"), body).await
    }

    pub async fn parse_cv(&self, session: &Session, content: Vec<u8>) -> Got {
        let (content_type, body) = multipart(&content);
        let request = self.as_user(session, "POST", &format!("{P}/parse-cv")).header("content-type", content_type);
        send(request.body(body)).await
    }

    pub async fn health(&self) -> Got {
        self.get(&format!("{P}/health")).await
    }

    pub async fn status(&self) -> Got {
        self.get(&format!("{P}/status")).await
    }
}

/// Sends, and reads the whole answer.
pub async fn send(request: reqwest::RequestBuilder) -> Got {
    try_send(request).await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
}

/// Sends, and reads the whole answer if there is one.
pub async fn try_send(request: reqwest::RequestBuilder) -> reqwest::Result<Got> {
    soon("an answer", async {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Got { status, headers, body: response.bytes().await? })
    })
    .await
}

/// A multipart body with one part `file`: its content type and its bytes.
pub fn multipart(content: &[u8]) -> (String, Vec<u8>) {
    let boundary = "----------------------------it";
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"cv.txt\"\r\n\
         Content-Type: text/plain\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

/// A response read by hand.
#[derive(Debug)]
pub struct RawResponse {
    pub head: Head,
    pub body: Body,
}

impl RawResponse {
    pub fn status(&self) -> u16 {
        self.head.status()
    }
}

/// A connection over which any bytes can be sent.
pub struct RawClient(BufReader<TcpStream>);

impl RawClient {
    pub async fn connect(address: SocketAddr) -> RawClient {
        RawClient::over(soon("a connection", TcpStream::connect(address)).await.expect("a connection"))
    }

    /// Speaks over what was connected already.
    pub fn over(stream: TcpStream) -> RawClient {
        RawClient(BufReader::new(stream))
    }

    /// Sends, if the other side still listens.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let stream = self.0.get_mut();
        soon("room to send", async { stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok() }).await
    }

    /// Says that nothing more will be sent.
    pub async fn finish_sending(&mut self) {
        // Gone already is as good.
        let _ = self.0.get_mut().shutdown().await;
    }

    /// The next response, interim ones included; `None` when the connection ends first.
    pub async fn response(&mut self) -> Option<RawResponse> {
        self.response_to("GET").await
    }

    /// The next response to a request with this method.
    pub async fn response_to(&mut self, method: &str) -> Option<RawResponse> {
        soon("a response", async {
            let head = read_head(&mut self.0).await.ok()??;
            let bodiless = method == "HEAD" || matches!(head.status(), 100..=199 | 204 | 304);
            let framing = if bodiless { Head::default() } else { head.clone() };
            let body = read_body(&mut self.0, &framing, !bodiless).await;
            Some(RawResponse { head, body })
        })
        .await
    }

    /// Sends piece after piece until something comes back; then the response, or `None` when the connection ended.
    pub async fn drip(&mut self, piece: &[u8]) -> Option<RawResponse> {
        const PAUSE: Duration = Duration::from_millis(20);
        soon("an end of the dripping", async {
            // Reading first: what the other side said before it closed is lost once one writes into the reset.
            while timeout(PAUSE, self.0.fill_buf()).await.is_err() && self.send(piece).await {}
        })
        .await;
        self.response().await
    }

    /// Exactly so many of the next bytes; `None` when the connection ends first.
    pub async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        soon("bytes", async { self.0.read_exact(&mut bytes).await.ok() }).await?;
        Some(bytes)
    }

    /// Whether the other side ends the connection without a reset; what it still sends is ignored.
    pub async fn ends_in_order(&mut self) -> bool {
        soon("the end of the connection", async {
            let mut rest = [0; 4096];
            loop {
                match self.0.read(&mut rest).await {
                    Ok(0) => return true,
                    Ok(_) => {}
                    Err(_) => return false,
                }
            }
        })
        .await
    }

    /// Whether the other side ends the connection; what it still sends is ignored.
    pub async fn ends(&mut self) -> bool {
        soon("the end of the connection", async {
            let mut rest = [0; 4096];
            while let Ok(read) = self.0.read(&mut rest).await {
                if read == 0 {
                    break;
                }
            }
            true
        })
        .await
    }
}
