//! The throttle in force: the shared one while it answers, that of this process else.
//!
//! Both count every attempt; the shared one decides when it answers in time. So its loss forgets what other replicas
//! saw, never what this one saw: nothing opens, and nothing is an error.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::Clock;
use crate::store::{Admission, Claim, LocalThrottle, Place, StoreError, ThrottleStore};

pub(super) struct Throttle {
    local: LocalThrottle,
    shared: OnceLock<Arc<dyn ThrottleStore>>,
    shared_answers: AtomicBool,
}

/// An attempt under way. Counted as failed until it is settled, also when its caller leaves.
pub(super) struct Attempt {
    claim: Claim,
    local: Option<Place>,
    shared: Option<Place>,
}

impl Throttle {
    pub(super) fn new(clock: Clock) -> Result<Throttle, StoreError> {
        let (local, shared_answers) = (LocalThrottle::new(clock)?, AtomicBool::new(true));
        Ok(Throttle { local, shared: OnceLock::new(), shared_answers })
    }

    /// Decides together with other replicas from now on. Only the first call counts.
    pub(super) fn share(&self, shared: Arc<dyn ThrottleStore>) {
        // There is one place that calls it, at the start.
        let _ = self.shared.set(shared);
    }

    /// Begins an attempt; the error is the wait until one may be made.
    pub(super) async fn begin(&self, email_key: String, address: Option<IpAddr>) -> Result<Attempt, Duration> {
        let claim = Claim { email_key, address };
        let local = self.local.try_reserve(&claim);
        let shared = match self.shared.get() {
            Some(shared) => self.heard(shared.reserve(&claim).await),
            None => None,
        };
        match (local, shared) {
            (Admission::Admitted(place), None) => Ok(Attempt { claim, local: Some(place), shared: None }),
            (Admission::Wait(wait), None) => Err(wait),
            (local, Some(Admission::Admitted(place))) => {
                Ok(Attempt { claim, local: admitted(local), shared: Some(place) })
            }
            (local, Some(Admission::Wait(wait))) => {
                if let Some(place) = admitted(local) {
                    self.local.note_undecided(&claim, place);
                }
                Err(wait)
            }
        }
    }

    /// The password was right.
    pub(super) async fn proven(&self, attempt: Attempt) {
        let Attempt { claim, local, shared } = attempt;
        self.local.note_proven(&claim, local);
        if let Some(store) = self.shared.get() {
            self.heard(store.proven(&claim, shared).await);
        }
    }

    /// The password was not looked at.
    pub(super) async fn undecided(&self, attempt: Attempt) {
        let Attempt { claim, local, shared } = attempt;
        if let Some(place) = local {
            self.local.note_undecided(&claim, place);
        }
        if let (Some(store), Some(place)) = (self.shared.get(), shared) {
            self.heard(store.undecided(&claim, place).await);
        }
    }

    /// An account was made here: its address is known from the start.
    pub(super) async fn made(&self, email_key: String, address: Option<IpAddr>) {
        self.proven(Attempt { claim: Claim { email_key, address }, local: None, shared: None }).await;
    }

    /// The shared one's answer, if it gave one; tells when that changes.
    fn heard<T>(&self, answer: Result<T, StoreError>) -> Option<T> {
        let answers = answer.is_ok();
        let before = self.shared_answers.swap(answers, Ordering::AcqRel);
        match (&answer, before) {
            (Err(error), true) => {
                tracing::warn!(%error, "failed log-ins are counted by this process alone, for now");
            }
            (Ok(_), false) => tracing::info!("failed log-ins are counted together with other replicas again"),
            _ => {}
        }
        answer.ok()
    }
}

fn admitted(admission: Admission) -> Option<Place> {
    match admission {
        Admission::Admitted(place) => Some(place),
        Admission::Wait(_) => None,
    }
}
