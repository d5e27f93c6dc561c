//! The store that replicas share: PostgreSQL.
//!
//! Every call is one transaction or one statement on a pooled connection and ends within seconds. Rows are locked
//! before facts ([`facts`]), everywhere in this order, so that no two calls wait for each other.

mod adopt;
mod adopted_columns;
mod api_keys;
mod audit;
mod facts;
mod limit_rules;
mod migrations;
mod pool;
mod rows;
mod sessions;
mod target;
mod tls;
mod users;

#[cfg(test)]
mod adopt_tests;
#[cfg(test)]
mod crowd_tests;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use ipnet::IpNet;
use secrecy::SecretString;

use super::{
    AddressBlock, ApiKey, ApiKeyStore, AuditEntry, AuditHead, AuditRecord, AuditStore, Changed, Credentials,
    IdentityStore, LimitOverride, LimitRuleStore, LimitRules, NewApiKey, NewSession, NewUser, Revocation,
    RevocationStore, Revoked, Session, SessionStore, StoreError, UsableApiKey, User, UserChange, UserStore,
};
use crate::clock::Clock;
use crate::model::identity::{ApiKeyId, SessionId, UserId};
pub use adopt::{Adopted, KEPT_AS};
pub use migrations::Migrated;
use pool::{NoConnection, Pool};
use target::{Target, Tls};

/// How long to leave a database alone that was not there at the start.
const START_PAUSE: Duration = Duration::from_millis(500);

/// Where the database is, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?sslmode=…`.
    pub url: SecretString,
    /// Most connections at once.
    pub connections: usize,
    /// Longest that one connection may take to be made.
    pub connect_timeout: Duration,
    /// Longest that a call may wait for a connection, and then for its answer.
    pub timeout: Duration,
    /// How long a database is waited for that is not there at the start.
    pub start_wait: Duration,
}

/// What whoever opens the store does about tables that are missing or old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// Makes them, or brings them to this program's version.
    Migrate,
    /// Changes nothing: refuses to start (`INIT_DB=false`).
    Check,
    /// Changes nothing: refuses. For commands, which must not decide when a database moves to another version.
    Use,
    /// Makes them where there are none, neither ours nor the earlier gateway's; else as `Use`. For the command that makes
    /// the first account.
    Found,
}

/// The store in a PostgreSQL database.
pub struct PostgresStore {
    pool: Pool,
}

impl PostgresStore {
    /// Waits for the database, brings its tables to the current version or checks them, and makes the pool.
    pub async fn open(options: &PostgresOptions, tables: Tables, clock: &Clock) -> Result<PostgresStore, StoreError> {
        let target = Target::parse(&options.url)?;
        let pool = Pool::new(options)?;
        if target.tls == Tls::Offered && !target.is_local() {
            tracing::warn!(
                database = target.name,
                "nothing proves that this is the right database; add sslmode=verify-full to DATABASE_URL"
            );
        }
        bring(options, &target, tables, clock).await?;
        Ok(PostgresStore { pool })
    }
}

/// Waits for the database and brings its tables to the current version: what a start does, without the start.
pub async fn migrate(options: &PostgresOptions, clock: &Clock) -> Result<Migrated, StoreError> {
    bring(options, &Target::parse(&options.url)?, Tables::Migrate, clock).await
}

async fn bring(
    options: &PostgresOptions,
    target: &Target,
    tables: Tables,
    clock: &Clock,
) -> Result<Migrated, StoreError> {
    let mut client = connect(options, &target.name, clock).await?;
    migrations::bring(&mut client, tables, &target.name).await
}

/// The first connection. In a group of containers the database may come up later than the gateway.
async fn connect(options: &PostgresOptions, name: &str, clock: &Clock) -> Result<tokio_postgres::Client, StoreError> {
    let started = clock.now();
    let mut told = false;
    loop {
        let error = match pool::connect(options).await {
            Ok(client) => return Ok(client),
            Err(NoConnection::Yet(error)) if clock.now().since(started) < options.start_wait => error,
            Err(NoConnection::Yet(StoreError::Unavailable(why)) | NoConnection::Ever(StoreError::Unavailable(why))) => {
                return Err(StoreError::Database {
                    why: format!("{name} cannot be used: {why}"),
                    fix: "check DATABASE_URL, and that the database runs and lets this user in".to_owned(),
                });
            }
            Err(NoConnection::Yet(error) | NoConnection::Ever(error)) => return Err(error),
        };
        if !told {
            tracing::warn!(database = name, %error, wait = ?options.start_wait, "waiting for the database");
            told = true;
        }
        tokio::time::sleep(START_PAUSE).await;
    }
}

#[async_trait]
impl UserStore for PostgresStore {
    async fn insert_user(&self, user: NewUser) -> Result<User, StoreError> {
        self.pool.call(move |client| Box::pin(users::insert(client, user))).await
    }

    async fn credentials(&self, email_key: &str) -> Result<Option<Credentials>, StoreError> {
        let email_key = email_key.to_owned();
        self.pool.call(move |client| Box::pin(users::credentials(client, email_key))).await
    }

    async fn credentials_of(&self, id: UserId) -> Result<Option<Credentials>, StoreError> {
        self.pool.call(move |client| Box::pin(users::credentials_of(client, id))).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.pool.call(move |client| Box::pin(users::by_id(client, id))).await
    }

    async fn users(&self, after: UserId, limit: u32) -> Result<Vec<User>, StoreError> {
        self.pool.call(move |client| Box::pin(users::list(client, after, limit))).await
    }

    async fn change_user(
        &self,
        id: UserId,
        change: UserChange,
        now_ms: i64,
        revoked_until_s: i64,
    ) -> Result<Option<Changed>, StoreError> {
        self.pool.call(move |client| Box::pin(users::change(client, id, change, now_ms, revoked_until_s))).await
    }

    async fn upgrade_hash(&self, id: UserId, from: &str, to: &str) -> Result<bool, StoreError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.pool.call(move |client| Box::pin(users::upgrade_hash(client, id, from, to))).await
    }

    async fn bcrypt_cost(&self, most: u32) -> Result<Option<u32>, StoreError> {
        self.pool.call(move |client| Box::pin(users::bcrypt_cost(client, most))).await
    }
}

#[async_trait]
impl SessionStore for PostgresStore {
    async fn insert_session(&self, session: NewSession) -> Result<Vec<SessionId>, StoreError> {
        self.pool.call(move |client| Box::pin(sessions::insert(client, session))).await
    }

    async fn session(&self, sid: SessionId) -> Result<Option<Session>, StoreError> {
        self.pool.call(move |client| Box::pin(sessions::by_id(client, sid))).await
    }

    async fn sessions_of(&self, user: UserId, now_ms: i64, idle_since_ms: i64) -> Result<Vec<Session>, StoreError> {
        self.pool.call(move |client| Box::pin(sessions::of_user(client, user, now_ms, idle_since_ms))).await
    }

    async fn rotate_session(&self, sid: SessionId, counter: i64, now_ms: i64) -> Result<bool, StoreError> {
        self.pool.call(move |client| Box::pin(sessions::rotate(client, sid, counter, now_ms))).await
    }

    async fn end_session(&self, sid: SessionId, now_ms: i64, revoked_until_s: i64) -> Result<bool, StoreError> {
        self.pool.call(move |client| Box::pin(sessions::end(client, sid, now_ms, revoked_until_s))).await
    }
}

#[async_trait]
impl RevocationStore for PostgresStore {
    async fn revoke(&self, revoked: Revoked, until_s: i64) -> Result<i64, StoreError> {
        self.pool.call(move |client| Box::pin(facts::revoke(client, revoked, until_s))).await
    }

    async fn revocations_since(&self, revision: i64, limit: u32) -> Result<Vec<Revocation>, StoreError> {
        self.pool.call(move |client| Box::pin(facts::since(client, revision, limit))).await
    }
}

#[async_trait]
impl ApiKeyStore for PostgresStore {
    async fn insert_api_key(&self, key: NewApiKey) -> Result<ApiKey, StoreError> {
        self.pool.call(move |client| Box::pin(api_keys::insert(client, key))).await
    }

    async fn api_keys(&self, after: ApiKeyId, limit: u32) -> Result<Vec<ApiKey>, StoreError> {
        self.pool.call(move |client| Box::pin(api_keys::list(client, after, limit))).await
    }

    async fn usable_api_keys_since(
        &self,
        after: ApiKeyId,
        now_ms: i64,
        limit: u32,
    ) -> Result<Vec<UsableApiKey>, StoreError> {
        self.pool.call(move |client| Box::pin(api_keys::usable_since(client, after, now_ms, limit))).await
    }

    async fn revoke_api_key(&self, id: ApiKeyId, now_ms: i64, revoked_until_s: i64) -> Result<bool, StoreError> {
        self.pool.call(move |client| Box::pin(api_keys::revoke(client, id, now_ms, revoked_until_s))).await
    }

    async fn touch_api_keys(&self, used: &[(ApiKeyId, i64)]) -> Result<(), StoreError> {
        let used = used.to_vec();
        self.pool.call(move |client| Box::pin(api_keys::touch(client, used))).await
    }
}

#[async_trait]
impl LimitRuleStore for PostgresStore {
    async fn put_override(&self, new: LimitOverride) -> Result<(), StoreError> {
        self.pool.call(move |client| Box::pin(limit_rules::put_override(client, new, rand::random()))).await
    }

    async fn remove_override(&self, user: UserId, policy: &str, now_s: i64) -> Result<bool, StoreError> {
        let (policy, stamp) = (policy.to_owned(), rand::random());
        self.pool.call(move |client| Box::pin(limit_rules::remove_override(client, user, policy, now_s, stamp))).await
    }

    async fn put_block(&self, new: AddressBlock) -> Result<(), StoreError> {
        self.pool.call(move |client| Box::pin(limit_rules::put_block(client, new, rand::random()))).await
    }

    async fn remove_block(&self, network: IpNet, now_s: i64) -> Result<bool, StoreError> {
        self.pool.call(move |client| Box::pin(limit_rules::remove_block(client, network, now_s, rand::random()))).await
    }

    async fn limit_rules(&self, known: Option<i64>) -> Result<Option<LimitRules>, StoreError> {
        self.pool.call(move |client| Box::pin(limit_rules::read(client, known))).await
    }
}

#[async_trait]
impl AuditStore for PostgresStore {
    async fn append_audit(&self, entries: Vec<AuditEntry>) -> Result<Vec<AuditRecord>, StoreError> {
        self.pool.call(move |client| Box::pin(audit::append(client, entries))).await
    }

    async fn audit_since(&self, seq: i64, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        self.pool.call(move |client| Box::pin(audit::since(client, seq, limit))).await
    }

    async fn audit_head(&self) -> Result<AuditHead, StoreError> {
        self.pool.call(move |client| Box::pin(audit::head(client))).await
    }

    async fn trim_audit(&self, before_ms: i64) -> Result<u64, StoreError> {
        let mut gone = 0_u64;
        loop {
            let part = self.pool.call(move |client| Box::pin(audit::trim(client, before_ms))).await?;
            if part == 0 {
                return Ok(gone);
            }
            gone = gone.saturating_add(part);
        }
    }
}

#[async_trait]
impl IdentityStore for PostgresStore {
    async fn purge(&self, now_ms: i64) -> Result<(), StoreError> {
        while self.pool.call(move |client| Box::pin(sessions::purge(client, now_ms))).await? {}
        self.pool.call(move |client| Box::pin(limit_rules::forget_ended(client, now_ms.div_euclid(1000)))).await
    }
}
