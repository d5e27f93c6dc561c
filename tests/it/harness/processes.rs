//! Origins that are processes of their own, so that they can be killed and frozen: this very test program, started
//! again with one test that serves. Each writes down which requests it has done, where a killed one leaves it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::client::RawClient;
use super::gateway::Ended;
use super::servers::free_port;
use super::wait::{PATIENCE, until};
use super::wire::{read_body, read_head};

/// Names the port of the process that serves.
const PORT: &str = "IT_ORIGIN_PORT";
/// Names the file that it writes to.
const DONE: &str = "IT_ORIGIN_DONE";

/// What an origin says and writes when it works on two uploads at once.
pub const OVERLAP: &str = "two uploads at once";

/// A running origin; ended when dropped.
pub struct OriginProcess {
    port: u16,
    done: PathBuf,
    child: Ended,
}

impl OriginProcess {
    /// Starts one that writes below `folder`, and waits until it answers.
    pub async fn start(folder: &Path) -> OriginProcess {
        let port = free_port();
        let done = folder.join(format!("done-{port}"));
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program)
            .args(["--exact", "harness::processes::an_origin_answers_and_writes_down_what_it_did", "--nocapture"])
            .env(PORT, port.to_string())
            .env(DONE, &done)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("an origin");
        let origin = OriginProcess { port, done, child: Ended(child) };
        until("the origin's port", PATIENCE, || async {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok().map(drop)
        })
        .await;
        origin
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sends it a signal: `KILL`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let kill = ["-c", "kill -s \"$0\" \"$1\"", name, &self.child.0.id().to_string()].map(str::to_owned);
        assert!(Command::new("sh").args(kill).status().expect("sh").success(), "kill -s {name}");
    }

    /// What it did, one line for each request whose body arrived whole: method and marker.
    pub fn done(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.done).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Serves until the process ends.
async fn serve(port: u16, done: &str) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port");
    let done = Arc::new(OpenOptions::new().create(true).append(true).open(done).expect("the file"));
    let uploads = Arc::new(AtomicUsize::new(0));
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, done.clone(), uploads.clone()));
    }
}

async fn connection(stream: TcpStream, done: Arc<File>, uploads: Arc<AtomicUsize>) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(head)) = read_head(&mut stream).await {
        let is_upload = head.word(0) == "POST";
        let others = if is_upload { uploads.fetch_add(1, Ordering::SeqCst) } else { 0 };
        let body = read_body(&mut stream, &head, false).await;
        let marker = head.header("x-marker").unwrap_or_default();
        let what = if others > 0 { OVERLAP } else { "" };
        if body.complete && head.word(1) != "/health" {
            // One write, so that lines do not mix.
            let line = format!("{} {marker}{}{what}\n", head.word(0), if what.is_empty() { "" } else { " " });
            (&*done).write_all(line.as_bytes()).expect("a line");
        }
        let (status, text) = if others > 0 { (500, what) } else { (200, marker) };
        let answer = format!("HTTP/1.1 {status} Done\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        let sent = stream.get_mut().write_all(answer.as_bytes()).await.is_ok();
        if is_upload {
            uploads.fetch_sub(1, Ordering::SeqCst);
        }
        if !sent || !body.complete {
            return;
        }
    }
}

/// With the port named, this is the origin; without, it starts one and asks it.
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "how this program is told to be an origin")]
async fn an_origin_answers_and_writes_down_what_it_did() {
    if let (Ok(port), Ok(done)) = (std::env::var(PORT), std::env::var(DONE)) {
        serve(port.parse().expect("a port"), &done).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let origin = OriginProcess::start(folder.path()).await;
    let mut raw = RawClient::connect((Ipv4Addr::LOCALHOST, origin.port).into()).await;
    raw.send(b"POST /x HTTP/1.1\r\nX-Marker: m1\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(raw.response().await.expect("an answer").body.text(), "m1");
    assert_eq!(origin.done(), ["POST m1"]);
    origin.signal("KILL");
    assert!(raw.ends().await);
}
