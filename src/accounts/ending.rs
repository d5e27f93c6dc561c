//! Ends sessions and revokes tokens: in the store, then in memory.

use super::changes::events as change_events;
use super::origin::Origin;
use super::service::{Accounts, unavailable};
use crate::audit::Actor;
use crate::model::identity::{SessionId, UserId};
use crate::model::rejection::Rejection;
use crate::store::{Revoked, StoreError, User, UserChange};
use crate::telemetry::metrics::AuthEvent;

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

    /// Changes an account; its sessions end, its tokens are revoked, and so are the API keys that it no longer covers, at
    /// once on this gateway. All of it is told. `None`: there is no such account.
    pub(super) async fn change(
        &self,
        actor: UserId,
        id: UserId,
        change: &UserChange,
        origin: &Origin,
    ) -> Result<Option<User>, Rejection> {
        let until_s = self.revoked_until_s();
        let changed = self.store.change_user(id, change.clone(), self.now_ms(), until_s).await;
        let changed = self.witness.saw(changed).map_err(|error| match error {
            // It was changed since its owner was proven.
            StoreError::Conflict => Rejection::InvalidCredentials,
            other => unavailable(&other),
        })?;
        let Some(changed) = changed else { return Ok(None) };
        for fact in changed.facts() {
            self.revoked(&fact, until_s);
        }
        self.api_keys.forget(&changed.api_keys);
        for (event, told) in change_events(&Actor::User(actor), change, &changed) {
            self.witness.tell_all(event, told, origin);
        }
        Ok(Some(changed.user))
    }
}
