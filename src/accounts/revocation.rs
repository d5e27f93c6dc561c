//! What was revoked, in memory, asked on every request after the token itself verified.
//!
//! The store is the truth; this is its small image. A fact leaves when no token of its kind can be alive.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::LEEWAY_S;
use crate::model::identity::{Identity, SessionId, UserId};
use crate::store::{Revocation, Revoked};

const SHARDS: usize = 64;

/// A map in shards, each with a count that spares the lock while it is empty, which is nearly always.
struct Sharded<K, V>(Vec<Shard<K, V>>);

struct Shard<K, V> {
    count: AtomicUsize,
    map: RwLock<HashMap<K, V>>,
}

impl<K: Eq + Hash, V: Copy> Sharded<K, V> {
    fn new() -> Self {
        Sharded((0..SHARDS).map(|_| Shard { count: AtomicUsize::new(0), map: RwLock::new(HashMap::new()) }).collect())
    }

    fn shard(&self, spread: usize) -> Option<&Shard<K, V>> {
        self.0.get(spread % SHARDS)
    }

    fn get(&self, spread: usize, key: &K) -> Option<V> {
        let shard = self.shard(spread)?;
        if shard.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        shard.map.read().get(key).copied()
    }

    fn upsert(&self, spread: usize, key: K, value: V, merge: impl FnOnce(V, V) -> V) {
        let Some(shard) = self.shard(spread) else { return };
        let mut map = shard.map.write();
        let merged = map.get(&key).map_or(value, |old| merge(*old, value));
        map.insert(key, merged);
        shard.count.store(map.len(), Ordering::Release);
    }

    fn retain(&self, keep: impl Fn(&V) -> bool) {
        for shard in &self.0 {
            let mut map = shard.map.write();
            map.retain(|_, value| keep(value));
            shard.count.store(map.len(), Ordering::Release);
        }
    }

    fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.count.load(Ordering::Acquire)).sum()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NotBefore {
    not_before_s: i64,
    until_s: i64,
}

/// The set of revoked sessions, and the users whose older tokens are revoked.
pub struct Revocations {
    /// Session → until when the fact matters.
    sessions: Sharded<SessionId, i64>,
    users: Sharded<UserId, NotBefore>,
}

impl Revocations {
    /// Nothing is revoked.
    pub fn new() -> Revocations {
        Revocations { sessions: Sharded::new(), users: Sharded::new() }
    }

    /// Whether the token that proved `identity` is revoked.
    pub fn covers(&self, identity: &Identity) -> bool {
        self.sessions.get(session_spread(identity.session), &identity.session).is_some()
            || self
                .users
                .get(user_spread(identity.user), &identity.user)
                .is_some_and(|fact| identity.issued_at <= fact.not_before_s)
    }

    /// Takes a fact in, felt by the next request. Taking it in twice changes nothing.
    pub fn apply(&self, revoked: Revoked, until_s: i64) {
        match revoked {
            Revoked::Session(sid) => self.sessions.upsert(session_spread(sid), sid, until_s, i64::max),
            Revoked::User(user, not_before_s) => {
                self.users.upsert(user_spread(user), user, NotBefore { not_before_s, until_s }, |old, new| NotBefore {
                    not_before_s: old.not_before_s.max(new.not_before_s),
                    until_s: old.until_s.max(new.until_s),
                });
            }
        }
    }

    /// Takes in what the store tells; answers the last revision seen, `seen` when there was none.
    pub fn apply_all(&self, facts: &[Revocation], seen: i64) -> i64 {
        for fact in facts {
            self.apply(fact.revoked, fact.until_s);
        }
        facts.last().map_or(seen, |fact| fact.revision.max(seen))
    }

    /// Forgets what no living token can match any more.
    pub fn sweep(&self, now: i64) {
        let alive = |until_s: i64| until_s.saturating_add(LEEWAY_S) >= now;
        self.sessions.retain(|until_s| alive(*until_s));
        self.users.retain(|fact| alive(fact.until_s));
    }

    /// How many facts are held.
    pub fn len(&self) -> usize {
        self.sessions.len().saturating_add(self.users.len())
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Revocations {
    fn default() -> Self {
        Revocations::new()
    }
}

fn session_spread(sid: SessionId) -> usize {
    // Session numbers are random, so any byte spreads them.
    sid.0.as_bytes().last().copied().map_or(0, usize::from)
}

fn user_spread(user: UserId) -> usize {
    usize::try_from(user.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::TokenId;
    use crate::model::role::Role;
    use uuid::Uuid;

    fn identity(user: i64, sid: u128, issued_at: i64) -> Identity {
        Identity {
            user: UserId(user),
            email: "a@b.fr".into(),
            role: Role::Candidat,
            session: SessionId(Uuid::from_u128(sid)),
            token: TokenId(Uuid::from_u128(9)),
            issued_at,
            expires_at: issued_at + 100,
        }
    }

    #[test]
    fn a_session_or_an_older_token_of_a_user_is_covered() {
        let revocations = Revocations::new();
        assert!(!revocations.covers(&identity(1, 1, 50)));
        revocations.apply(Revoked::Session(SessionId(Uuid::from_u128(1))), 200);
        assert!(revocations.covers(&identity(1, 1, 50)));
        assert!(!revocations.covers(&identity(1, 2, 50)));
        revocations.apply(Revoked::User(UserId(1), 60), 200);
        assert!(revocations.covers(&identity(1, 2, 60)));
        assert!(!revocations.covers(&identity(1, 2, 61)));
        assert!(!revocations.covers(&identity(2, 2, 50)));
    }

    #[test]
    fn the_later_fact_wins_in_any_order() {
        let revocations = Revocations::new();
        revocations.apply(Revoked::User(UserId(1), 60), 300);
        revocations.apply(Revoked::User(UserId(1), 50), 200);
        assert!(revocations.covers(&identity(1, 2, 60)));
        revocations.sweep(300 + LEEWAY_S);
        assert!(revocations.covers(&identity(1, 2, 60)));
    }

    #[test]
    fn facts_leave_when_they_no_longer_matter() {
        let revocations = Revocations::new();
        for n in 0..1000 {
            revocations.apply(Revoked::Session(SessionId(Uuid::new_v4())), n);
            revocations.apply(Revoked::User(UserId(n), n), n);
        }
        assert_eq!(revocations.len(), 2000);
        revocations.sweep(500 + LEEWAY_S);
        assert_eq!(revocations.len(), 1000);
        revocations.sweep(2000);
        assert!(revocations.is_empty());
    }
}
