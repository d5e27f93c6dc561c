//! What a database URL asks for: where to connect, and what TLS has to prove.
//!
//! The URL holds a password, so no message of this file repeats a part of it but host, port and database.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::super::StoreError;

/// Parameters that the client library understands; the rest is ours (`sslmode`, `sslrootcert`) or refused.
const PASSED_ON: [&str; 18] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

const FORM: &str =
    "write it as postgres://user:password@host:5432/database?sslmode=verify-full, special characters percent-encoded";

/// What the connection's TLS must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tls {
    /// No TLS at all (`disable`).
    Off,
    /// TLS when the server offers it; who the server is remains unproven (`prefer`, and no `sslmode`).
    Offered,
    /// TLS always, with a certificate from a known authority (`verify-ca`), for this host too (`require`, `verify-full`).
    Proven {
        /// File with the authorities' certificates (`sslrootcert`); `None`: those of the system.
        roots: Option<PathBuf>,
        /// Whether the certificate must be for this host.
        host: bool,
    },
}

/// A database to connect to.
#[derive(Debug)]
pub(super) struct Target {
    /// Hosts, user, password (not shown by its `Debug`), database.
    pub(super) config: Config,
    /// What TLS must prove.
    pub(super) tls: Tls,
    /// Hosts, ports and database, for messages.
    pub(super) name: String,
}

impl Target {
    /// Reads a URL.
    pub(super) fn parse(url: &SecretString) -> Result<Target, StoreError> {
        let url = url.expose_secret().trim();
        let rest = after_scheme(url).ok_or_else(|| refuse("is no PostgreSQL URL".to_owned()))?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let beyond = rest.strip_prefix(authority).unwrap_or_default();
        let path = beyond.split('?').next().unwrap_or_default();
        if authority.matches('@').count() > 1
            || path.contains('@')
            || (beyond.contains('@') && !authority.contains('@'))
        {
            return Err(refuse("has an `@`, `/`, `?` or `#` in user or password as it is".to_owned()));
        }
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (kept, mode, roots) = parameters(query)?;
        let tls = tls(mode.as_deref(), roots)?;
        let mut config: Config = format!("postgres://{base}?{kept}")
            .parse()
            .map_err(|_| refuse("cannot be read: host, port or a parameter is not as it should be".to_owned()))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(refuse("names no host".to_owned()));
        }
        config.ssl_mode(match tls {
            Tls::Off => SslMode::Disable,
            Tls::Offered => SslMode::Prefer,
            Tls::Proven { .. } => SslMode::Require,
        });
        if config.get_application_name().is_none() {
            config.application_name("ssm-gateway");
        }
        Ok(Target { name: name(&config), config, tls })
    }

    /// Whether every host is this machine.
    pub(super) fn is_local(&self) -> bool {
        self.config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
            Host::Unix(_) => true,
        }) && self.config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
    }
}

/// What follows `postgres://`, `postgresql://` or, as the earlier gateway wrote it, `postgresql+driver://`.
fn after_scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    matches!(scheme.split('+').next(), Some("postgres" | "postgresql")).then_some(rest)
}

/// The parameters to pass on, and the values of `sslmode` and `sslrootcert`.
fn parameters(query: &str) -> Result<(String, Option<String>, Option<String>), StoreError> {
    let (mut kept, mut mode, mut roots) = (Vec::new(), None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "sslmode" => mode = Some(decoded(value)?),
            "sslrootcert" => roots = Some(decoded(value)?),
            key if PASSED_ON.contains(&key) => kept.push(pair),
            "sslcert" | "sslkey" | "sslpassword" | "sslcrl" => {
                return Err(refuse(
                    "asks for client certificates or revocation lists, which are not supported".to_owned(),
                ));
            }
            _ => {
                return Err(refuse(format!(
                    "has an unknown parameter; known: sslmode, sslrootcert, {}",
                    PASSED_ON.join(", ")
                )));
            }
        }
    }
    Ok((kept.join("&"), mode, roots))
}

fn tls(mode: Option<&str>, roots: Option<String>) -> Result<Tls, StoreError> {
    let proven = |host| {
        let roots = roots.clone().filter(|path| path != "system").map(PathBuf::from);
        Ok(Tls::Proven { roots, host })
    };
    match mode {
        // Authorities are named to be asked: going on without would drop the proof in silence.
        None | Some("prefer") if roots.is_some() => {
            Err(refuse("has sslrootcert, but its sslmode proves nothing; add sslmode=verify-full".to_owned()))
        }
        None | Some("prefer") => Ok(Tls::Offered),
        Some("disable") => Ok(Tls::Off),
        Some("verify-ca") => proven(false),
        Some("require" | "verify-full") => proven(true),
        Some(_) => {
            Err(refuse("has an unknown sslmode; known: disable, prefer, require, verify-ca, verify-full".to_owned()))
        }
    }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, StoreError> {
    let bad = || refuse("has a bad percent-encoding".to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        if *byte == b'%' {
            let mut digit = || char::from(*rest.next()?).to_digit(16);
            let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
            bytes.push(u8::try_from(high * 16 + low).map_err(|_| bad())?);
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// `host:port/database`, several hosts with commas.
fn name(config: &Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(at, host)| {
            let port = config.get_ports().get(at).or(config.get_ports().first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(folder) => folder.display().to_string(),
            }
        })
        .collect();
    format!("{}/{}", hosts.join(","), config.get_dbname().or(config.get_user()).unwrap_or_default())
}

fn refuse(why: String) -> StoreError {
    StoreError::Database { why: format!("DATABASE_URL {why}"), fix: FORM.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, StoreError> {
        Target::parse(&SecretString::from(url))
    }

    fn proven(roots: Option<&str>, host: bool) -> Tls {
        Tls::Proven { roots: roots.map(PathBuf::from), host }
    }

    #[test]
    fn the_url_says_what_tls_must_prove() {
        for (query, expected) in [
            ("", Tls::Offered),
            ("?sslmode=prefer", Tls::Offered),
            ("?sslmode=disable", Tls::Off),
            ("?sslmode=require", proven(None, true)),
            ("?sslmode=verify-full", proven(None, true)),
            ("?sslmode=verify-full&sslrootcert=system", proven(None, true)),
            ("?sslrootcert=%2Fetc%2Fdb%20ca.pem&sslmode=verify-ca", proven(Some("/etc/db ca.pem"), false)),
            ("?application_name=x&sslmode=require&sslrootcert=/ca.pem", proven(Some("/ca.pem"), true)),
        ] {
            let target = parse(&format!("postgres://u:p@h:5433/d{query}")).unwrap();
            assert_eq!((target.tls, target.name.as_str()), (expected, "h:5433/d"), "{query}");
        }
    }

    #[test]
    fn every_usual_form_is_read() {
        for (url, name) in [
            ("postgresql://h/d", "h:5432/d"),
            ("postgresql+asyncpg://u:p@h/d", "h:5432/d"),
            ("postgresql+psycopg2://u:%40%2F%3f@h:1/d", "h:1/d"),
            ("postgres://u@h1:1,h2:2/d?target_session_attrs=read-write", "h1:1,h2:2/d"),
            ("postgres:///d?host=/run/postgresql", "/run/postgresql/d"),
            ("postgres://u@[::1]:7/d", "::1:7/d"),
        ] {
            assert_eq!(parse(url).unwrap().name, name, "{url}");
        }
        assert!(
            parse("postgres://u@[::1]:7/d").unwrap().is_local()
                && parse("postgres://u@localhost/d").unwrap().is_local()
        );
        assert!(!parse("postgres://u@db/d").unwrap().is_local());
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused_and_the_password_not_shown() {
        for (url, words) in [
            ("mysql://u:hunter2@h/d", "no PostgreSQL URL"),
            ("sqlite:///hunter2.db", "no PostgreSQL URL"),
            ("hunter2", "no PostgreSQL URL"),
            ("postgres://u:hunter2@h:port/d", "cannot be read"),
            ("postgres://u:hunter2@/d", "names no host"),
            ("postgres://u:p@hunter2@h/d", "`@`"),
            ("postgres://u:p/hunter2@h/d", "`@`"),
            ("postgres://u:p?hunter2@h/d", "`@`"),
            ("postgres://u:p#hunter2@h/d", "`@`"),
            ("postgres://u:p@h/d?hunter2=1", "unknown parameter"),
            ("postgres://u:hunter2@h/d?sslmode=hunter2", "unknown sslmode"),
            ("postgres://u:hunter2@h/d?sslrootcert=/ca.pem", "proves nothing"),
            ("postgres://u:hunter2@h/d?sslmode=prefer&sslrootcert=/ca.pem", "proves nothing"),
            ("postgres://u:hunter2@h/d?sslcert=/me.pem", "client certificates"),
            ("postgres://u:hunter2@h/d?sslrootcert=%zz", "percent-encoding"),
        ] {
            let error = parse(url).unwrap_err();
            let (shown, debug) = (error.to_string(), format!("{error:?}"));
            assert!(shown.contains(words), "{url}: {shown}");
            assert!(!shown.contains("hunter2") && !debug.contains("hunter2"), "{shown}");
        }
        let good = format!("{:?}", parse("postgres://u:hunter2@h/d").unwrap());
        assert!(!good.contains("hunter2"), "{good}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}", query in ".{0,60}") {
            let _ = parse(&text);
            let _ = parse(&format!("postgres://{text}?{query}"));
        }
    }
}
