//! What a change of an account brings for the audit trail: one list, for the pages and the command line alike.

use crate::audit::{Actor, Event, EventKind, Subject};
use crate::store::{Changed, UserChange};
use crate::telemetry::metrics::AuthEvent;

/// The events of a change that was made, in the order in which they are told. What an administrator's right had to do
/// with it (`authz_admin`) is not among them.
pub fn events(actor: &Actor, change: &UserChange, changed: &Changed) -> Vec<(AuthEvent, Event)> {
    let user = &changed.user;
    let of = |event| {
        let told = Event::new(EventKind::Auth(event)).by(actor.clone()).on(Subject::User(user.id));
        (event, told)
    };
    let saying = |event, words: String| {
        let (event, told) = of(event);
        (event, told.saying(words))
    };
    let mut events = vec![saying(AuthEvent::TokenRevoked, "all sessions".to_owned())];
    for key in &changed.api_keys {
        let (event, told) = saying(AuthEvent::ApiKeyRevoked, format!("lost with the rights of user:{}", user.id));
        events.push((event, told.on(Subject::ApiKey(*key))));
    }
    match change {
        UserChange::Role(role) => {
            events.push(saying(AuthEvent::UserUpdated, format!("role {} to {role}", changed.role_before)));
        }
        UserChange::Active(active) => {
            let words = if *active { "activated" } else { "deactivated" };
            events.push(saying(AuthEvent::UserUpdated, words.to_owned()));
        }
        UserChange::Password { .. } => events.push(of(AuthEvent::PasswordChange)),
        UserChange::SignOut => {}
    }
    events
}

/// What `authz_admin` says of a change that an administrator made.
pub const fn admin_words(change: &UserChange) -> &'static str {
    match change {
        UserChange::Role(_) | UserChange::Active(_) => "change of an account",
        UserChange::Password { .. } => "another password of an account",
        UserChange::SignOut => "end of all sessions",
    }
}
