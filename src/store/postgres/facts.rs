//! Facts of revocation. They become visible in the order of their revisions.
//!
//! A sequence alone does not do that: a transaction may take revision 7 and commit after the one with revision 8, and
//! a gateway that pulled 8 meanwhile would never see 7. So facts are written under a lock that is held until after
//! the commit. Callers lock their rows first.

use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::Row;

use super::super::{Revocation, Revoked, StoreError};
use super::rows;

/// `SSMGfact`: the lock of those who write facts.
const LOCK: i64 = 0x5353_4D47_6661_6374;

/// Takes the lock, until the end of the transaction; the caller locks no row after this.
pub(super) async fn lock(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let lock = transaction.prepare_cached("SELECT pg_advisory_xact_lock($1)").await?;
    transaction.execute(&lock, &[&LOCK]).await?;
    Ok(())
}

/// Writes facts, under the lock; the caller's transaction commits them together with their cause.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    facts: impl IntoIterator<Item = Revoked>,
    until_s: i64,
) -> Result<(), StoreError> {
    lock(transaction).await?;
    for fact in facts {
        write_one(transaction, &fact, until_s).await?;
    }
    Ok(())
}

async fn write_one(transaction: &Transaction<'_>, fact: &Revoked, until_s: i64) -> Result<i64, StoreError> {
    let (kind, value, not_before_s) = fact.columns();
    let insert = transaction
        .prepare_cached(
            "INSERT INTO revocations (kind, value, not_before_s, until_s) VALUES ($1, $2, $3, $4) RETURNING revision",
        )
        .await?;
    let row = transaction.query_one(&insert, &[&kind, &value, &not_before_s, &until_s]).await?;
    rows::get(&row, 0, "revocations.revision")
}

/// Writes one fact on its own; answers its revision.
pub(super) async fn revoke(client: &mut ClientWrapper, fact: Revoked, until_s: i64) -> Result<i64, StoreError> {
    let transaction = client.transaction().await?;
    lock(&transaction).await?;
    let revision = write_one(&transaction, &fact, until_s).await?;
    transaction.commit().await?;
    Ok(revision)
}

pub(super) async fn since(client: &ClientWrapper, revision: i64, limit: u32) -> Result<Vec<Revocation>, StoreError> {
    let select = client
        .prepare_cached(
            "SELECT revision, kind, value, not_before_s, until_s FROM revocations
             WHERE revision > $1 ORDER BY revision LIMIT $2",
        )
        .await?;
    client.query(&select, &[&revision, &i64::from(limit)]).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Revocation, StoreError> {
    let kind: &str = rows::get(row, 1, "revocations.kind")?;
    let value = rows::get(row, 2, "revocations.value")?;
    let not_before_s = rows::get(row, 3, "revocations.not_before_s")?;
    Ok(Revocation {
        revision: rows::get(row, 0, "revocations.revision")?,
        revoked: Revoked::from_columns(kind, value, not_before_s)?,
        until_s: rows::get(row, 4, "revocations.until_s")?,
    })
}
