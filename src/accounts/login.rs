//! Log-in: the one place where a password is proven.
//!
//! In this order: the throttle, the account, the hash. Whoever has to wait is told so before anything is looked up or
//! hashed, whether or not there is such an account.

use std::sync::Arc;

use secrecy::SecretString;

use super::email::email_key;
use super::service::{TokenPair, unavailable};
use super::stored_hash::{MAX_BCRYPT_COST, Verdict};
use super::{Accounts, Origin};
use crate::model::identity::UserId;
use crate::model::rejection::Rejection;
use crate::store::{Credentials, StoreError, ThrottleStore, User};
use crate::telemetry::metrics::AuthEvent;

/// Whose password was right.
struct Proof {
    user: User,
    hash: String,
    is_weak: bool,
}

/// How a check ended: the account, if the address has one, and the proof, if the password was right.
struct Checked {
    known: Option<UserId>,
    proof: Option<Proof>,
}

impl Accounts {
    /// Opens a session. Unknown address, inactive account and wrong password cost the same and answer the same.
    pub async fn login(&self, email: &str, password: SecretString, origin: &Origin) -> Result<TokenPair, Rejection> {
        let user = self.prove_password(email, password, AuthEvent::LoginFail, origin).await?;
        let id = user.id;
        let opened = self.open_session(user, origin).await;
        match &opened {
            Ok(_) => self.witness.tell(AuthEvent::LoginSuccess, Some(id), origin),
            Err(Rejection::InvalidCredentials) => self.witness.tell(AuthEvent::LoginFail, Some(id), origin),
            Err(_) => {}
        }
        opened
    }

    /// The account of an address whose password this is. Everything that asks for a password asks here: failures are
    /// counted and told as `failed`, waits are kept, an old hash is replaced.
    ///
    /// # Errors
    /// `InvalidCredentials`, `RateLimited` with the wait, `Overloaded` while too many passwords are being checked,
    /// `AuthUnavailable`.
    pub async fn prove_password(
        &self,
        email: &str,
        password: SecretString,
        failed: AuthEvent,
        origin: &Origin,
    ) -> Result<User, Rejection> {
        let key = email_key(email);
        let attempt = self.throttle.begin(key.clone(), origin.address).await.map_err(|wait| {
            self.witness.tell(AuthEvent::LoginLock, None, origin);
            Rejection::RateLimited(wait)
        })?;
        match self.checked(&key, &password).await {
            Ok(Checked { proof: Some(proof), .. }) => {
                self.throttle.proven(attempt).await;
                if proof.is_weak {
                    self.replace_hash(&proof, password);
                }
                Ok(proof.user)
            }
            Ok(Checked { known, proof: None }) => {
                self.witness.tell(failed, known, origin);
                Err(Rejection::InvalidCredentials)
            }
            Err(rejection) => {
                self.throttle.undecided(attempt).await;
                Err(rejection)
            }
        }
    }

    /// Counts failed log-ins together with other replicas from now on.
    pub fn share_throttle(&self, shared: Arc<dyn ThrottleStore>) {
        self.throttle.share(shared);
    }

    async fn checked(&self, key: &str, password: &SecretString) -> Result<Checked, Rejection> {
        let found = self.witness.saw(self.store.credentials(key).await).map_err(|error| unavailable(&error))?;
        let known = found.as_ref().map(|found| found.user.id);
        // An inactive account is checked like one that is not there: no password is right for it.
        let usable = found.filter(|found| found.user.is_active);
        let hash = usable.as_ref().map(|usable| usable.password_hash.clone());
        let verdict = self.hashes.verify(password.clone(), hash).await?;
        let proof = usable.filter(|_| verdict != Verdict::Wrong).map(|Credentials { user, password_hash }| Proof {
            user,
            hash: password_hash,
            is_weak: verdict == Verdict::RightButWeak,
        });
        Ok(Checked { known, proof })
    }

    /// Puts a hash of the configured cost in the place of a weak one, behind the answer's back: the log-in does not wait
    /// for it. Is there no room now, the next log-in tries again; was the password changed meanwhile, it stays as it is.
    fn replace_hash(&self, proof: &Proof, password: SecretString) {
        let (hashes, store) = (self.hashes.clone(), self.store.clone());
        let (id, from) = (proof.user.id, proof.hash.clone());
        tokio::spawn(async move {
            let Ok(to) = hashes.hash(password).await else { return };
            match store.upgrade_hash(id, &from, &to).await {
                Ok(true) => tracing::info!(user = id.0, "a password hash was replaced by a stronger one"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, user = id.0, "a password hash could not be replaced"),
            }
        });
    }

    /// Learns how costly the bcrypt hashes are that are left, so that every failure can cost as much.
    pub(super) async fn look_for_bcrypt(&self) -> Result<(), StoreError> {
        let cost = self.witness.saw(self.store.bcrypt_cost(MAX_BCRYPT_COST).await)?;
        self.hashes.set_bcrypt_cost(cost.unwrap_or(0));
        Ok(())
    }
}
