//! What lasts as long as the process: `conf/gateway.yaml` and the environment, checked. A variable beats the file.
//!
//! Secrets come from the environment or from files, never from `gateway.yaml` itself, and are never shown.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use serde::Deserialize;

use super::env::Env;
use super::problem::Problems;
pub use super::settings_database::Database;
use crate::model::algorithm::TokenAlgorithm;

/// Where the file is when the command line names none.
pub const DEFAULT_PATH: &str = "conf/gateway.yaml";

/// Everything that needs a restart to change.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Kind of installation (`ENVIRONMENT`); default development.
    pub environment: Environment,
    /// Whether debug mode is on (`DEBUG`); shown in health. Default off.
    pub debug: bool,
    /// Folder of the embedded store and of a generated token secret (`--data-dir`, `DATA_DIR`); default `data`.
    pub data_dir: PathBuf,
    /// Threads of the proxy (`WORKERS`); default: the number of CPUs.
    pub threads: usize,
    /// Networks whose `X-Forwarded-*` headers are believed; default none.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether metrics are served (`METRICS_ENABLED`); where not, their pages are 404. Default true.
    pub metrics_enabled: bool,
    /// The public listener.
    pub listen: Listen,
    /// The admin listener.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
    /// Tokens and sessions.
    pub tokens: Tokens,
    /// Password hashing.
    pub passwords: Passwords,
    /// Where accounts are kept; `None`: the embedded store in the data folder.
    pub database: Option<Database>,
    /// What replicas share.
    pub redis: Redis,
    /// The audit trail.
    pub audit: Audit,
    /// Rate limits.
    pub limits: Limits,
    /// How the process ends.
    pub drain: Drain,
}

/// The public listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Address; default 0.0.0.0.
    pub address: IpAddr,
    /// Port (`PORT`); default 5050.
    pub port: u16,
    /// TLS; default off.
    pub tls: Option<Tls>,
    /// Whether clients may speak HTTP/2: by ALPN with TLS, by prior knowledge without; default false.
    pub http2: bool,
    /// Most connections at once; default 10 000.
    pub max_connections: usize,
    /// Most connections at once per client address; default 1000, 0 is no cap.
    pub max_connections_per_address: usize,
    /// Longest a client may take to send a request's head; default 10s.
    pub header_timeout: Duration,
    /// How long an idle client connection is kept; default 75s.
    pub keepalive: Duration,
    /// Largest request head, in bytes; default 64KiB.
    pub max_header_bytes: usize,
    /// Most header fields of a request; default 100.
    pub max_headers: usize,
}

/// Certificate chain and private key, PEM. Both were read and parsed when the settings were loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// File of the certificate chain, the server's own first.
    pub cert: PathBuf,
    /// File of its private key.
    pub key: PathBuf,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Address and port; default 127.0.0.1:5059. Loopback, unless `allow_remote` was given.
    pub address: SocketAddr,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Least important level written (`LOG_LEVEL`); default info.
    pub level: LogLevel,
    /// Where the access log goes; default standard output.
    pub access: LogSink,
}

/// Where a log of lines goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSink {
    /// To standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// To the end of a file.
    File(PathBuf),
}

/// Tokens and sessions.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// What signs access tokens (`JWT_ALGORITHM`); default HS256.
    pub algorithm: TokenAlgorithm,
    /// The secret, see [`TokenSecret`].
    pub secret: TokenSecret,
    /// A second secret, which only verifies (`JWT_SECRET_PREVIOUS`); checked. Default none.
    pub previous_secret: Option<SecretString>,
    /// Folder of the key files; default: `keys` in the data folder.
    pub keys_dir: Option<PathBuf>,
    /// Whether missing key files are made at the start. Development and testing only.
    pub may_generate_keys: bool,
    /// Claim `iss`; default `supersmartmatch-gateway`.
    pub issuer: String,
    /// Life of an access token (`JWT_EXPIRE_HOURS`); default 24h, in production 2h.
    pub access_ttl: Duration,
    /// Longest a session may be idle (`JWT_REFRESH_EXPIRE_DAYS`); default 7d.
    pub refresh_ttl: Duration,
    /// Longest a session may last; default 30d.
    pub session_ttl: Duration,
}

/// The secret of HS256.
#[derive(Debug, Clone)]
pub enum TokenSecret {
    /// From `JWT_SECRET` or `tokens.secret_file`; checked. Signs under HS256, and always verifies.
    Given(SecretString),
    /// There is none, and none is needed: key files sign.
    None,
    /// Make one, keep it in the data folder, and say so. Development and testing only.
    Generate,
}

/// Password hashing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passwords {
    /// Hashes computed at once; default: half the CPUs, at least 1.
    pub parallel_hashes: usize,
    /// Log-ins that may wait for one; more are refused with 503. Default 64.
    pub queue: usize,
}

/// What replicas share, beside the identity store.
#[derive(Debug, Clone)]
pub struct Redis {
    /// Where it is, with its password (`REDIS_URL`); `None`: this process shares nothing.
    pub url: Option<SecretString>,
    /// Begins every key and channel; default `ssm:`.
    pub prefix: String,
    /// Replicas that count limits together at least, this one included; default 1. Those that say that they are there
    /// are counted besides.
    pub replicas: u32,
}

/// The audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Where its records go as JSON lines; default standard output.
    pub lines: LogSink,
    /// How long records are kept; default 365d.
    pub retention: Duration,
    /// Most bytes of entries that wait on disk for the store; default 64MiB.
    pub spool_max: u64,
}

/// Rate limits, as far as they are the process's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Whether the buckets outlive an orderly restart; default false.
    pub persist: bool,
}

/// How the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// From "not ready" to the end of accepting; default 0s.
    pub delay: Duration,
    /// Longest that requests in flight are waited for; default 30s.
    pub grace: Duration,
    /// Longest that a process that was sent SIGQUIT, and one started with `--upgrade`, wait for each other; default 60s.
    pub upgrade_wait: Duration,
}

/// Kind of installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// On a developer's machine.
    #[default]
    Development,
    /// A rehearsal of production; its rules are production's.
    Staging,
    /// Serves users.
    Production,
    /// Runs tests.
    Testing,
}

impl Environment {
    /// Every environment.
    pub const ALL: [Environment; 4] =
        [Environment::Development, Environment::Staging, Environment::Production, Environment::Testing];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Environment::Development => "development",
            Environment::Staging => "staging",
            Environment::Production => "production",
            Environment::Testing => "testing",
        }
    }

    /// Whether a token secret may be made by the program itself.
    pub const fn may_generate_secret(self) -> bool {
        matches!(self, Environment::Development | Environment::Testing)
    }
}

/// Least important level written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For developers.
    Debug,
    /// What happens.
    Info,
    /// What should be looked at.
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    /// Its name, as `tracing` writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }

    /// Reads a level, Python's names included, whatever the case.
    pub(super) fn read(text: &str) -> Option<LogLevel> {
        Some(match text.to_ascii_lowercase().as_str() {
            "trace" => LogLevel::Trace,
            "debug" => LogLevel::Debug,
            "info" => LogLevel::Info,
            "warn" | "warning" => LogLevel::Warn,
            "error" | "critical" => LogLevel::Error,
            _ => return None,
        })
    }
}

impl Listen {
    /// Address and port together.
    pub const fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

impl Settings {
    /// Reads `path`, or [`DEFAULT_PATH`] where it exists, and the environment. A named file must exist.
    pub fn load(path: Option<&Path>, env: &Env) -> Result<Settings, Problems> {
        let (name, text) = read(path)?;
        Settings::parse(&name, text.as_deref(), env)
    }

    /// Checks the text of a file, if there is one, and the environment; `file` is its name in problems.
    pub fn parse(file: &str, text: Option<&str>, env: &Env) -> Result<Settings, Problems> {
        super::settings_check::settings(file, text, env)
    }
}

/// Where accounts are kept: the part of [`Settings`] that commands need which do not serve.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Folder of the embedded store.
    pub data_dir: PathBuf,
    /// See [`Settings::database`].
    pub database: Option<Database>,
    /// See [`Settings::redis`].
    pub redis: Redis,
}

impl StoreSettings {
    /// Reads what [`Settings::load`] reads; problems of other settings do not matter.
    pub fn load(path: Option<&Path>, env: &Env) -> Result<StoreSettings, Problems> {
        let (name, text) = read(path)?;
        super::settings_check::store(&name, text.as_deref(), env)
    }
}

impl Tokens {
    /// [`Settings::tokens`] alone, for commands that do not serve: problems of other settings, and a secret that is
    /// missing, do not matter.
    pub fn load(path: Option<&Path>, env: &Env) -> Result<Tokens, Problems> {
        let (name, text) = read(path)?;
        super::settings_check::tokens(&name, text.as_deref(), env)
    }
}

/// Name and text of the file, see [`Settings::load`].
fn read(path: Option<&Path>) -> Result<(String, Option<String>), Problems> {
    let file = path.unwrap_or(Path::new(DEFAULT_PATH));
    let name = file.display().to_string();
    let text = if path.is_some() || file.exists() { Some(super::routes::read(file, &name)?) } else { None };
    Ok((name, text))
}

/// Defaults that are addresses.
pub(super) const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
pub(super) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5059);
