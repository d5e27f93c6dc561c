//! The store that needs nothing beside it: one SQLite file, mode 0600, one connection on a thread of its own.
//!
//! Callers hand the thread a closure and await its answer, so no proxy thread ever waits for the disk. The file is
//! in WAL mode: the command line may read and write it while the gateway runs.

mod api_keys;
mod audit;
mod limit_rules;
mod open;
mod revocations;
mod rows;
mod sessions;
mod users;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use async_trait::async_trait;
use ipnet::IpNet;
use rusqlite::Connection;
use rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{
    AddressBlock, ApiKey, ApiKeyStore, AuditEntry, AuditHead, AuditRecord, AuditStore, Changed, Credentials,
    IdentityStore, LimitOverride, LimitRuleStore, LimitRules, NewApiKey, NewSession, NewUser, Revocation,
    RevocationStore, Revoked, Session, SessionStore, StoreError, UsableApiKey, User, UserChange, UserStore,
};
use crate::model::identity::{ApiKeyId, SessionId, UserId};

/// Calls that may wait for the thread; one more is refused. At some 10 000 calls per second this is 0.1 s of work.
const QUEUE: usize = 1024;

/// Name of the file in the data folder.
pub const FILE_NAME: &str = "identity.db";

/// Longest that a caller waits: longer than a writer of another process may take, shorter than a client's patience.
const PATIENCE: Duration = Duration::from_secs(3);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The embedded store. Dropping it ends its thread after the calls in its queue.
pub struct EmbeddedStore {
    jobs: SyncSender<Job>,
}

impl EmbeddedStore {
    /// Opens or makes the file, and brings it to the current version.
    pub fn open(path: &Path) -> Result<EmbeddedStore, StoreError> {
        let connection = open::open(path)?;
        let (jobs, queue) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("identity-store".into())
            .spawn(move || work(connection, &queue))
            .map_err(|error| StoreError::Unavailable(format!("cannot start its thread: {error}")))?;
        Ok(EmbeddedStore { jobs })
    }

    async fn call<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, asked) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody waits any more, and nobody would know that it was done: a token was rotated, say, and not given out.
            if !answer.is_closed() {
                let _ = answer.send(job(connection));
            }
        });
        self.jobs.try_send(job).map_err(|_| StoreError::Unavailable("its queue is full or its thread ended".into()))?;
        match timeout(PATIENCE, asked).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(StoreError::Unavailable("the call was lost".into())),
            Err(_) => Err(StoreError::Unavailable(format!("it did not answer within {PATIENCE:?}"))),
        }
    }
}

fn work(mut connection: Connection, queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        // A transaction that unwinds rolls back when dropped, so the connection stays usable.
        if catch_unwind(AssertUnwindSafe(|| job(&mut connection))).is_err() {
            tracing::error!("a call to the identity store panicked; the call failed, the store goes on");
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error() {
            Some(code) if code.extended_code == SQLITE_CONSTRAINT_UNIQUE => StoreError::Conflict,
            _ => StoreError::Unavailable(error.to_string()),
        }
    }
}

#[async_trait]
impl UserStore for EmbeddedStore {
    async fn insert_user(&self, user: NewUser) -> Result<User, StoreError> {
        self.call(move |connection| users::insert(connection, user)).await
    }

    async fn credentials(&self, email_key: &str) -> Result<Option<Credentials>, StoreError> {
        let email_key = email_key.to_owned();
        self.call(move |connection| users::credentials(connection, &email_key)).await
    }

    async fn credentials_of(&self, id: UserId) -> Result<Option<Credentials>, StoreError> {
        self.call(move |connection| users::credentials_of(connection, id)).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.call(move |connection| users::by_id(connection, id)).await
    }

    async fn users(&self, after: UserId, limit: u32) -> Result<Vec<User>, StoreError> {
        self.call(move |connection| users::list(connection, after, limit)).await
    }

    async fn change_user(
        &self,
        id: UserId,
        change: UserChange,
        now_ms: i64,
        revoked_until_s: i64,
    ) -> Result<Option<Changed>, StoreError> {
        self.call(move |connection| users::change(connection, id, &change, now_ms, revoked_until_s)).await
    }

    async fn upgrade_hash(&self, id: UserId, from: &str, to: &str) -> Result<bool, StoreError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.call(move |connection| users::upgrade_hash(connection, id, &from, &to)).await
    }

    async fn bcrypt_cost(&self, most: u32) -> Result<Option<u32>, StoreError> {
        self.call(move |connection| users::bcrypt_cost(connection, most)).await
    }
}

#[async_trait]
impl SessionStore for EmbeddedStore {
    async fn insert_session(&self, session: NewSession) -> Result<Vec<SessionId>, StoreError> {
        self.call(move |connection| sessions::insert(connection, &session)).await
    }

    async fn session(&self, sid: SessionId) -> Result<Option<Session>, StoreError> {
        self.call(move |connection| sessions::by_id(connection, sid)).await
    }

    async fn sessions_of(&self, user: UserId, now_ms: i64, idle_since_ms: i64) -> Result<Vec<Session>, StoreError> {
        self.call(move |connection| sessions::of_user(connection, user, now_ms, idle_since_ms)).await
    }

    async fn rotate_session(&self, sid: SessionId, counter: i64, now_ms: i64) -> Result<bool, StoreError> {
        self.call(move |connection| sessions::rotate(connection, sid, counter, now_ms)).await
    }

    async fn end_session(&self, sid: SessionId, now_ms: i64, revoked_until_s: i64) -> Result<bool, StoreError> {
        self.call(move |connection| sessions::end(connection, sid, now_ms, revoked_until_s)).await
    }
}

#[async_trait]
impl RevocationStore for EmbeddedStore {
    async fn revoke(&self, revoked: Revoked, until_s: i64) -> Result<i64, StoreError> {
        self.call(move |connection| revocations::write(connection, &revoked, until_s)).await
    }

    async fn revocations_since(&self, revision: i64, limit: u32) -> Result<Vec<Revocation>, StoreError> {
        self.call(move |connection| revocations::since(connection, revision, limit)).await
    }
}

#[async_trait]
impl ApiKeyStore for EmbeddedStore {
    async fn insert_api_key(&self, key: NewApiKey) -> Result<ApiKey, StoreError> {
        self.call(move |connection| api_keys::insert(connection, key)).await
    }

    async fn api_keys(&self, after: ApiKeyId, limit: u32) -> Result<Vec<ApiKey>, StoreError> {
        self.call(move |connection| api_keys::list(connection, after, limit)).await
    }

    async fn usable_api_keys_since(
        &self,
        after: ApiKeyId,
        now_ms: i64,
        limit: u32,
    ) -> Result<Vec<UsableApiKey>, StoreError> {
        self.call(move |connection| api_keys::usable_since(connection, after, now_ms, limit)).await
    }

    async fn revoke_api_key(&self, id: ApiKeyId, now_ms: i64, revoked_until_s: i64) -> Result<bool, StoreError> {
        self.call(move |connection| api_keys::revoke(connection, id, now_ms, revoked_until_s)).await
    }

    async fn touch_api_keys(&self, used: &[(ApiKeyId, i64)]) -> Result<(), StoreError> {
        let used = used.to_vec();
        self.call(move |connection| api_keys::touch(connection, &used)).await
    }
}

#[async_trait]
impl LimitRuleStore for EmbeddedStore {
    async fn put_override(&self, new: LimitOverride) -> Result<(), StoreError> {
        self.call(move |connection| limit_rules::put_override(connection, &new, rand::random())).await
    }

    async fn remove_override(&self, user: UserId, policy: &str, now_s: i64) -> Result<bool, StoreError> {
        let policy = policy.to_owned();
        self.call(move |connection| limit_rules::remove_override(connection, user, &policy, now_s, rand::random()))
            .await
    }

    async fn put_block(&self, new: AddressBlock) -> Result<(), StoreError> {
        self.call(move |connection| limit_rules::put_block(connection, &new, rand::random())).await
    }

    async fn remove_block(&self, network: IpNet, now_s: i64) -> Result<bool, StoreError> {
        self.call(move |connection| limit_rules::remove_block(connection, network, now_s, rand::random())).await
    }

    async fn limit_rules(&self, known: Option<i64>) -> Result<Option<LimitRules>, StoreError> {
        self.call(move |connection| limit_rules::read(connection, known)).await
    }
}

#[async_trait]
impl AuditStore for EmbeddedStore {
    async fn append_audit(&self, entries: Vec<AuditEntry>) -> Result<Vec<AuditRecord>, StoreError> {
        self.call(move |connection| audit::append(connection, &entries)).await
    }

    async fn audit_since(&self, seq: i64, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        self.call(move |connection| audit::since(connection, seq, limit)).await
    }

    async fn audit_head(&self) -> Result<AuditHead, StoreError> {
        self.call(move |connection| audit::head(connection)).await
    }

    async fn trim_audit(&self, before_ms: i64) -> Result<u64, StoreError> {
        self.call(move |connection| audit::trim(connection, before_ms)).await
    }
}

#[async_trait]
impl IdentityStore for EmbeddedStore {
    async fn purge(&self, now_ms: i64) -> Result<(), StoreError> {
        self.call(move |connection| revocations::purge(connection, now_ms)).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::model::role::Role;

    #[tokio::test]
    async fn what_nobody_awaits_any_more_is_not_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let store = EmbeddedStore::open(&path).unwrap();
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let insert = |n: u8| {
            store.insert_user(NewUser {
                email_key: format!("{n}@example.com"),
                email: format!("{n}@example.com"),
                full_name: "A".into(),
                role: Role::Candidat,
                password_hash: "x".into(),
                created_at_ms: 0,
            })
        };
        for answer in join_all((0..5).map(insert)).await {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
        }
        writer.execute_batch("ROLLBACK").unwrap();
        // At most the one that had begun when its caller left.
        assert!(store.users(UserId(0), 10).await.unwrap().len() <= 1);
    }
}
