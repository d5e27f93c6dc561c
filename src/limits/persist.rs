//! The buckets as bytes, to go on with after a restart.
//!
//! A head line, [`Contents`] in postcard's form, and the SHA-256 of both. A bucket is written as its debt, the time
//! until it is full, so what flows in while nobody counts is what the wall clock says that it is; a clock that stepped
//! back lets nothing in.

use std::collections::{HashMap, HashSet};
use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::packed::PackedSubject;
use super::shard::ChargedBucket;
use super::{Limits, ScopeId};
use crate::clock::Tick;
use crate::model::gcra::{Debt, Quota, QuotaParts};

/// Format and version. The form of [`Contents`] follows from its types and the order of their fields, and nothing in it
/// says which: where they change, so does this number.
const HEAD: &[u8] = b"ssm-gateway limits 2\n";
const HASH_BYTES: usize = 32;

/// Buckets on their way into a file.
#[derive(Debug)]
pub struct SavedBuckets {
    /// What the file is to say.
    pub bytes: Vec<u8>,
    /// How many buckets that is.
    pub buckets: usize,
}

/// Why saved buckets cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Something else, or from another version.
    #[error("these are no rate limits of this version")]
    Foreign,
    /// Not as it was written.
    #[error("the file is damaged")]
    Damaged,
}

/// What a file says.
#[derive(Debug, Serialize, Deserialize)]
struct Contents<'b> {
    wall_micros: i64,
    /// Numbers and names.
    #[serde(borrow)]
    scopes: Vec<(u32, &'b str)>,
    quotas: Vec<QuotaParts>,
    buckets: Vec<SavedBucket>,
}

/// A bucket that is not full.
#[derive(Debug, Serialize, Deserialize)]
struct SavedBucket {
    /// Number of its scope.
    scope: u32,
    subject: PackedSubject,
    debt: Debt,
    /// Index of its quota.
    quota: u32,
}

impl Limits {
    /// The buckets of this process that are not full, as they are at `now`, which the wall clock calls `wall`.
    ///
    /// # Errors
    /// When they cannot be put into bytes. All their types can.
    pub fn save(&self, now: Tick, wall: Timestamp) -> io::Result<SavedBuckets> {
        let mut quotas = Numbered::default();
        let mut buckets = Vec::with_capacity(self.buckets().len());
        self.buckets().each(now, |ChargedBucket { scope, subject, quota, .. }, debt| {
            buckets.push(SavedBucket { scope, subject, debt, quota: quotas.number(quota) });
        });
        let used: HashSet<u32> = buckets.iter().map(|bucket| bucket.scope).collect();
        let mut scopes = self.buckets().scopes(); // last: their numbers are never given to another one
        scopes.retain(|(_, ScopeId(number))| used.contains(number));
        let contents = Contents {
            wall_micros: wall.as_microsecond(),
            scopes: scopes.iter().map(|(name, ScopeId(number))| (*number, &**name)).collect(),
            quotas: quotas.in_order,
            buckets,
        };
        let bytes = contents.to_bytes().map_err(io::Error::other)?;
        Ok(SavedBuckets { bytes, buckets: contents.buckets.len() })
    }

    /// Takes in what [`Limits::save`] gave, for a process in which `now` is what the wall clock calls `wall`; answers how
    /// many buckets are not full yet. A bucket whose policy has another quota by now is rescaled when it is next touched.
    ///
    /// # Errors
    /// When the bytes are others. Nothing is taken in then.
    pub fn restore(&self, bytes: &[u8], now: Tick, wall: Timestamp) -> Result<usize, RestoreError> {
        let contents = Contents::from_bytes(bytes)?;
        let passed = u64::try_from(wall.as_microsecond().saturating_sub(contents.wall_micros)).unwrap_or(0);
        let scope_ids: HashMap<u32, ScopeId> =
            contents.scopes.iter().map(|(number, name)| (*number, self.buckets().scope_id(name))).collect();
        let quotas: Vec<Quota> = contents.quotas.into_iter().map(Quota::from_parts).collect();
        let mut restored = 0;
        for SavedBucket { scope, subject, debt, quota } in contents.buckets {
            let quota = usize::try_from(quota).ok().and_then(|index| quotas.get(index));
            let (Some(scope), Some(quota)) = (scope_ids.get(&scope), quota) else { continue };
            let Some(micros) = debt.micros.checked_sub(passed) else { continue };
            self.buckets().restore(now, *scope, subject, Debt { micros, ..debt }, *quota);
            restored += 1;
        }
        Ok(restored)
    }
}

impl<'b> Contents<'b> {
    fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        let mut bytes = postcard::to_extend(self, HEAD.to_vec())?;
        let hash = Sha256::digest(&bytes);
        bytes.extend(hash);
        Ok(bytes)
    }

    /// The hash is looked at first: what is read is as it was written. Counts are bounded all the same: room is made as
    /// things come, and each takes bytes.
    fn from_bytes(bytes: &'b [u8]) -> Result<Contents<'b>, RestoreError> {
        if !bytes.starts_with(HEAD) {
            return Err(RestoreError::Foreign);
        }
        let (hashed, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(RestoreError::Damaged)?;
        if Sha256::digest(hashed)[..] != *hash {
            return Err(RestoreError::Damaged);
        }
        let body = hashed.strip_prefix(HEAD).ok_or(RestoreError::Damaged)?;
        match postcard::take_from_bytes(body) {
            Ok((contents, [])) => Ok(contents),
            _ => Err(RestoreError::Damaged),
        }
    }
}

/// Quotas, numbered in the order in which they came.
#[derive(Default)]
struct Numbered {
    in_order: Vec<QuotaParts>,
    numbers: HashMap<Quota, u32>,
}

impl Numbered {
    fn number(&mut self, quota: Quota) -> u32 {
        *self.numbers.entry(quota).or_insert_with(|| {
            self.in_order.push(quota.parts());
            u32::try_from(self.in_order.len() - 1).unwrap_or(u32::MAX)
        })
    }
}

#[cfg(test)]
mod tests;
