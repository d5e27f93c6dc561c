//! From rows to values.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::super::{Session, SessionKey, StoreError, User};
use crate::model::identity::{SessionId, UserId};

/// Columns that [`user`] reads, in its order.
pub(super) const USER: &str = "id, email, full_name, role, is_active, tokens_not_before_s, created_at_ms";

/// Columns that [`session`] reads, in its order.
pub(super) const SESSION: &str = "sid, user_id, counter, mac_key, created_at_ms, last_used_at_ms, ends_at_ms,
    ended_at_ms, address, user_agent";

/// The value of a column; a type that does not fit is an unreadable value of `what`.
pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, at: usize, what: &'static str) -> Result<T, StoreError> {
    row.try_get(at).map_err(|_| StoreError::Unreadable(what))
}

/// 32 bytes: a key or a hash.
pub(super) fn bytes(row: &Row, at: usize, what: &'static str) -> Result<[u8; 32], StoreError> {
    get::<&[u8]>(row, at, what)?.try_into().map_err(|_| StoreError::Unreadable(what))
}

pub(super) fn user(row: &Row) -> Result<User, StoreError> {
    let role: &str = get(row, 3, "users.role")?;
    Ok(User {
        id: UserId(get(row, 0, "users.id")?),
        email: get(row, 1, "users.email")?,
        full_name: get(row, 2, "users.full_name")?,
        role: role.parse().map_err(|_| StoreError::Unreadable("users.role"))?,
        is_active: get(row, 4, "users.is_active")?,
        tokens_not_before_s: get(row, 5, "users.tokens_not_before_s")?,
        created_at_ms: get(row, 6, "users.created_at_ms")?,
    })
}

pub(super) fn session(row: &Row) -> Result<Session, StoreError> {
    let address: Option<&str> = get(row, 8, "sessions.address")?;
    Ok(Session {
        sid: SessionId(get(row, 0, "sessions.sid")?),
        user: UserId(get(row, 1, "sessions.user_id")?),
        counter: get(row, 2, "sessions.counter")?,
        mac_key: SessionKey(bytes(row, 3, "sessions.mac_key")?),
        created_at_ms: get(row, 4, "sessions.created_at_ms")?,
        last_used_at_ms: get(row, 5, "sessions.last_used_at_ms")?,
        ends_at_ms: get(row, 6, "sessions.ends_at_ms")?,
        ended_at_ms: get(row, 7, "sessions.ended_at_ms")?,
        address: address.map(str::parse).transpose().map_err(|_| StoreError::Unreadable("sessions.address"))?,
        user_agent: get(row, 9, "sessions.user_agent")?,
    })
}
