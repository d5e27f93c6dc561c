//! A real Redis server for one test, to stop and start. The unit tests use this file too.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::servers::{Process, folder_of, free_port};
use super::wait::{PATIENCE, until};

/// A Redis server of one test, on a port of its own. What it holds is lost when it stops.
pub struct PrivateRedis {
    port: u16,
    options: Vec<String>,
    process: Option<Process>,
    folder: TempDir,
}

impl PrivateRedis {
    /// Starts an empty server.
    pub async fn start() -> PrivateRedis {
        let port = free_port();
        PrivateRedis::start_with(port, vec!["--port".to_owned(), port.to_string()], folder_of(None)).await
    }

    /// Starts an empty server that speaks TLS only, with a certificate for `localhost` from an authority of its own.
    pub async fn start_tls() -> PrivateRedis {
        let (port, folder) = (free_port(), folder_of(None));
        let script = "set -e
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-ca \\
                -keyout ca.key -out ca.crt
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server -keyout tls.key -out tls.csr
            printf 'subjectAltName=DNS:localhost' > names
            openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out tls.crt";
        let made = Command::new("sh").args(["-c", script]).current_dir(folder.path()).output().expect("sh");
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        let file = |name: &str| folder.path().join(name).display().to_string();
        let port_text = port.to_string();
        let options = [
            ["--port", "0"],
            ["--tls-port", &port_text],
            ["--tls-cert-file", &file("tls.crt")],
            ["--tls-key-file", &file("tls.key")],
            ["--tls-auth-clients", "no"],
        ];
        let options = options.concat().into_iter().map(str::to_owned).collect();
        PrivateRedis::start_with(port, options, folder).await
    }

    async fn start_with(port: u16, options: Vec<String>, folder: TempDir) -> PrivateRedis {
        let mut server = PrivateRedis { port, options, process: None, folder };
        server.start_again().await;
        server
    }

    /// Starts the server again after [`stop`](Self::stop), on the same port.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        let mut command = Command::new("redis-server");
        let socket = self.socket().display().to_string();
        command.args(&self.options).args(["--bind", "127.0.0.1", "--unixsocket", &socket]);
        command.args(["--save", "", "--appendonly", "no"]);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command
            .spawn()
            .expect("no redis-server to test with: install it (Debian: redis-server, or `make setup-test`)");
        self.process = Some(Process(child));
        let address = self.address();
        until("Redis to listen", PATIENCE, || async { TcpStream::connect(address).ok() }).await;
    }

    /// Its Unix socket, without TLS.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// The certificate of the authority that [`PrivateRedis::start_tls`] made.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Sends one command, and waits for its answer.
    pub fn command(&self, words: &[&str]) {
        let mut stream = TcpStream::connect(self.address()).expect("a connection to Redis");
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
        }
        stream.write_all(&request).expect("a command");
        let mut first = [0];
        stream.read_exact(&mut first).expect("an answer");
        assert_ne!(first, *b"-", "{words:?}");
    }

    /// Ends the server at once.
    pub fn stop(&mut self) {
        drop(self.process.take().expect("a running server"));
    }

    /// Sends the server a signal: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().expect("a running server").signal(name);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

#[tokio::test]
async fn a_private_redis_stops_and_starts() {
    let mut server = PrivateRedis::start().await;
    assert!(server.url().ends_with(&server.address().port().to_string()));
    server.stop();
    assert!(TcpStream::connect(server.address()).is_err());
    server.start_again().await;
}
