//! Where the keys of a gateway come from, and the ring that they make.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use super::folder::{KeyChange, KeyError, KeyFolder, Loaded};
use super::manifest::KeyRefusal;
use super::primitive::MacKey;
use super::ring::{KeyRing, Parts, Signer};
use crate::model::algorithm::{KeyAlgorithm, TokenAlgorithm};

/// What signs new tokens.
#[derive(Debug)]
pub enum Signing {
    /// A secret (HS256).
    Secret(SecretString),
    /// The active key of the folder; keys that are missing are made for this algorithm.
    KeyFiles(KeyAlgorithm),
}

/// The secrets and the key folder of a gateway. Every key that is there verifies; [`Signing`] says which kind signs.
#[derive(Debug)]
pub struct KeySource {
    /// What signs.
    pub signing: Signing,
    /// Secrets that only verify.
    pub accepted: Vec<SecretString>,
    /// The key files; nothing need be there when a secret signs.
    pub folder: KeyFolder,
}

impl KeySource {
    /// The ring of what is there now. Reads files: not for the proxy's threads.
    pub fn load(&self) -> Result<KeyRing, KeyError> {
        let loaded = self.folder.load()?;
        match &self.signing {
            Signing::Secret(secret) => Ok(self.secret_ring(secret, loaded)),
            Signing::KeyFiles(wanted) => {
                let loaded = loaded.ok_or_else(|| KeyError::Empty(self.folder.path().to_owned()))?;
                let ring = self.file_ring(loaded);
                if ring.algorithm() != TokenAlgorithm::KeyFile(*wanted) {
                    let (active, signs) = (ring.active(), ring.algorithm());
                    tracing::warn!(%active, %signs, %wanted, "the active key is for another algorithm: it signs until `keys rotate`");
                }
                Ok(ring)
            }
        }
    }

    /// Makes the keys that [`KeySource::load`] needs when there are none. Whether it did.
    pub fn generate_missing(&self, now: Timestamp) -> Result<bool, KeyError> {
        let Signing::KeyFiles(algorithm) = self.signing else { return Ok(false) };
        if self.folder.manifest()?.is_some() {
            return Ok(false);
        }
        match self.folder.change(&KeyChange::Generate, algorithm, Duration::ZERO, now) {
            Ok(_) => Ok(true),
            // Another process was first.
            Err(KeyError::Refused(KeyRefusal::Complete)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn secret_ring(&self, secret: &SecretString, loaded: Option<Loaded>) -> KeyRing {
        let key = MacKey::of(secret);
        let mut parts = Parts::default();
        parts.secret(&key);
        self.add_accepted(&mut parts);
        if let Some(loaded) = loaded {
            add_public(&mut parts, &loaded);
        }
        parts.ring(Signer::secret(&key), None)
    }

    fn file_ring(&self, loaded: Loaded) -> KeyRing {
        let mut parts = Parts::default();
        add_public(&mut parts, &loaded);
        self.add_accepted(&mut parts);
        parts.ring(Signer::private(loaded.active), loaded.next.map(Signer::private))
    }

    fn add_accepted(&self, parts: &mut Parts) {
        for secret in &self.accepted {
            parts.secret(&MacKey::of(secret));
        }
    }
}

fn add_public(parts: &mut Parts, loaded: &Loaded) {
    for entry in loaded.manifest.entries() {
        parts.public(&entry.id, &entry.key);
    }
}
