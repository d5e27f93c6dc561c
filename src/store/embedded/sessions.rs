//! Statements about sessions.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::super::{NewSession, Revoked, Session, StoreError};
use super::{revocations, rows};
use crate::model::identity::{SessionId, UserId};

pub(super) fn insert(connection: &mut Connection, new: &NewSession) -> Result<Vec<SessionId>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let inserted = transaction.execute(
        "INSERT INTO sessions (sid, user_id, mac_key, created_at_ms, last_used_at_ms, ends_at_ms, address, user_agent)
         SELECT ?1, id, ?6, ?3, ?3, ?4, ?7, ?8 FROM users
         WHERE id = ?2 AND is_active = 1 AND tokens_not_before_s = ?5",
        params![
            new.sid.to_string(),
            new.user.id.0,
            new.now_ms,
            new.ends_at_ms,
            new.user.tokens_not_before_s,
            new.mac_key.0,
            new.address.map(|address| address.to_string()),
            new.user_agent
        ],
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

pub(super) fn of_user(
    connection: &Connection,
    user: UserId,
    now_ms: i64,
    idle_since_ms: i64,
) -> Result<Vec<Session>, StoreError> {
    let sql = format!(
        "SELECT {} FROM sessions
         WHERE user_id = ?1 AND ended_at_ms IS NULL AND ends_at_ms > ?2 AND last_used_at_ms > ?3
         ORDER BY created_at_ms DESC, rowid DESC",
        rows::SESSION
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params![user.0, now_ms, idle_since_ms])?;
    let mut sessions = Vec::new();
    while let Some(row) = found.next()? {
        sessions.push(rows::session(row)?);
    }
    Ok(sessions)
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
    revocations::write(connection, &Revoked::Session(sid), until_s)?;
    Ok(changed == 1)
}

/// Ends every living session of an account, within the caller's transaction, which writes the facts down.
pub(super) fn end_all(connection: &Connection, user: UserId, now_ms: i64) -> Result<Vec<SessionId>, StoreError> {
    let mut statement = connection.prepare_cached(
        "UPDATE sessions SET ended_at_ms = ?2 WHERE user_id = ?1 AND ended_at_ms IS NULL RETURNING sid",
    )?;
    let ended = statement.query_map(params![user.0, now_ms], |row| row.get::<_, String>(0))?;
    ended.map(|sid| sid?.parse().map_err(|_| StoreError::Unreadable("sessions.sid"))).collect()
}
