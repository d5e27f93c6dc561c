//! Statements about sessions and revocations.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::super::{NewSession, Revocation, Revoked, Session, StoreError};
use super::rows;
use crate::model::identity::SessionId;

pub(super) fn insert(connection: &mut Connection, new: &NewSession) -> Result<Vec<SessionId>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let inserted = transaction.execute(
        "INSERT INTO sessions (sid, user_id, created_at_ms, last_used_at_ms, ends_at_ms)
         SELECT ?1, id, ?3, ?3, ?4 FROM users WHERE id = ?2 AND is_active = 1 AND tokens_not_before_s = ?5",
        params![new.sid.to_string(), new.user.id.0, new.now_ms, new.ends_at_ms, new.user.tokens_not_before_s],
    )?;
    if inserted == 0 {
        return Err(StoreError::Conflict);
    }
    // Sessions that ran out by themselves take no place.
    transaction.execute(
        "UPDATE sessions SET ended_at_ms = ?2
         WHERE user_id = ?1 AND ended_at_ms IS NULL AND (last_used_at_ms <= ?3 OR ends_at_ms <= ?2)",
        params![new.user.id.0, new.now_ms, new.idle_since_ms],
    )?;
    let surplus = surplus(&transaction, new)?;
    for sid in &surplus {
        end_within(&transaction, *sid, new.now_ms, new.revoked_until_s)?;
    }
    transaction.commit()?;
    Ok(surplus)
}

fn surplus(connection: &Connection, new: &NewSession) -> Result<Vec<SessionId>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT sid FROM sessions WHERE user_id = ?1 AND ended_at_ms IS NULL
         ORDER BY created_at_ms DESC, rowid DESC LIMIT -1 OFFSET ?2",
    )?;
    let keep = i64::try_from(new.keep).unwrap_or(i64::MAX);
    let sids = statement.query_map(params![new.user.id.0, keep], |row| row.get::<_, String>(0))?;
    let mut surplus = Vec::new();
    for sid in sids {
        surplus.push(sid?.parse().map_err(|_| StoreError::Unreadable("sessions.sid"))?);
    }
    Ok(surplus)
}

pub(super) fn by_id(connection: &Connection, sid: SessionId) -> Result<Option<Session>, StoreError> {
    let sql = format!("SELECT {} FROM sessions WHERE sid = ?1", rows::SESSION);
    connection.prepare_cached(&sql)?.query_row([sid.to_string()], |row| Ok(rows::session(row))).optional()?.transpose()
}

pub(super) fn rotate(connection: &Connection, sid: SessionId, counter: i64, now_ms: i64) -> Result<bool, StoreError> {
    let changed = connection
        .prepare_cached(
            "UPDATE sessions SET counter = counter + 1, last_used_at_ms = ?3
             WHERE sid = ?1 AND counter = ?2 AND ended_at_ms IS NULL",
        )?
        .execute(params![sid.to_string(), counter, now_ms])?;
    Ok(changed == 1)
}

pub(super) fn end(
    connection: &mut Connection,
    sid: SessionId,
    now_ms: i64,
    revoked_until_s: i64,
) -> Result<bool, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let ended = end_within(&transaction, sid, now_ms, revoked_until_s)?;
    transaction.commit()?;
    Ok(ended)
}

fn end_within(connection: &Connection, sid: SessionId, now_ms: i64, until_s: i64) -> Result<bool, StoreError> {
    let changed = connection.execute(
        "UPDATE sessions SET ended_at_ms = ?2 WHERE sid = ?1 AND ended_at_ms IS NULL",
        params![sid.to_string(), now_ms],
    )?;
    // Also when the session ran out by itself: its last access token may still be alive.
    revoke(connection, Revoked::Session(sid), until_s)?;
    Ok(changed == 1)
}

/// Writes one fact of revocation; the caller's transaction commits it together with its cause.
pub(super) fn revoke(connection: &Connection, revoked: Revoked, until_s: i64) -> Result<(), StoreError> {
    let (kind, value, not_before_s) = match revoked {
        Revoked::Session(sid) => ("session", sid.to_string(), 0),
        Revoked::User(id, not_before_s) => ("user", id.to_string(), not_before_s),
    };
    connection.execute(
        "INSERT INTO revocations (kind, value, not_before_s, until_s) VALUES (?1, ?2, ?3, ?4)",
        params![kind, value, not_before_s, until_s],
    )?;
    Ok(())
}

pub(super) fn revocations_since(connection: &Connection, revision: i64) -> Result<Vec<Revocation>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT revision, kind, value, not_before_s, until_s FROM revocations WHERE revision > ?1 ORDER BY revision",
    )?;
    let mut found = statement.query([revision])?;
    let mut facts = Vec::new();
    while let Some(row) = found.next()? {
        facts.push(rows::revocation(row)?);
    }
    Ok(facts)
}

pub(super) fn purge(connection: &mut Connection, now_ms: i64) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("DELETE FROM revocations WHERE until_s < ?1", [now_ms.div_euclid(1000)])?;
    transaction.execute("DELETE FROM sessions WHERE ends_at_ms < ?1", [now_ms])?;
    transaction.commit()?;
    Ok(())
}
