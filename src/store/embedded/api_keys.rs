//! Statements about API keys.

use rusqlite::{Connection, Row, TransactionBehavior, params};

use super::super::{ApiKey, NewApiKey, Revoked, StoreError, UsableApiKey};
use super::revocations;
use crate::model::identity::{ApiKeyId, UserId};

/// Columns that [`read`] reads, in its order.
const COLUMNS: &str = "k.id, k.name, k.prefix, k.user_id, k.role, k.routes, k.created_by, k.created_at_ms,
    k.expires_at_ms, k.last_used_at_ms, k.revoked_at_ms";

pub(super) fn insert(connection: &mut Connection, new: NewApiKey) -> Result<ApiKey, StoreError> {
    let routes = serde_json::to_string(&new.routes).map_err(|_| StoreError::Unreadable("api_keys.routes"))?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let inserted = transaction.execute(
        "INSERT INTO api_keys (name, prefix, hash, user_id, role, routes, created_by, created_at_ms, expires_at_ms)
         SELECT ?1, ?2, ?3, id, ?5, ?6, ?7, ?8, ?9 FROM users
         WHERE id = ?4 AND is_active = 1 AND (role = 'admin' OR ?5 = 'candidat' OR role = ?5)",
        params![
            new.name,
            new.prefix,
            new.hash,
            new.user.0,
            new.role.as_str(),
            routes,
            new.created_by.map(|id| id.0),
            new.created_at_ms,
            new.expires_at_ms
        ],
    )?;
    if inserted == 0 {
        return Err(StoreError::Conflict);
    }
    let id = ApiKeyId(transaction.last_insert_rowid());
    let sql = format!("SELECT {COLUMNS} FROM api_keys k WHERE k.id = ?1");
    let key = transaction.query_row(&sql, [id.0], |row| Ok(read(row)))??;
    transaction.commit()?;
    Ok(key)
}

pub(super) fn list(connection: &Connection, after: ApiKeyId, limit: u32) -> Result<Vec<ApiKey>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM api_keys k WHERE k.id > ?1 ORDER BY k.id LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params![after.0, limit])?;
    let mut keys = Vec::new();
    while let Some(row) = found.next()? {
        keys.push(read(row)?);
    }
    Ok(keys)
}

pub(super) fn usable_since(
    connection: &Connection,
    after: ApiKeyId,
    now_ms: i64,
    limit: u32,
) -> Result<Vec<UsableApiKey>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, k.hash, u.email FROM api_keys k JOIN users u ON u.id = k.user_id
         WHERE k.id > ?1 AND u.is_active = 1 AND k.revoked_at_ms IS NULL
           AND (k.expires_at_ms IS NULL OR k.expires_at_ms > ?2)
         ORDER BY k.id LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params![after.0, now_ms, limit])?;
    let mut keys = Vec::new();
    while let Some(row) = found.next()? {
        keys.push(UsableApiKey { key: read(row)?, hash: row.get(11)?, email: row.get(12)? });
    }
    Ok(keys)
}

pub(super) fn revoke(connection: &mut Connection, id: ApiKeyId, now_ms: i64, until_s: i64) -> Result<bool, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let changed = transaction.execute(
        "UPDATE api_keys SET revoked_at_ms = ?2 WHERE id = ?1 AND revoked_at_ms IS NULL",
        params![id.0, now_ms],
    )?;
    if changed == 1 {
        revocations::write(&transaction, &Revoked::ApiKey(id), until_s)?;
    }
    transaction.commit()?;
    Ok(changed == 1)
}

/// Revokes those keys of a changed account that it may not have any more, within the caller's transaction: all when
/// it is inactive, else those with a role above its own.
pub(super) fn end_beyond(connection: &Connection, user: UserId, now_ms: i64) -> Result<Vec<ApiKeyId>, StoreError> {
    let mut statement = connection.prepare_cached(
        "UPDATE api_keys SET revoked_at_ms = ?2
         FROM users u
         WHERE user_id = ?1 AND revoked_at_ms IS NULL AND u.id = user_id
           AND NOT (u.is_active = 1 AND (u.role = 'admin' OR api_keys.role = 'candidat' OR api_keys.role = u.role))
         RETURNING api_keys.id",
    )?;
    let read = |row: &Row<'_>| row.get(0).map(ApiKeyId);
    let mut ids: Vec<_> = statement.query_map(params![user.0, now_ms], read)?.collect::<Result<_, _>>()?;
    ids.sort_unstable();
    Ok(ids)
}

pub(super) fn touch(connection: &mut Connection, used: &[(ApiKeyId, i64)]) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (id, at_ms) in used {
        transaction
            .prepare_cached(
                "UPDATE api_keys SET last_used_at_ms = max(coalesce(last_used_at_ms, ?2), ?2) WHERE id = ?1",
            )?
            .execute(params![id.0, at_ms])?;
    }
    transaction.commit()?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<ApiKey, StoreError> {
    let (role, routes): (String, String) = (row.get(4)?, row.get(5)?);
    Ok(ApiKey {
        id: ApiKeyId(row.get(0)?),
        name: row.get(1)?,
        prefix: row.get(2)?,
        user: UserId(row.get(3)?),
        role: role.parse().map_err(|_| StoreError::Unreadable("api_keys.role"))?,
        routes: serde_json::from_str(&routes).map_err(|_| StoreError::Unreadable("api_keys.routes"))?,
        created_by: row.get::<_, Option<i64>>(6)?.map(UserId),
        created_at_ms: row.get(7)?,
        expires_at_ms: row.get(8)?,
        last_used_at_ms: row.get(9)?,
        revoked_at_ms: row.get(10)?,
    })
}
