//! From rows to values.

use rusqlite::Row;

use super::super::{Session, SessionKey, StoreError, User};
use crate::model::identity::UserId;

/// Columns that [`user`] reads, in its order.
pub(super) const USER: &str = "id, email, full_name, role, is_active, tokens_not_before_s, created_at_ms";

/// Columns that [`session`] reads, in its order.
pub(super) const SESSION: &str = "sid, user_id, counter, mac_key, created_at_ms, last_used_at_ms, ends_at_ms,
    ended_at_ms, address, user_agent";

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
    let address: Option<String> = row.get(8)?;
    Ok(Session {
        sid: sid.parse().map_err(|_| StoreError::Unreadable("sessions.sid"))?,
        user: UserId(row.get(1)?),
        counter: row.get(2)?,
        mac_key: SessionKey(row.get(3)?),
        created_at_ms: row.get(4)?,
        last_used_at_ms: row.get(5)?,
        ends_at_ms: row.get(6)?,
        ended_at_ms: row.get(7)?,
        address: address
            .map(|text| text.parse())
            .transpose()
            .map_err(|_| StoreError::Unreadable("sessions.address"))?,
        user_agent: row.get(9)?,
    })
}
