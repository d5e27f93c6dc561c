//! Statements about sessions.

use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::{NewSession, Revoked, Session, StoreError};
use super::{facts, rows};
use crate::model::identity::{SessionId, UserId};

pub(super) async fn insert(client: &mut ClientWrapper, new: NewSession) -> Result<Vec<SessionId>, StoreError> {
    let transaction = client.transaction().await?;
    // Log-ins and changes of one account come one after the other: they all lock its row first.
    let lock = transaction
        .prepare_cached("SELECT 1 FROM users WHERE id = $1 AND is_active AND tokens_not_before_s = $2 FOR UPDATE")
        .await?;
    if transaction.query_opt(&lock, &[&new.user.id.0, &new.user.tokens_not_before_s]).await?.is_none() {
        return Err(StoreError::Conflict);
    }
    let insert = transaction
        .prepare_cached(
            "INSERT INTO sessions
                 (sid, user_id, mac_key, created_at_ms, last_used_at_ms, ends_at_ms, address, user_agent)
             VALUES ($1, $2, $3, $4, $4, $5, $6, $7)",
        )
        .await?;
    let address = new.address.map(|address| address.to_string());
    let key = new.mac_key.0.as_slice();
    transaction
        .execute(&insert, &[&new.sid.0, &new.user.id.0, &key, &new.now_ms, &new.ends_at_ms, &address, &new.user_agent])
        .await?;
    // Sessions that ran out by themselves take no place.
    let idle = transaction
        .prepare_cached(
            "UPDATE sessions SET ended_at_ms = $2
             WHERE user_id = $1 AND ended_at_ms IS NULL AND (last_used_at_ms <= $3 OR ends_at_ms <= $2)",
        )
        .await?;
    transaction.execute(&idle, &[&new.user.id.0, &new.now_ms, &new.idle_since_ms]).await?;
    let surplus = end_surplus(&transaction, &new).await?;
    if !surplus.is_empty() {
        facts::write(&transaction, surplus.iter().copied().map(Revoked::Session), new.revoked_until_s).await?;
    }
    transaction.commit().await?;
    Ok(surplus)
}

/// Ends the oldest sessions beyond those that may live.
async fn end_surplus(transaction: &Transaction<'_>, new: &NewSession) -> Result<Vec<SessionId>, StoreError> {
    let end = transaction
        .prepare_cached(
            "UPDATE sessions SET ended_at_ms = $2 WHERE sid IN (
                 SELECT sid FROM sessions WHERE user_id = $1 AND ended_at_ms IS NULL
                 ORDER BY created_at_ms DESC, seq DESC OFFSET $3)
             RETURNING sid",
        )
        .await?;
    let keep = i64::try_from(new.keep).unwrap_or(i64::MAX);
    let ended = transaction.query(&end, &[&new.user.id.0, &new.now_ms, &keep]).await?;
    ended.iter().map(sid).collect()
}

fn sid(row: &Row) -> Result<SessionId, StoreError> {
    rows::get::<Uuid>(row, 0, "sessions.sid").map(SessionId)
}

pub(super) async fn by_id(client: &ClientWrapper, sid: SessionId) -> Result<Option<Session>, StoreError> {
    let sql = format!("SELECT {} FROM sessions WHERE sid = $1", rows::SESSION);
    let select = client.prepare_cached(&sql).await?;
    client.query_opt(&select, &[&sid.0]).await?.as_ref().map(rows::session).transpose()
}

pub(super) async fn of_user(
    client: &ClientWrapper,
    user: UserId,
    now_ms: i64,
    idle_since_ms: i64,
) -> Result<Vec<Session>, StoreError> {
    let sql = format!(
        "SELECT {} FROM sessions
         WHERE user_id = $1 AND ended_at_ms IS NULL AND ends_at_ms > $2 AND last_used_at_ms > $3
         ORDER BY created_at_ms DESC, seq DESC",
        rows::SESSION
    );
    let select = client.prepare_cached(&sql).await?;
    client.query(&select, &[&user.0, &now_ms, &idle_since_ms]).await?.iter().map(rows::session).collect()
}

pub(super) async fn rotate(
    client: &ClientWrapper,
    sid: SessionId,
    counter: i64,
    now_ms: i64,
) -> Result<bool, StoreError> {
    // One statement: of two refreshes at once, at any replica, the second finds another counter.
    let update = client
        .prepare_cached(
            "UPDATE sessions SET counter = counter + 1, last_used_at_ms = $3
             WHERE sid = $1 AND counter = $2 AND ended_at_ms IS NULL",
        )
        .await?;
    Ok(client.execute(&update, &[&sid.0, &counter, &now_ms]).await? == 1)
}

pub(super) async fn end(
    client: &mut ClientWrapper,
    sid: SessionId,
    now_ms: i64,
    revoked_until_s: i64,
) -> Result<bool, StoreError> {
    let transaction = client.transaction().await?;
    let update = transaction
        .prepare_cached("UPDATE sessions SET ended_at_ms = $2 WHERE sid = $1 AND ended_at_ms IS NULL")
        .await?;
    let ended = transaction.execute(&update, &[&sid.0, &now_ms]).await? == 1;
    // Also when the session ran out by itself: its last access token may still be alive.
    facts::write(&transaction, [Revoked::Session(sid)], revoked_until_s).await?;
    transaction.commit().await?;
    Ok(ended)
}

/// Rows that one call of [`purge`] takes, so that it ends in time.
const PURGED_AT_ONCE: i64 = 10_000;

/// Forgets a part of what is over; `true`: there may be more.
pub(super) async fn purge(client: &mut ClientWrapper, now_ms: i64) -> Result<bool, StoreError> {
    let facts = client
        .prepare_cached(
            "DELETE FROM revocations WHERE revision IN (SELECT revision FROM revocations WHERE until_s < $1 LIMIT $2)",
        )
        .await?;
    let facts = client.execute(&facts, &[&now_ms.div_euclid(1000), &PURGED_AT_ONCE]).await?;
    // What others are working on is left for the next time, so that nobody waits for a purge.
    let sessions = client
        .prepare_cached(
            "DELETE FROM sessions WHERE sid IN (
                 SELECT sid FROM sessions WHERE ends_at_ms < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
        )
        .await?;
    let sessions = client.execute(&sessions, &[&now_ms, &PURGED_AT_ONCE]).await?;
    Ok(i64::try_from(facts.max(sessions)).unwrap_or(i64::MAX) >= PURGED_AT_ONCE)
}

/// Ends every living session of an account, within the caller's transaction, which writes the facts down.
pub(super) async fn end_all(
    transaction: &Transaction<'_>,
    user: UserId,
    now_ms: i64,
) -> Result<Vec<SessionId>, StoreError> {
    let end = transaction
        .prepare_cached("UPDATE sessions SET ended_at_ms = $2 WHERE user_id = $1 AND ended_at_ms IS NULL RETURNING sid")
        .await?;
    let ended = transaction.query(&end, &[&user.0, &now_ms]).await?;
    ended.iter().map(|row| rows::get(row, 0, "sessions.sid").map(SessionId)).collect()
}
