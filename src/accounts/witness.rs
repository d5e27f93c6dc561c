//! Tells what happens to accounts, in numbers and to the audit trail, and knows whether the store answers. Decides
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Origin;
use crate::audit::{Actor, Audit, Event, EventKind, Subject};
use crate::model::identity::{SessionId, UserId};
use crate::store::StoreError;
use crate::telemetry::metrics::{AuthEvent, Metrics};

/// Name of the store in metrics and readiness.
pub(super) const STORE: &str = "identity";

pub(super) struct Witness {
    metrics: Arc<Metrics>,
    audit: Audit,
    store_up: AtomicBool,
}

impl Witness {
    /// Takes the store to be up until a call says otherwise.
    pub(super) fn new(metrics: Arc<Metrics>, audit: Audit) -> Witness {
        metrics.store_up(STORE, true);
        Witness { metrics, audit, store_up: AtomicBool::new(true) }
    }

    /// Counts and records what happened to an account. People are named by number only; `None`: the account is not
    /// known. Whoever fails to prove who they are is not taken for the account's owner.
    pub(super) fn tell(&self, event: AuthEvent, user: Option<UserId>, origin: &Origin) {
        let mut told = Event::new(EventKind::Auth(event));
        told.subject = user.map(Subject::User);
        if is_proof(event) {
            told.actor = user.map(Actor::User);
        }
        self.tell_all(event, told, origin);
    }

    /// Counts and records what happened to a session of `user`; no actor: nobody proved it.
    pub(super) fn tell_session(
        &self,
        event: AuthEvent,
        actor: impl Into<Option<Actor>>,
        user: UserId,
        session: SessionId,
        origin: &Origin,
    ) {
        let mut told = Event::new(EventKind::Auth(event)).on(Subject::Session(session));
        told.actor = actor.into();
        if told.actor != Some(Actor::User(user)) {
            told = told.saying(format!("of {}", Subject::User(user)));
        }
        self.tell_all(event, told, origin);
    }

    /// Counts and records what a proven `actor` did to the account of `subject`, or to none.
    pub(super) fn tell_by(
        &self,
        actor: UserId,
        event: AuthEvent,
        subject: Option<UserId>,
        details: impl Into<String>,
        origin: &Origin,
    ) {
        let mut told = Event::new(EventKind::Auth(event)).by(Actor::User(actor)).saying(details);
        told.subject = subject.map(Subject::User);
        self.tell_all(event, told, origin);
    }

    /// Counts and records an event with all that is known of it; its origin is `origin`.
    pub(super) fn tell_all(&self, event: AuthEvent, told: Event, origin: &Origin) {
        self.metrics.auth_event(event);
        self.audit.record(told.from(origin.address, origin.request_id.as_deref()));
    }

    /// Notes whether the store answered, and passes its answer on.
    pub(super) fn saw<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        // A conflict or an odd row is an answer.
        let up =
            !matches!(answer, Err(StoreError::Open { .. } | StoreError::Database { .. } | StoreError::Unavailable(_)));
        self.store_up.store(up, Ordering::Release);
        self.metrics.store_up(STORE, up);
        answer
    }

    /// Where it counts.
    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(super) fn store_up(&self) -> bool {
        self.store_up.load(Ordering::Acquire)
    }
}

/// Whether the account's own password or token stands behind the event.
const fn is_proof(event: AuthEvent) -> bool {
    !matches!(event, AuthEvent::LoginFail | AuthEvent::LoginLock | AuthEvent::TokenReuse | AuthEvent::AuthzFail)
}
