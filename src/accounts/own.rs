//! What the owner of an account does with its sessions and its password.

use secrecy::SecretString;

use super::living::LivingSession;
use super::origin::Origin;
use super::password::NewPassword;
use super::service::{Accounts, TokenPair};
use crate::model::identity::{SessionId, UserId};
use crate::model::rejection::Rejection;
use crate::store::UserChange;
use crate::telemetry::metrics::AuthEvent;

impl Accounts {
    /// The caller's living sessions, the youngest log-in first.
    pub async fn own_sessions(&self, user: UserId) -> Result<Vec<LivingSession>, Rejection> {
        self.living_sessions(user).await
    }

    /// Ends one of the caller's own sessions; another's is as unknown as one that never was.
    pub async fn end_own_session(&self, user: UserId, sid: SessionId, origin: &Origin) -> Result<(), Rejection> {
        self.end_session_of(user, user, sid, origin).await
    }

    /// Ends all sessions of the caller, this one included.
    pub async fn logout_all(&self, user: UserId, origin: &Origin) -> Result<(), Rejection> {
        self.change(user, user, &UserChange::SignOut, origin).await?.map(|_| ()).ok_or(Rejection::TokenRevoked)
    }

    /// Gives the caller's account another password, ends all its sessions and opens a new one.
    ///
    /// The current password is checked as at a log-in: the same cost, the same limits, the same refusal.
    pub async fn change_password(
        &self,
        user: UserId,
        current: SecretString,
        new: NewPassword,
        origin: &Origin,
    ) -> Result<TokenPair, Rejection> {
        let account = self.me(user).await?;
        let proven = self.prove_password(&account.email, current, AuthEvent::PasswordChangeFail, origin).await?;
        if proven.id != user {
            return Err(Rejection::InvalidCredentials);
        }
        let hash = SecretString::from(self.hashes.hash(new.into_secret()).await?);
        // Hashing takes its time: what happened to the account meanwhile goes before.
        let change = UserChange::Password { hash, proven_at: Some(proven.tokens_not_before_s) };
        let changed = self.change(user, user, &change, origin).await?;
        let changed = changed.ok_or(Rejection::TokenRevoked)?;
        self.open_session(changed, origin).await
    }
}
