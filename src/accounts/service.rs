//! [`Accounts`]: registration, refresh, log-out; log-in is in `login.rs`. The only writer of accounts and sessions in the gateway.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::api_keys::ApiKeys;
use super::background::PULL_EVERY;
use super::email::{Email, FullName};
use super::hashing::HashPool;
use super::keys::KeyRing;
use super::origin::Origin;
use super::password::NewPassword;
use super::refresh::{self, Presented};
use super::revocation::Revocations;
use super::session::{Verdict, judge, millis, session_key};
use super::throttle::Throttle;
use super::token::NewToken;
use super::witness::Witness;
use super::{AccountsConfig, Authenticator, LEEWAY_S, MAX_ACCESS_TTL, MAX_SESSIONS};
use crate::audit::{Actor, Audit, Event, EventKind};
use crate::clock::Clock;
use crate::model::identity::{SessionId, TokenId, UserId};
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::store::{IdentityStore, NewSession, NewUser, Revoked, Session, SessionKey, StoreError, User};
use crate::telemetry::metrics::{AuthEvent, Metrics, RevocationState};

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

/// What a session's tokens are made from.
struct Started {
    sid: SessionId,
    mac_key: SessionKey,
    ends_at_ms: i64,
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
    pub(super) api_keys: Arc<ApiKeys>,
    pub(super) hashes: Arc<HashPool>,
    pub(super) throttle: Throttle,
    pub(super) config: AccountsConfig,
    pub(super) clock: Clock,
    /// Revision of the last fact pulled.
    pub(super) pulled: Mutex<i64>,
    pub(super) witness: Witness,
}

impl Accounts {
    /// Opens the service: loads what is revoked and makes ready to hash. Tokens are signed with the keys of `ring`. What
    /// happens is counted in `metrics` and recorded in `audit`.
    pub async fn open(
        store: Arc<dyn IdentityStore>,
        ring: KeyRing,
        config: AccountsConfig,
        clock: Clock,
        metrics: Arc<Metrics>,
        audit: Audit,
    ) -> Result<Arc<Accounts>, OpenError> {
        if config.access_ttl < Duration::from_secs(1) || config.access_ttl > MAX_ACCESS_TTL {
            return Err(OpenError::Setting("the life of access tokens must be between 1 second and 30 days".into()));
        }
        let hashes = HashPool::new(config.hash_cost, config.parallel_hashes, config.hash_queue, clock.clone())
            .map_err(OpenError::Setting)?;
        // Also tells the pool how long a hash takes.
        hashes
            .hash(SecretString::from(Uuid::new_v4().to_string()))
            .await
            .map_err(|_| OpenError::Setting("password hashing does not work".into()))?;
        let revocations = Arc::new(Revocations::new());
        let authenticator = Arc::new(Authenticator::new(ring, &config.issuer, revocations.clone()));
        watch(&revocations, &clock, &metrics);
        let api_keys = Arc::new(ApiKeys::new(revocations.clone()));
        let (pulled, witness) = (Mutex::new(0), Witness::new(metrics, audit));
        let (hashes, throttle) = (Arc::new(hashes), Throttle::new(clock.clone())?);
        let accounts =
            Accounts { store, authenticator, revocations, api_keys, hashes, throttle, config, clock, pulled, witness };
        accounts.pull().await?;
        accounts.look_for_bcrypt().await?;
        Ok(Arc::new(accounts))
    }

    /// What verifies access tokens on the request path.
    pub fn authenticator(&self) -> Arc<Authenticator> {
        self.authenticator.clone()
    }

    /// What verifies API keys on the request path.
    pub fn api_keys(&self) -> Arc<ApiKeys> {
        self.api_keys.clone()
    }

    /// What is revoked.
    #[cfg(test)]
    pub(super) fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The pool that computes password hashes.
    #[cfg(test)]
    pub(super) fn hashes(&self) -> &HashPool {
        &self.hashes
    }

    /// Whether the store answered when it was last asked; it is asked every 5 s at least.
    pub fn store_is_up(&self) -> bool {
        self.witness.store_up()
    }

    /// Makes an account and logs it in.
    pub async fn register(&self, registration: Registration, origin: &Origin) -> Result<TokenPair, Rejection> {
        if registration.role == Role::Admin {
            let told = Event::new(EventKind::Auth(AuthEvent::AuthzFail)).saying("registration as admin");
            self.witness.tell_all(AuthEvent::AuthzFail, told, origin);
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
        self.witness.tell(AuthEvent::UserCreated, Some(user.id), origin);
        self.throttle.made(registration.email.key().to_owned(), origin.address).await;
        self.open_session(user, origin).await
    }

    /// Goes on with a session: a new access token, and the next refresh token.
    pub async fn refresh(&self, token: &SecretString, origin: &Origin) -> Result<TokenPair, Rejection> {
        let token = token.expose_secret().as_bytes();
        let Some(presented) = Presented::parse(token) else {
            let is_access = self.authenticator.verify(token, self.clock.unix_seconds()).is_ok();
            return Err(if is_access { Rejection::WrongTokenType } else { Rejection::InvalidRefreshToken });
        };
        let Presented { session: sid, counter, .. } = presented;
        // Each turn but the last lost a race against another refresh of the same session.
        for _ in 0..3 {
            let session = self.witness.saw(self.store.session(sid).await).map_err(|error| unavailable(&error))?;
            let session = session.filter(|session| presented.is_made_with(&session.mac_key));
            let Some(session) = session else { return Err(Rejection::InvalidRefreshToken) };
            let now_ms = self.now_ms();
            let current = match judge(&session, counter, now_ms, self.config.refresh_ttl) {
                Verdict::Over => return Err(Rejection::InvalidRefreshToken),
                Verdict::Theft => return Err(self.stolen(&session, origin).await),
                Verdict::Repeat => session.counter,
                Verdict::Rotate => {
                    let rotated = self.store.rotate_session(sid, counter, now_ms).await;
                    if !self.witness.saw(rotated).map_err(|error| unavailable(&error))? {
                        continue;
                    }
                    counter.saturating_add(1)
                }
            };
            return self.continue_session(&session, current, origin).await;
        }
        Err(Rejection::Overloaded(Duration::from_secs(1)))
    }

    /// Ends a session, with its access tokens, at once on this gateway.
    pub async fn logout(&self, user: UserId, session: SessionId, origin: &Origin) -> Result<(), Rejection> {
        self.end(Actor::User(user), user, session, origin).await.map(|_| ())
    }

    /// The account of a proven user.
    pub async fn me(&self, user: UserId) -> Result<User, Rejection> {
        let user = self.witness.saw(self.store.user(user).await).map_err(|error| unavailable(&error))?;
        user.filter(|user| user.is_active).ok_or(Rejection::TokenRevoked)
    }

    pub(super) async fn open_session(&self, user: User, origin: &Origin) -> Result<TokenPair, Rejection> {
        let now_ms = self.now_ms();
        let session = NewSession {
            sid: SessionId(Uuid::new_v4()),
            user: user.clone(),
            mac_key: session_key()?,
            now_ms,
            ends_at_ms: now_ms.saturating_add(millis(self.config.session_ttl)),
            idle_since_ms: now_ms.saturating_sub(millis(self.config.refresh_ttl)),
            keep: MAX_SESSIONS,
            revoked_until_s: self.revoked_until_s(),
            address: origin.address,
            user_agent: origin.user_agent.clone(),
        };
        let started = Started { sid: session.sid, mac_key: session.mac_key.clone(), ends_at_ms: session.ends_at_ms };
        let until_s = session.revoked_until_s;
        let surplus = self.witness.saw(self.store.insert_session(session).await).map_err(|error| match error {
            // The account was changed while its password was being checked.
            StoreError::Conflict => Rejection::InvalidCredentials,
            other => unavailable(&other),
        })?;
        for old in surplus {
            self.revoked(&Revoked::Session(old), until_s);
            self.witness.tell_session(AuthEvent::TokenRevoked, Actor::Gateway, user.id, old, origin);
        }
        self.tokens(user, &started, 0, origin)
    }

    async fn continue_session(&self, session: &Session, counter: i64, origin: &Origin) -> Result<TokenPair, Rejection> {
        let user = self.witness.saw(self.store.user(session.user).await).map_err(|error| unavailable(&error))?;
        let user = user.filter(|user| user.is_active).ok_or(Rejection::InvalidRefreshToken)?;
        let started = Started { sid: session.sid, mac_key: session.mac_key.clone(), ends_at_ms: session.ends_at_ms };
        self.tokens(user, &started, counter, origin)
    }

    fn tokens(&self, user: User, session: &Started, counter: i64, origin: &Origin) -> Result<TokenPair, Rejection> {
        let Started { sid, mac_key, ends_at_ms } = session;
        let (sid, ends_at_ms) = (*sid, *ends_at_ms);
        let now = self.clock.unix_seconds();
        let ttl = i64::try_from(self.config.access_ttl.as_secs()).unwrap_or(i64::MAX);
        // After a change of the account in this very second, the next second's tokens are already good ones.
        let issued_at = now.max(user.tokens_not_before_s.saturating_add(1));
        let expires_at = now.saturating_add(ttl).min(ends_at_ms.div_euclid(1000)).max(issued_at.saturating_add(1));
        let token = TokenId(Uuid::new_v4());
        let issued = NewToken { user: &user, session: sid, token, issued_at, expires_at };
        let access = SecretString::from(self.authenticator.issue(&issued)?);
        self.witness.tell_session(AuthEvent::TokenCreated, Actor::User(user.id), user.id, sid, origin);
        Ok(TokenPair {
            access,
            refresh: SecretString::from(refresh::issue(mac_key, sid, counter)),
            expires_in: expires_at.saturating_sub(now),
            user,
        })
    }

    async fn stolen(&self, session: &Session, origin: &Origin) -> Rejection {
        self.witness.tell_session(AuthEvent::TokenReuse, None, session.user, session.sid, origin);
        match self.end(Actor::Gateway, session.user, session.sid, origin).await {
            Ok(_) => Rejection::InvalidRefreshToken,
            Err(rejection) => rejection,
        }
    }

    /// When the last access token made until now is certainly over, also one that was made under another
    /// `access_ttl`, before a restart or by another replica.
    pub(super) fn revoked_until_s(&self) -> i64 {
        let ttl = i64::try_from(MAX_ACCESS_TTL.as_secs()).unwrap_or(i64::MAX);
        self.clock.unix_seconds().saturating_add(ttl).saturating_add(LEEWAY_S + 1)
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.wall().as_millisecond()
    }
}

/// Lets each scrape ask how things are.
fn watch(revocations: &Arc<Revocations>, clock: &Clock, metrics: &Metrics) {
    let (revocations, clock) = (revocations.clone(), clock.clone());
    metrics.watch_revocations(move || RevocationState {
        facts: revocations.len(),
        staleness: revocations.age(clock.now()),
    });
}

pub(super) fn unavailable(error: &StoreError) -> Rejection {
    tracing::error!(%error, "the identity store did not answer");
    Rejection::AuthUnavailable(STORE_RETRY)
}
