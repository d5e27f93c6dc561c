//! The shape of `conf/gateway.yaml`, as written. Every key may be left out.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::list::Networks;
use super::settings::{Environment, LogLevel};
use crate::model::units::{ByteSize, Span};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SettingsSpec {
    pub(super) environment: Option<Environment>,
    pub(super) debug: Option<bool>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) threads: Option<usize>,
    pub(super) trusted_proxies: Networks,
    pub(super) metrics_enabled: Option<bool>,
    pub(super) listen: ListenSpec,
    pub(super) admin: AdminSpec,
    pub(super) log: LogSpec,
    pub(super) tokens: TokensSpec,
    pub(super) passwords: PasswordsSpec,
    pub(super) database: DatabaseSpec,
    pub(super) redis: RedisSpec,
    pub(super) audit: AuditSpec,
    pub(super) limits: LimitsSpec,
    pub(super) drain: DrainSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListenSpec {
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) tls: Option<TlsSpec>,
    pub(super) http2: bool,
    pub(super) max_connections: Option<usize>,
    pub(super) max_connections_per_address: Option<usize>,
    pub(super) header_timeout: Option<Span>,
    pub(super) keepalive: Option<Span>,
    pub(super) max_header_bytes: Option<ByteSize>,
    pub(super) max_headers: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsSpec {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AdminSpec {
    pub(super) address: Option<SocketAddr>,
    pub(super) allow_remote: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogSpec {
    pub(super) level: Option<LogLevel>,
    pub(super) access: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TokensSpec {
    pub(super) secret_file: Option<PathBuf>,
    pub(super) previous_secret_file: Option<PathBuf>,
    pub(super) algorithm: Option<String>,
    pub(super) keys_dir: Option<PathBuf>,
    pub(super) issuer: Option<String>,
    pub(super) access_ttl: Option<Span>,
    pub(super) refresh_ttl: Option<Span>,
    pub(super) session_ttl: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PasswordsSpec {
    pub(super) parallel_hashes: Option<usize>,
    pub(super) queue: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DatabaseSpec {
    pub(super) url_file: Option<PathBuf>,
    pub(super) connections: Option<usize>,
    pub(super) connect_timeout: Option<Span>,
    pub(super) timeout: Option<Span>,
    pub(super) start_wait: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RedisSpec {
    pub(super) prefix: Option<String>,
    pub(super) replicas: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AuditSpec {
    pub(super) lines: Option<String>,
    pub(super) retention: Option<Span>,
    pub(super) spool_max: Option<ByteSize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsSpec {
    pub(super) persist: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DrainSpec {
    pub(super) delay: Option<Span>,
    pub(super) grace: Option<Span>,
    pub(super) upgrade_wait: Option<Span>,
}
