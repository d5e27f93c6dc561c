//! What administrators do with the accounts of others. Each act is told, with who did it and to whom.

use super::changes::admin_words;
use super::living::LivingSession;
use super::origin::Origin;
use super::page::Page;
use super::service::{Accounts, unavailable};
use crate::model::identity::{SessionId, UserId};
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::store::{User, UserChange};
use crate::telemetry::metrics::AuthEvent;

/// What an administrator wants an account to be; `None` leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessChange {
    /// What it may do.
    pub role: Option<Role>,
    /// Whether it may log in.
    pub is_active: Option<bool>,
}

impl AccessChange {
    /// The steps from `user` to what is wanted, in an order that never gives more than before and after: the new
    /// role while the account cannot log in.
    fn steps(self, user: &User) -> Vec<UserChange> {
        let role = self.role.filter(|role| *role != user.role).map(UserChange::Role);
        let active = self.is_active.filter(|active| *active != user.is_active).map(UserChange::Active);
        match self.is_active {
            Some(false) => active.into_iter().chain(role).collect(),
            _ => role.into_iter().chain(active).collect(),
        }
    }
}

impl Accounts {
    /// Up to `limit` accounts with a number above `after`.
    pub async fn users(
        &self,
        admin: UserId,
        after: UserId,
        limit: u32,
        origin: &Origin,
    ) -> Result<Page<User>, Rejection> {
        let found = self.store.users(after, Page::<User>::to_read(limit)).await;
        let users = self.witness.saw(found).map_err(|error| unavailable(&error))?;
        self.told(admin, None, "list of accounts", origin);
        Ok(Page::of(users, limit, |user| user.id.0))
    }

    /// One account.
    pub async fn user(&self, admin: UserId, id: UserId, origin: &Origin) -> Result<User, Rejection> {
        let user = self.known(id).await?;
        self.told(admin, Some(id), "account", origin);
        Ok(user)
    }

    /// Changes what another account may do. Its sessions and tokens end, at once on this gateway; an account that
    /// may no longer log in loses its API keys too. What it is already is no change.
    pub async fn change_access(
        &self,
        admin: UserId,
        id: UserId,
        change: AccessChange,
        origin: &Origin,
    ) -> Result<User, Rejection> {
        if admin == id {
            self.witness.tell_by(admin, AuthEvent::AuthzFail, Some(id), "own account", origin);
            return Err(Rejection::OwnAccount);
        }
        let mut user = self.known(id).await?;
        for step in change.steps(&user) {
            user = self.change(admin, id, &step, origin).await?.ok_or(Rejection::NotFound)?;
        }
        // Also of a change to what it is already.
        self.told(admin, Some(id), "change of an account", origin);
        Ok(user)
    }

    /// The living sessions of an account, the youngest log-in first.
    pub async fn sessions_of(
        &self,
        admin: UserId,
        id: UserId,
        origin: &Origin,
    ) -> Result<Vec<LivingSession>, Rejection> {
        self.known(id).await?;
        let sessions = self.living_sessions(id).await?;
        self.told(admin, Some(id), "list of sessions", origin);
        Ok(sessions)
    }

    /// Ends all sessions of an account.
    pub async fn sign_out(&self, admin: UserId, id: UserId, origin: &Origin) -> Result<(), Rejection> {
        let change = UserChange::SignOut;
        self.change(admin, id, &change, origin).await?.ok_or(Rejection::NotFound)?;
        self.told(admin, Some(id), admin_words(&change), origin);
        Ok(())
    }

    /// Ends one session of an account; a session of another account is not found.
    pub async fn end_session_as_admin(
        &self,
        admin: UserId,
        id: UserId,
        sid: SessionId,
        origin: &Origin,
    ) -> Result<(), Rejection> {
        self.end_session_of(admin, id, sid, origin).await?;
        self.told(admin, Some(id), "end of a session", origin);
        Ok(())
    }

    async fn known(&self, id: UserId) -> Result<User, Rejection> {
        let user = self.witness.saw(self.store.user(id).await).map_err(|error| unavailable(&error))?;
        user.ok_or(Rejection::NotFound)
    }

    pub(super) fn told(&self, admin: UserId, subject: Option<UserId>, what: &'static str, origin: &Origin) {
        self.witness.tell_by(admin, AuthEvent::AuthzAdmin, subject, what, origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_those_that_change_something_and_never_give_too_much() {
        let user = |role, is_active| User {
            id: UserId(1),
            email: "a@b.fr".to_owned(),
            full_name: "A".to_owned(),
            role,
            is_active,
            tokens_not_before_s: 0,
            created_at_ms: 0,
        };
        let steps = |from: User, role, is_active| -> Vec<String> {
            AccessChange { role, is_active }.steps(&from).iter().map(|step| format!("{step:?}")).collect()
        };
        let (low, high) = (Role::Candidat, Role::Admin);
        assert_eq!(steps(user(low, true), Some(low), Some(true)), Vec::<String>::new());
        assert_eq!(steps(user(low, true), Some(high), None), ["Role(Admin)"]);
        assert_eq!(steps(user(low, true), Some(high), Some(false)), ["Active(false)", "Role(Admin)"]);
        assert_eq!(steps(user(high, false), Some(low), Some(true)), ["Role(Candidat)", "Active(true)"]);
        assert_eq!(steps(user(high, true), None, Some(false)), ["Active(false)"]);
    }
}
