//! The real program in a folder of its own, on loopback ports of its own.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::client::{Client, P, RawClient, Session};
pub use super::page::{collect, sum};
pub use super::servers::free_port;
use super::wait::{PATIENCE, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ssm-gateway");

/// 1 after a reload that was published, 0 after one that was refused.
const SUCCESSFUL: &str = "gateway_config_last_reload_successful";

/// The password of every test account.
pub const PASSWORD: &str = "correct horse battery staple";

/// What a gateway is started with. The settings are JSON, which is YAML too.
#[derive(Clone)]
pub struct GatewayConfig {
    pub routes: String,
    pub settings: Value,
    pub env: HashMap<String, String>,
}

impl GatewayConfig {
    /// A table of one's own.
    pub fn table(routes: &str) -> GatewayConfig {
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let env = [("ENVIRONMENT", "testing"), ("JWT_SECRET", secret.as_str()), ("HEALTH_CHECK_INTERVAL", "1")];
        GatewayConfig {
            routes: routes.to_owned(),
            settings: json!({}),
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }

    /// The shipped table.
    pub fn shipped() -> GatewayConfig {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/routes.yaml");
        GatewayConfig::table(&fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    /// One more environment variable.
    pub fn env(mut self, name: &str, value: &str) -> GatewayConfig {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Without an environment variable.
    pub fn without_env(mut self, name: &str) -> GatewayConfig {
        self.env.remove(name);
        self
    }

    /// One section of the settings file.
    pub fn setting(mut self, section: &str, value: Value) -> GatewayConfig {
        self.settings[section] = value;
        self
    }
}

/// A process that is ended when this is dropped: by its id, through the handle.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a reload ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Reloaded {
    Published,
    Refused,
}

/// The running program; ended when dropped.
pub struct Gateway {
    pub client: Client,
    pub address: SocketAddr,
    pub admin: Client,
    pub secret: String,
    pub(super) env: HashMap<String, String>,
    pub(super) folder: Folder,
    pub(super) child: Ended,
    pub(super) output: Arc<Mutex<Vec<String>>>,
    pub(super) events: Arc<Mutex<Vec<String>>>,
    sessions: tokio::sync::Mutex<HashMap<String, Session>>,
}

impl Gateway {
    /// Starts and waits until `/readyz` says so; fails with all output when the program ends instead.
    pub async fn start(config: GatewayConfig) -> Gateway {
        Gateway::start_in(Folder::new(&config), &config).await
    }

    async fn start_in(folder: Folder, config: &GatewayConfig) -> Gateway {
        let mut gateway = Gateway::launch(folder, config);
        let deadline = Duration::from_secs(60);
        let ready = async {
            until("/readyz", deadline, || {
                let ended = gateway.child.0.try_wait().expect("its state");
                let probe = super::client::try_send(gateway.admin.request("GET", "/readyz"));
                async move {
                    match (ended, probe.await) {
                        (Some(status), _) => Some(Err(status)),
                        (None, Ok(got)) if got.status == 200 => Some(Ok(())),
                        _ => None,
                    }
                }
            })
            .await
        };
        if let Err(status) = ready.await {
            // Let the readers see the last lines.
            until("its last words", PATIENCE, || async { (Arc::strong_count(&gateway.events) == 1).then_some(()) })
                .await;
            panic!("the gateway ended with {status}:\n{}", gateway.said());
        }
        gateway
    }

    fn launch(folder: Folder, config: &GatewayConfig) -> Gateway {
        let mut command = folder.command(&["run"], &config.env);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
        let output = collect(child.stdout.take().expect("stdout"));
        let events = collect(child.stderr.take().expect("stderr"));
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Gateway {
            client: Client::new(at(folder.port)),
            address: at(folder.port),
            admin: Client::new(at(folder.admin_port)),
            secret: config.env.get("JWT_SECRET").cloned().unwrap_or_default(),
            env: config.env.clone(),
            folder,
            child: Ended(child),
            output,
            events,
            sessions: tokio::sync::Mutex::default(),
        }
    }

    /// Ends it and starts it again with the same data folder and ports.
    pub async fn restart(self, config: &GatewayConfig) -> Gateway {
        self.restart_after("TERM", config).await
    }

    /// Ends it by this signal and starts it again with the same data folder and ports.
    pub async fn restart_after(mut self, signal: &str, config: &GatewayConfig) -> Gateway {
        self.signal(signal);
        self.exit().await;
        let folder = std::mem::replace(&mut self.folder, Folder::new(config));
        fs::write(folder.path("routes.yaml"), &config.routes).expect("routes.yaml");
        Gateway::start_in(folder, config).await
    }

    /// What it wrote to stderr so far.
    pub fn said(&self) -> String {
        self.events.lock().unwrap().join("\n")
    }

    /// The access lines so far.
    pub fn access_log(&self) -> Vec<Value> {
        let lines = self.output.lock().unwrap();
        let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|line| line.get("ts").is_some()).collect()
    }

    /// What it wrote to stdout so far, as written.
    pub fn written(&self) -> String {
        self.output.lock().unwrap().join("\n")
    }

    /// Waits for an access line that `matches`.
    pub async fn access_line(&self, matches: impl Fn(&Value) -> bool) -> Value {
        until("an access line", PATIENCE, || async { self.access_log().into_iter().find(&matches) }).await
    }

    /// Waits until stderr holds `text`.
    pub async fn wait_said(&self, text: &str) {
        until(&format!("{text:?} on stderr"), PATIENCE, || async { self.said().contains(text).then_some(()) }).await;
    }

    /// The sum of a metric over the series that have these labels; `None` when there is no such series.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        sum(&self.metrics().await, name, labels)
    }

    /// The whole metrics page.
    pub async fn metrics(&self) -> String {
        self.client.get(&format!("{P}/metrics")).await.expect(200).text()
    }

    /// Replaces the table, asks for a reload, and waits for its end. After a refused table the next one must be good:
    /// a second refusal in a row shows in no metric.
    pub async fn reload(&self, routes: &str) -> Reloaded {
        let before = self.metrics().await;
        let generation = sum(&before, "gateway_config_generation", &[]);
        let was_good = sum(&before, SUCCESSFUL, &[]) == Some(1.0);
        self.write_routes(routes);
        self.signal("HUP");
        until("the end of the reload", PATIENCE, || async {
            let page = self.metrics().await;
            if sum(&page, "gateway_config_generation", &[]) != generation {
                return Some(Reloaded::Published);
            }
            (was_good && sum(&page, SUCCESSFUL, &[]) == Some(0.0)).then_some(Reloaded::Refused)
        })
        .await
    }

    /// Replaces the table on disk, in one step.
    pub fn write_routes(&self, routes: &str) {
        fs::write(self.folder.path("routes.next"), routes).expect("routes.next");
        fs::rename(self.folder.path("routes.next"), self.folder.path("routes.yaml")).expect("routes.yaml");
    }

    /// Puts a FIFO that nobody writes to in the place of the table.
    pub fn replace_routes_by_a_pipe(&self) {
        let (next, file) = (self.folder.path("routes.next"), self.folder.path("routes.yaml"));
        assert!(Command::new("mkfifo").arg(&next).status().expect("mkfifo").success());
        fs::rename(next, file).expect("routes.yaml");
    }

    /// Sends a signal to the program.
    pub fn signal(&self, name: &str) {
        let kill = ["-c", "kill -s \"$0\" \"$1\"", name, &self.child.0.id().to_string()].map(str::to_owned);
        assert!(Command::new("sh").args(kill).status().expect("sh").success(), "kill -s {name}");
    }

    /// Waits for the end of the program.
    pub async fn exit(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.child.0);
        until("the end of the program", Duration::from_secs(60), || async {
            child.lock().unwrap().try_wait().expect("its state")
        })
        .await
    }

    /// Asks for a graceful end and waits for it.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.exit().await
    }

    /// Whether the program still runs.
    pub fn alive(&mut self) -> bool {
        self.child.0.try_wait().expect("its state").is_none()
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).expect("proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("kB") * 1024
    }

    /// The one session of this role, made at first use.
    pub async fn user(&self, role: &str) -> Session {
        let mut sessions = self.sessions.lock().await;
        if let Some(session) = sessions.get(role) {
            return session.clone();
        }
        let session = self.fresh_user(role).await;
        sessions.insert(role.to_owned(), session.clone());
        session
    }

    /// A new account and its session.
    pub async fn fresh_user(&self, role: &str) -> Session {
        let email = format!("{role}-{}@example.com", Uuid::new_v4().simple());
        if role != "admin" {
            return Session::of(&self.client.register(&email, PASSWORD, role).await.expect(201), PASSWORD);
        }
        let added = self.users_add(&email, role, PASSWORD);
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        Session::of(&self.client.login(&email, PASSWORD).await.expect(200), PASSWORD)
    }

    /// `users add` on the command line, in the gateway's own environment.
    pub fn users_add(&self, email: &str, role: &str, password: &str) -> Output {
        self.folder.users_add(email, role, password, &self.env)
    }

    /// A verb of the command line on the store of this gateway, run to its end.
    pub fn run_verb(&self, verb: &[&str]) -> Output {
        let mut command = self.folder.command(verb, &self.env);
        command.arg("--data-dir").arg(self.data_dir()).arg("--config").arg(self.folder.path("gateway.yaml"));
        command.stdin(Stdio::null()).output().expect("the program")
    }

    /// A `users` command on this gateway's store, with a password on its standard input.
    pub fn users(&self, verb: &[&str], password: &str) -> Output {
        let folder = self.data_dir().display().to_string();
        self.folder.users(&[verb, &["--data-dir", &folder]].concat(), password, &self.env)
    }

    /// The folder of the embedded store.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path("data")
    }

    /// A raw connection to the public port.
    pub async fn raw(&self) -> RawClient {
        RawClient::connect(self.address).await
    }
}

/// Runs the program to its end with these arguments, in a folder of its own.
pub fn run_to_end(verb: &[&str], config: &GatewayConfig) -> Output {
    let folder = Folder::new(config);
    run_in(&folder, verb, config)
}

/// Runs the program to its end in this folder.
pub fn run_in(folder: &Folder, verb: &[&str], config: &GatewayConfig) -> Output {
    folder.command(verb, &config.env).stdin(Stdio::null()).output().expect("the program")
}

/// A folder with the two configuration files, and two ports.
pub struct Folder {
    folder: TempDir,
    pub port: u16,
    pub admin_port: u16,
}

impl Folder {
    pub fn new(config: &GatewayConfig) -> Folder {
        let folder =
            Folder { folder: tempfile::tempdir().expect("a folder"), port: free_port(), admin_port: free_port() };
        let mut settings = config.settings.clone();
        for (section, key, value) in [
            ("listen", "address", json!("127.0.0.1")),
            ("listen", "port", json!(folder.port)),
            ("admin", "address", json!(format!("127.0.0.1:{}", folder.admin_port))),
        ] {
            if settings[section].get(key).is_none() {
                settings[section][key] = value;
            }
        }
        fs::write(folder.path("gateway.yaml"), settings.to_string()).expect("gateway.yaml");
        fs::write(folder.path("routes.yaml"), &config.routes).expect("routes.yaml");
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with this verb, its files and a clean environment.
    pub fn command(&self, verb: &[&str], env: &HashMap<String, String>) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(verb).env_clear().envs(env).current_dir(self.folder.path());
        if verb.first() == Some(&"run") {
            command.arg("--config").arg(self.path("gateway.yaml")).arg("--routes").arg(self.path("routes.yaml"));
            command.arg("--data-dir").arg(self.path("data"));
        }
        command
    }

    fn users_add(&self, email: &str, role: &str, password: &str, env: &HashMap<String, String>) -> Output {
        let folder = self.path("data").display().to_string();
        self.add_user(&["--email", email, "--role", role, "--data-dir", &folder], password, env)
    }

    /// `users add` with these arguments and the password on its standard input.
    pub fn add_user(&self, arguments: &[&str], password: &str, env: &HashMap<String, String>) -> Output {
        self.users(&[&["add", "--password-stdin"], arguments].concat(), password, env)
    }

    fn users(&self, arguments: &[&str], password: &str, env: &HashMap<String, String>) -> Output {
        let mut command = self.command(&["users"], env);
        command.args(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
        let mut stdin = child.stdin.take().expect("stdin");
        // A program that refuses its arguments has closed its end already.
        let _ = stdin.write_all(format!("{password}\n").as_bytes());
        drop(stdin);
        child.wait_with_output().expect("its end")
    }
}
