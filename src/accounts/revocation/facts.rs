//! A set of facts of revocation, in memory: asked on every request, so without a lock while there is nothing to find.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use uuid::Uuid;

use crate::model::identity::{ApiKeyId, Credential, Identity, KeyId, SessionId, TokenId, UserId};
use crate::store::Revoked;

const SHARDS: usize = 64;

/// What is known about one revoked thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fact {
    /// What was issued at or before this Unix second is revoked.
    not_before_s: i64,
    /// Unix second after which the fact no longer matters.
    pub(super) until_s: i64,
    /// The pull that was the last to begin before the fact came.
    pub(super) after_pull: u64,
}

impl Fact {
    fn merge(self, other: Fact) -> Fact {
        Fact {
            not_before_s: self.not_before_s.max(other.not_before_s),
            until_s: self.until_s.max(other.until_s),
            after_pull: self.after_pull.max(other.after_pull),
        }
    }

    fn says_at_least(self, other: Fact) -> bool {
        self.not_before_s >= other.not_before_s && self.until_s >= other.until_s
    }
}

/// A map in shards, each with a count that spares the lock while it is empty, which is nearly always.
struct Sharded<K>(Vec<Shard<K>>);

struct Shard<K> {
    count: AtomicUsize,
    map: RwLock<HashMap<K, Fact>>,
}

impl<K: Eq + Hash> Sharded<K> {
    fn new() -> Self {
        Sharded((0..SHARDS).map(|_| Shard { count: AtomicUsize::new(0), map: RwLock::new(HashMap::new()) }).collect())
    }

    fn shard(&self, spread: usize) -> Option<&Shard<K>> {
        self.0.get(spread % SHARDS)
    }

    fn get(&self, spread: usize, key: &K) -> Option<Fact> {
        let shard = self.shard(spread)?;
        if shard.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        shard.map.read().get(key).copied()
    }

    fn put(&self, spread: usize, key: K, fact: Fact) {
        let Some(shard) = self.shard(spread) else { return };
        let mut map = shard.map.write();
        map.entry(key).and_modify(|old| *old = old.merge(fact)).or_insert(fact);
        shard.count.store(map.len(), Ordering::Release);
    }

    fn retain(&self, keep: impl Fn(&Fact) -> bool) {
        for shard in &self.0 {
            if shard.count.load(Ordering::Acquire) == 0 {
                continue;
            }
            let mut map = shard.map.write();
            map.retain(|_, fact| keep(fact));
            shard.count.store(map.len(), Ordering::Release);
        }
    }

    fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.count.load(Ordering::Acquire)).sum()
    }
}

/// Facts of every kind.
pub(super) struct Facts {
    tokens: Sharded<TokenId>,
    sessions: Sharded<SessionId>,
    users: Sharded<UserId>,
    keys: Sharded<KeyId>,
    api_keys: Sharded<ApiKeyId>,
}

impl Facts {
    /// None.
    pub(super) fn new() -> Facts {
        Facts {
            tokens: Sharded::new(),
            sessions: Sharded::new(),
            users: Sharded::new(),
            keys: Sharded::new(),
            api_keys: Sharded::new(),
        }
    }

    /// Whether this key is revoked.
    pub(super) fn has_key(&self, key: &KeyId) -> bool {
        self.keys.get(key_spread(key), key).is_some()
    }

    /// Whether the credential that proved `identity` is revoked.
    pub(super) fn cover(&self, identity: &Identity) -> bool {
        match &identity.credential {
            Credential::Token { session, token, key } => {
                self.sessions.get(spread(&session.0), session).is_some()
                    || self.tokens.get(spread(&token.0), token).is_some()
                    || self.has_key(key)
                    || self
                        .users
                        .get(number_spread(identity.user.0), &identity.user)
                        .is_some_and(|fact| identity.issued_at <= fact.not_before_s)
            }
            Credential::ApiKey(id) => self.api_keys.get(number_spread(id.0), id).is_some(),
        }
    }

    /// Takes a fact in; of two about the same thing, what revokes more, for longer. `after_pull`: see [`Fact`].
    pub(super) fn put(&self, revoked: &Revoked, until_s: i64, after_pull: u64) {
        let fact = fact(revoked, until_s, after_pull);
        match revoked {
            Revoked::Token(token) => self.tokens.put(spread(&token.0), *token, fact),
            Revoked::Session(sid) => self.sessions.put(spread(&sid.0), *sid, fact),
            Revoked::User(user, _) => self.users.put(number_spread(user.0), *user, fact),
            Revoked::Key(key) => self.keys.put(key_spread(key), key.clone(), fact),
            Revoked::ApiKey(id) => self.api_keys.put(number_spread(id.0), *id, fact),
        }
    }

    /// Whether all of this is known.
    pub(super) fn know(&self, revoked: &Revoked, until_s: i64) -> bool {
        let known = match revoked {
            Revoked::Token(token) => self.tokens.get(spread(&token.0), token),
            Revoked::Session(sid) => self.sessions.get(spread(&sid.0), sid),
            Revoked::User(user, _) => self.users.get(number_spread(user.0), user),
            Revoked::Key(key) => self.keys.get(key_spread(key), key),
            Revoked::ApiKey(id) => self.api_keys.get(number_spread(id.0), id),
        };
        known.is_some_and(|known| known.says_at_least(fact(revoked, until_s, 0)))
    }

    /// Forgets the others.
    pub(super) fn retain(&self, keep: impl Fn(&Fact) -> bool) {
        self.tokens.retain(&keep);
        self.sessions.retain(&keep);
        self.users.retain(&keep);
        self.keys.retain(&keep);
        self.api_keys.retain(&keep);
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        [self.tokens.len(), self.sessions.len(), self.users.len(), self.keys.len(), self.api_keys.len()].iter().sum()
    }
}

fn fact(revoked: &Revoked, until_s: i64, after_pull: u64) -> Fact {
    let not_before_s = match revoked {
        Revoked::User(_, not_before_s) => *not_before_s,
        Revoked::Token(_) | Revoked::Session(_) | Revoked::Key(_) | Revoked::ApiKey(_) => i64::MAX,
    };
    Fact { not_before_s, until_s, after_pull }
}

fn spread(random: &Uuid) -> usize {
    // Sessions and tokens have random numbers, so any byte spreads them.
    random.as_bytes().last().copied().map_or(0, usize::from)
}

fn number_spread(id: i64) -> usize {
    usize::try_from(id).unwrap_or(0)
}

fn key_spread(key: &KeyId) -> usize {
    key.0.bytes().last().map_or(0, usize::from)
}
