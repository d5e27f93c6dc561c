//! Keys and buckets as small as they get: 16 bytes each, because there may be a million of them.

use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::{Key, Subject};
use crate::model::gcra::Tat;
use crate::model::identity::{ApiKeyId, UserId};
use crate::model::role::Role;

/// A subject without its type: which of the closed set, and its number. Both also stand in saved files: a number is
/// never given another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct PackedSubject {
    pub(super) kind: u8,
    pub(super) id: u64,
}

impl From<Subject> for PackedSubject {
    fn from(subject: Subject) -> PackedSubject {
        let (kind, id) = match subject {
            Subject::User(UserId(id)) => (0, id.cast_unsigned()),
            Subject::ApiKey(ApiKeyId(id)) => (1, id.cast_unsigned()),
            Subject::V4(bits) => (2, u64::from(bits)),
            Subject::V6(bits) => (3, bits),
            Subject::Role(None) => (4, 0),
            Subject::Role(Some(Role::Candidat)) => (4, 1),
            Subject::Role(Some(Role::Recruteur)) => (4, 2),
            Subject::Role(Some(Role::Admin)) => (4, 3),
            Subject::Header(hash) => (5, hash),
            Subject::Everyone => (6, 0),
        };
        PackedSubject { kind, id }
    }
}

/// Which bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackedKey {
    id: u64,
    scope: u32,
    kind: u8,
}

impl PackedKey {
    pub(super) fn new(scope: u32, PackedSubject { kind, id }: PackedSubject) -> PackedKey {
        PackedKey { id, scope, kind }
    }

    pub(super) fn scope(self) -> u32 {
        self.scope
    }

    pub(super) fn subject(self) -> PackedSubject {
        PackedSubject { kind: self.kind, id: self.id }
    }
}

impl From<Key> for PackedKey {
    fn from(key: Key) -> PackedKey {
        PackedKey::new(key.scope.0, key.subject.into())
    }
}

impl Hash for PackedKey {
    /// In two steps rather than three.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.id);
        state.write_u64(u64::from(self.scope) << 8 | u64::from(self.kind));
    }
}

/// What is kept of a bucket. Its quota is a number of its shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedBucket {
    micros: u64,
    part: u32,
    pub(super) quota: u32,
}

impl PackedBucket {
    pub(super) fn new(tat: Tat, quota: u32) -> PackedBucket {
        PackedBucket { micros: tat.micros, part: tat.part, quota }
    }

    pub(super) fn tat(self) -> Tat {
        Tat { micros: self.micros, part: self.part }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::limits::ScopeId;

    #[test]
    fn a_key_and_its_bucket_take_32_bytes() {
        assert_eq!((size_of::<PackedKey>(), size_of::<PackedBucket>()), (16, 16));
        assert_eq!(size_of::<(PackedKey, PackedBucket)>(), 32);
    }

    #[test]
    fn no_two_keys_are_packed_alike() {
        let roles = Role::ALL.map(|role| Subject::Role(Some(role)));
        let of = |id: u64| {
            [Subject::V4(u32::try_from(id).unwrap()), Subject::V6(id), Subject::Header(id)]
                .into_iter()
                .chain([Subject::User(UserId(id.cast_signed())), Subject::ApiKey(ApiKeyId(id.cast_signed()))])
        };
        let subjects = (0..4).flat_map(of).chain(roles).chain([Subject::Role(None), Subject::Everyone]);
        let keys: Vec<Key> =
            subjects.flat_map(|subject| [0, 1, 256].map(|scope| Key { scope: ScopeId(scope), subject })).collect();
        let packed: HashSet<PackedKey> = keys.iter().map(|key| PackedKey::from(*key)).collect();
        assert_eq!(packed.len(), keys.len());
        assert!(keys.iter().all(|key| PackedKey::from(*key).subject() == key.subject.into()));
    }
}
