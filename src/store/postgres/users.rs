//! Statements about accounts.

use deadpool_postgres::ClientWrapper;
use secrecy::ExposeSecret;
use tokio_postgres::types::ToSql;

use super::super::{Changed, Credentials, NewUser, StoreError, User, UserChange};
use super::{api_keys, facts, rows, sessions};
use crate::model::identity::UserId;

pub(super) async fn insert(client: &ClientWrapper, new: NewUser) -> Result<User, StoreError> {
    // The unique index decides between registrations of one address, however many come at once, at any replica.
    let sql = format!(
        "INSERT INTO users (email_key, email, full_name, role, password_hash, created_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING {}",
        rows::USER
    );
    let insert = client.prepare_cached(&sql).await?;
    let row = client
        .query_one(
            &insert,
            &[&new.email_key, &new.email, &new.full_name, &new.role.as_str(), &new.password_hash, &new.created_at_ms],
        )
        .await?;
    rows::user(&row)
}

pub(super) async fn credentials(client: &ClientWrapper, email_key: String) -> Result<Option<Credentials>, StoreError> {
    // PostgreSQL's texts cannot hold this character, so no account has such an address.
    if email_key.contains('\0') {
        return Ok(None);
    }
    one_credentials(client, "email_key = $1", &email_key).await
}

pub(super) async fn credentials_of(client: &ClientWrapper, id: UserId) -> Result<Option<Credentials>, StoreError> {
    one_credentials(client, "id = $1", &id.0).await
}

async fn one_credentials(
    client: &ClientWrapper,
    condition: &str,
    value: &(dyn ToSql + Sync),
) -> Result<Option<Credentials>, StoreError> {
    let sql = format!("SELECT {}, password_hash FROM users WHERE {condition}", rows::USER);
    let select = client.prepare_cached(&sql).await?;
    let read =
        |row| Ok(Credentials { user: rows::user(&row)?, password_hash: rows::get(&row, 7, "users.password_hash")? });
    client.query_opt(&select, &[value]).await?.map(read).transpose()
}

pub(super) async fn by_id(client: &ClientWrapper, id: UserId) -> Result<Option<User>, StoreError> {
    let sql = format!("SELECT {} FROM users WHERE id = $1", rows::USER);
    let select = client.prepare_cached(&sql).await?;
    client.query_opt(&select, &[&id.0]).await?.as_ref().map(rows::user).transpose()
}

pub(super) async fn list(client: &ClientWrapper, after: UserId, limit: u32) -> Result<Vec<User>, StoreError> {
    let sql = format!("SELECT {} FROM users WHERE id > $1 ORDER BY id LIMIT $2", rows::USER);
    let select = client.prepare_cached(&sql).await?;
    client.query(&select, &[&after.0, &i64::from(limit)]).await?.iter().map(rows::user).collect()
}

pub(super) async fn change(
    client: &mut ClientWrapper,
    id: UserId,
    change: UserChange,
    now_ms: i64,
    revoked_until_s: i64,
) -> Result<Option<Changed>, StoreError> {
    let transaction = client.transaction().await?;
    let (role, is_active, hash) = match &change {
        UserChange::Role(role) => (Some(role.as_str()), None, None),
        UserChange::Active(active) => (None, Some(*active), None),
        UserChange::Password { hash, .. } => (None, None, Some(hash.expose_secret())),
        UserChange::SignOut => (None, None, None),
    };
    let proven_at = match &change {
        UserChange::Password { proven_at, .. } => *proven_at,
        _ => None,
    };
    // Strictly forward: a token made in the very second of an earlier change falls under this one.
    let sql = format!(
        "WITH before AS (SELECT id AS locked, role AS role_before FROM users
             WHERE id = $1 AND ($6::bigint IS NULL OR (is_active AND tokens_not_before_s = $6)) FOR NO KEY UPDATE)
         UPDATE users SET role = coalesce($2, role), is_active = coalesce($3, is_active),
             password_hash = coalesce($4, password_hash), tokens_not_before_s = greatest($5, tokens_not_before_s + 1)
         FROM before WHERE id = locked RETURNING {}, role_before",
        rows::USER
    );
    let update = transaction.prepare_cached(&sql).await?;
    let now_s = now_ms.div_euclid(1000);
    let changed = transaction.query_opt(&update, &[&id.0, &role, &is_active, &hash, &now_s, &proven_at]).await?;
    let row = match changed {
        Some(row) => row,
        None if proven_at.is_some() => return Err(StoreError::Conflict),
        None => return Ok(None),
    };
    let (user, before): (_, &str) = (rows::user(&row)?, rows::get(&row, 7, "users.role")?);
    let role_before = before.parse().map_err(|_| StoreError::Unreadable("users.role"))?;
    let sessions = sessions::end_all(&transaction, id, now_ms).await?;
    let api_keys = api_keys::end_beyond(&transaction, id, now_ms).await?;
    let changed = Changed { user, role_before, sessions, api_keys };
    facts::write(&transaction, changed.facts(), revoked_until_s).await?;
    transaction.commit().await?;
    Ok(Some(changed))
}

pub(super) async fn upgrade_hash(
    client: &ClientWrapper,
    id: UserId,
    from: String,
    to: String,
) -> Result<bool, StoreError> {
    let update =
        client.prepare_cached("UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2").await?;
    Ok(client.execute(&update, &[&id.0, &from, &to]).await? == 1)
}

pub(super) async fn bcrypt_cost(client: &ClientWrapper, most: u32) -> Result<Option<u32>, StoreError> {
    let select = client
        .prepare_cached(
            r"SELECT max(cost) FROM (SELECT substring(password_hash FROM '^\$2[aby]\$([0-9]{2})\$')::INTEGER AS cost
                 FROM users WHERE is_active) AS costs WHERE cost <= $1",
        )
        .await?;
    let most = i32::try_from(most).unwrap_or(i32::MAX);
    let cost: Option<i32> = client.query_one(&select, &[&most]).await?.get(0);
    Ok(cost.and_then(|cost| u32::try_from(cost).ok()))
}
