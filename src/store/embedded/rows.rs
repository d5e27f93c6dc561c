//! From rows to values.

use rusqlite::Row;

use super::super::{Revocation, Revoked, Session, StoreError, User};
use crate::model::identity::UserId;

/// Columns that [`user`] reads, in its order.
pub(super) const USER: &str = "id, email, full_name, role, is_active, tokens_not_before_s, created_at_ms";

/// Columns that [`session`] reads, in its order.
pub(super) const SESSION: &str = "sid, user_id, counter, last_used_at_ms, ends_at_ms, ended_at_ms";

pub(super) fn user(row: &Row<'_>) -> Result<User, StoreError> {
    let role: String = row.get(3)?;
    Ok(User {
        id: UserId(row.get(0)?),
        email: row.get(1)?,
        full_name: row.get(2)?,
        role: role.parse().map_err(|_| StoreError::Unreadable("users.role"))?,
        is_active: row.get(4)?,
        tokens_not_before_s: row.get(5)?,
        created_at_ms: row.get(6)?,
    })
}

pub(super) fn session(row: &Row<'_>) -> Result<Session, StoreError> {
    let sid: String = row.get(0)?;
    Ok(Session {
        sid: sid.parse().map_err(|_| StoreError::Unreadable("sessions.sid"))?,
        user: UserId(row.get(1)?),
        counter: row.get(2)?,
        last_used_at_ms: row.get(3)?,
        ends_at_ms: row.get(4)?,
        ended_at_ms: row.get(5)?,
    })
}

/// Reads `revision, kind, value, not_before_s, until_s`.
pub(super) fn revocation(row: &Row<'_>) -> Result<Revocation, StoreError> {
    let (kind, value): (String, String) = (row.get(1)?, row.get(2)?);
    let unreadable = || StoreError::Unreadable("revocations.value");
    let revoked = match kind.as_str() {
        "session" => Revoked::Session(value.parse().map_err(|_| unreadable())?),
        _ => Revoked::User(UserId(value.parse().map_err(|_| unreadable())?), row.get(3)?),
    };
    Ok(Revocation { revision: row.get(0)?, revoked, until_s: row.get(4)? })
}
