//! Tells what happens to accounts, in numbers and in the log, and knows whether the store answers. Decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::identity::UserId;
use crate::store::StoreError;
use crate::telemetry::metrics::{AuthEvent, Metrics};

/// Name of the store in metrics and readiness.
pub(super) const STORE: &str = "identity";

pub(super) struct Witness {
    metrics: Arc<Metrics>,
    store_up: AtomicBool,
}

impl Witness {
    /// Takes the store to be up until a call says otherwise.
    pub(super) fn new(metrics: Arc<Metrics>) -> Witness {
        metrics.store_up(STORE, true);
        Witness { metrics, store_up: AtomicBool::new(true) }
    }

    /// Counts and logs an event. People are named by number only; `None`: the account is not known.
    pub(super) fn tell(&self, event: AuthEvent, user: Option<UserId>) {
        self.metrics.auth_event(event);
        let (name, user) = (event.as_str(), user.map(|user| user.0));
        match event {
            AuthEvent::LoginFail | AuthEvent::TokenReuse => tracing::warn!(event = name, user, "account event"),
            _ => tracing::info!(event = name, user, "account event"),
        }
    }

    /// Notes whether the store answered, and passes its answer on.
    pub(super) fn saw<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        // A conflict or an odd row is an answer.
        let up = !matches!(answer, Err(StoreError::Open { .. } | StoreError::Unavailable(_)));
        self.store_up.store(up, Ordering::Release);
        self.metrics.store_up(STORE, up);
        answer
    }

    pub(super) fn store_up(&self) -> bool {
        self.store_up.load(Ordering::Acquire)
    }
}
