//! Ends sessions and revokes tokens: in the store, then in memory.

use super::origin::Origin;
use super::service::{Accounts, unavailable};
use crate::audit::Actor;
use crate::model::identity::{ApiKeyId, SessionId, UserId};
use crate::model::rejection::Rejection;
use crate::store::{Revoked, StoreError, User, UserChange};
use crate::telemetry::metrics::AuthEvent;

/// API keys that are read at once.
const PAGE: u32 = 500;

impl Accounts {
    /// Takes in a fact that this process has just written to the store: felt by its next request. Every such fact
    /// goes through here; those of other processes come by [`pull`](Accounts::pull).
    pub(super) fn revoked(&self, fact: &Revoked, until_s: i64) {
        self.revocations.apply(fact, until_s);
    }

    /// Ends one session of `user`; `actor` is who wants it. `false`: it was over already.
    ///
    /// The store first: were it to fail after the memory, the client could not try again with a revoked token.
    pub(super) async fn end(
        &self,
        actor: Actor,
        user: UserId,
        sid: SessionId,
        origin: &Origin,
    ) -> Result<bool, Rejection> {
        let until_s = self.revoked_until_s();
        let ended = self.store.end_session(sid, self.now_ms(), until_s).await;
        let lived = self.witness.saw(ended).map_err(|error| unavailable(&error))?;
        self.revoked(&Revoked::Session(sid), until_s);
        if lived {
            self.witness.tell_session(AuthEvent::TokenRevoked, actor, user, sid, origin);
        }
        Ok(lived)
    }

    /// Ends one session of `user` that goes on; a session of another account is not found.
    pub(super) async fn end_session_of(
        &self,
        actor: UserId,
        user: UserId,
        sid: SessionId,
        origin: &Origin,
    ) -> Result<(), Rejection> {
        let session = self.witness.saw(self.store.session(sid).await).map_err(|error| unavailable(&error))?;
        if !session.is_some_and(|session| session.user == user && session.ended_at_ms.is_none()) {
            return Err(Rejection::NotFound);
        }
        // Somebody else may have been faster.
        if self.end(Actor::User(actor), user, sid, origin).await? { Ok(()) } else { Err(Rejection::NotFound) }
    }

    /// Changes an account; its sessions end and its tokens are revoked, at once on this gateway. `None`: there is no
    /// such account.
    pub(super) async fn change(
        &self,
        actor: UserId,
        id: UserId,
        change: UserChange,
        origin: &Origin,
    ) -> Result<Option<User>, Rejection> {
        let until_s = self.revoked_until_s();
        let of_rights = matches!(change, UserChange::Role(_) | UserChange::Active(_));
        let changed = self.store.change_user(id, change, self.now_ms(), until_s).await;
        let Some(user) = self.witness.saw(changed).map_err(|error| unavailable(&error))? else { return Ok(None) };
        self.revoked(&Revoked::User(id, user.tokens_not_before_s), until_s);
        if of_rights && let Err(error) = self.lost_api_keys(id, until_s).await {
            tracing::warn!(%error, "API keys that go beyond their account are refused with the next pull only");
        }
        self.witness.tell_by(actor, AuthEvent::TokenRevoked, Some(id), "all sessions", origin);
        Ok(Some(user))
    }

    /// Takes in which keys of an account were revoked with its rights.
    async fn lost_api_keys(&self, user: UserId, until_s: i64) -> Result<(), StoreError> {
        let mut after = ApiKeyId(0);
        loop {
            let keys = self.witness.saw(self.store.api_keys(after, PAGE).await)?;
            let Some(last) = keys.last() else { return Ok(()) };
            after = last.id;
            for key in keys.iter().filter(|key| key.user == user && key.revoked_at_ms.is_some()) {
                self.revoked(&Revoked::ApiKey(key.id), until_s);
            }
        }
    }
}
