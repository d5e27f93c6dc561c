//! Sessions as people see them.

use std::net::IpAddr;
use std::time::Duration;

use super::service::{Accounts, unavailable};
use super::session::millis;
use crate::model::identity::{SessionId, UserId};
use crate::model::rejection::Rejection;
use crate::store::Session;

/// A session that goes on, without what makes its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivingSession {
    /// Its number.
    pub sid: SessionId,
    /// Log-in, in Unix milliseconds.
    pub created_at_ms: i64,
    /// Log-in or last refresh, in Unix milliseconds.
    pub last_used_at_ms: i64,
    /// When it ends unless it is refreshed before, in Unix milliseconds: idle or old, whichever comes first.
    pub expires_at_ms: i64,
    /// Where the log-in came from.
    pub address: Option<IpAddr>,
    /// What the client called itself then.
    pub user_agent: Option<String>,
}

impl LivingSession {
    fn of(session: Session, idle: Duration) -> LivingSession {
        LivingSession {
            sid: session.sid,
            created_at_ms: session.created_at_ms,
            last_used_at_ms: session.last_used_at_ms,
            expires_at_ms: session.ends_at_ms.min(session.last_used_at_ms.saturating_add(millis(idle))),
            address: session.address,
            user_agent: session.user_agent,
        }
    }
}

impl Accounts {
    /// The living sessions of an account, the youngest log-in first; none where there is no such account.
    pub(super) async fn living_sessions(&self, user: UserId) -> Result<Vec<LivingSession>, Rejection> {
        let (now_ms, idle) = (self.now_ms(), self.config.refresh_ttl);
        let found = self.store.sessions_of(user, now_ms, now_ms.saturating_sub(millis(idle))).await;
        let found = self.witness.saw(found).map_err(|error| unavailable(&error))?;
        Ok(found.into_iter().map(|session| LivingSession::of(session, idle)).collect())
    }
}
