//! The audit trail, as kept: a chain of hashes, in which a change, a gap or a cut tail shows.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::StoreError;

/// SHA-256 of the previous hash and the entry's text.
pub type AuditHash = [u8; 32];

/// One event, as its witness tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its name, from the OWASP application logging vocabulary.
    pub event: String,
    /// Who did it: `user:7`, `api_key:3`, `command_line`, `gateway`; `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What it was done to: `user:9`, `session:<sid>`, `key:<kid>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Where the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// A few more words: a role, a reason, a route. Never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// Random: tells whether an entry that is added again, after a crash, is in the chain already.
    pub id: String,
    /// When it happened, in Unix milliseconds.
    pub at_ms: i64,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number: 1, 2, 3 …, without gap.
    pub seq: i64,
    /// When it happened, in Unix milliseconds.
    pub at_ms: i64,
    /// The entry as JSON, with `seq` and `time`: the very text that was hashed.
    pub entry: String,
    /// Hash of the previous record's hash and of [`entry`](Self::entry).
    pub hash: AuditHash,
}

/// The two ends of what is kept of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Number of the last record that retention took away; 0: none.
    pub anchor_seq: i64,
    /// Its hash; zeros: none.
    pub anchor_hash: AuditHash,
    /// Number of the last record; 0: none.
    pub last_seq: i64,
    /// Its hash.
    pub last_hash: AuditHash,
}

#[derive(Serialize)]
struct Text<'a> {
    seq: i64,
    time: String,
    #[serde(flatten)]
    entry: &'a AuditEntry,
}

impl AuditRecord {
    /// The record that follows the one with `last_seq` and `last_hash`.
    pub fn follow(last_seq: i64, last_hash: &AuditHash, entry: &AuditEntry) -> Result<AuditRecord, StoreError> {
        let seq = last_seq.saturating_add(1);
        let time = Timestamp::from_millisecond(entry.at_ms).map_err(|_| StoreError::Unreadable("audit.at_ms"))?;
        let text = serde_json::to_string(&Text { seq, time: time.to_string(), entry })
            .map_err(|_| StoreError::Unreadable("audit.entry"))?;
        let hash = chain(last_hash, &text);
        Ok(AuditRecord { seq, at_ms: entry.at_ms, entry: text, hash })
    }

    /// The id of its entry.
    pub fn id(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Id {
            id: String,
        }
        serde_json::from_str::<Id>(&self.entry).ok().map(|found| found.id)
    }

    /// Whether this record follows the one with `last_seq` and `last_hash`, unchanged.
    pub fn follows(&self, last_seq: i64, last_hash: &AuditHash) -> bool {
        self.seq == last_seq.saturating_add(1) && self.hash == chain(last_hash, &self.entry)
    }
}

/// SHA-256(previous ‖ entry): the hash of the record with the text `entry`.
pub fn chain(previous: &AuditHash, entry: &str) -> AuditHash {
    Sha256::new().chain_update(previous).chain_update(entry).finalize().into()
}

/// The audit trail, kept.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Adds entries to the end of the chain, all or none, one after the other whoever else adds; answers the records.
    async fn append_audit(&self, entries: Vec<AuditEntry>) -> Result<Vec<AuditRecord>, StoreError>;

    /// Up to `limit` records with a number above `seq`, in order.
    async fn audit_since(&self, seq: i64, limit: u32) -> Result<Vec<AuditRecord>, StoreError>;

    /// The two ends of the chain.
    async fn audit_head(&self) -> Result<AuditHead, StoreError>;

    /// Takes away every record before the first that is not older than `before_ms`; answers how many.
    async fn trim_audit(&self, before_ms: i64) -> Result<u64, StoreError>;
}
