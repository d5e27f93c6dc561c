//! The settings of tokens and their keys, with all problems at once.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::secret;
use super::settings::{Environment, TokenSecret, Tokens};
use super::settings_check::Checker;
use super::settings_spec::TokensSpec;
use crate::model::algorithm::TokenAlgorithm;
use crate::model::identity::MAX_ACCESS_TTL;
use crate::model::units::Span;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// [`MAX_ACCESS_TTL`] in the unit of JWT_EXPIRE_HOURS.
const MOST_HOURS: u32 = 720;

impl Checker<'_> {
    pub(super) fn tokens(&mut self, spec: TokensSpec, environment: Environment) -> Tokens {
        let algorithm = self.algorithm(spec.algorithm.as_deref());
        let issuer = spec.issuer.unwrap_or("supersmartmatch-gateway".to_owned());
        if issuer.is_empty() || issuer.len() > 256 {
            self.report.add("tokens.issuer", "must have 1 to 256 characters");
        }
        let access = if environment == Environment::Production { 2 * HOUR } else { 24 * HOUR };
        let access = self.access_ttl(spec.access_ttl, access);
        let refresh = self.span("tokens.refresh_ttl", spec.refresh_ttl, 7 * DAY);
        let session = self.span("tokens.session_ttl", spec.session_ttl, 30 * DAY);
        let access_ttl = self.variables.span("JWT_EXPIRE_HOURS", HOUR, MOST_HOURS).unwrap_or(access);
        let refresh_ttl = self.variables.span("JWT_REFRESH_EXPIRE_DAYS", DAY, 365).unwrap_or(refresh);
        if spec.session_ttl.is_some() && session < refresh_ttl {
            self.report
                .add("tokens.session_ttl", "must not be shorter than the time a session may be idle (refresh_ttl)");
        }
        let session_ttl = session.max(refresh_ttl); // the default follows a longer idle time
        let given = self.secret("JWT_SECRET", "tokens.secret_file", spec.secret_file);
        let previous_secret =
            self.secret("JWT_SECRET_PREVIOUS", "tokens.previous_secret_file", spec.previous_secret_file);
        let text = |secret: &Option<SecretString>| secret.as_ref().map(|secret| secret.expose_secret().to_owned());
        if given.is_some() && text(&given) == text(&previous_secret) {
            self.variables.refuse("JWT_SECRET_PREVIOUS", "is JWT_SECRET itself; unset it, or set the one before");
        }
        // Only HS256 needs a secret. Key files sign without one; one that is set then still verifies.
        let secret = match (given, algorithm) {
            (Some(secret), _) => TokenSecret::Given(secret),
            (None, TokenAlgorithm::KeyFile(_)) => TokenSecret::None,
            (None, TokenAlgorithm::Hs256) => TokenSecret::Generate,
        };
        Tokens {
            algorithm,
            secret,
            previous_secret,
            keys_dir: spec.keys_dir,
            may_generate_keys: environment.may_generate_secret(),
            issuer,
            access_ttl,
            refresh_ttl,
            session_ttl,
        }
    }

    fn access_ttl(&mut self, given: Option<Span>, default: Duration) -> Duration {
        let value = given.map_or(default, |span| span.0);
        if !(Duration::from_secs(1)..=MAX_ACCESS_TTL).contains(&value) {
            self.report.add("tokens.access_ttl", "must be from 1s to 30d: revocations are kept for no longer");
        }
        value
    }

    fn algorithm(&mut self, file: Option<&str>) -> TokenAlgorithm {
        let file = file.and_then(|text| {
            let read = text.parse::<TokenAlgorithm>();
            read.map_err(|error| self.report.add("tokens.algorithm", error.to_string())).ok()
        });
        let variable = self.variables.read("JWT_ALGORITHM", "HS256, EdDSA or ES256", |text| text.parse().ok());
        variable.or(file).unwrap_or_default()
    }

    /// A secret from its variable, else from its file; checked.
    fn secret(&mut self, variable: &str, key: &str, file: Option<PathBuf>) -> Option<SecretString> {
        if let Some(text) = self.variables.text(variable) {
            let given = SecretString::from(text.to_owned());
            if let Some(refusal) = secret::refusal(&given) {
                self.variables.refuse(variable, refusal);
            }
            return Some(given);
        }
        let path = file?;
        let name = path.display().to_string();
        match super::routes::read(&path, &name) {
            Ok(text) => {
                let given = SecretString::from(text.trim().to_owned());
                if let Some(refusal) = secret::refusal(&given) {
                    self.report.add(key, format!("the secret in {name} {refusal}"));
                }
                Some(given)
            }
            Err(problems) => {
                self.report.add(key, problems.to_string());
                None
            }
        }
    }

    /// A gateway that serves users makes no secret of its own.
    pub(super) fn require_secret(&mut self, secret: &TokenSecret, environment: Environment) {
        if matches!(secret, TokenSecret::Generate) && !environment.may_generate_secret() {
            self.variables.refuse("JWT_SECRET", secret::missing(environment.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::env::Env;
    use super::super::settings::Settings;
    use super::*;
    use crate::model::algorithm::KeyAlgorithm;

    const SECRET: &str = "kX2v9Qm4Lr7TzBn1Wc8Yp5Hd3Jf6Gs0A";
    const BEFORE: &str = "0A6Gs3Jf5Hd8Yp1Wc7TzBn4Lr9QmkX2v";

    fn tokens(text: Option<&str>, env: &[(&str, &str)]) -> Result<Tokens, String> {
        let settings = Settings::parse("f", text, &Env::from_pairs(env.iter().copied()));
        settings.map(|settings| settings.tokens).map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_variable_beats_the_file_and_each_name_is_taken() {
        let file = Some("tokens: { algorithm: EdDSA, keys_dir: /k }\n");
        assert_eq!(tokens(None, &[]).unwrap().algorithm, TokenAlgorithm::Hs256);
        let read = tokens(file, &[]).unwrap();
        assert_eq!(read.algorithm, TokenAlgorithm::KeyFile(KeyAlgorithm::EdDsa));
        assert_eq!(read.keys_dir, Some("/k".into()));
        let read = tokens(file, &[("JWT_ALGORITHM", "ES256")]).unwrap();
        assert_eq!(read.algorithm, TokenAlgorithm::KeyFile(KeyAlgorithm::Es256));
        for other in ["none", "RS256", "es256"] {
            let said = tokens(None, &[("JWT_ALGORITHM", other)]).unwrap_err();
            assert_eq!(said, "environment: JWT_ALGORITHM: expected HS256, EdDSA or ES256");
        }
    }

    #[test]
    fn an_access_token_lives_30_days_at_most() {
        assert_eq!(MOST_HOURS * HOUR, MAX_ACCESS_TTL);
        let of = |text: &str| tokens(Some(&format!("tokens: {{ access_ttl: {text} }}\n")), &[]);
        assert_eq!(of("30d").unwrap().access_ttl, MAX_ACCESS_TTL);
        assert_eq!(of("1s").unwrap().access_ttl, Duration::from_secs(1));
        for text in ["40d", "721h", "999ms", "0s"] {
            let said = of(text).unwrap_err();
            assert!(said.contains("tokens.access_ttl: must be from 1s to 30d"), "{said}");
        }
        assert_eq!(tokens(None, &[("JWT_EXPIRE_HOURS", "720")]).unwrap().access_ttl, MAX_ACCESS_TTL);
        for hours in ["721", "1000"] {
            let said = tokens(None, &[("JWT_EXPIRE_HOURS", hours)]).unwrap_err();
            assert_eq!(said, "environment: JWT_EXPIRE_HOURS: expected a whole number from 1 to 720");
        }
    }

    #[test]
    fn production_needs_a_secret_for_hs256_only() {
        let production = ("ENVIRONMENT", "production");
        assert!(tokens(None, &[production]).unwrap_err().contains("JWT_SECRET: is not set"));
        let read = tokens(None, &[production, ("JWT_ALGORITHM", "EdDSA")]).unwrap();
        assert!(matches!(read.secret, TokenSecret::None) && !read.may_generate_keys);
        let read = tokens(None, &[production, ("JWT_ALGORITHM", "EdDSA"), ("JWT_SECRET", SECRET)]).unwrap();
        assert!(matches!(read.secret, TokenSecret::Given(_)));
    }

    #[test]
    fn the_previous_secret_has_the_same_rules() {
        let read = tokens(None, &[("JWT_SECRET", SECRET), ("JWT_SECRET_PREVIOUS", BEFORE)]).unwrap();
        assert_eq!(read.previous_secret.as_ref().unwrap().expose_secret(), BEFORE);
        assert!(!format!("{read:?}").contains(BEFORE));
        let same = tokens(None, &[("JWT_SECRET", SECRET), ("JWT_SECRET_PREVIOUS", SECRET)]).unwrap_err();
        assert!(same.contains("JWT_SECRET_PREVIOUS: is JWT_SECRET itself") && !same.contains(SECRET), "{same}");
        let weak = tokens(None, &[("JWT_SECRET", SECRET), ("JWT_SECRET_PREVIOUS", "changeme")]).unwrap_err();
        assert!(weak.contains("JWT_SECRET_PREVIOUS: is a well-known example"), "{weak}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("before");
        std::fs::write(&path, format!("{BEFORE}\n")).unwrap();
        let text = format!("tokens: {{ previous_secret_file: {} }}\n", path.display());
        let read = tokens(Some(&text), &[("JWT_SECRET", SECRET)]).unwrap();
        assert_eq!(read.previous_secret.unwrap().expose_secret(), BEFORE);
        std::fs::write(&path, "short").unwrap();
        let weak = tokens(Some(&text), &[("JWT_SECRET", SECRET)]).unwrap_err();
        assert!(weak.contains("tokens.previous_secret_file") && weak.contains("5 bytes"), "{weak}");
    }
}
