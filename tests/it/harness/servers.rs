//! Real PostgreSQL and Redis servers for tests: private ones that a test may stop and start, and a database of
//! its own for every test. The unit tests use this file too.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::wait::{PATIENCE, until};

/// Where a server is looked for when `DATABASE_URL` is not set.
const USUAL: &str = "postgres://postgres@127.0.0.1:5432/postgres";

/// A process that is ended when this is dropped: by its id, through the handle.
pub struct Process(pub Child);

impl Process {
    /// Sends it a signal, by its id.
    pub fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let done = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status().expect("sh");
        assert!(done.success(), "kill -s {name} {id}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A user and group that are not root, when this is root: PostgreSQL refuses to run as root.
fn plain_user() -> Option<(u32, u32)> {
    let probe = tempfile::tempdir().expect("a folder");
    if std::os::unix::fs::MetadataExt::uid(&fs::metadata(probe.path()).expect("its metadata")) != 0 {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let find = |name: &str| {
        let fields: Vec<&str> =
            accounts.lines().find(|line| line.starts_with(&format!("{name}:")))?.split(':').collect();
        Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("a user `postgres` or `nobody` to run PostgreSQL as"))
}

/// A folder that the plain user owns.
pub fn folder_of(user: Option<(u32, u32)>) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    if let Some((uid, gid)) = user {
        chown(folder.path(), Some(uid), Some(gid)).expect("its owner");
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("its mode");
    folder
}

/// The folder of PostgreSQL's programs: Debian's newest, or that of an `initdb` on the path.
fn postgres_programs() -> PathBuf {
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .collect();
    debian.sort();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    debian
        .into_iter()
        .rev()
        .map(|(_, path)| path)
        .chain(std::env::split_paths(&paths))
        .find(|path| path.join("initdb").exists() && path.join("postgres").exists())
        .expect("no PostgreSQL server to test with: set DATABASE_URL, or install one (Debian: postgresql, or `make setup-test`)")
}

/// A port that nothing listens on, below the range from which outgoing connections take theirs.
pub fn free_port() -> u16 {
    loop {
        let port = 12_000 + u16::try_from(Uuid::new_v4().as_u128() % 18_000).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A PostgreSQL server of one test, on a port of its own, with user `postgres` and no password.
pub struct PrivatePostgres {
    port: u16,
    user: Option<(u32, u32)>,
    programs: PathBuf,
    process: Option<Process>,
    folder: TempDir,
}

impl PrivatePostgres {
    /// Makes an empty cluster and starts its server.
    pub async fn start() -> PrivatePostgres {
        let user = plain_user();
        let mut server = PrivatePostgres {
            port: free_port(),
            user,
            programs: postgres_programs(),
            process: None,
            folder: folder_of(user),
        };
        let options = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale"];
        let made = server.program("initdb").args(options).arg("-D").arg(server.data()).output().expect("initdb");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.start_again().await;
        server
    }

    /// Starts the server again after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port and data.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-k", "", "-F"]);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).expect("a log");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("postgres");
        self.process = Some(Process(child));
        let url = self.url("postgres");
        until("PostgreSQL to answer", PATIENCE, || async { execute(&url, "SELECT 1").await.ok() }).await;
    }

    /// Ends the server cleanly, connections and all.
    pub async fn stop(&mut self) {
        self.end("INT").await; // a "fast" shutdown
    }

    /// Ends the server as a crash would: nobody is told.
    pub async fn kill(&mut self) {
        self.end("QUIT").await; // an "immediate" shutdown; the next start recovers from the log
    }

    async fn end(&mut self, signal: &str) {
        let process = self.process.take().expect("a running server");
        process.signal(signal);
        let process = std::sync::Mutex::new(process);
        until("the end of PostgreSQL", PATIENCE, || async {
            process.lock().expect("its handle").0.try_wait().expect("its state").map(|_| ())
        })
        .await;
    }

    /// Gives the stopped or running server a certificate for `localhost` from an authority of its own, from its next
    /// start on; answers the file with the authority's certificate.
    pub fn make_certificates(&self) -> PathBuf {
        let script = "set -e; cd \"$0\"
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-ca \\
                -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.crt
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server -keyout data/server.key -out server.csr
            printf 'subjectAltName=DNS:localhost' > names
            openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out data/server.crt
            chmod 600 data/server.key
            echo 'ssl = on' >> data/postgresql.conf";
        let mut command = self.plain(Command::new("sh"));
        let made = command.args(["-c", script]).arg(self.folder.path()).output().expect("sh");
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        self.folder.path().join("ca.crt")
    }

    /// URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        self.plain(Command::new(self.programs.join(name)))
    }

    /// As the plain user, in the server's folder.
    fn plain(&self, mut command: Command) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("LC_ALL", "C").env("PATH", path).current_dir(self.folder.path());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// A database of one test; dropped from its server when this is.
pub struct Database {
    name: String,
    /// URL of a database that exists already, on the same server.
    server: String,
    /// The server, when it had to be started for this test.
    _private: Option<PrivatePostgres>,
}

impl Database {
    /// An empty database: on the server of `DATABASE_URL` when that is set, else on 127.0.0.1:5432 when that answers,
    /// else on a private server. Fails when there is none.
    pub async fn create() -> Database {
        let (server, private) = match std::env::var_os("DATABASE_URL").filter(|url| !url.is_empty()) {
            Some(url) => (url.into_string().expect("DATABASE_URL in UTF-8"), None),
            None if execute(USUAL, "SELECT 1").await.is_ok() => (USUAL.to_owned(), None),
            None => {
                let private = PrivatePostgres::start().await;
                (private.url("postgres"), Some(private))
            }
        };
        Database::create_on(server, private).await
    }

    /// An empty database on a private server: for tests that also make roles, or need its URL to be plain.
    pub async fn private() -> Database {
        let private = PrivatePostgres::start().await;
        Database::create_on(private.url("postgres"), Some(private)).await
    }

    async fn create_on(server: String, private: Option<PrivatePostgres>) -> Database {
        let name = format!("ssm_test_{}", Uuid::new_v4().simple());
        let made = execute(&server, &format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")).await;
        made.unwrap_or_else(|error| {
            panic!("no test database on the server of DATABASE_URL or 127.0.0.1:5432: {error}")
        });
        Database { name, server, _private: private }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let (base, query) = self.server.split_once('?').map_or((self.server.as_str(), None), |(a, b)| (a, Some(b)));
        let (base, _) = base.rsplit_once('/').expect("a URL with a database");
        let url = format!("{base}/{}", self.name);
        query.map_or(url.clone(), |query| format!("{url}?{query}"))
    }

    /// Runs statements in it.
    pub async fn execute(&self, sql: &str) {
        execute(&self.url(), sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The rows of a query, each column as text.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        rows(&self.url(), sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        // A thread: this may run inside a runtime, which cannot be blocked.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), execute(&server, &sql)).await })
        });
        let _ = dropped.join();
    }
}

/// Runs statements in the database of a URL.
pub async fn execute(url: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    rows(url, sql).await.map(drop)
}

async fn rows(url: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let connection = tokio::spawn(connection);
    let messages = client.simple_query(sql).await;
    drop(client);
    let _ = connection.await;
    let row = |message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    };
    Ok(messages?.into_iter().filter_map(row).collect())
}

#[tokio::test]
async fn a_private_postgres_keeps_its_data_over_stops_and_crashes() {
    let mut server = PrivatePostgres::start().await;
    let url = server.url("postgres");
    execute(&url, "CREATE TABLE t (x int); INSERT INTO t VALUES (7)").await.expect("a table");
    server.stop().await;
    assert!(execute(&url, "SELECT 1").await.is_err());
    server.start_again().await;
    server.kill().await;
    server.start_again().await;
    assert_eq!(rows(&url, "SELECT x FROM t").await.expect("rows"), [[Some("7".to_owned())]]);
}
