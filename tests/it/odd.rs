//! Services with habits of their own: they answer before the body is there, say several things at once, close after
//! every answer, speak HTTP/1.0, or take their time.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::table::{ECHO, table};
use crate::harness::{Answer, Gateway, GatewayConfig, Hold, PATIENCE, send, soon, until};
use crate::proxying::started;

/// A service that does as told with each connection; ends when dropped.
struct Service {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    async fn start<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Service {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        Service { address, task }
    }

    /// A gateway in front of it.
    async fn gateway(&self) -> Gateway {
        let url = format!("http://{}", self.address);
        let routes = format!(
            "{ECHO}\n  - {{ name: upload, match: {{ path: /upload, methods: [POST] }}, to: {{ pool: echo }}, auth: public, body: {{ max: 50MiB }} }}"
        );
        Gateway::start(GatewayConfig::table(&table(&[&url], "", &routes))).await
    }
}

/// Reads until `count` bytes were there, or the end.
async fn read(stream: &mut TcpStream, count: usize) {
    let mut seen = 0;
    let mut bytes = vec![0; 16 << 10];
    while seen < count {
        match stream.read(&mut bytes).await {
            Ok(read) if read > 0 => seen += read,
            _ => return,
        }
    }
}

/// Reads and forgets until the other side ends.
async fn linger(stream: &mut TcpStream) {
    let _ = stream.shutdown().await;
    read(stream, usize::MAX).await;
}

const TOO_LARGE: &[u8] =
    b"HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{\"own\":\"413\"}";

#[tokio::test]
async fn an_answer_in_the_middle_of_an_upload_reaches_who_is_still_sending() {
    // What follows the answer: the service hangs up politely, reads the rest, or does neither.
    for manners in ["lingers", "reads", "leaves"] {
        let service = Service::start(move |mut stream| async move {
            read(&mut stream, 100_000).await;
            let _ = stream.write_all(TOO_LARGE).await;
            match manners {
                "lingers" => linger(&mut stream).await,
                "reads" => read(&mut stream, usize::MAX).await,
                _ => {}
            }
        })
        .await;
        let gateway = service.gateway().await;
        for _ in 0..10 {
            let mut raw = gateway.raw().await;
            raw.send(b"POST /upload HTTP/1.1\r\nHost: g\r\nContent-Length: 9000000\r\n\r\n").await;
            // As a client that does not look before it has sent everything.
            let mut sent_all = true;
            for _ in 0..90 {
                sent_all &= raw.send(&[b'x'; 100_000]).await;
            }
            let answer = raw.response().await.unwrap_or_else(|| panic!("{manners}: no answer, sent all: {sent_all}"));
            assert_eq!((answer.status(), answer.body.text().as_str()), (413, "{\"own\":\"413\"}"), "{manners}");
            assert!(sent_all, "{manners}: the connection broke while the client was sending");
            let closes = answer.head.header("connection") == Some("close");
            assert!(
                !closes || raw.ends_in_order().await,
                "{manners}: reset, so that a slower client might have lost the answer"
            );
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_an_upload_is_gone_for_the_service_too() {
    let (origin, gateway) = started().await;
    let mut raw = gateway.raw().await;
    raw.send(b"POST /echo HTTP/1.1\r\nHost: g\r\nContent-Length: 1000000\r\n\r\n").await;
    raw.send(&[b'x'; 100_000]).await;
    origin.wait_count(1).await;
    drop(raw);
    let upload = until("the end of the upload", PATIENCE, || async { origin.received().pop() }).await;
    assert!(!upload.body.complete && upload.body.length <= 100_000, "{}", upload.body.length);
    gateway.client.get("/echo").await.expect(200);
}

#[tokio::test]
async fn of_several_interim_answers_only_the_last_word_counts() {
    let (origin, gateway) = started().await;
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </inside.css>\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlast";
    for interim in
        ["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n", hints]
    {
        origin.on("/echo", Answer::raw(format!("{interim}{hints}{last}").as_bytes()));
        for method in ["GET", "POST"] {
            let mut raw = gateway.raw().await;
            raw.send(format!("{method} /echo HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
            let answer = raw.response().await.expect("an answer");
            assert_eq!((answer.status(), answer.body.text().as_str()), (200, "last"), "{method} {interim:?}");
        }
    }
}

/// Announced or not, in turns, one after the other and side by side.
#[tokio::test]
async fn a_service_that_closes_after_every_answer_is_as_good_as_any() {
    let (origin, gateway) = started().await;
    origin.on("/echo/says", Answer::new(200, "text/plain", "fine").closing());
    origin.on("/echo/silent", Answer::raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"));
    let mut running = JoinSet::new();
    for lane in 0..6 {
        let client = gateway.client.clone();
        running.spawn(async move {
            for turn in 0..20 {
                let path = if (lane + turn) % 2 == 0 { "/echo/says" } else { "/echo/silent" };
                let request =
                    if turn % 3 == 0 { client.request("POST", path).body("{}") } else { client.request("GET", path) };
                let got = send(request).await.expect(200);
                assert_eq!(got.text(), "fine");
            }
        });
    }
    while let Some(lane) = running.join_next().await {
        lane.expect("every answer");
    }
    assert_eq!(origin.count(), 120, "each request came once");
}

#[tokio::test]
async fn an_answer_of_http_1_0_without_a_length_comes_whole() {
    let (origin, gateway) = started().await;
    let body = "word ".repeat(50_000);
    origin.on("/echo", Answer::raw(format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{body}").as_bytes()));
    for _ in 0..3 {
        let got = gateway.client.get("/echo").await.expect(200);
        assert!(got.text() == body, "{} of {} bytes", got.body.len(), body.len());
    }
}

#[tokio::test]
async fn an_answer_streams_as_it_comes() {
    let hold = Hold::new();
    let held = hold.clone();
    let service = Service::start(move |mut stream| {
        let held = held.clone();
        async move {
            read(&mut stream, 1).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
            held.wait().await;
            let _ = stream.write_all(b"5\r\nafter\r\n0\r\n\r\n").await;
            read(&mut stream, usize::MAX).await;
        }
    })
    .await;
    let gateway = service.gateway().await;
    let mut raw = gateway.raw().await;
    raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n").await;
    let mut seen = String::new();
    while !seen.ends_with("first") {
        let byte = raw.take(1).await.expect("the first half");
        seen.push(char::from(byte[0]));
    }
    hold.release();
    assert_eq!(raw.take(10).await.expect("the second half"), b"\r\n5\r\nafter");
}

#[tokio::test]
async fn the_length_of_what_head_does_not_send_is_told() {
    let (origin, gateway) = started().await;
    origin.on("/echo", Answer::new(200, "text/plain", "twelve bytes").header("ETag", "\"1\""));
    let mut raw = gateway.raw().await;
    for _ in 0..2 {
        raw.send(b"HEAD /echo HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let answer = raw.response_to("HEAD").await.expect("an answer");
        assert_eq!((answer.status(), answer.head.header("content-length")), (200, Some("12")));
    }
    origin.on("/echo", Answer::raw(b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 12\r\n\r\n"));
    raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\nIf-None-Match: \"1\"\r\n\r\n").await;
    assert_eq!(raw.response().await.expect("an answer").status(), 304);
    origin.on("/echo", Answer::new(200, "text/plain", "next"));
    raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(raw.response().await.expect("on the same connection").body.text(), "next");
}

#[tokio::test]
async fn a_service_that_stops_in_the_middle_ends_the_answer_in_time() {
    let service = Service::start(|mut stream| async move {
        read(&mut stream, 1).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await;
        std::future::pending::<()>().await;
    })
    .await;
    let url = format!("http://{}", service.address);
    let config = GatewayConfig::table(&table(&[&url], "    timeouts: { read: 200ms }", ECHO));
    let gateway = Gateway::start(config).await;
    let mut raw = gateway.raw().await;
    raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let cut = soon("the end", raw.response()).await.expect("the head that was sent");
    assert_eq!((cut.status(), cut.body.complete), (200, false));
    let line = gateway.access_line(|line| line["path"] == "/echo").await;
    assert_eq!((line["status"].as_u64(), line["outcome"].as_str()), (Some(200), Some("truncated")));
}
