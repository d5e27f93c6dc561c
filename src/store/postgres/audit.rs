//! Statements about the audit trail. Its writers come one after the other: each locks the one row of `audit_head`
//! until after its commit, so records become visible in the order of their numbers.

use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::Row;

use super::super::{AuditEntry, AuditHead, AuditRecord, StoreError};
use super::rows;

/// Records that one call of [`trim`] takes, so that it ends in time.
const TRIMMED_AT_ONCE: i64 = 10_000;

const HEAD: &str = "SELECT anchor_seq, anchor_hash, last_seq, last_hash FROM audit_head";

pub(super) async fn append(
    client: &mut ClientWrapper,
    entries: Vec<AuditEntry>,
) -> Result<Vec<AuditRecord>, StoreError> {
    let transaction = client.transaction().await?;
    let AuditHead { mut last_seq, mut last_hash, .. } = lock_head(&transaction).await?;
    let mut records = Vec::with_capacity(entries.len());
    for entry in &entries {
        let record = AuditRecord::follow(last_seq, &last_hash, entry)?;
        (last_seq, last_hash) = (record.seq, record.hash);
        records.push(record);
    }
    insert(&transaction, &records).await?;
    let update = transaction.prepare_cached("UPDATE audit_head SET last_seq = $1, last_hash = $2").await?;
    transaction.execute(&update, &[&last_seq, &last_hash.as_slice()]).await?;
    transaction.commit().await?;
    Ok(records)
}

async fn insert(transaction: &Transaction<'_>, records: &[AuditRecord]) -> Result<(), StoreError> {
    let insert = transaction
        .prepare_cached(
            "INSERT INTO audit (seq, at_ms, entry, hash)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[])",
        )
        .await?;
    let seqs: Vec<i64> = records.iter().map(|record| record.seq).collect();
    let times: Vec<i64> = records.iter().map(|record| record.at_ms).collect();
    let texts: Vec<&str> = records.iter().map(|record| record.entry.as_str()).collect();
    let hashes: Vec<&[u8]> = records.iter().map(|record| record.hash.as_slice()).collect();
    transaction.execute(&insert, &[&seqs, &times, &texts, &hashes]).await?;
    Ok(())
}

async fn lock_head(transaction: &Transaction<'_>) -> Result<AuditHead, StoreError> {
    let select = transaction.prepare_cached(&format!("{HEAD} FOR UPDATE")).await?;
    read_head(&transaction.query_one(&select, &[]).await?)
}

pub(super) async fn head(client: &ClientWrapper) -> Result<AuditHead, StoreError> {
    let select = client.prepare_cached(HEAD).await?;
    read_head(&client.query_one(&select, &[]).await?)
}

fn read_head(row: &Row) -> Result<AuditHead, StoreError> {
    Ok(AuditHead {
        anchor_seq: rows::get(row, 0, "audit_head.anchor_seq")?,
        anchor_hash: rows::bytes(row, 1, "audit_head.anchor_hash")?,
        last_seq: rows::get(row, 2, "audit_head.last_seq")?,
        last_hash: rows::bytes(row, 3, "audit_head.last_hash")?,
    })
}

pub(super) async fn since(client: &ClientWrapper, seq: i64, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
    let select =
        client.prepare_cached("SELECT seq, at_ms, entry, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2").await?;
    client.query(&select, &[&seq, &i64::from(limit)]).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        seq: rows::get(row, 0, "audit.seq")?,
        at_ms: rows::get(row, 1, "audit.at_ms")?,
        entry: rows::get(row, 2, "audit.entry")?,
        hash: rows::bytes(row, 3, "audit.hash")?,
    })
}

/// Takes a part of what is too old away; answers how many records. 0: nothing is left to take.
pub(super) async fn trim(client: &mut ClientWrapper, before_ms: i64) -> Result<u64, StoreError> {
    let transaction = client.transaction().await?;
    let head = lock_head(&transaction).await?;
    let keep = transaction.prepare_cached("SELECT min(seq) FROM audit WHERE at_ms >= $1").await?;
    let keep_from: Option<i64> = rows::get(&transaction.query_one(&keep, &[&before_ms]).await?, 0, "audit.seq")?;
    let keep_from = keep_from.unwrap_or(head.last_seq.saturating_add(1));
    let last = keep_from.saturating_sub(1).min(head.anchor_seq.saturating_add(TRIMMED_AT_ONCE));
    let anchor =
        transaction.prepare_cached("SELECT seq, hash FROM audit WHERE seq <= $1 ORDER BY seq DESC LIMIT 1").await?;
    let Some(anchor) = transaction.query_opt(&anchor, &[&last]).await? else { return Ok(0) };
    let (seq, hash): (i64, _) = (rows::get(&anchor, 0, "audit.seq")?, rows::bytes(&anchor, 1, "audit.hash")?);
    let delete = transaction.prepare_cached("DELETE FROM audit WHERE seq <= $1").await?;
    let gone = transaction.execute(&delete, &[&seq]).await?;
    let update = transaction.prepare_cached("UPDATE audit_head SET anchor_seq = $1, anchor_hash = $2").await?;
    transaction.execute(&update, &[&seq, &hash.as_slice()]).await?;
    transaction.commit().await?;
    Ok(gone)
}
