//! `keys.json`: which key files there are and what each is for. The rules of rotation, without any I/O.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::jwk::{Jwk, thumbprint};
use super::primitive::PublicKey;
use crate::model::algorithm::KeyAlgorithm;
use crate::model::identity::KeyId;

/// For so long a key is published before it signs: twice the time for which the published set may be cached.
pub const PUBLISHED_BEFORE_USE: Duration = Duration::from_secs(600);

/// A retired key stays for so long after its last token has ended: the time for every gateway to be told.
pub const TOLD_WITHIN: Duration = Duration::from_secs(3600);

/// Most keys of a folder; there are two and those that retire.
const MOST_KEYS: usize = 16;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published; signs after the next rotation.
    Next,
    /// Signs.
    Active,
    /// Signs no more; its tokens are good until they end.
    Retiring,
}

impl KeyState {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeyState::Next => "next",
            KeyState::Active => "active",
            KeyState::Retiring => "retiring",
        }
    }
}

/// One key of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: KeyId,
    /// What it is for.
    pub state: KeyState,
    /// Since when it is that.
    pub since: Timestamp,
    pub(super) key: PublicKey,
}

impl Entry {
    /// Its algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.key.algorithm()
    }
}

/// The keys of a folder: exactly one active, at most one next, any number retiring.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest(Vec<Entry>);

/// Why a change of the keys is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// No such key.
    #[error("no key is named {0}; `keys list` names them")]
    Unknown(KeyId),
    /// There is nothing to rotate.
    #[error("there is no next key; `keys generate` makes what is missing")]
    Empty,
    /// Others may not have seen the next key yet.
    #[error(
        "the next key is published for {}s only, and others may keep the key set for a while: try again in {}s, or say --now",
        .0.as_secs(), PUBLISHED_BEFORE_USE.saturating_sub(*.0).as_secs()
    )]
    TooSoon(Duration),
    /// Keys come faster than they leave.
    #[error("there are {MOST_KEYS} keys already; wait for the retiring ones, or retire them by name")]
    TooMany,
    /// All is there.
    #[error("there are an active and a next key already; `keys rotate` goes on")]
    Complete,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    keys: Vec<EntryForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryForm {
    kid: String,
    state: KeyState,
    since: String,
    public: Jwk,
}

const VERSION: u32 = 1;

impl Manifest {
    /// Reads the file's text; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Manifest, String> {
        let form: Form = serde_json::from_str(text).map_err(|error| format!("is no key manifest: {error}"))?;
        if form.version != VERSION {
            return Err(format!("has version {}; this program reads version {VERSION}", form.version));
        }
        let mut entries: Vec<Entry> = Vec::new();
        for one in form.keys {
            let id: KeyId = one.kid.parse().map_err(|error| format!("names a key oddly: {error}"))?;
            let key = one.public.key().ok_or_else(|| format!("has a bad public key for {id}"))?;
            if thumbprint(&key) != id {
                return Err(format!("gives {id} the public key of another"));
            }
            let since = one.since.parse().map_err(|_| format!("has a bad time for {id}"))?;
            if entries.iter().any(|entry| entry.id == id) {
                return Err(format!("names {id} twice"));
            }
            entries.push(Entry { id, state: one.state, since, key });
        }
        let count = |state| entries.iter().filter(|entry| entry.state == state).count();
        match (count(KeyState::Active), count(KeyState::Next)) {
            (1, 0 | 1) => Ok(Manifest(entries)),
            (active, next) => Err(format!("has {active} active and {next} next keys; one of each is right")),
        }
    }

    /// The file's text.
    pub(super) fn text(&self) -> String {
        let form = |entry: &Entry| EntryForm {
            kid: entry.id.to_string(),
            state: entry.state,
            since: entry.since.to_string(),
            public: Jwk::of(&entry.key),
        };
        let form = Form { version: VERSION, keys: self.0.iter().map(form).collect() };
        serde_json::to_string_pretty(&form).unwrap_or_default() + "\n"
    }

    /// The keys: next, active, then retiring, the latest first.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    pub(super) fn find(&self, state: KeyState) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.state == state)
    }

    /// Adds what is missing of an active and a next key.
    pub(super) fn fill<E>(&mut self, now: Timestamp, make: &mut impl FnMut() -> Result<PublicKey, E>) -> Result<(), E> {
        for state in [KeyState::Active, KeyState::Next] {
            if self.find(state).is_none() {
                let key = make()?;
                self.0.push(Entry { id: thumbprint(&key), state, since: now, key });
            }
        }
        self.0.sort_by_key(|entry| (entry.state, std::cmp::Reverse(entry.since)));
        Ok(())
    }

    /// Next becomes active, active becomes retiring. [`Manifest::fill`] then makes the new next.
    pub(super) fn rotate(&mut self, now: Timestamp, at_once: bool) -> Result<(), KeyRefusal> {
        let next = self.find(KeyState::Next).ok_or(KeyRefusal::Empty)?;
        let published = Duration::try_from(now.duration_since(next.since)).unwrap_or_default();
        if !at_once && published < PUBLISHED_BEFORE_USE {
            return Err(KeyRefusal::TooSoon(published));
        }
        if self.0.len() >= MOST_KEYS {
            return Err(KeyRefusal::TooMany);
        }
        for entry in &mut self.0 {
            let state = match entry.state {
                KeyState::Next => KeyState::Active,
                KeyState::Active => KeyState::Retiring,
                KeyState::Retiring => continue,
            };
            (entry.state, entry.since) = (state, now);
        }
        Ok(())
    }

    /// Takes a key out, whatever it is for; when it was the active one, next becomes active.
    pub(super) fn remove(&mut self, id: &KeyId, now: Timestamp) -> Result<KeyState, KeyRefusal> {
        let at = self.0.iter().position(|entry| entry.id == *id).ok_or_else(|| KeyRefusal::Unknown(id.clone()))?;
        let state = self.0.remove(at).state;
        if state == KeyState::Active {
            for entry in self.0.iter_mut().filter(|entry| entry.state == KeyState::Next) {
                (entry.state, entry.since) = (KeyState::Active, now);
            }
        }
        Ok(state)
    }

    /// Takes out the keys whose last token has ended, when tokens live `life`; answers their names.
    pub(super) fn prune(&mut self, now: Timestamp, life: Duration) -> Vec<KeyId> {
        let kept = life.saturating_add(TOLD_WITHIN);
        let over = |entry: &mut Entry| {
            entry.state == KeyState::Retiring
                && Duration::try_from(now.duration_since(entry.since)).is_ok_and(|passed| passed > kept)
        };
        self.0.extract_if(.., over).map(|entry| entry.id).collect()
    }
}
