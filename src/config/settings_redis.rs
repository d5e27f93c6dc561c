//! `redis` of `gateway.yaml`, and `REDIS_URL`, which is a secret: it may hold a password.

use secrecy::SecretString;

use super::report::Report;
use super::settings::Redis;
use super::settings_spec::RedisSpec;
use super::variables::Variables;

/// Begins every key and channel, unless told otherwise.
const PREFIX: &str = "ssm:";
/// Longest prefix, in bytes: it is sent with every command.
const LONGEST_PREFIX: usize = 64;
/// Most replicas: the share of each would be next to nothing.
const MOST_REPLICAS: u32 = 1_000;
/// How a URL of Redis may begin.
const SCHEMES: [&str; 4] = ["redis://", "rediss://", "unix://", "redis+unix://"];

/// Checks the section and the variable. Whether the URL is one is seen when it is first used, at the start.
pub(super) fn check(spec: RedisSpec, variables: &mut Variables<'_>, report: &mut Report) -> Redis {
    let url = variables.text("REDIS_URL");
    if url.is_some_and(|url| !SCHEMES.iter().any(|scheme| url.starts_with(scheme))) {
        variables.refuse("REDIS_URL", "expected redis://host:port, rediss://host:port (TLS) or unix:///path");
    }
    let prefix = spec.prefix.unwrap_or(PREFIX.to_owned());
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.{}".contains(&byte);
    if prefix.is_empty() || prefix.len() > LONGEST_PREFIX || !prefix.bytes().all(fits) {
        report.add("redis.prefix", "must have 1 to 64 letters, digits and `:`, `-`, `_`, `.`, `{`, `}`");
    }
    let replicas = spec.replicas.unwrap_or(1);
    if !(1..=MOST_REPLICAS).contains(&replicas) {
        report.add("redis.replicas", format!("must be 1 to {MOST_REPLICAS}"));
    }
    Redis { url: url.map(SecretString::from), prefix, replicas }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use crate::config::env::Env;
    use crate::config::settings::Settings;
    use crate::config::settings_check;

    #[test]
    fn the_url_is_read_and_never_shown() {
        let url = "rediss://:hunter2@cache:6380/1";
        let env = Env::from_pairs([("REDIS_URL", url)]);
        let settings = Settings::parse("f", Some("redis: { prefix: \"staging:\" }"), &env).unwrap();
        assert_eq!(settings.redis.url.as_ref().map(ExposeSecret::expose_secret), Some(url));
        assert_eq!(settings.redis.prefix, "staging:");
        assert!(!format!("{settings:?}").contains("hunter2"));
        let env = Env::from_pairs([("REDIS_URL", "http://:hunter2@cache")]);
        let problems = Settings::parse("f", None, &env).unwrap_err().to_string();
        assert!(problems.contains("REDIS_URL: expected redis://") && !problems.contains("hunter2"), "{problems}");
    }

    #[test]
    fn replicas_are_at_least_one() {
        let read =
            |text: &str| settings_check::store("f", Some(text), &Env::default()).map(|store| store.redis.replicas);
        assert_eq!(read("redis: {}").unwrap(), 1);
        assert_eq!(read("redis: { replicas: 4 }").unwrap(), 4);
        for wrong in ["redis: { replicas: 0 }", "redis: { replicas: 1001 }"] {
            assert!(read(wrong).unwrap_err().to_string().contains("redis.replicas: must be 1 to 1000"), "{wrong}");
        }
    }

    #[test]
    fn it_is_read_alone_whatever_else_is_wrong() {
        let env = Env::from_pairs([("REDIS_URL", "unix:///run/redis.sock"), ("PORT", "x")]);
        let store = settings_check::store("f", Some("listen: { port: no }"), &env);
        // A value of the wrong type spoils the shape, a value out of range does not.
        assert!(store.is_ok_and(|store| store.redis.url.is_some() && store.redis.prefix == "ssm:"));
        assert!(settings_check::store("f", Some("redis: { prefix: \" \" }"), &env).is_err());
    }
}
