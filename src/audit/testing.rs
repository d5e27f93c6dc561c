//! What the tests of the audit trail share: entries, records, and a store that can be told to fail.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::{AuditEntry, AuditHash, AuditHead, AuditRecord, AuditStore, StoreError};
use crate::telemetry::metrics::Counter;

/// An entry with this id.
pub(super) fn entry(id: &str) -> AuditEntry {
    AuditEntry {
        event: "authn_login_success".to_owned(),
        actor: Some("user:7".to_owned()),
        subject: None,
        address: Some("192.0.2.1".to_owned()),
        request_id: None,
        details: Some("\"quoted\" é".to_owned()),
        id: id.to_owned(),
        at_ms: 1_000,
    }
}

/// Entries with the ids `prefix0`, `prefix1`, …
pub(super) fn entries(prefix: &str, count: usize) -> Vec<AuditEntry> {
    (0..count).map(|i| entry(&format!("{prefix}{i}"))).collect()
}

/// The first records of a chain.
pub(super) fn records(count: usize) -> Vec<AuditRecord> {
    let (mut seq, mut hash) = (0, [0; 32]);
    (0..count)
        .map(|i| {
            let record = AuditRecord::follow(seq, &hash, &entry(&format!("id-{i}"))).unwrap();
            (seq, hash) = (record.seq, record.hash);
            record
        })
        .collect()
}

pub(super) fn counter() -> Counter {
    Counter::new("c", "h").unwrap()
}

/// A store in memory that fails, or hangs, when told to.
#[derive(Default)]
pub(super) struct Stub {
    pub(super) chain: Mutex<Chain>,
    /// Nothing answers.
    pub(super) down: AtomicBool,
    /// What is added is added, but the answer is lost.
    pub(super) mute: AtomicBool,
    /// Additions wait until they are let go.
    pub(super) hangs: AtomicBool,
    pub(super) let_go: Notify,
    /// Additions that were asked for.
    pub(super) asked: AtomicUsize,
}

#[derive(Clone)]
pub(super) struct Chain {
    pub(super) records: Vec<AuditRecord>,
    pub(super) head: AuditHead,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain {
            records: Vec::new(),
            head: AuditHead { anchor_seq: 0, anchor_hash: [0; 32], last_seq: 0, last_hash: [0; 32] },
        }
    }
}

impl Stub {
    pub(super) fn ids(&self) -> Vec<String> {
        self.chain.lock().records.iter().map(|record| record.id().unwrap()).collect()
    }

    fn answer(&self) -> Result<(), StoreError> {
        if self.down.load(Ordering::Acquire) { Err(StoreError::Unavailable("told so".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl AuditStore for Stub {
    async fn append_audit(&self, entries: Vec<AuditEntry>) -> Result<Vec<AuditRecord>, StoreError> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        if self.hangs.load(Ordering::Acquire) {
            self.let_go.notified().await;
        }
        self.answer()?;
        let mut chain = self.chain.lock();
        let mut added = Vec::new();
        for entry in &entries {
            let record = AuditRecord::follow(chain.head.last_seq, &chain.head.last_hash, entry)?;
            (chain.head.last_seq, chain.head.last_hash) = (record.seq, record.hash);
            chain.records.push(record.clone());
            added.push(record);
        }
        if self.mute.load(Ordering::Acquire) { Err(StoreError::Unavailable("no answer".into())) } else { Ok(added) }
    }

    async fn audit_since(&self, seq: i64, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        self.answer()?;
        let records = self.chain.lock().records.clone();
        Ok(records.into_iter().filter(|record| record.seq > seq).take(limit as usize).collect())
    }

    async fn audit_head(&self) -> Result<AuditHead, StoreError> {
        self.answer()?;
        Ok(self.chain.lock().head)
    }

    async fn trim_audit(&self, before_ms: i64) -> Result<u64, StoreError> {
        self.answer()?;
        let mut chain = self.chain.lock();
        let keep = chain.records.iter().position(|record| record.at_ms >= before_ms).unwrap_or(chain.records.len());
        let gone: Vec<(i64, AuditHash)> = chain.records.drain(..keep).map(|record| (record.seq, record.hash)).collect();
        if let Some((seq, hash)) = gone.last() {
            (chain.head.anchor_seq, chain.head.anchor_hash) = (*seq, *hash);
        }
        Ok(gone.len() as u64)
    }
}
