//! Statements about revocations.

use rusqlite::{Connection, TransactionBehavior, params};

use super::super::{Revocation, Revoked, StoreError};
use super::limit_rules;

/// Writes one fact; the caller's transaction commits it together with its cause. Answers its revision.
pub(super) fn write(connection: &Connection, revoked: &Revoked, until_s: i64) -> Result<i64, StoreError> {
    let (kind, value, not_before_s) = revoked.columns();
    connection
        .prepare_cached("INSERT INTO revocations (kind, value, not_before_s, until_s) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![kind, value, not_before_s, until_s])?;
    Ok(connection.last_insert_rowid())
}

pub(super) fn since(connection: &Connection, revision: i64, limit: u32) -> Result<Vec<Revocation>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT revision, kind, value, not_before_s, until_s FROM revocations
         WHERE revision > ?1 ORDER BY revision LIMIT ?2",
    )?;
    let mut found = statement.query(params![revision, limit])?;
    let mut facts = Vec::new();
    while let Some(row) = found.next()? {
        let (kind, value): (String, String) = (row.get(1)?, row.get(2)?);
        let revoked = Revoked::from_columns(&kind, value, row.get(3)?)?;
        facts.push(Revocation { revision: row.get(0)?, revoked, until_s: row.get(4)? });
    }
    Ok(facts)
}

pub(super) fn purge(connection: &mut Connection, now_ms: i64) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("DELETE FROM revocations WHERE until_s < ?1", [now_ms.div_euclid(1000)])?;
    transaction.execute("DELETE FROM sessions WHERE ends_at_ms < ?1", [now_ms])?;
    limit_rules::forget_ended(&transaction, now_ms.div_euclid(1000))?;
    transaction.commit()?;
    Ok(())
}
