//! Proves the trail: every record from the anchor to the head, in pages, and against lines that were kept elsewhere.
//!
//! Finds a change, a gap, another order and a cut tail. Who can write the whole store can make a whole new chain: that
//! only lines kept elsewhere bring to light.

use std::io::{self, BufRead};

use jiff::Timestamp;
use serde::Deserialize;

use super::lines::{hex, line};
use crate::store::{AuditHash, AuditHead, AuditRecord, AuditStore, StoreError, audit_chain};

/// Records that are read at once.
const PAGE: u32 = 1_000;
/// Longest line that is looked at, in bytes.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// Retention may move the anchor while the chain is read; then it is read again, so many times.
const TRIES: u32 = 5;

/// A chain without fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Records that are kept.
    pub records: u64,
    /// Number of the first of them; the last one's plus 1 when none is kept.
    pub first: i64,
    /// Number of the last; 0: there never was one.
    pub last: i64,
    /// Hash of the last.
    pub hash: AuditHash,
}

/// Lines without fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Agreed {
    /// Lines that say what the store says.
    pub lines: u64,
    /// Lines of records that retention took away; only their own hash was checked.
    pub older: u64,
    /// Lines that are no audit lines, such as the access log's.
    pub others: u64,
}

/// Why the trail is not proven.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lines cannot be read.
    #[error("the lines cannot be read: {0}")]
    Lines(#[from] io::Error),
    /// It was tampered with, or the store lost something.
    #[error("the audit trail is broken at record {seq}: {what}")]
    Broken {
        /// Number of the first record that is not as it should be.
        seq: i64,
        /// What is wrong with it.
        what: String,
    },
}

fn broken<T>(seq: i64, what: impl Into<String>) -> Result<T, VerifyError> {
    Err(VerifyError::Broken { seq, what: what.into() })
}

/// Walks the whole chain. Records that are added meanwhile are left to the next time.
pub async fn chain(store: &dyn AuditStore) -> Result<Whole, VerifyError> {
    for _ in 1..TRIES {
        let head = store.audit_head().await?;
        let outcome = walk(store, &head).await;
        if outcome.is_ok() || store.audit_head().await?.anchor_seq == head.anchor_seq {
            return outcome;
        }
    }
    let head = store.audit_head().await?;
    walk(store, &head).await
}

async fn walk(store: &dyn AuditStore, head: &AuditHead) -> Result<Whole, VerifyError> {
    let (mut seq, mut hash) = (head.anchor_seq, head.anchor_hash);
    if let Some(left) = store.audit_since(i64::MIN, 1).await?.first()
        && left.seq <= seq
    {
        return broken(
            left.seq,
            format!("it stands before the anchor, which says that records up to {seq} were taken away"),
        );
    }
    while seq < head.last_seq {
        let page = store.audit_since(seq, PAGE).await?;
        let Some(record) = page.first() else {
            return broken(
                seq + 1,
                format!("it is missing, with all that follow; the head says that {} is the last", head.last_seq),
            );
        };
        if record.seq > head.last_seq {
            return broken(seq + 1, format!("it is missing: the next one is {}", record.seq));
        }
        for record in page.iter().take_while(|record| record.seq <= head.last_seq) {
            follows(record, seq, &hash)?;
            (seq, hash) = (record.seq, record.hash);
        }
    }
    if hash != head.last_hash {
        return broken(seq, "the head holds another hash than this last record: it was replaced, or the head was");
    }
    let now = store.audit_head().await?;
    if let Some(beyond) = store.audit_since(now.last_seq, 1).await?.first()
        && store.audit_head().await?.last_seq == now.last_seq
    {
        return broken(beyond.seq, format!("it stands behind the head, which says that {} is the last", now.last_seq));
    }
    let records = u64::try_from(seq - head.anchor_seq).unwrap_or(0);
    Ok(Whole { records, first: head.anchor_seq + 1, last: seq, hash })
}

/// Checks one record against the one before it, and its text against its columns.
fn follows(record: &AuditRecord, seq: i64, hash: &AuditHash) -> Result<(), VerifyError> {
    #[derive(Deserialize)]
    struct Text {
        seq: i64,
        time: String,
        at_ms: i64,
    }
    if record.seq != seq + 1 {
        return broken(seq + 1, format!("it is missing: the next one is {}", record.seq));
    }
    if !record.follows(seq, hash) {
        return broken(
            record.seq,
            "its hash does not follow from its text and the record before: one of them was changed",
        );
    }
    let Ok(text) = serde_json::from_str::<Text>(&record.entry) else {
        return broken(record.seq, "its text is no record");
    };
    if text.seq != record.seq {
        return broken(record.seq, format!("its text says that it is record {}", text.seq));
    }
    let time = text.time.parse::<Timestamp>().map(Timestamp::as_millisecond);
    if text.at_ms != record.at_ms || time.ok() != Some(record.at_ms) {
        return broken(record.seq, "its time is not the one in its text");
    }
    Ok(())
}

/// Compares lines that were kept elsewhere with the store. Other lines between them are passed over, lines may be
/// missing (each process writes its own), and those of records that retention took away prove only themselves.
pub async fn lines(store: &dyn AuditStore, mut from: impl BufRead) -> Result<Agreed, VerifyError> {
    let head = store.audit_head().await?;
    let (mut agreed, mut page) = (Agreed::default(), Vec::new());
    let mut text = Vec::new();
    loop {
        text.clear();
        if io::Read::take(&mut from, MAX_LINE_BYTES).read_until(b'\n', &mut text)? == 0 {
            return Ok(agreed);
        }
        let Some(said) = std::str::from_utf8(text.trim_ascii_end()).ok().and_then(Said::read) else {
            agreed.others += 1;
            continue;
        };
        said.is_consistent()?;
        if said.seq <= head.anchor_seq {
            if said.seq == head.anchor_seq && said.hash != hex(&head.anchor_hash) {
                return broken(said.seq, "the line kept elsewhere has another hash than the anchor");
            }
            agreed.older += 1;
            continue;
        }
        said.is_in(store, &mut page).await?;
        agreed.lines += 1;
    }
}

/// What a line says.
struct Said<'t> {
    seq: i64,
    line: &'t str,
    hash: String,
    prev_hash: String,
}

impl<'t> Said<'t> {
    fn read(line: &'t str) -> Option<Said<'t>> {
        #[derive(Deserialize)]
        struct Shape {
            seq: i64,
            prev_hash: String,
            hash: String,
        }
        let Shape { seq, prev_hash, hash } = serde_json::from_str(line).ok()?;
        Some(Said { seq, line, hash, prev_hash })
    }

    /// Whether its hash follows from its text and its previous hash.
    fn is_consistent(&self) -> Result<(), VerifyError> {
        let end = format!(",\"prev_hash\":\"{}\",\"hash\":\"{}\"}}", self.prev_hash, self.hash);
        let text = self.line.strip_suffix(&end).map(|text| format!("{text}}}"));
        match (text, unhex(&self.prev_hash)) {
            (Some(text), Some(previous)) if hex(&audit_chain(&previous, &text)) == self.hash => Ok(()),
            _ => broken(self.seq, "the line kept elsewhere was changed: its hash does not follow from its text"),
        }
    }

    /// Whether the store says the same; `page` is where the last answer of the store is kept.
    async fn is_in(&self, store: &dyn AuditStore, page: &mut Vec<AuditRecord>) -> Result<(), VerifyError> {
        let place = |page: &[AuditRecord]| page.binary_search_by_key(&self.seq, |record| record.seq).ok();
        if place(page).is_none() {
            *page = store.audit_since(self.seq.saturating_sub(1), PAGE).await?;
        }
        let Some(record) = place(page).and_then(|index| page.get(index)) else {
            return broken(self.seq, "there is a line of it elsewhere, but the store does not have it");
        };
        let previous = unhex(&self.prev_hash).unwrap_or_default();
        if line(record, &previous) != self.line {
            return broken(self.seq, "the store says something else than the line kept elsewhere");
        }
        Ok(())
    }
}

fn unhex(text: &str) -> Option<AuditHash> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return None;
    }
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
