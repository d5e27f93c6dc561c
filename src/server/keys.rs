//! The keys of access tokens: where the settings say they are, and their change while the gateway runs.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;

use crate::accounts::keys::{KeyFolder, Signing};
use crate::accounts::{Authenticator, KeyRing, KeySource, Secrets};
use crate::audit::{Actor, Audit, Event, EventKind};
use crate::config::settings::{TokenSecret, Tokens};
use crate::model::algorithm::TokenAlgorithm;

/// Folder of the key files in the data folder, where the settings name none.
const FOLDER: &str = "keys";

/// Takes changed key files over.
pub struct Keys {
    source: KeySource,
    authenticator: Arc<Authenticator>,
    audit: Audit,
}

impl Keys {
    /// Later states of `source` come into force in `authenticator`.
    pub fn new(source: KeySource, authenticator: Arc<Authenticator>, audit: Audit) -> Keys {
        Keys { source, authenticator, audit }
    }

    /// Reads the key files again and takes them over whole, or keeps the keys in force and says why. Blocks; not for the
    /// proxy's threads.
    pub fn reload(&self) {
        match self.source.load() {
            Ok(ring) => {
                let (active, keys) = (ring.active().clone(), ring.names().count());
                if self.authenticator.install(ring) {
                    tracing::info!(%active, keys, "keys reloaded");
                    self.record(format!("{active} signs, {keys} keys verify"));
                } else {
                    tracing::info!(%active, keys, "keys unchanged");
                }
            }
            Err(error) => {
                tracing::error!(%error, "keys refused, those in force stay");
                self.record(format!("refused: {error}"));
            }
        }
    }

    fn record(&self, details: String) {
        self.audit.record(Event::new(EventKind::KeysChanged).by(Actor::CommandLine).saying(details));
    }
}

/// Where the keys are, by the settings. A missing secret is made where that is allowed.
pub fn source(tokens: &Tokens, data_dir: &Path) -> anyhow::Result<KeySource> {
    let given = match &tokens.secret {
        TokenSecret::Given(secret) => Some(secret.clone()),
        TokenSecret::None => None,
        TokenSecret::Generate => {
            let secrets = Secrets::load_or_generate(data_dir)?;
            if secrets.generated {
                tracing::warn!(file = %secrets.path.display(), "JWT_SECRET is not set: a random secret was made and is kept here");
            }
            Some(secrets.jwt)
        }
    };
    let mut accepted: Vec<_> = tokens.previous_secret.iter().cloned().collect();
    let signing = match (tokens.algorithm, given) {
        (TokenAlgorithm::KeyFile(algorithm), given) => {
            accepted.extend(given);
            Signing::KeyFiles(algorithm)
        }
        (TokenAlgorithm::Hs256, given) => Signing::Secret(given.context("HS256 needs a secret: set JWT_SECRET")?),
    };
    let folder = tokens.keys_dir.clone().unwrap_or_else(|| data_dir.join(FOLDER));
    Ok(KeySource { signing, accepted, folder: KeyFolder::new(folder) })
}

/// The keys at the start. Missing key files are made where that is allowed.
pub fn open(source: &KeySource, tokens: &Tokens, now: Timestamp) -> anyhow::Result<KeyRing> {
    if tokens.may_generate_keys && source.generate_missing(now)? {
        let folder = source.folder.path().display();
        tracing::warn!(%folder, algorithm = %tokens.algorithm, "there were no keys: new ones were made and are kept here");
    }
    let ring = source.load()?;
    if matches!(source.signing, Signing::KeyFiles(_)) && !source.accepted.is_empty() {
        tracing::warn!("HS256 tokens of JWT_SECRET are still taken: unset it when the last of them has ended");
    }
    tracing::info!(active = %ring.active(), algorithm = %ring.algorithm(), keys = ring.names().count(), "keys loaded");
    Ok(ring)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env::Env;
    use crate::config::settings::Settings;

    fn accepted(data_dir: &Path, settings: &str) -> usize {
        let env = Env::from_pairs([("JWT_ALGORITHM", "EdDSA")]);
        let settings = Settings::parse("f", Some(settings), &env).unwrap();
        source(&settings.tokens, data_dir).unwrap().accepted.len()
    }

    #[test]
    fn beside_key_files_a_made_secret_verifies_only_where_the_settings_name_it() {
        let folder = tempfile::tempdir().unwrap();
        let made = Secrets::load_or_generate(folder.path()).unwrap();
        assert_eq!(accepted(folder.path(), "{}"), 0);
        let named = format!("tokens: {{ secret_file: {} }}\n", made.path.display());
        assert_eq!(accepted(folder.path(), &named), 1);
    }
}
