//! The usable keys, in memory: what a request is judged by.
//!
//! Read without a lock: one pointer to a map that never changes. A change makes a new map and swaps the pointer, so
//! its cost grows with the number of keys; changes are rare. A key takes under 300 bytes, and the names of its routes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use super::format::{Prefix, Presented};
use crate::model::identity::{ApiKeyId, Credential, Identity};
use crate::store::{ApiKeyHash, UsableApiKey};

/// Most keys that are held: under 30 MB.
pub(super) const MAX_KEYS: usize = 100_000;

/// What an unknown prefix is compared with.
const NOBODY: ApiKeyHash = [0; 32];

/// A use is noted again after so many seconds.
const TOUCH_EVERY_S: i64 = 60;

/// One usable key.
pub(super) struct Entry {
    pub(super) id: ApiKeyId,
    hash: ApiKeyHash,
    /// Whom it proves.
    pub(super) identity: Identity,
    routes: Box<[Box<str>]>,
    ends_at_ms: i64,
    /// In Unix milliseconds; 0: never.
    last_used_ms: AtomicI64,
    /// What of it the store knows.
    told_ms: AtomicI64,
}

impl Entry {
    fn new(found: UsableApiKey) -> Option<(Prefix, Arc<Entry>)> {
        let UsableApiKey { key, hash, email } = found;
        let Some(prefix) = Prefix::of(&key.prefix) else {
            tracing::error!(api_key = key.id.0, "this API key has a prefix that no key can have; it is not accepted");
            return None;
        };
        let ends_at_ms = key.expires_at_ms.unwrap_or(i64::MAX);
        let last_used_ms = key.last_used_at_ms.unwrap_or(0);
        let identity = Identity {
            user: key.user,
            email: email.into(),
            role: key.role,
            credential: Credential::ApiKey(key.id),
            issued_at: key.created_at_ms.div_euclid(1000),
            expires_at: ends_at_ms.div_euclid(1000),
        };
        let entry = Entry {
            id: key.id,
            hash,
            identity,
            routes: key.routes.into_iter().map(String::into_boxed_str).collect(),
            ends_at_ms,
            last_used_ms: AtomicI64::new(last_used_ms),
            told_ms: AtomicI64::new(last_used_ms),
        };
        Some((prefix, Arc::new(entry)))
    }

    /// Whether the key may call the route with this name.
    pub(super) fn may_call(&self, route: &str) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|named| **named == *route)
    }

    /// Whether it is past its end.
    pub(super) fn is_over(&self, now_ms: i64) -> bool {
        now_ms >= self.ends_at_ms
    }

    /// Notes a use, at most once a minute, so that keys in use do not fight over the cache line.
    pub(super) fn touch(&self, now_ms: i64) {
        if now_ms.saturating_sub(self.last_used_ms.load(Ordering::Relaxed)) >= TOUCH_EVERY_S * 1000 {
            self.last_used_ms.store(now_ms, Ordering::Relaxed);
        }
    }
}

type Map = HashMap<Prefix, Arc<Entry>>;

/// The table.
pub(super) struct Table {
    map: ArcSwap<Map>,
    /// Writers take turns.
    writing: Mutex<()>,
}

impl Table {
    pub(super) fn new() -> Table {
        Table { map: ArcSwap::from_pointee(Map::new()), writing: Mutex::new(()) }
    }

    pub(super) fn len(&self) -> usize {
        self.map.load().len()
    }

    /// The key that was presented, if it is one of ours. Costs the same whether the prefix is known or not.
    pub(super) fn find(&self, presented: &Presented) -> Option<Arc<Entry>> {
        let map = self.map.load();
        let entry = map.get(&presented.prefix);
        let same = entry.map_or(&NOBODY, |entry| &entry.hash).ct_eq(&presented.hash);
        entry.filter(|_| bool::from(same)).cloned()
    }

    /// Takes keys in. Those that are known stay as they are.
    pub(super) fn add(&self, found: Vec<UsableApiKey>) {
        if !found.is_empty() {
            self.rewrite(|map| insert(map, found, &Map::new()));
        }
    }

    /// Holds exactly these keys, which were all up to the number `last`, and later ones that came in meanwhile.
    pub(super) fn replace(&self, found: Vec<UsableApiKey>, last: ApiKeyId) {
        self.rewrite(|map| {
            let before = std::mem::take(map);
            map.extend(before.iter().filter(|(_, entry)| entry.id > last).map(|(at, entry)| (*at, entry.clone())));
            insert(map, found, &before);
        });
    }

    /// Drops the keys that `keep` does not want.
    pub(super) fn retain(&self, keep: impl Fn(&Entry) -> bool) {
        if !self.map.load().values().all(|entry| keep(entry)) {
            self.rewrite(|map| map.retain(|_, entry| keep(entry)));
        }
    }

    /// The keys that were used since the store was told, and when.
    pub(super) fn used(&self) -> Vec<(Arc<Entry>, i64)> {
        let at = |entry: &Arc<Entry>| entry.last_used_ms.load(Ordering::Relaxed);
        let news = |entry: &&Arc<Entry>| at(entry) > entry.told_ms.load(Ordering::Relaxed);
        self.map.load().values().filter(news).map(|entry| (entry.clone(), at(entry))).collect()
    }

    /// Notes that the store knows of these uses.
    pub(super) fn told(&self, used: &[(Arc<Entry>, i64)]) {
        for (entry, at_ms) in used {
            entry.told_ms.store(*at_ms, Ordering::Relaxed);
        }
    }

    fn rewrite(&self, change: impl FnOnce(&mut Map)) {
        let _turn = self.writing.lock();
        let mut map = Map::clone(&self.map.load());
        change(&mut map);
        self.map.store(Arc::new(map));
    }
}

/// Adds what `map` does not have; entries of `before` are used on, because they know when they were used.
fn insert(map: &mut Map, found: Vec<UsableApiKey>, before: &Map) {
    for usable in found {
        let Some((prefix, entry)) = Entry::new(usable) else { continue };
        if map.len() >= MAX_KEYS && !map.contains_key(&prefix) {
            tracing::error!(most = MAX_KEYS, "there are more usable API keys than a gateway holds; revoke some");
            return;
        }
        let known = before.get(&prefix).filter(|known| known.id == entry.id).cloned();
        map.entry(prefix).or_insert(known.unwrap_or(entry));
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::accounts::api_keys::format;
    use crate::model::identity::UserId;
    use crate::model::role::Role;
    use crate::store::ApiKey;

    struct Sample {
        text: String,
        usable: UsableApiKey,
    }

    fn sample(id: i64) -> Sample {
        let made = format::make().unwrap();
        let key = ApiKey {
            id: ApiKeyId(id),
            name: "import".into(),
            prefix: made.prefix,
            user: UserId(7),
            role: Role::Recruteur,
            routes: vec!["match".into()],
            created_by: None,
            created_at_ms: 1_000,
            expires_at_ms: Some(90_000),
            last_used_at_ms: None,
            revoked_at_ms: None,
        };
        let usable = UsableApiKey { key, hash: made.hash, email: "a@b.fr".into() };
        Sample { text: made.key.expose_secret().to_owned(), usable }
    }

    fn find(table: &Table, text: &str) -> Option<Arc<Entry>> {
        table.find(&Presented::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn only_the_whole_key_is_found() {
        let (table, own, other) = (Table::new(), sample(1), sample(2));
        table.add(vec![own.usable.clone(), other.usable.clone()]);
        let entry = find(&table, &own.text).unwrap();
        assert_eq!((entry.id, entry.identity.user, entry.identity.role), (ApiKeyId(1), UserId(7), Role::Recruteur));
        assert!(entry.may_call("match") && !entry.may_call("match-batch") && !entry.may_call(""));
        assert!(!entry.is_over(89_999) && entry.is_over(90_000));
        assert!(find(&table, &sample(3).text).is_none());
        // The prefix of another's key with a secret of one's own.
        let prefix = Presented::parse(other.text.as_bytes()).unwrap().prefix;
        let hash = Presented::parse(own.text.as_bytes()).unwrap().hash;
        assert!(table.find(&Presented { prefix, hash }).is_none());
        // The hash that unknown prefixes are compared with opens nothing.
        let unknown = Presented::parse(sample(4).text.as_bytes()).unwrap().prefix;
        assert!(table.find(&Presented { prefix: unknown, hash: NOBODY }).is_none());
    }

    #[test]
    fn a_use_is_noted_once_a_minute_and_told_once() {
        let (table, own) = (Table::new(), sample(1));
        table.add(vec![own.usable.clone()]);
        let entry = find(&table, &own.text).unwrap();
        assert!(table.used().is_empty());
        for now_ms in [100_000, 159_999] {
            entry.touch(now_ms);
        }
        let used = table.used();
        assert_eq!(used.iter().map(|(entry, at)| (entry.id, *at)).collect::<Vec<_>>(), [(ApiKeyId(1), 100_000)]);
        entry.touch(160_000);
        table.told(&used);
        assert_eq!(table.used()[0].1, 160_000);
        table.told(&table.used());
        assert!(table.used().is_empty());
    }

    #[test]
    fn a_new_reading_keeps_uses_and_what_came_in_meanwhile() {
        let (table, gone, stays, newer) = (Table::new(), sample(1), sample(2), sample(3));
        table.add(vec![gone.usable.clone(), stays.usable.clone(), newer.usable.clone()]);
        find(&table, &stays.text).unwrap().touch(100_000);
        table.replace(vec![stays.usable.clone()], ApiKeyId(2));
        assert!(find(&table, &gone.text).is_none());
        assert!(find(&table, &newer.text).is_some());
        assert_eq!((table.len(), table.used().len()), (2, 1));
        table.retain(|entry| entry.id != ApiKeyId(3));
        assert!(find(&table, &newer.text).is_none() && find(&table, &stays.text).is_some());
    }

    /// What the head of this file says: entry, its two counters in `Arc`, its place in the map, its address.
    #[test]
    fn a_key_takes_under_300_bytes() {
        let place = (size_of::<(Prefix, Arc<Entry>)>() + 1) * 8 / 7;
        let total = size_of::<Entry>() + 16 + place + 16 + 32;
        assert!(total < 300, "{total}");
    }
}
