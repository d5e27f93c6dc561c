//! What is told to the audit trail: closed lists of events, actors and subjects, and the entry that they make.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;

use crate::model::identity::{ApiKeyId, Credential, Identity, KeyId, SessionId, UserId};
use crate::store::AuditEntry;
use crate::telemetry::metrics::AuthEvent;

/// Longest details that are kept, in characters.
const MAX_DETAILS_CHARS: usize = 256;

/// One kind of event. The names follow the OWASP application logging vocabulary where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Of accounts, sessions, tokens and rights.
    Auth(AuthEvent),
    /// The table of routes was loaded again, or refused.
    ConfigReload,
    /// The gateway began to serve.
    Startup,
    /// The gateway ended in order.
    Shutdown,
    /// Signing keys came, took over or went.
    KeysChanged,
    /// An operator changed the limits of a user or an address: an override, a block, a bucket filled again.
    LimitsChanged,
    /// Retention took old records away.
    Trimmed,
}

impl EventKind {
    /// Its name in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventKind::Auth(event) => event.as_str(),
            EventKind::ConfigReload => "config_reload",
            EventKind::Startup => "sys_startup",
            EventKind::Shutdown => "sys_shutdown",
            EventKind::KeysChanged => "keys_changed",
            EventKind::LimitsChanged => "limits_changed",
            EventKind::Trimmed => "audit_trimmed",
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An account, by its token or its password.
    User(UserId),
    /// A machine, by its API key.
    ApiKey(ApiKeyId),
    /// Whoever has a shell on the machine.
    CommandLine,
    /// The gateway itself.
    Gateway,
}

impl Actor {
    /// The proven caller.
    pub const fn of(identity: &Identity) -> Actor {
        match identity.credential {
            Credential::Token { .. } => Actor::User(identity.user),
            Credential::ApiKey(key) => Actor::ApiKey(key),
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::User(id) => write!(f, "user:{id}"),
            Actor::ApiKey(id) => write!(f, "api_key:{id}"),
            Actor::CommandLine => f.write_str("command_line"),
            Actor::Gateway => f.write_str("gateway"),
        }
    }
}

/// What it was done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An account.
    User(UserId),
    /// A session.
    Session(SessionId),
    /// A signing key.
    Key(KeyId),
    /// An API key.
    ApiKey(ApiKeyId),
    /// An address or a network.
    Network(IpNet),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::User(id) => write!(f, "user:{id}"),
            Subject::Session(id) => write!(f, "session:{id}"),
            Subject::Key(id) => write!(f, "key:{id}"),
            Subject::ApiKey(id) => write!(f, "api_key:{id}"),
            Subject::Network(network) => write!(f, "network:{network}"),
        }
    }
}

/// One event on its way into the trail.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Who did it; `None`: nobody proved it.
    pub actor: Option<Actor>,
    /// What it was done to.
    pub subject: Option<Subject>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// Id of the request.
    pub request_id: Option<String>,
    /// A few more words, never a secret; cut to 256 characters, without control characters.
    pub details: Option<String>,
}

impl Event {
    /// An event of which only the kind is known yet.
    pub const fn new(kind: EventKind) -> Event {
        Event { kind, actor: None, subject: None, address: None, request_id: None, details: None }
    }

    /// Says who did it.
    pub fn by(mut self, actor: Actor) -> Event {
        self.actor = Some(actor);
        self
    }

    /// Says what it was done to.
    pub fn on(mut self, subject: Subject) -> Event {
        self.subject = Some(subject);
        self
    }

    /// Says where the request came from, and its id.
    pub fn from(mut self, address: Option<IpAddr>, request_id: Option<&str>) -> Event {
        self.address = address;
        self.request_id = request_id.map(str::to_owned);
        self
    }

    /// Adds a few words.
    pub fn saying(mut self, details: impl Into<String>) -> Event {
        self.details = Some(details.into());
        self
    }

    /// The entry of an event that happened at `at_ms` (Unix milliseconds), with a new id.
    pub fn into_entry(self, at_ms: i64) -> AuditEntry {
        AuditEntry {
            event: self.kind.as_str().to_owned(),
            actor: self.actor.map(|actor| actor.to_string()),
            subject: self.subject.map(|subject| subject.to_string()),
            address: self.address.map(|address| address.to_string()),
            request_id: self.request_id,
            details: self.details.map(|text| {
                text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_DETAILS_CHARS).collect()
            }),
            id: Uuid::new_v4().simple().to_string(),
            at_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_short_and_has_no_control_characters() {
        let event = Event::new(EventKind::Auth(AuthEvent::AuthzAdmin))
            .by(Actor::User(UserId(7)))
            .on(Subject::ApiKey(ApiKeyId(3)))
            .from(Some("2001:db8::1".parse().unwrap()), Some("r-1"))
            .saying(format!("a\nb\u{1b}[31m{}", "x".repeat(1_000)));
        let entry = event.into_entry(5);
        assert_eq!((entry.event.as_str(), entry.actor.as_deref()), ("authz_admin", Some("user:7")));
        assert_eq!((entry.subject.as_deref(), entry.address.as_deref()), (Some("api_key:3"), Some("2001:db8::1")));
        let details = entry.details.unwrap();
        assert!(details.starts_with("a b [31mxx") && details.chars().count() == MAX_DETAILS_CHARS, "{details}");
        assert!(entry.id.len() == 32 && entry.at_ms == 5);
    }
}
