//! Statements about accounts.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params, params};

use super::super::{Credentials, NewUser, Revoked, StoreError, User, UserChange};
use super::{rows, sessions};
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
    let sql = format!("SELECT {}, password_hash FROM users WHERE email_key = ?1", rows::USER);
    connection
        .prepare_cached(&sql)?
        .query_row([email_key], |row| {
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
    change: UserChange,
    now_ms: i64,
    revoked_until_s: i64,
) -> Result<Option<User>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (role, is_active) = match change {
        UserChange::Role(role) => (Some(role.as_str()), None),
        UserChange::Active(active) => (None, Some(active)),
    };
    // Strictly forward: a token made in the very second of an earlier change falls under this one.
    transaction.execute(
        "UPDATE users SET role = coalesce(?2, role), is_active = coalesce(?3, is_active),
             tokens_not_before_s = max(?4, tokens_not_before_s + 1)
         WHERE id = ?1",
        params![id.0, role, is_active, now_ms.div_euclid(1000)],
    )?;
    let Some(user) = by_id(&transaction, id)? else { return Ok(None) };
    transaction.execute(
        "UPDATE sessions SET ended_at_ms = ?2 WHERE user_id = ?1 AND ended_at_ms IS NULL",
        params![id.0, now_ms],
    )?;
    sessions::revoke(&transaction, Revoked::User(id, user.tokens_not_before_s), revoked_until_s)?;
    transaction.commit()?;
    Ok(Some(user))
}
