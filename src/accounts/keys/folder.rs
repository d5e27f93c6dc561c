//! The folder of key files: `keys.json` says what each key is for, `key-KID.pem` is the private part of those that
//! sign or will sign. A retiring key has none any more: its public part, in `keys.json`, verifies.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::files::{self, ASIDE, OWN, PRIVATE};
use super::jwk::thumbprint;
use super::manifest::{KeyRefusal, KeyState, Manifest};
use super::primitive::PrivateKey;
use crate::model::algorithm::KeyAlgorithm;
use crate::model::identity::KeyId;

const MANIFEST: &str = "keys.json";
const LOCK: &str = ".lock";

/// How often a folder that changes while it is read is read again.
const READS: usize = 5;

/// A folder of key files.
#[derive(Debug, Clone)]
pub struct KeyFolder {
    path: PathBuf,
}

/// Why a key folder cannot be used, or is not changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file of it is not what it should be.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There are no keys.
    #[error("{}: there are no keys yet; make them with `ssm-gateway keys generate`", .0.display())]
    Empty(PathBuf),
    /// The rules forbid it.
    #[error(transparent)]
    Refused(#[from] KeyRefusal),
}

/// The keys of a folder, as a gateway needs them.
pub(super) struct Loaded {
    pub(super) manifest: Manifest,
    pub(super) active: PrivateKey,
    pub(super) next: Option<PrivateKey>,
}

/// A change of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// Makes what is missing of an active and a next key.
    Generate,
    /// Next becomes active, active becomes retiring, a new next is made; `at_once`: also when the next key was not
    /// published for long. Keys that are over leave.
    Rotate {
        /// Do not wait for others to see the next key.
        at_once: bool,
    },
    /// Takes one key a step on: the active one as [`KeyChange::Rotate`], the next is replaced, a retiring one leaves.
    Retire {
        /// The key.
        id: KeyId,
        /// See [`KeyChange::Rotate`].
        at_once: bool,
    },
    /// Takes a key out at once: nothing that it signed is good any more.
    Remove(KeyId),
    /// Takes out the keys that are over.
    Prune,
}

impl KeyFolder {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> KeyFolder {
        KeyFolder { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `keys.json` says; `None` when there is none.
    pub fn manifest(&self) -> Result<Option<Manifest>, KeyError> {
        self.text()?.map(|text| self.parse(&text)).transpose()
    }

    /// Makes a change; answers the keys after it. Waits while another process makes one. New keys are for `algorithm`,
    /// and keys are over when they retired longer than `life`, the life of an access token, ago.
    /// Only [`KeyChange::Generate`] makes a folder that is missing.
    /// A crash leaves the keys before or after it: `keys.json` is what counts, and it is replaced in one step.
    pub fn change(
        &self,
        change: &KeyChange,
        algorithm: KeyAlgorithm,
        life: Duration,
        now: Timestamp,
    ) -> Result<Manifest, KeyError> {
        self.before(change)?; // the lock makes the folder
        let _lock = self.lock()?;
        let mut manifest = self.before(change)?;
        apply(change, &mut manifest, life, now)?;
        if !matches!(change, KeyChange::Prune) {
            manifest.fill(now, &mut || self.make(algorithm))?;
        }
        self.replace(MANIFEST, &manifest.text())?;
        self.clean(&manifest)?;
        Ok(manifest)
    }

    /// The keys that `change` begins with; only [`KeyChange::Generate`] needs none.
    fn before(&self, change: &KeyChange) -> Result<Manifest, KeyError> {
        match (self.manifest()?, change) {
            (Some(manifest), _) => Ok(manifest),
            (None, KeyChange::Generate) => Ok(Manifest::default()),
            (None, _) => Err(KeyError::Empty(self.path.clone())),
        }
    }

    /// The keys; `None` when there are none. Takes no lock, for the folder may be read-only: what changes meanwhile is
    /// read again.
    pub(super) fn load(&self) -> Result<Option<Loaded>, KeyError> {
        let mut text = self.text()?;
        for _ in 0..READS {
            let Some(read) = &text else { return Ok(None) };
            let loaded = self.parse(read).and_then(|manifest| self.with_private(manifest));
            let again = self.text()?;
            if loaded.is_ok() || again == text {
                return loaded.map(Some);
            }
            text = again;
        }
        Err(self.fail(MANIFEST, "keeps changing; try again"))
    }

    fn with_private(&self, manifest: Manifest) -> Result<Loaded, KeyError> {
        let read = |state| manifest.find(state).map(|entry| self.private(&entry.id, entry.algorithm())).transpose();
        match (read(KeyState::Active)?, read(KeyState::Next)?) {
            (Some(active), next) => Ok(Loaded { manifest, active, next }),
            (None, _) => Err(KeyError::Empty(self.path.clone())),
        }
    }

    fn private(&self, id: &KeyId, algorithm: KeyAlgorithm) -> Result<PrivateKey, KeyError> {
        let name = file_of(id);
        let pem = self.read(&name, PRIVATE)?.ok_or_else(|| self.fail(&name, "is missing"))?;
        let pem = secrecy::zeroize::Zeroizing::new(pem);
        let key = PrivateKey::from_pem(algorithm, &pem).map_err(|error| self.fail(&name, error))?;
        if thumbprint(&key.public()) == *id {
            Ok(key)
        } else {
            Err(self.fail(&name, "is another key than its name says"))
        }
    }

    /// A new private key in its file; until `keys.json` names it, it counts for nothing.
    fn make(&self, algorithm: KeyAlgorithm) -> Result<super::primitive::PublicKey, KeyError> {
        let key = PrivateKey::generate(algorithm).map_err(|error| self.fail("a new key", error))?;
        let public = key.public();
        let name = file_of(&thumbprint(&public));
        let pem = key.to_pem().map_err(|error| self.fail(&name, error))?;
        self.replace(&name, pem.expose_secret())?;
        Ok(public)
    }

    /// Removes private keys that sign no more, and what a crash left.
    fn clean(&self, manifest: &Manifest) -> Result<(), KeyError> {
        let signing = manifest.entries().iter().filter(|entry| entry.state != KeyState::Retiring);
        let kept: BTreeSet<String> = signing.map(|entry| file_of(&entry.id)).collect();
        let failed = |error| self.fail("the folder", error);
        for file in fs::read_dir(&self.path).map_err(failed)? {
            let name = file.map_err(failed)?.file_name().to_string_lossy().into_owned();
            let ours = name.starts_with("key-") && name.ends_with(".pem");
            let aside = name.ends_with(ASIDE) && (name.starts_with("key-") || name.starts_with(MANIFEST));
            if aside || (ours && !kept.contains(&name)) {
                fs::remove_file(self.path.join(&name)).map_err(|error| self.fail(&name, error))?;
            }
        }
        Ok(())
    }

    /// Held until the file is closed, also by the end of the process.
    fn lock(&self) -> Result<File, KeyError> {
        let failed = |error| self.fail(LOCK, error);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(failed)?;
        let path = self.path.join(LOCK);
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }

    fn text(&self) -> Result<Option<String>, KeyError> {
        self.read(MANIFEST, OWN)
    }

    fn parse(&self, text: &str) -> Result<Manifest, KeyError> {
        Manifest::parse(text).map_err(|why| self.fail(MANIFEST, why))
    }

    fn read(&self, name: &str, forbidden: u32) -> Result<Option<String>, KeyError> {
        files::read(&self.path.join(name), forbidden).map_err(|why| self.fail(name, why))
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), KeyError> {
        files::replace(&self.path.join(name), text)
            .map_err(|error| self.fail(name, format!("cannot be written: {error}")))
    }

    fn fail(&self, name: &str, why: impl ToString) -> KeyError {
        KeyError::File { path: self.path.join(name), why: why.to_string() }
    }
}

fn apply(change: &KeyChange, manifest: &mut Manifest, life: Duration, now: Timestamp) -> Result<(), KeyRefusal> {
    let is = |id: &KeyId, state| manifest.find(state).is_some_and(|entry| entry.id == *id);
    match change {
        KeyChange::Generate if manifest.find(KeyState::Next).is_some() => Err(KeyRefusal::Complete),
        KeyChange::Generate => Ok(()),
        KeyChange::Rotate { at_once } => {
            manifest.prune(now, life);
            manifest.rotate(now, *at_once)
        }
        KeyChange::Retire { id, at_once } if is(id, KeyState::Active) => manifest.rotate(now, *at_once),
        KeyChange::Retire { id, .. } | KeyChange::Remove(id) => manifest.remove(id, now).map(drop),
        KeyChange::Prune => {
            manifest.prune(now, life);
            Ok(())
        }
    }
}

/// The name begins with a letter, so that no shell takes it for an option.
fn file_of(id: &KeyId) -> String {
    format!("key-{id}.pem")
}
