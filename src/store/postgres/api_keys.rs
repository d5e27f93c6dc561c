//! Statements about API keys.

use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::Row;

use super::super::{ApiKey, NewApiKey, Revoked, StoreError, UsableApiKey};
use super::{facts, rows};
use crate::model::identity::{ApiKeyId, UserId};

/// Columns that [`read`] reads, in its order.
const COLUMNS: &str = "k.id, k.name, k.prefix, k.user_id, k.role, k.routes, k.created_by, k.created_at_ms,
    k.expires_at_ms, k.last_used_at_ms, k.revoked_at_ms";

pub(super) async fn insert(client: &mut ClientWrapper, new: NewApiKey) -> Result<ApiKey, StoreError> {
    let transaction = client.transaction().await?;
    // The account cannot be deactivated or get a lower role meanwhile, which would leave this key behind.
    let owner = transaction
        .prepare_cached(
            "SELECT 1 FROM users WHERE id = $1 AND is_active AND (role = 'admin' OR $2 = 'candidat' OR role = $2)
             FOR SHARE",
        )
        .await?;
    if transaction.query_opt(&owner, &[&new.user.0, &new.role.as_str()]).await?.is_none() {
        return Err(StoreError::Conflict);
    }
    // Keys become visible in the order of their numbers, as facts do.
    facts::lock(&transaction).await?;
    let sql = format!(
        "INSERT INTO api_keys AS k
             (name, prefix, hash, user_id, role, routes, created_by, created_at_ms, expires_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {COLUMNS}"
    );
    let insert = transaction.prepare_cached(&sql).await?;
    let row = transaction
        .query_one(
            &insert,
            &[
                &new.name,
                &new.prefix,
                &new.hash.as_slice(),
                &new.user.0,
                &new.role.as_str(),
                &new.routes,
                &new.created_by.map(|id| id.0),
                &new.created_at_ms,
                &new.expires_at_ms,
            ],
        )
        .await?;
    let key = read(&row)?;
    transaction.commit().await?;
    Ok(key)
}

pub(super) async fn list(client: &ClientWrapper, after: ApiKeyId, limit: u32) -> Result<Vec<ApiKey>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM api_keys k WHERE k.id > $1 ORDER BY k.id LIMIT $2");
    let select = client.prepare_cached(&sql).await?;
    client.query(&select, &[&after.0, &i64::from(limit)]).await?.iter().map(read).collect()
}

pub(super) async fn usable_since(
    client: &ClientWrapper,
    after: ApiKeyId,
    now_ms: i64,
    limit: u32,
) -> Result<Vec<UsableApiKey>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, k.hash, u.email FROM api_keys k JOIN users u ON u.id = k.user_id
         WHERE k.id > $1 AND u.is_active AND k.revoked_at_ms IS NULL
             AND (k.expires_at_ms IS NULL OR k.expires_at_ms > $2)
         ORDER BY k.id LIMIT $3"
    );
    let select = client.prepare_cached(&sql).await?;
    let found = client.query(&select, &[&after.0, &now_ms, &i64::from(limit)]).await?;
    let usable = |row: &Row| {
        Ok(UsableApiKey {
            key: read(row)?,
            hash: rows::bytes(row, 11, "api_keys.hash")?,
            email: rows::get(row, 12, "users.email")?,
        })
    };
    found.iter().map(usable).collect()
}

pub(super) async fn revoke(
    client: &mut ClientWrapper,
    id: ApiKeyId,
    now_ms: i64,
    until_s: i64,
) -> Result<bool, StoreError> {
    let transaction = client.transaction().await?;
    let update = transaction
        .prepare_cached("UPDATE api_keys SET revoked_at_ms = $2 WHERE id = $1 AND revoked_at_ms IS NULL")
        .await?;
    let revoked = transaction.execute(&update, &[&id.0, &now_ms]).await? == 1;
    if revoked {
        facts::write(&transaction, [Revoked::ApiKey(id)], until_s).await?;
    }
    transaction.commit().await?;
    Ok(revoked)
}

/// Ends those keys of a changed account that it may not have any more, within the caller's transaction, which writes the
/// facts down: all when it is inactive, else those with a role above its own.
pub(super) async fn end_beyond(
    transaction: &Transaction<'_>,
    user: UserId,
    now_ms: i64,
) -> Result<Vec<ApiKeyId>, StoreError> {
    let update = transaction
        .prepare_cached(
            // In the order in which uses are noted, so that the two never wait for each other.
            "WITH beyond AS (
                 SELECT k.id FROM api_keys k JOIN users u ON u.id = k.user_id
                 WHERE k.user_id = $1 AND k.revoked_at_ms IS NULL
                     AND NOT (u.is_active AND (u.role = 'admin' OR k.role = 'candidat' OR k.role = u.role))
                 ORDER BY k.id FOR NO KEY UPDATE OF k)
             UPDATE api_keys k SET revoked_at_ms = $2 FROM beyond WHERE k.id = beyond.id RETURNING k.id",
        )
        .await?;
    let ended = transaction.query(&update, &[&user.0, &now_ms]).await?;
    let mut ids: Vec<_> =
        ended.iter().map(|row| rows::get(row, 0, "api_keys.id").map(ApiKeyId)).collect::<Result<_, _>>()?;
    ids.sort_unstable();
    Ok(ids)
}

pub(super) async fn touch(client: &mut ClientWrapper, used: Vec<(ApiKeyId, i64)>) -> Result<(), StoreError> {
    let (ids, times): (Vec<i64>, Vec<i64>) = used.into_iter().map(|(id, at_ms)| (id.0, at_ms)).unzip();
    let transaction = client.transaction().await?;
    // In one order at every replica, so that no two of them wait for each other.
    let lock =
        transaction.prepare_cached("SELECT 1 FROM api_keys WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE").await?;
    transaction.execute(&lock, &[&ids]).await?;
    let update = transaction
        .prepare_cached(
            "UPDATE api_keys k SET last_used_at_ms = greatest(coalesce(k.last_used_at_ms, used.at_ms), used.at_ms)
             FROM (SELECT id, max(at_ms) AS at_ms FROM unnest($1::bigint[], $2::bigint[]) AS given (id, at_ms)
                   GROUP BY id) AS used
             WHERE k.id = used.id",
        )
        .await?;
    transaction.execute(&update, &[&ids, &times]).await?;
    transaction.commit().await?;
    Ok(())
}

fn read(row: &Row) -> Result<ApiKey, StoreError> {
    let role: &str = rows::get(row, 4, "api_keys.role")?;
    let created_by: Option<i64> = rows::get(row, 6, "api_keys.created_by")?;
    Ok(ApiKey {
        id: ApiKeyId(rows::get(row, 0, "api_keys.id")?),
        name: rows::get(row, 1, "api_keys.name")?,
        prefix: rows::get(row, 2, "api_keys.prefix")?,
        user: UserId(rows::get(row, 3, "api_keys.user_id")?),
        role: role.parse().map_err(|_| StoreError::Unreadable("api_keys.role"))?,
        routes: rows::get(row, 5, "api_keys.routes")?,
        created_by: created_by.map(UserId),
        created_at_ms: rows::get(row, 7, "api_keys.created_at_ms")?,
        expires_at_ms: rows::get(row, 8, "api_keys.expires_at_ms")?,
        last_used_at_ms: rows::get(row, 9, "api_keys.last_used_at_ms")?,
        revoked_at_ms: rows::get(row, 10, "api_keys.revoked_at_ms")?,
    })
}
