//! The keys of `gateway.yaml`. All last as long as the process; a reload says which of them have changed.

use secrecy::{ExposeSecret, SecretString};

use super::OnReload::{Keys, Restart};
use super::declare;
use crate::config::settings::{
    Admin, Audit, Database, Drain, Limits, Listen, Log, Passwords, Redis, Settings, TokenSecret, Tokens,
};
use crate::config::settings_spec::*;

declare! {
    /// What each key of `gateway.yaml` declares.
    SETTINGS:
    SettingsSpec at "" {
        environment: Restart,
        debug: Restart,
        data_dir: Restart,
        threads: Restart,
        trusted_proxies: Restart,
        metrics_enabled: Restart,
        listen: Keys,
        admin: Keys,
        log: Keys,
        tokens: Keys,
        passwords: Keys,
        database: Keys,
        redis: Keys,
        audit: Keys,
        limits: Keys,
        drain: Keys,
    }
    ListenSpec at "listen" {
        address: Restart,
        port: Restart,
        tls: Restart,
        max_connections: Restart,
        max_connections_per_address: Restart,
        header_timeout: Restart,
        keepalive: Restart,
        max_header_bytes: Restart,
        max_headers: Restart,
        http2: Restart,
    }
    TlsSpec at "listen.tls" { cert: Restart, key: Restart }
    AdminSpec at "admin" { address: Restart, allow_remote: Restart }
    LogSpec at "log" { level: Restart, access: Restart }
    TokensSpec at "tokens" {
        secret_file: Restart,
        previous_secret_file: Restart,
        algorithm: Restart,
        keys_dir: Restart,
        issuer: Restart,
        access_ttl: Restart,
        refresh_ttl: Restart,
        session_ttl: Restart,
    }
    PasswordsSpec at "passwords" { parallel_hashes: Restart, queue: Restart }
    DatabaseSpec at "database" {
        url_file: Restart,
        connections: Restart,
        connect_timeout: Restart,
        timeout: Restart,
        start_wait: Restart,
    }
    RedisSpec at "redis" { prefix: Restart, replicas: Restart }
    AuditSpec at "audit" { lines: Restart, retention: Restart, spool_max: Restart }
    LimitsSpec at "limits" { persist: Restart }
    DrainSpec at "drain" { delay: Restart, grace: Restart, upgrade_wait: Restart }
}

/// Compares fields and names those that differ. Fields after `apart` are compared by other means; there is no `..`.
macro_rules! compare {
    ($found:ident, $old:expr, $new:expr, $shape:ident { $($field:ident: $key:literal),* $(,)? } $(apart $($other:ident),+)?) => {{
        let $shape { $($field,)* $($($other: _,)+)? } = $new;
        $(if $old.$field != *$field { $found.push($key); })*
    }};
}

/// The keys whose value is another one than before, as `gateway.yaml` names them.
pub fn changed(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let mut found = Vec::new();
    compare!(found, old, new, Settings {
        environment: "environment", debug: "debug", data_dir: "data_dir", threads: "threads",
        trusted_proxies: "trusted_proxies", metrics_enabled: "metrics_enabled",
    } apart listen, admin, log, tokens, passwords, database, redis, audit, limits, drain);
    compare!(
        found,
        old.listen,
        &new.listen,
        Listen {
            address: "listen.address",
            port: "listen.port",
            tls: "listen.tls",
            max_connections: "listen.max_connections",
            max_connections_per_address: "listen.max_connections_per_address",
            header_timeout: "listen.header_timeout",
            keepalive: "listen.keepalive",
            max_header_bytes: "listen.max_header_bytes",
            max_headers: "listen.max_headers",
            http2: "listen.http2",
        }
    );
    compare!(found, old.admin, &new.admin, Admin { address: "admin.address" });
    compare!(found, old.log, &new.log, Log { level: "log.level", access: "log.access" });
    tokens(&old.tokens, &new.tokens, &mut found);
    compare!(
        found,
        old.passwords,
        &new.passwords,
        Passwords { parallel_hashes: "passwords.parallel_hashes", queue: "passwords.queue" }
    );
    database(old.database.as_ref(), new.database.as_ref(), &mut found);
    compare!(found, old.redis, &new.redis, Redis { prefix: "redis.prefix", replicas: "redis.replicas" } apart url);
    if !same(old.redis.url.as_ref(), new.redis.url.as_ref()) {
        found.push("REDIS_URL");
    }
    compare!(
        found,
        old.audit,
        &new.audit,
        Audit { lines: "audit.lines", retention: "audit.retention", spool_max: "audit.spool_max" }
    );
    compare!(found, old.limits, &new.limits, Limits { persist: "limits.persist" });
    compare!(
        found,
        old.drain,
        &new.drain,
        Drain { delay: "drain.delay", grace: "drain.grace", upgrade_wait: "drain.upgrade_wait" }
    );
    found
}

fn tokens(old: &Tokens, new: &Tokens, found: &mut Vec<&'static str>) {
    compare!(found, old, new, Tokens {
        algorithm: "tokens.algorithm", keys_dir: "tokens.keys_dir", issuer: "tokens.issuer",
        access_ttl: "tokens.access_ttl", refresh_ttl: "tokens.refresh_ttl", session_ttl: "tokens.session_ttl",
    } apart secret, previous_secret, may_generate_keys);
    let secret = match (&old.secret, &new.secret) {
        (TokenSecret::Given(old), TokenSecret::Given(new)) => same(Some(old), Some(new)),
        (TokenSecret::None, TokenSecret::None) | (TokenSecret::Generate, TokenSecret::Generate) => true,
        _ => false,
    };
    if !secret {
        found.push("tokens.secret_file");
    }
    if !same(old.previous_secret.as_ref(), new.previous_secret.as_ref()) {
        found.push("tokens.previous_secret_file");
    }
}

fn database(old: Option<&Database>, new: Option<&Database>, found: &mut Vec<&'static str>) {
    if !same(old.map(|old| &old.url), new.map(|new| &new.url)) {
        found.push("database.url_file");
    }
    let (Some(old), Some(new)) = (old, new) else { return };
    compare!(found, old, new, Database {
        init: "INIT_DB", connections: "database.connections", connect_timeout: "database.connect_timeout",
        timeout: "database.timeout", start_wait: "database.start_wait",
    } apart url);
}

fn same(old: Option<&SecretString>, new: Option<&SecretString>) -> bool {
    old.map(ExposeSecret::expose_secret) == new.map(ExposeSecret::expose_secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env::Env;

    fn of(text: &str, env: &[(&str, &str)]) -> Settings {
        Settings::parse("f", Some(text), &Env::from_pairs(env.iter().copied())).unwrap()
    }

    #[test]
    fn each_change_has_its_name_and_the_same_value_written_otherwise_is_none() {
        let every = include_str!("../../../tests/config/ok/gateway-every-key.yaml");
        let text: String =
            every.lines().filter(|line| !line.contains("tls:")).map(|line| format!("{line}\n")).collect();
        let before = of("{}", &[]);
        assert!(changed(&before, &of("listen: { port: 5050 }\ndebug: false\n", &[])).is_empty());
        let names = changed(&before, &of(&text, &[]));
        for (section, key) in
            [("listen", "keepalive"), ("log", "level"), ("drain", "upgrade_wait"), ("audit", "retention")]
        {
            assert!(names.contains(&&*format!("{section}.{key}")), "{section}.{key} is not in {names:?}");
        }
        let keys: Vec<String> = SETTINGS
            .iter()
            .flat_map(|section| section.keys.iter().map(move |(key, _)| (section.at, *key)))
            .map(|(at, key)| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") })
            .collect();
        assert!(names.iter().all(|name| keys.iter().any(|key| key == name)), "{names:?}");
    }

    #[test]
    fn secrets_are_compared_and_never_shown() {
        let secret = |text: &str| [("JWT_SECRET", text.to_owned())];
        let with = |text: &str| {
            let [(name, value)] = secret(text);
            of("{}", &[(name, value.as_str()), ("REDIS_URL", "redis://a"), ("DATABASE_URL", "postgres://a/x")])
        };
        let one = with("kX2v9Qm4Lr7TzBn1Wc8Yp5Hd3Jf6Gs0A");
        assert!(changed(&one, &one.clone()).is_empty());
        assert_eq!(changed(&one, &with("zX2v9Qm4Lr7TzBn1Wc8Yp5Hd3Jf6Gs0A")), ["tokens.secret_file"]);
        assert_eq!(
            changed(&one, &of("{}", &[("JWT_SECRET", "kX2v9Qm4Lr7TzBn1Wc8Yp5Hd3Jf6Gs0A")])),
            ["database.url_file", "REDIS_URL"]
        );
    }
}
