//! Statements about accounts.

use rusqlite::{Connection, OptionalExtension, Params, TransactionBehavior, named_params, params};
use secrecy::ExposeSecret;

use super::super::{Changed, Credentials, NewUser, StoreError, User, UserChange};
use super::{api_keys, revocations, rows, sessions};
use crate::model::identity::UserId;

pub(super) fn insert(connection: &mut Connection, new: NewUser) -> Result<User, StoreError> {
    // The unique index decides between registrations of one address, however many come at once.
    connection
        .prepare_cached(
            "INSERT INTO users (email_key, email, full_name, role, password_hash, created_at_ms)
         VALUES (:email_key, :email, :full_name, :role, :password_hash, :created_at_ms)",
        )?
        .execute(named_params! {
            ":email_key": new.email_key,
            ":email": new.email,
            ":full_name": new.full_name,
            ":role": new.role.as_str(),
            ":password_hash": new.password_hash,
            ":created_at_ms": new.created_at_ms,
        })?;
    Ok(User {
        id: UserId(connection.last_insert_rowid()),
        email: new.email,
        full_name: new.full_name,
        role: new.role,
        is_active: true,
        tokens_not_before_s: 0,
        created_at_ms: new.created_at_ms,
    })
}

pub(super) fn credentials(connection: &Connection, email_key: &str) -> Result<Option<Credentials>, StoreError> {
    one_credentials(connection, "email_key = ?1", [email_key])
}

pub(super) fn credentials_of(connection: &Connection, id: UserId) -> Result<Option<Credentials>, StoreError> {
    one_credentials(connection, "id = ?1", [id.0])
}

fn one_credentials(
    connection: &Connection,
    condition: &str,
    value: impl Params,
) -> Result<Option<Credentials>, StoreError> {
    let sql = format!("SELECT {}, password_hash FROM users WHERE {condition}", rows::USER);
    connection
        .prepare_cached(&sql)?
        .query_row(value, |row| {
            Ok(rows::user(row).and_then(|user| Ok(Credentials { user, password_hash: row.get(7)? })))
        })
        .optional()?
        .transpose()
}

pub(super) fn by_id(connection: &Connection, id: UserId) -> Result<Option<User>, StoreError> {
    let sql = format!("SELECT {} FROM users WHERE id = ?1", rows::USER);
    connection.prepare_cached(&sql)?.query_row([id.0], |row| Ok(rows::user(row))).optional()?.transpose()
}

pub(super) fn list(connection: &Connection, after: UserId, limit: u32) -> Result<Vec<User>, StoreError> {
    let sql = format!("SELECT {} FROM users WHERE id > ?1 ORDER BY id LIMIT ?2", rows::USER);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params![after.0, limit])?;
    let mut users = Vec::new();
    while let Some(row) = found.next()? {
        users.push(rows::user(row)?);
    }
    Ok(users)
}

pub(super) fn change(
    connection: &mut Connection,
    id: UserId,
    change: &UserChange,
    now_ms: i64,
    revoked_until_s: i64,
) -> Result<Option<Changed>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (role, is_active, hash) = match change {
        UserChange::Role(role) => (Some(role.as_str()), None, None),
        UserChange::Active(active) => (None, Some(*active), None),
        UserChange::Password { hash, .. } => (None, None, Some(hash.expose_secret())),
        UserChange::SignOut => (None, None, None),
    };
    let Some(before) = by_id(&transaction, id)? else { return Ok(None) };
    let proven_at = match change {
        UserChange::Password { proven_at, .. } => *proven_at,
        _ => None,
    };
    // Strictly forward: a token made in the very second of an earlier change falls under this one.
    let updated = transaction.execute(
        "UPDATE users SET role = coalesce(?2, role), is_active = coalesce(?3, is_active),
             password_hash = coalesce(?4, password_hash), tokens_not_before_s = max(?5, tokens_not_before_s + 1)
         WHERE id = ?1 AND (?6 IS NULL OR (is_active AND tokens_not_before_s = ?6))",
        params![id.0, role, is_active, hash, now_ms.div_euclid(1000), proven_at],
    )?;
    if updated == 0 {
        return Err(StoreError::Conflict);
    }
    let Some(user) = by_id(&transaction, id)? else { return Ok(None) };
    let sessions = sessions::end_all(&transaction, id, now_ms)?;
    let api_keys = api_keys::end_beyond(&transaction, id, now_ms)?;
    let changed = Changed { user, role_before: before.role, sessions, api_keys };
    for fact in changed.facts() {
        revocations::write(&transaction, &fact, revoked_until_s)?;
    }
    transaction.commit()?;
    Ok(Some(changed))
}

pub(super) fn upgrade_hash(connection: &Connection, id: UserId, from: &str, to: &str) -> Result<bool, StoreError> {
    let changed = connection
        .execute("UPDATE users SET password_hash = ?3 WHERE id = ?1 AND password_hash = ?2", params![id.0, from, to])?;
    Ok(changed == 1)
}

pub(super) fn bcrypt_cost(connection: &Connection, most: u32) -> Result<Option<u32>, StoreError> {
    let sql = "SELECT max(CAST(substr(password_hash, 5, 2) AS INTEGER)) FROM users
         WHERE is_active AND password_hash LIKE '$2_$%' AND CAST(substr(password_hash, 5, 2) AS INTEGER) <= ?1";
    Ok(connection.query_row(sql, [most], |row| row.get(0))?)
}
