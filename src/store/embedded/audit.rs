//! Statements about the audit trail.

use rusqlite::{Connection, TransactionBehavior, params};

use super::super::{AuditEntry, AuditHash, AuditHead, AuditRecord, StoreError};

pub(super) fn append(connection: &mut Connection, entries: &[AuditEntry]) -> Result<Vec<AuditRecord>, StoreError> {
    // Immediate: another process that appends waits here, so that nobody follows the same record.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let AuditHead { mut last_seq, mut last_hash, .. } = head(&transaction)?;
    let mut records = Vec::with_capacity(entries.len());
    for entry in entries {
        let record = AuditRecord::follow(last_seq, &last_hash, entry)?;
        transaction
            .prepare_cached("INSERT INTO audit (seq, at_ms, entry, hash) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![record.seq, record.at_ms, record.entry, record.hash])?;
        (last_seq, last_hash) = (record.seq, record.hash);
        records.push(record);
    }
    transaction.execute("UPDATE audit_head SET last_seq = ?1, last_hash = ?2", params![last_seq, last_hash])?;
    transaction.commit()?;
    Ok(records)
}

pub(super) fn since(connection: &Connection, seq: i64, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT seq, at_ms, entry, hash FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let found = statement.query_map(params![seq, limit], |row| {
        Ok(AuditRecord { seq: row.get(0)?, at_ms: row.get(1)?, entry: row.get(2)?, hash: row.get(3)? })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

pub(super) fn head(connection: &Connection) -> Result<AuditHead, StoreError> {
    Ok(connection.query_row("SELECT anchor_seq, anchor_hash, last_seq, last_hash FROM audit_head", [], |row| {
        Ok(AuditHead {
            anchor_seq: row.get(0)?,
            anchor_hash: row.get(1)?,
            last_seq: row.get(2)?,
            last_hash: row.get(3)?,
        })
    })?)
}

pub(super) fn trim(connection: &mut Connection, before_ms: i64) -> Result<u64, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let keep_from: Option<i64> =
        transaction.query_row("SELECT min(seq) FROM audit WHERE at_ms >= ?1", [before_ms], |row| row.get(0))?;
    let keep_from = match keep_from {
        Some(seq) => seq,
        None => head(&transaction)?.last_seq.saturating_add(1),
    };
    let anchor: Option<(i64, AuditHash)> = {
        let mut statement =
            transaction.prepare_cached("SELECT seq, hash FROM audit WHERE seq < ?1 ORDER BY seq DESC LIMIT 1")?;
        let mut found = statement.query([keep_from])?;
        match found.next()? {
            Some(row) => Some((row.get(0)?, row.get(1)?)),
            None => None,
        }
    };
    let Some((seq, hash)) = anchor else { return Ok(0) };
    let gone = transaction.execute("DELETE FROM audit WHERE seq <= ?1", [seq])?;
    transaction.execute("UPDATE audit_head SET anchor_seq = ?1, anchor_hash = ?2", params![seq, hash])?;
    transaction.commit()?;
    Ok(u64::try_from(gone).unwrap_or(u64::MAX))
}
