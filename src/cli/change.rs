//! Deeds of commands, told in one order; and the change of an account, for `users` and `revoke` alike.

use std::io::Write;

use anyhow::Context as _;

use super::announce::announce;
use super::audit;
use crate::accounts::email::email_key;
use crate::accounts::{admin_words, change_events, revoked_until_s};
use crate::audit::{Actor, Event, EventKind, Subject};
use crate::clock::Clock;
use crate::config::settings::Redis;
use crate::store::{AuditStore, IdentityStore, Revoked, UserChange};
use crate::telemetry::metrics::AuthEvent;

/// What is left to be told of a deed.
#[derive(Debug, Default)]
#[must_use = "running gateways and the audit trail must be told"]
pub(super) struct Done {
    /// What it revoked, and until when that matters (Unix seconds).
    pub(super) facts: Vec<(Revoked, i64)>,
    /// What the audit trail is to have of it.
    pub(super) events: Vec<Event>,
}

impl Done {
    /// Tells running gateways first: a trail that cannot be written must not keep them from knowing.
    pub(super) async fn tell(self, redis: &Redis, store: &dyn AuditStore) -> anyhow::Result<()> {
        announce(redis, &self.facts).await;
        audit::write(self.events, store).await
    }
}

/// Changes the account of an address and says so; its sessions end, and it loses the API keys that it no longer covers.
pub(super) async fn change(
    store: &dyn IdentityStore,
    email: &str,
    change: UserChange,
    out: &mut impl Write,
) -> anyhow::Result<Done> {
    let found = store.credentials(&email_key(email)).await?;
    let id = found.with_context(|| format!("no account has the address {email}"))?.user.id;
    let now = Clock::system().wall();
    let until_s = revoked_until_s(now.as_second());
    let changed = store.change_user(id, change.clone(), now.as_millisecond(), until_s).await?;
    let changed = changed.with_context(|| format!("the account of {email} is gone"))?;
    let user = &changed.user;
    let state = if user.is_active { "active" } else { "inactive" };
    let ended = if matches!(change, UserChange::Active(true)) { "" } else { "; its sessions are ended" };
    writeln!(out, "{} {} {} {state}{ended}", user.id, user.email, user.role)?;
    for key in &changed.api_keys {
        writeln!(out, "its API key {key} is revoked")?;
    }
    let by = Actor::CommandLine;
    let mut events: Vec<Event> = change_events(&by, &change, &changed).into_iter().map(|(_, event)| event).collect();
    let admin = Event::new(EventKind::Auth(AuthEvent::AuthzAdmin)).on(Subject::User(id));
    events.push(admin.by(by).saying(admin_words(&change)));
    Ok(Done { facts: changed.facts().map(|fact| (fact, until_s)).collect(), events })
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
