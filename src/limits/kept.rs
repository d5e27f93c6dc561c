//! The buckets as bytes, to go on with after a restart.
//!
//! A head line, the wall-clock time, the names of the scopes, the quotas, 29 bytes for each bucket that is not full, and
//! the SHA-256 of all that. Integers are little-endian. A bucket is written as the time after which it is full,
//! so what flows in while nobody counts is what the wall clock says that it is; a clock that stepped back lets nothing in.

use std::collections::HashMap;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::packed::PackedSubject;
use super::shard::Kept;
use super::{Limits, Slot};
use crate::clock::Tick;
use crate::model::gcra::{Quota, Tat};
use crate::model::units::Rate;

/// Of this form of the file.
const HEAD: &[u8] = b"ssm-gateway limits 1\n";
const HASH_BYTES: usize = 32;

/// Buckets on their way into a file.
#[derive(Debug)]
pub struct KeptLimits {
    /// What the file is to say.
    pub bytes: Vec<u8>,
    /// How many buckets that is.
    pub buckets: usize,
}

/// Why kept buckets cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableLimits {
    /// Something else, or from another version.
    #[error("these are no rate limits of this version")]
    Foreign,
    /// Not as it was written.
    #[error("the file is damaged")]
    Damaged,
}

impl Limits {
    /// The buckets of this process that are not full, as they are at `now`, which the wall clock calls `wall`.
    pub fn keep(&self, now: Tick, wall: Timestamp) -> KeptLimits {
        let mut quotas = Numbered::default();
        let mut records = Vec::new();
        let mut buckets = 0_usize;
        self.buckets().each(now, |Kept { slot, subject, quota, .. }, lacking| {
            records.extend(slot.to_le_bytes());
            records.push(subject.kind);
            records.extend(subject.id.to_le_bytes());
            records.extend(lacking.micros.to_le_bytes());
            records.extend(lacking.part.to_le_bytes());
            records.extend(quotas.number(quota).to_le_bytes());
            buckets += 1;
        });
        let mut bytes = HEAD.to_vec();
        bytes.extend(wall.as_microsecond().to_le_bytes());
        let scopes = self.buckets().scopes(); // last: their numbers are never given to another one
        bytes.extend(count(scopes.len()).to_le_bytes());
        for (name, Slot(number)) in scopes {
            bytes.extend(number.to_le_bytes());
            bytes.extend(count(name.len()).to_le_bytes());
            bytes.extend(name.as_bytes());
        }
        bytes.extend(count(quotas.in_order.len()).to_le_bytes());
        for quota in quotas.in_order {
            write_quota(quota, &mut bytes);
        }
        bytes.extend(count(buckets).to_le_bytes());
        bytes.append(&mut records);
        let hash = Sha256::digest(&bytes);
        bytes.extend(hash);
        KeptLimits { bytes, buckets }
    }

    /// Takes in what [`Limits::keep`] gave, for a process in which `now` is what the wall clock calls `wall`; answers how many
    /// buckets are not full yet. A bucket whose policy has another quota by now is rescaled when it is next touched.
    ///
    /// # Errors
    /// When the bytes are others. Nothing is taken in then.
    pub fn restore(&self, bytes: &[u8], now: Tick, wall: Timestamp) -> Result<usize, UnusableLimits> {
        if !bytes.starts_with(HEAD) {
            return Err(UnusableLimits::Foreign);
        }
        let split = bytes.len().checked_sub(HASH_BYTES).and_then(|length| bytes.split_at_checked(length));
        let (body, hash) = split.ok_or(UnusableLimits::Damaged)?;
        if Sha256::digest(body)[..] != *hash {
            return Err(UnusableLimits::Damaged);
        }
        let read = Read(body).file().ok_or(UnusableLimits::Damaged)?;
        let passed = u64::try_from(wall.as_microsecond().saturating_sub(read.wall_micros)).unwrap_or(0);
        let slots: HashMap<u32, Slot> =
            read.scopes.iter().map(|(number, name)| (*number, self.buckets().slot(name))).collect();
        let mut restored = 0;
        for Record { scope, subject, lacking, quota } in read.records {
            let (Some(slot), Some(quota)) = (slots.get(&scope), usize::try_from(quota).ok()) else { continue };
            let (Some(quota), Some(micros)) = (read.quotas.get(quota), lacking.micros.checked_sub(passed)) else {
                continue;
            };
            self.buckets().restore(now, *slot, subject, Tat { micros, ..lacking }, *quota);
            restored += 1;
        }
        Ok(restored)
    }
}

/// Quotas, numbered in the order in which they came.
#[derive(Default)]
struct Numbered {
    in_order: Vec<Quota>,
    numbers: HashMap<Quota, u32>,
}

impl Numbered {
    fn number(&mut self, quota: Quota) -> u32 {
        *self.numbers.entry(quota).or_insert_with(|| {
            self.in_order.push(quota);
            count(self.in_order.len() - 1)
        })
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn write_quota(quota: Quota, bytes: &mut Vec<u8>) {
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    bytes.extend(quota.limit().to_le_bytes());
    bytes.extend(quota.burst().to_le_bytes());
    bytes.extend(micros(quota.period()).to_le_bytes());
    bytes.extend(micros(quota.held_back()).to_le_bytes());
}

/// What a file says.
struct File<'b> {
    wall_micros: i64,
    scopes: Vec<(u32, &'b str)>,
    quotas: Vec<Quota>,
    records: Vec<Record>,
}

struct Record {
    scope: u32,
    subject: PackedSubject,
    lacking: Tat,
    quota: u32,
}

/// Bytes that are not read yet. Each step is `None` when they say something else.
struct Read<'b>(&'b [u8]);

impl<'b> Read<'b> {
    fn file(mut self) -> Option<File<'b>> {
        self.take(HEAD.len())?;
        let wall_micros = i64::from_le_bytes(self.array()?);
        let scopes = self.list(Read::scope)?;
        let quotas = self.list(Read::quota)?;
        let records = self.list(Read::record)?;
        self.0.is_empty().then_some(File { wall_micros, scopes, quotas, records })
    }

    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        (0..count).map(|_| one(self)).collect()
    }

    fn scope(&mut self) -> Option<(u32, &'b str)> {
        let (number, length) = (self.u32()?, usize::try_from(self.u32()?).ok()?);
        Some((number, std::str::from_utf8(self.take(length)?).ok()?))
    }

    fn quota(&mut self) -> Option<Quota> {
        let (limit, burst) = (self.u32()?, self.u32()?);
        let period = std::time::Duration::from_micros(self.u64()?);
        let held_back = std::time::Duration::from_micros(self.u64()?);
        Some(Quota::new(Rate { limit, period }, burst).holding_back(held_back))
    }

    fn record(&mut self) -> Option<Record> {
        let scope = self.u32()?;
        let [kind] = self.array()?;
        let subject = PackedSubject { kind, id: self.u64()? };
        let lacking = Tat { micros: self.u64()?, part: self.u32()? };
        Some(Record { scope, subject, lacking, quota: self.u32()? })
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests;
