//! [`Accounts`]: registration, log-in, refresh, log-out. The only writer of accounts and sessions in the gateway.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::background::PULL_EVERY;
use super::email::{Email, FullName, email_key};
use super::hashing::HashPool;
use super::password::NewPassword;
use super::revocation::Revocations;
use super::session::{Verdict, judge, millis};
use super::witness::Witness;
use super::{AccountsConfig, Authenticator, LEEWAY_S, MAX_ACCESS_TTL, MAX_SESSIONS};
use crate::clock::Clock;
use crate::model::identity::{Identity, SessionId, TokenId, UserId};
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::store::{Credentials, IdentityStore, NewSession, NewUser, Revoked, Session, StoreError, User};
use crate::telemetry::metrics::{AuthEvent, Metrics};

/// What a client is told to wait when the store does not answer: the time of a pull, which would notice its return.
const STORE_RETRY: Duration = PULL_EVERY;

/// An account to be registered by its owner.
#[derive(Debug)]
pub struct Registration {
    /// Its address.
    pub email: Email,
    /// Name for people.
    pub full_name: FullName,
    /// Its password, which passed the rules.
    pub password: NewPassword,
    /// What it wants to be.
    pub role: Role,
}

/// What a successful log-in or refresh gives.
#[derive(Debug)]
pub struct TokenPair {
    /// The access token.
    pub access: SecretString,
    /// The refresh token.
    pub refresh: SecretString,
    /// Life of the access token, in seconds.
    pub expires_in: i64,
    /// Whose they are.
    pub user: User,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A setting is not possible.
    #[error("accounts: {0}")]
    Setting(String),
}

/// The service behind `/auth`.
pub struct Accounts {
    pub(super) store: Arc<dyn IdentityStore>,
    authenticator: Arc<Authenticator>,
    pub(super) revocations: Arc<Revocations>,
    hashes: HashPool,
    /// Of a password that nobody has: what unknown addresses are checked against.
    dummy_hash: String,
    config: AccountsConfig,
    pub(super) clock: Clock,
    /// Revision of the last fact pulled.
    pub(super) pulled: Mutex<i64>,
    pub(super) witness: Witness,
}

impl Accounts {
    /// Opens the service: loads what is revoked and makes ready to hash. What happens is counted in `metrics`.
    pub async fn open(
        store: Arc<dyn IdentityStore>,
        secret: SecretString,
        config: AccountsConfig,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Accounts>, OpenError> {
        if config.access_ttl < Duration::from_secs(1) || config.access_ttl > MAX_ACCESS_TTL {
            return Err(OpenError::Setting("the life of access tokens must be between 1 second and 30 days".into()));
        }
        let hashes = HashPool::new(config.hash_cost, config.parallel_hashes, config.hash_queue, clock.clone())
            .map_err(OpenError::Setting)?;
        let dummy_hash = hashes
            .hash(SecretString::from(Uuid::new_v4().to_string()))
            .await
            .map_err(|_| OpenError::Setting("password hashing does not work".into()))?;
        let revocations = Arc::new(Revocations::new());
        let authenticator = Arc::new(Authenticator::new(&secret, &config.issuer, revocations.clone()));
        let (pulled, witness) = (Mutex::new(0), Witness::new(metrics));
        let accounts =
            Accounts { store, authenticator, revocations, hashes, dummy_hash, config, clock, pulled, witness };
        accounts.pull().await?;
        Ok(Arc::new(accounts))
    }

    /// What verifies access tokens on the request path.
    pub fn authenticator(&self) -> Arc<Authenticator> {
        self.authenticator.clone()
    }

    /// What is revoked.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The pool that computes password hashes.
    pub fn hashes(&self) -> &HashPool {
        &self.hashes
    }

    /// Whether the store answered when it was last asked; it is asked every 5 s at least.
    pub fn store_is_up(&self) -> bool {
        self.witness.store_up()
    }

    /// Makes an account and logs it in.
    pub async fn register(&self, registration: Registration) -> Result<TokenPair, Rejection> {
        if registration.role == Role::Admin {
            return Err(Rejection::RoleNotAllowed);
        }
        let password_hash = self.hashes.hash(registration.password.into_secret()).await?;
        let user = NewUser {
            email_key: registration.email.key().to_owned(),
            email: registration.email.as_str().to_owned(),
            full_name: registration.full_name.as_str().to_owned(),
            role: registration.role,
            password_hash,
            created_at_ms: self.now_ms(),
        };
        let user = self.witness.saw(self.store.insert_user(user).await).map_err(|error| match error {
            StoreError::Conflict => Rejection::EmailAlreadyUsed,
            other => unavailable(&other),
        })?;
        self.witness.tell(AuthEvent::UserCreated, Some(user.id));
        self.open_session(user).await
    }

    /// Opens a session. Unknown address, inactive account and wrong password cost the same and answer the same.
    pub async fn login(&self, email: &str, password: SecretString) -> Result<TokenPair, Rejection> {
        let found = self.store.credentials(&email_key(email)).await;
        let found = self.witness.saw(found).map_err(|error| unavailable(&error))?;
        let known = found.as_ref().map(|found| found.user.id);
        let (user, hash) = match found {
            Some(Credentials { user, password_hash }) => (user.is_active.then_some(user), password_hash),
            None => (None, self.dummy_hash.clone()),
        };
        let matches = self.hashes.verify(password, hash).await?;
        let opened = match user {
            Some(user) if matches => self.open_session(user).await,
            _ => Err(Rejection::InvalidCredentials),
        };
        match &opened {
            Ok(_) => self.witness.tell(AuthEvent::LoginSuccess, known),
            Err(Rejection::InvalidCredentials) => self.witness.tell(AuthEvent::LoginFail, known),
            Err(_) => {}
        }
        opened
    }

    /// Goes on with a session: a new access token, and the next refresh token.
    pub async fn refresh(&self, token: &SecretString) -> Result<TokenPair, Rejection> {
        let token = token.expose_secret().as_bytes();
        let Some((sid, counter)) = self.authenticator.refresh.read(token) else {
            let is_access = self.authenticator.verify(token, self.clock.unix_seconds()).is_ok();
            return Err(if is_access { Rejection::WrongTokenType } else { Rejection::InvalidRefreshToken });
        };
        // Each turn but the last lost a race against another refresh of the same session.
        for _ in 0..3 {
            let session = self.witness.saw(self.store.session(sid).await).map_err(|error| unavailable(&error))?;
            let Some(session) = session else { return Err(Rejection::InvalidRefreshToken) };
            let now_ms = self.now_ms();
            let current = match judge(&session, counter, now_ms, self.config.refresh_ttl) {
                Verdict::Over => return Err(Rejection::InvalidRefreshToken),
                Verdict::Theft => return Err(self.stolen(&session).await),
                Verdict::Repeat => session.counter,
                Verdict::Rotate => {
                    let rotated = self.store.rotate_session(sid, counter, now_ms).await;
                    if !self.witness.saw(rotated).map_err(|error| unavailable(&error))? {
                        continue;
                    }
                    counter.saturating_add(1)
                }
            };
            return self.continue_session(&session, current).await;
        }
        Err(Rejection::Overloaded(Duration::from_secs(1)))
    }

    /// Ends a session, with its access tokens, at once on this gateway.
    pub async fn logout(&self, user: UserId, session: SessionId) -> Result<(), Rejection> {
        self.end(user, session).await.map_err(|error| unavailable(&error))
    }

    /// The account of a proven user.
    pub async fn me(&self, user: UserId) -> Result<User, Rejection> {
        let user = self.witness.saw(self.store.user(user).await).map_err(|error| unavailable(&error))?;
        user.filter(|user| user.is_active).ok_or(Rejection::TokenRevoked)
    }

    async fn open_session(&self, user: User) -> Result<TokenPair, Rejection> {
        let now_ms = self.now_ms();
        let session = NewSession {
            sid: SessionId(Uuid::new_v4()),
            user: user.clone(),
            now_ms,
            ends_at_ms: now_ms.saturating_add(millis(self.config.session_ttl)),
            idle_since_ms: now_ms.saturating_sub(millis(self.config.refresh_ttl)),
            keep: MAX_SESSIONS,
            revoked_until_s: self.revoked_until_s(),
        };
        let (sid, ends_at_ms, until_s) = (session.sid, session.ends_at_ms, session.revoked_until_s);
        let surplus = self.witness.saw(self.store.insert_session(session).await).map_err(|error| match error {
            // The account was changed while its password was being checked.
            StoreError::Conflict => Rejection::InvalidCredentials,
            other => unavailable(&other),
        })?;
        for old in surplus {
            self.revocations.apply(Revoked::Session(old), until_s);
            self.witness.tell(AuthEvent::TokenRevoked, Some(user.id));
        }
        self.tokens(user, sid, 0, ends_at_ms)
    }

    async fn continue_session(&self, session: &Session, counter: i64) -> Result<TokenPair, Rejection> {
        let user = self.witness.saw(self.store.user(session.user).await).map_err(|error| unavailable(&error))?;
        let user = user.filter(|user| user.is_active).ok_or(Rejection::InvalidRefreshToken)?;
        self.tokens(user, session.sid, counter, session.ends_at_ms)
    }

    fn tokens(&self, user: User, sid: SessionId, counter: i64, ends_at_ms: i64) -> Result<TokenPair, Rejection> {
        let now = self.clock.unix_seconds();
        let ttl = i64::try_from(self.config.access_ttl.as_secs()).unwrap_or(i64::MAX);
        // After a change of the account in this very second, the next second's tokens are already good ones.
        let issued_at = now.max(user.tokens_not_before_s.saturating_add(1));
        let expires_at = now.saturating_add(ttl).min(ends_at_ms.div_euclid(1000)).max(issued_at.saturating_add(1));
        let identity = Identity {
            user: user.id,
            email: Arc::from(user.email.as_str()),
            role: user.role,
            session: sid,
            token: TokenId(Uuid::new_v4()),
            issued_at,
            expires_at,
        };
        let access = SecretString::from(self.authenticator.access.issue(&identity)?);
        self.witness.tell(AuthEvent::TokenCreated, Some(user.id));
        Ok(TokenPair {
            access,
            refresh: SecretString::from(self.authenticator.refresh.issue(sid, counter)),
            expires_in: expires_at.saturating_sub(now),
            user,
        })
    }

    async fn stolen(&self, session: &Session) -> Rejection {
        self.witness.tell(AuthEvent::TokenReuse, Some(session.user));
        match self.end(session.user, session.sid).await {
            Ok(()) => Rejection::InvalidRefreshToken,
            Err(error) => unavailable(&error),
        }
    }

    /// The store first: were it to fail after the memory, the client could not try again with a revoked token.
    async fn end(&self, user: UserId, sid: SessionId) -> Result<(), StoreError> {
        let until_s = self.revoked_until_s();
        let lived = self.witness.saw(self.store.end_session(sid, self.now_ms(), until_s).await)?;
        self.revocations.apply(Revoked::Session(sid), until_s);
        if lived {
            self.witness.tell(AuthEvent::TokenRevoked, Some(user));
        }
        Ok(())
    }

    /// When the last access token made until now is certainly over.
    fn revoked_until_s(&self) -> i64 {
        let ttl = i64::try_from(self.config.access_ttl.as_secs()).unwrap_or(i64::MAX);
        self.clock.unix_seconds().saturating_add(ttl).saturating_add(LEEWAY_S + 1)
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.wall().as_millisecond()
    }
}

fn unavailable(error: &StoreError) -> Rejection {
    tracing::error!(%error, "the identity store did not answer");
    Rejection::AuthUnavailable(STORE_RETRY)
}
