//! From the shape of `gateway.yaml` and the variables to [`Settings`], with all problems at once.

use std::path::PathBuf;
use std::time::Duration;

use super::decode::{Decoded, decode};
use super::env::Env;
use super::locate::Lines;
use super::problem::Problems;
use super::report::Report;
use super::settings::{
    ADMIN, ANY, Admin, Drain, Environment, Limits, Listen, Log, LogLevel, Passwords, Settings, StoreSettings, Tls,
    Tokens,
};
use super::settings_spec::{AdminSpec, DrainSpec, ListenSpec, LogSpec, PasswordsSpec, SettingsSpec, TlsSpec};
use super::variables::Variables;
use super::{settings_log, settings_redis, tls};
use crate::model::units::{Span, TEN_YEARS};

const MAX_THREADS: usize = 1_024;

/// See [`Settings::parse`].
pub(super) fn settings(file: &str, text: Option<&str>, env: &Env) -> Result<Settings, Problems> {
    let Decoded { value, report } = shape(file, text, env);
    let mut checker = Checker { report, variables: Variables::new(env) };
    let settings = checker.settings(value.unwrap_or_default());
    checker.finish(settings)
}

/// See [`super::settings::StoreSettings::load`].
pub(super) fn store(file: &str, text: Option<&str>, env: &Env) -> Result<StoreSettings, Problems> {
    let Decoded { value, report } = shape(file, text, env);
    let Some(spec) = value else { return Err(report.finish()) };
    // Other sections' problems are not looked at.
    let mut checker = Checker { report: Report::new(file, Lines::default()), variables: Variables::new(env) };
    let data_dir = folder(&checker.variables, spec.data_dir);
    let database = checker.database(spec.database);
    let redis = settings_redis::check(spec.redis, &mut checker.variables, &mut checker.report);
    checker.finish(StoreSettings { data_dir, database, redis })
}

/// See [`Tokens::load`].
pub(super) fn tokens(file: &str, text: Option<&str>, env: &Env) -> Result<Tokens, Problems> {
    let Decoded { value, report } = shape(file, text, env);
    let Some(spec) = value else { return Err(report.finish()) };
    let mut checker = Checker { report: Report::new(file, Lines::default()), variables: Variables::new(env) };
    let environment = checker.environment(spec.environment);
    let tokens = checker.tokens(spec.tokens, environment);
    checker.finish(tokens)
}

fn folder(variables: &Variables<'_>, file: Option<PathBuf>) -> PathBuf {
    variables.text("DATA_DIR").map(PathBuf::from).or(file).unwrap_or("data".into())
}

fn shape(file: &str, text: Option<&str>, env: &Env) -> Decoded<SettingsSpec> {
    match text {
        Some(text) if !is_blank(text) => decode(file, text, env),
        _ => Decoded { value: Some(SettingsSpec::default()), report: Report::new(file, Lines::default()) },
    }
}

/// A file with nothing but comments is a file of defaults.
fn is_blank(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'))
}

/// The text, the variables, and what is wrong with them so far.
pub(super) struct Checker<'e> {
    pub(super) report: Report,
    pub(super) variables: Variables<'e>,
}

impl Checker<'_> {
    fn finish<T>(mut self, value: T) -> Result<T, Problems> {
        let Problems(mut problems) = self.report.finish();
        problems.append(&mut self.variables.problems);
        if problems.is_empty() { Ok(value) } else { Err(Problems(problems)) }
    }

    fn settings(&mut self, spec: SettingsSpec) -> Settings {
        let environment = self.environment(spec.environment);
        let debug = self.variables.flag("DEBUG").or(spec.debug).unwrap_or(false);
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let tokens = self.tokens(spec.tokens, environment);
        self.require_secret(&tokens.secret, environment);
        Settings {
            environment,
            debug,
            data_dir: folder(&self.variables, spec.data_dir),
            threads: {
                let file = self.count("threads", spec.threads, cpus, 1, MAX_THREADS);
                self.variables.count("WORKERS", MAX_THREADS).unwrap_or(file)
            },
            trusted_proxies: spec.trusted_proxies.0,
            metrics_enabled: self.variables.flag("METRICS_ENABLED").or(spec.metrics_enabled).unwrap_or(true),
            listen: self.listen(spec.listen),
            admin: self.admin(spec.admin),
            log: self.log(spec.log),
            tokens,
            passwords: self.passwords(&spec.passwords, cpus),
            database: self.database(spec.database),
            redis: settings_redis::check(spec.redis, &mut self.variables, &mut self.report),
            audit: settings_log::audit(&spec.audit, &mut self.report),
            limits: Limits { persist: spec.limits.persist },
            drain: self.drain(&spec.drain),
        }
    }

    fn environment(&mut self, file: Option<Environment>) -> Environment {
        let variable = self.variables.read("ENVIRONMENT", "development, staging, production or testing", |text| {
            Environment::ALL.into_iter().find(|environment| environment.as_str().eq_ignore_ascii_case(text))
        });
        variable.or(file).unwrap_or_default()
    }

    fn listen(&mut self, spec: ListenSpec) -> Listen {
        let variable = self.variables.count("PORT", 65_535).and_then(|port| u16::try_from(port).ok());
        if spec.port == Some(0) {
            self.report.add("listen.port", "expected a port from 1 to 65535");
        }
        let max_header_bytes =
            spec.max_header_bytes.map_or(64 << 10, |size| usize::try_from(size.0).unwrap_or(usize::MAX));
        if !((4 << 10)..=(1 << 20)).contains(&max_header_bytes) {
            self.report.add("listen.max_header_bytes", "must be from 4KiB to 1MiB");
        }
        Listen {
            address: spec.address.unwrap_or(ANY),
            port: variable.or(spec.port).unwrap_or(5050),
            tls: spec.tls.map(|tls| self.tls(tls)),
            http2: spec.http2,
            max_connections: self.count("listen.max_connections", spec.max_connections, 10_000, 1, 1_000_000),
            max_connections_per_address: spec.max_connections_per_address.unwrap_or(1_000),
            header_timeout: self.span("listen.header_timeout", spec.header_timeout, Duration::from_secs(10)),
            keepalive: self.span("listen.keepalive", spec.keepalive, Duration::from_secs(75)),
            max_header_bytes,
            max_headers: self.count("listen.max_headers", spec.max_headers, 100, 16, 1_000),
        }
    }

    fn tls(&mut self, spec: TlsSpec) -> Tls {
        if let Err(message) = tls::certificates(&spec.cert) {
            self.report.add("listen.tls.cert", message);
        }
        if let Err(message) = tls::private_key(&spec.key) {
            self.report.add("listen.tls.key", message);
        }
        Tls { cert: spec.cert, key: spec.key }
    }

    fn admin(&mut self, spec: AdminSpec) -> Admin {
        let address = spec.address.unwrap_or(ADMIN);
        if !address.ip().is_loopback() && !spec.allow_remote {
            let message = "anybody who reaches this address could run the gateway; use 127.0.0.1, or say \
                           `admin.allow_remote: true`";
            self.report.add("admin.address", message);
        }
        Admin { address }
    }

    fn log(&mut self, spec: LogSpec) -> Log {
        let variable = self.variables.read("LOG_LEVEL", "trace, debug, info, warn or error", LogLevel::read);
        let access = settings_log::sink("log.access", spec.access.as_deref(), &mut self.report);
        Log { level: variable.or(spec.level).unwrap_or(LogLevel::Info), access }
    }

    fn passwords(&mut self, spec: &PasswordsSpec, cpus: usize) -> Passwords {
        let half = (cpus / 2).max(1);
        Passwords {
            parallel_hashes: self.count("passwords.parallel_hashes", spec.parallel_hashes, half, 1, MAX_THREADS),
            queue: self.count("passwords.queue", spec.queue, 64, 1, 100_000),
        }
    }

    fn drain(&mut self, spec: &DrainSpec) -> Drain {
        Drain {
            delay: spec.delay.map_or(Duration::ZERO, |span| span.0.min(TEN_YEARS)),
            grace: self.span("drain.grace", spec.grace, Duration::from_secs(30)),
            upgrade_wait: self.span("drain.upgrade_wait", spec.upgrade_wait, Duration::from_secs(60)),
        }
    }

    pub(super) fn count(
        &mut self,
        key: &str,
        given: Option<usize>,
        default: usize,
        least: usize,
        most: usize,
    ) -> usize {
        let value = given.unwrap_or(default);
        if given.is_some_and(|given| !(least..=most).contains(&given)) {
            self.report.add(key, format!("must be from {least} to {most}"));
        }
        value
    }

    pub(super) fn span(&mut self, key: &str, given: Option<Span>, default: Duration) -> Duration {
        let value = given.map_or(default, |span| span.0);
        if value.is_zero() || value > TEN_YEARS {
            self.report.add(key, "must be longer than zero and at most 3650d");
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::TokenSecret;
    use super::*;
    use secrecy::ExposeSecret;

    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(86_400);
    const SECRET: &str = "kX2v9Qm4Lr7TzBn1Wc8Yp5Hd3Jf6Gs0A";

    fn good(text: Option<&str>, env: &[(&str, &str)]) -> Settings {
        settings("f", text, &Env::from_pairs(env.iter().copied())).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn defaults_are_the_documented_ones_and_the_shipped_file_says_them() {
        let shipped = include_str!("../../conf/gateway.yaml");
        let (none, file) = (good(None, &[]), good(Some(shipped), &[]));
        assert_eq!(format!("{none:?}"), format!("{file:?}"));
        assert_eq!(none.listen.socket().to_string(), "0.0.0.0:5050");
        assert_eq!(none.admin.address.to_string(), "127.0.0.1:5059");
        assert_eq!((none.tokens.access_ttl, none.tokens.refresh_ttl), (24 * HOUR, 7 * DAY));
        assert!(matches!(none.tokens.secret, TokenSecret::Generate));
    }

    #[test]
    fn a_variable_beats_the_file() {
        let text = "listen: { port: 1 }\nthreads: 9\nlog: { level: error }\ntokens: { access_ttl: 1m }\n";
        let env =
            [("PORT", "8080"), ("WORKERS", "3"), ("LOG_LEVEL", "WARNING"), ("JWT_EXPIRE_HOURS", "5"), ("DEBUG", "")];
        let settings = good(Some(text), &env);
        assert_eq!((settings.listen.port, settings.threads, settings.log.level), (8080, 3, LogLevel::Warn));
        assert_eq!((settings.tokens.access_ttl, settings.debug), (5 * HOUR, false));
    }

    #[test]
    fn the_data_folder_is_the_variables_then_the_files_then_data() {
        let of = |text, env: &[(&str, &str)]| {
            store("f", text, &Env::from_pairs(env.iter().copied())).unwrap().data_dir.display().to_string()
        };
        let file = Some("data_dir: /from-file\nlisten: { port: no }\n");
        assert_eq!(of(file, &[("DATA_DIR", "/from-env")]), "/from-env");
        assert_eq!(of(file, &[("DATA_DIR", "")]), "/from-file");
        assert_eq!(of(None, &[]), "data");
        assert!(store("f", Some("a: ["), &Env::default()).is_err());
    }

    #[test]
    fn the_shipped_file_names_every_key() {
        let shipped = include_str!("../../conf/gateway.yaml");
        for section in
            ["", "listen", "admin", "log", "tokens", "passwords", "database", "redis", "audit", "limits", "drain"]
        {
            let nothing = "\"zz\": 1";
            let text =
                if section.is_empty() { format!("{{ {nothing} }}") } else { format!("{section}: {{ {nothing} }}") };
            let problems = super::settings("f", Some(&text), &Env::default()).unwrap_err().to_string();
            let (_, known) = problems.split_once("known: ").unwrap();
            for key in known.split(", ") {
                assert!(shipped.contains(&format!("{key}:")), "{section}.{key}");
            }
        }
    }

    #[test]
    fn production_shortens_access_tokens() {
        let settings = good(None, &[("ENVIRONMENT", "production"), ("JWT_SECRET", SECRET)]);
        assert_eq!(settings.tokens.access_ttl, 2 * HOUR);
        assert!(!format!("{settings:?}").contains(SECRET));
    }

    #[test]
    fn a_longer_idle_time_lengthens_the_default_session() {
        assert_eq!(good(None, &[("JWT_REFRESH_EXPIRE_DAYS", "90")]).tokens.session_ttl, 90 * DAY);
    }

    #[test]
    fn secrets_and_tls_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let pem = |kind: &str| format!("-----BEGIN {kind}-----\nMAMCAQA=\n-----END {kind}-----\n");
        let (cert, key) = (write("tls.crt", &pem("CERTIFICATE")), write("tls.key", &pem("PRIVATE KEY")));
        let secret = write("jwt", &format!("{SECRET}\n"));
        let text = format!("listen: {{ tls: {{ cert: {cert}, key: {key} }} }}\ntokens: {{ secret_file: {secret} }}\n");
        let settings = good(Some(&text), &[]);
        assert!(settings.listen.tls.is_some());
        assert!(matches!(settings.tokens.secret, TokenSecret::Given(given) if given.expose_secret() == SECRET));

        let swapped = format!("listen: {{ tls: {{ cert: {key}, key: {cert} }} }}\n");
        let problems = super::settings("f", Some(&swapped), &Env::default()).unwrap_err().to_string();
        assert!(
            problems.contains("has no PEM certificate") && problems.contains("has no PEM private key"),
            "{problems}"
        );
    }

    #[test]
    fn a_named_file_must_exist() {
        let missing = std::path::Path::new("/nonexistent/gateway.yaml");
        let problems = Settings::load(Some(missing), &Env::default()).unwrap_err().to_string();
        assert!(problems.starts_with("/nonexistent/gateway.yaml: cannot be opened"), "{problems}");
    }

    #[test]
    fn the_database_is_the_variables_then_the_files() {
        use secrecy::ExposeSecret as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        std::fs::write(&file, "postgres://file/x\n").unwrap();
        let text = format!("database: {{ url_file: {}, timeout: 5s }}\n", file.display());
        let of = |text, env: &[(&str, &str)]| {
            store("f", text, &Env::from_pairs(env.iter().copied()))
                .unwrap()
                .database
                .map(|database| (database.url.expose_secret().to_owned(), database.init, database.timeout.as_secs()))
        };
        assert_eq!(of(None, &[]), None);
        assert_eq!(of(Some("database: { connections: 3 }"), &[("INIT_DB", "false")]), None);
        assert_eq!(of(Some(&text), &[]), Some(("postgres://file/x".to_owned(), true, 5)));
        let env = [("DATABASE_URL", "postgresql+psycopg2://env/x"), ("INIT_DB", "0")];
        assert_eq!(of(Some(&text), &env), Some(("postgresql+psycopg2://env/x".to_owned(), false, 5)));
        std::fs::write(&file, "mysql://hunter2").unwrap();
        let problems = store("f", Some(&text), &Env::default()).unwrap_err().to_string();
        assert!(problems.contains("no PostgreSQL URL") && !problems.contains("hunter2"), "{problems}");
    }

    #[test]
    fn secrets_stay_out_of_problems() {
        let env = Env::from_pairs([("JWT_SECRET", "hunter2"), ("DATABASE_URL", "mysql://u:hunter2@h/d")]);
        let problems = super::settings("f", Some("listen: { port: \"${JWT_SECRET}\" }\n"), &env).unwrap_err();
        assert_eq!(problems.0.len(), 3, "{problems}");
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
    }
}
