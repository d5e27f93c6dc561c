//! What admins do with API keys, through the running gateway.

use super::ApiKeys;
use super::issue::{ApiKeyRequest, IssueError, IssuedApiKey, issue};
use super::table::MAX_KEYS;
use crate::accounts::service::unavailable;
use crate::accounts::{Accounts, Origin, Page, revoked_until_s};
use crate::audit::{Actor, Event, EventKind, Subject};
use crate::model::identity::{ApiKeyId, UserId};
use crate::model::rejection::{FieldProblem, Rejection};
use crate::store::{ApiKey, Revoked, UsableApiKey};
use crate::telemetry::metrics::AuthEvent;

impl ApiKeys {
    /// Takes revoked keys out of memory.
    pub(in crate::accounts) fn forget(&self, revoked: &[ApiKeyId]) {
        if !revoked.is_empty() {
            self.table.retain(|entry| !revoked.contains(&entry.id));
        }
    }
}

impl Accounts {
    /// Makes a key, good at once on this gateway and with their next pull on others.
    pub async fn create_api_key(&self, request: ApiKeyRequest, origin: &Origin) -> Result<IssuedApiKey, Rejection> {
        if self.api_keys.table.len() >= MAX_KEYS {
            return Err(fault("name", "there are 100000 usable keys already: revoke some first"));
        }
        let issued = issue(&*self.store, request, self.now_ms()).await;
        let issued = match issued {
            Err(IssueError::Store(error)) => self.witness.saw(Err(error)).map_err(|error| unavailable(&error)),
            Err(error) => Err(refusal(&error)),
            Ok(issued) => Ok(issued),
        }?;
        let IssuedApiKey { key, hash, email, .. } = &issued;
        self.api_keys.table.add(vec![UsableApiKey { key: key.clone(), hash: *hash, email: email.clone() }]);
        let details = format!("{}, for user:{}, role {}", key.prefix, key.user, key.role);
        self.tell_of_key(AuthEvent::ApiKeyCreated, key.id, key.created_by, details, origin);
        Ok(issued)
    }

    /// Up to `limit` keys with a number above `after`, revoked and expired ones included.
    pub async fn list_api_keys(
        &self,
        admin: UserId,
        after: ApiKeyId,
        limit: u32,
        origin: &Origin,
    ) -> Result<Page<ApiKey>, Rejection> {
        let found = self.store.api_keys(after, Page::<ApiKey>::to_read(limit)).await;
        let keys = self.witness.saw(found).map_err(|error| unavailable(&error))?;
        self.told(admin, None, "list of API keys", origin);
        Ok(Page::of(keys, limit, |key| key.id.0))
    }

    /// Revokes a key, at once on this gateway and with the fact on others. `by`: the admin.
    pub async fn revoke_api_key(&self, id: ApiKeyId, by: UserId, origin: &Origin) -> Result<(), Rejection> {
        let until_s = revoked_until_s(self.clock.unix_seconds());
        let revoked = self.store.revoke_api_key(id, self.now_ms(), until_s).await;
        if !self.witness.saw(revoked).map_err(|error| unavailable(&error))? {
            return Err(Rejection::NotFound);
        }
        self.revoked(&Revoked::ApiKey(id), until_s);
        self.api_keys.forget(&[id]);
        self.tell_of_key(AuthEvent::ApiKeyRevoked, id, Some(by), "revoked for good".to_owned(), origin);
        Ok(())
    }

    fn tell_of_key(&self, event: AuthEvent, key: ApiKeyId, by: Option<UserId>, details: String, origin: &Origin) {
        let mut told = Event::new(EventKind::Auth(event)).on(Subject::ApiKey(key)).saying(details);
        told.actor = by.map(Actor::User);
        self.witness.tell_all(event, told, origin);
    }
}

fn refusal(error: &IssueError) -> Rejection {
    match error {
        IssueError::NoAccount => fault("user_id", "is no active account"),
        IssueError::RoleAbove(_) => fault("role", "must not be above the account's role"),
        IssueError::Past => fault("expires_at", "must lie in the future"),
        IssueError::NoRandom(_) | IssueError::Store(_) => {
            tracing::error!(%error, "an API key could not be made");
            Rejection::Internal
        }
    }
}

fn fault(field: &'static str, problem: &'static str) -> Rejection {
    Rejection::Validation(vec![FieldProblem { field: field.into(), problem: problem.into() }])
}
