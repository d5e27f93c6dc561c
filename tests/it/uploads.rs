//! Large bodies: they stream, and the cap is exact.

use std::collections::VecDeque;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::harness::{Gateway, P, Services, Session, send};

/// The cap of the contract, in bytes.
const CAP: usize = 50 << 20;

/// One block of a stream, different for each index so that a mix-up would show.
fn block(index: usize, length: usize) -> Bytes {
    let seed = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..length).map(|at| (seed >> (at % 57)) as u8 ^ at as u8).collect::<Vec<_>>().into()
}

/// The blocks of a multipart body of exactly `total` bytes.
fn blocks(total: usize, seed: usize) -> Vec<Bytes> {
    const BLOCK: usize = 256 << 10;
    let head =
        Bytes::from_static(b"--it\r\nContent-Disposition: form-data; name=\"file\"; filename=\"big.bin\"\r\n\r\n");
    let tail = Bytes::from_static(b"\r\n--it--\r\n");
    let content = total - head.len() - tail.len();
    // A few blocks in turn: making fifty MiB of noise would cost more than sending them.
    let patterns: Vec<Bytes> = (0..4).map(|index| block(seed * 4 + index, BLOCK)).collect();
    let mut all = vec![head];
    let mut left = content;
    while left > 0 {
        let now = left.min(BLOCK);
        all.push(patterns[all.len() % patterns.len()].slice(..now));
        left -= now;
    }
    all.push(tail);
    all
}

fn hash(blocks: &[Bytes]) -> String {
    let mut hash = Sha256::new();
    blocks.iter().for_each(|block| hash.update(block));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn request(gateway: &Gateway, session: &Session, blocks: &[Bytes], total: Option<usize>) -> reqwest::RequestBuilder {
    let stream = Blocks(blocks.iter().cloned().collect());
    let request = gateway.client.as_user(session, "POST", &format!("{P}/parse-cv"));
    let request = request.header("content-type", "multipart/form-data; boundary=it").body(reqwest::Body::wrap(stream));
    match total {
        Some(total) => request.header("content-length", total),
        None => request,
    }
}

/// Blocks as a body.
struct Blocks(VecDeque<Bytes>);

impl http_body::Body for Blocks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.pop_front().map(|block| Ok(http_body::Frame::data(block))))
    }
}

#[tokio::test]
async fn the_largest_upload_arrives_unchanged() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let user = gateway.user("candidat").await;
    let body = blocks(CAP, 1);
    for total in [Some(CAP), None] {
        send(request(&gateway, &user, &body, total)).await.expect(200);
        let last = services.cv_parser.last();
        assert_eq!((last.body.length, last.body.complete), (CAP as u64, true), "{total:?}");
        assert_eq!(last.body.sha256, hash(&body), "{total:?}");
    }
}

#[tokio::test]
async fn one_byte_more_is_413() {
    let (services, gateway) = Services::behind_a_gateway().await;
    let user = gateway.user("candidat").await;
    let mut raw = gateway.raw().await;
    let head = format!(
        "POST {P}/parse-cv HTTP/1.1\r\nHost: gateway\r\nAuthorization: {}\r\n\
         Content-Type: multipart/form-data; boundary=it\r\nContent-Length: {}\r\n\r\n",
        user.bearer(),
        CAP + 1
    );
    raw.send(head.as_bytes()).await;
    // Not a byte of the body was sent: the announced length is enough.
    let refused = raw.response().await.expect("an answer before the body");
    assert_eq!((refused.status(), &refused.body.json()["code"]), (413, &"PAYLOAD_TOO_LARGE".into()));
    assert_eq!(services.cv_parser.count(), 0);

    // In chunks nothing is announced; the request ends at the cap, and no service sees a whole one.
    let over = crate::harness::try_send(request(&gateway, &user, &blocks(CAP + 1, 2), None)).await;
    if let Ok(got) = over {
        assert_eq!(got.refusal(), (413, "PAYLOAD_TOO_LARGE".to_owned()));
    }
    assert!(services.cv_parser.received().iter().all(|one| !one.body.complete), "an over-long body went through whole");
    gateway.client.me(&user).await.expect(200);
}

#[tokio::test]
async fn sixteen_uploads_at_once_are_not_held_in_memory() {
    let services = Services::start().await;
    let mut config = services.config();
    // They go one after the other: the last one waits for as long as this machine takes for all before it.
    config.routes = config.routes.replace("queue_timeout: 10s", "queue_timeout: 5m");
    let gateway = Gateway::start(config).await;
    let admin = gateway.user("admin").await;
    // The first one brings in what every upload needs once.
    send(request(&gateway, &admin, &blocks(CAP, 0), Some(CAP))).await.expect(200);
    let before = gateway.rss();
    let mut running = tokio::task::JoinSet::new();
    let bodies: Vec<Vec<Bytes>> = (0..16).map(|seed| blocks(CAP, seed + 1)).collect();
    for body in &bodies {
        running.spawn(send(request(&gateway, &admin, body, Some(CAP))));
    }
    let mut highest = before;
    while !running.is_empty() {
        if let Ok(Some(got)) = tokio::time::timeout(std::time::Duration::from_millis(50), running.join_next()).await {
            got.expect("a task").expect(200);
        }
        highest = highest.max(gateway.rss());
    }
    let grown = highest.saturating_sub(before) >> 20;
    assert!(grown < 32, "grew by {grown} MiB from {} MiB", before >> 20);
    let mut arrived: Vec<String> =
        services.cv_parser.received().into_iter().skip(1).map(|one| one.body.sha256).collect();
    let mut sent: Vec<String> = bodies.iter().map(|body| hash(body)).collect();
    arrived.sort();
    sent.sort();
    assert_eq!(arrived, sent);
}
