//! Tokens verified a moment ago, so that the signature is not computed again for every request of a session.
//!
//! A fixed table of 2048 sets of 4 places: bounded by construction, no lock, nothing to sweep. The keyed hash only
//! finds the set; the answer is given to exactly the bytes that were verified. Only verified tokens enter, so
//! forged ones can neither fill it nor push others out.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::model::identity::Identity;

const SETS: usize = 2048;
const SETS_U64: u64 = SETS as u64;
const WAYS: usize = 4;

/// A verdict is used for so many seconds at most.
const MAX_AGE_S: i64 = 60;

/// Bytes at the end of a token that are hashed: the signature, which nobody can choose without the key.
const TAIL_BYTES: usize = 43;

struct Entry {
    token: Box<[u8]>,
    identity: Identity,
    verified_at: i64,
}

/// The table.
pub(super) struct TokenCache {
    hasher: RandomState,
    places: Vec<[ArcSwapOption<Entry>; WAYS]>,
}

impl TokenCache {
    pub(super) fn new() -> TokenCache {
        let places = (0..SETS).map(|_| std::array::from_fn(|_| ArcSwapOption::empty())).collect();
        TokenCache { hasher: RandomState::new(), places }
    }

    /// Whom these exact bytes proved within the last minute. Expiry and revocation are the caller's to check.
    pub(super) fn get(&self, token: &[u8], now: i64) -> Option<Identity> {
        self.set(token)?.iter().find_map(|place| {
            let entry = place.load();
            let entry = entry.as_ref()?;
            (fresh(entry, now) && *entry.token == *token).then(|| entry.identity.clone())
        })
    }

    /// Remembers a verified token, in the place of the same one, an empty or stale one, or the oldest.
    pub(super) fn put(&self, token: &[u8], identity: &Identity, now: i64) {
        let Some(set) = self.set(token) else { return };
        let age = |place: &&ArcSwapOption<Entry>| match place.load().as_ref() {
            Some(entry) if *entry.token == *token => i64::MIN,
            Some(entry) if fresh(entry, now) => entry.verified_at,
            _ => i64::MIN + 1,
        };
        if let Some(place) = set.iter().min_by_key(age) {
            place.store(Some(Arc::new(Entry { token: token.into(), identity: identity.clone(), verified_at: now })));
        }
    }

    fn set(&self, token: &[u8]) -> Option<&[ArcSwapOption<Entry>; WAYS]> {
        let tail = token.get(token.len().saturating_sub(TAIL_BYTES)..)?;
        let spread = usize::try_from(self.hasher.hash_one(tail) % SETS_U64).ok()?;
        self.places.get(spread)
    }
}

fn fresh(entry: &Entry, now: i64) -> bool {
    (0..MAX_AGE_S).contains(&now.saturating_sub(entry.verified_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::{ApiKeyId, Credential, UserId};
    use crate::model::role::Role;

    fn identity(user: i64) -> Identity {
        Identity {
            user: UserId(user),
            email: "a@b.fr".into(),
            role: Role::Candidat,
            credential: Credential::ApiKey(ApiKeyId(1)),
            issued_at: 0,
            expires_at: 1000,
        }
    }

    #[test]
    fn answers_for_a_minute_and_only_for_the_same_bytes() {
        let cache = TokenCache::new();
        let (token, same_tail) = (format!("header.one.{}", "s".repeat(43)), format!("header.two.{}", "s".repeat(43)));
        cache.put(token.as_bytes(), &identity(1), 100);
        assert_eq!(cache.get(token.as_bytes(), 159), Some(identity(1)));
        assert_eq!(cache.get(token.as_bytes(), 160), None);
        assert_eq!(cache.get(token.as_bytes(), 99), None);
        assert_eq!(cache.get(same_tail.as_bytes(), 100), None);
        assert_eq!(cache.get(b"", 100), None);
    }

    #[test]
    fn a_full_set_gives_up_its_oldest() {
        let cache = TokenCache::new();
        let token = |n: i64| format!("{n}.{}", "s".repeat(43));
        for n in 0..5 {
            cache.put(token(n).as_bytes(), &identity(n), 100 + n);
        }
        assert_eq!(cache.get(token(0).as_bytes(), 110), None);
        for n in 1..5 {
            assert_eq!(cache.get(token(n).as_bytes(), 110), Some(identity(n)));
        }
    }
}
