//! Where accounts are kept: `DATABASE_URL`, `INIT_DB`, and the section `database`. The URL holds a password and is
//! never shown.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::settings_check::Checker;
use super::settings_spec::DatabaseSpec;

/// PostgreSQL instead of the embedded store.
#[derive(Debug, Clone)]
pub struct Database {
    /// Where it is (`DATABASE_URL`, `database.url_file`).
    pub url: SecretString,
    /// Whether missing or old tables are made at the start (`INIT_DB`); default true.
    pub init: bool,
    /// Most connections at once; default 10.
    pub connections: usize,
    /// Longest that one connection may take to be made; default 2s.
    pub connect_timeout: Duration,
    /// Longest that a call may wait for a connection, and then for its answer; default 3s.
    pub timeout: Duration,
    /// How long a database is waited for that is not there at the start; default 30s.
    pub start_wait: Duration,
}

/// Longest wait that a request may be made to bear.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

impl Checker<'_> {
    /// `None`: the embedded store.
    pub(super) fn database(&mut self, spec: DatabaseSpec) -> Option<Database> {
        let init = self.variables.flag("INIT_DB").unwrap_or(true);
        let timeout = |checker: &mut Self, key: &str, given, default| {
            let span = checker.span(key, given, default);
            if span > MAX_TIMEOUT {
                checker.report.add(key, "must be at most 30s: requests wait for it");
            }
            span
        };
        let connect_timeout = timeout(self, "database.connect_timeout", spec.connect_timeout, Duration::from_secs(2));
        let answer_timeout = timeout(self, "database.timeout", spec.timeout, Duration::from_secs(3));
        let connections = self.count("database.connections", spec.connections, 10, 1, 1_000);
        let start_wait = self.span("database.start_wait", spec.start_wait, Duration::from_secs(30));
        let url = self.database_url(spec.url_file)?;
        Some(Database { url, init, connections, connect_timeout, timeout: answer_timeout, start_wait })
    }

    fn database_url(&mut self, file: Option<PathBuf>) -> Option<SecretString> {
        if let Some(text) = self.variables.text("DATABASE_URL") {
            if let Some(refusal) = refusal(text) {
                self.variables.refuse("DATABASE_URL", refusal);
            }
            return Some(SecretString::from(text));
        }
        let path = file?;
        let name = path.display().to_string();
        match super::routes::read(&path, &name) {
            Ok(text) => {
                if let Some(refusal) = refusal(text.trim()) {
                    self.report.add("database.url_file", format!("the URL in {name} {refusal}"));
                }
                Some(SecretString::from(text.trim()))
            }
            Err(problems) => {
                self.report.add("database.url_file", problems.to_string());
                None
            }
        }
    }
}

/// Why a URL cannot be one of ours; the rest is found out when it is used. `None`: it can.
fn refusal(url: &str) -> Option<&'static str> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.split('+').next().unwrap_or_default());
    match scheme {
        Some("postgres" | "postgresql") => None,
        Some("sqlite") => Some("is for SQLite: unset it, and accounts are kept in the data folder"),
        _ => Some("is no PostgreSQL URL (postgres://user:password@host:5432/database?sslmode=verify-full)"),
    }
}
