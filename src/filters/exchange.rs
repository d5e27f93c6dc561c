//! What filters see of a request, and what they may say about it.

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;

use super::idempotency::Keyed;
use crate::clock::Tick;
use crate::limits::InFlightPermit;
use crate::model::identity::{Client, Identity};

/// One request on its way through the chain.
pub struct Exchange<'a> {
    /// Method, URI and headers as the client sent them.
    pub head: &'a http::request::Parts,
    /// Where it came from.
    pub client: Client,
    /// Name of its route.
    pub route: &'a str,
    /// When it arrived.
    pub now: Tick,
    /// The same moment on the wall.
    pub started_at: Timestamp,
    /// Who asks; set by authentication.
    pub identity: Option<Identity>,
    /// Header effects.
    pub edits: Edits,
    /// The limit closest to exhaustion; set by rate limiting.
    pub limit: Option<LimitState>,
    /// Its `Idempotency-Key`, where the route heeds it.
    pub keyed: Option<Keyed>,
    /// Its places among the requests in flight, to be held until it ends; set by rate limiting.
    pub permits: Vec<InFlightPermit>,
}

impl Exchange<'_> {
    /// When it arrived, in whole seconds since the Unix epoch.
    pub fn unix_seconds(&self) -> i64 {
        self.started_at.as_second()
    }
}

/// A limit's state after the decision, for the access log.
#[derive(Debug, Clone)]
pub struct LimitState {
    /// Name of the policy.
    pub policy: std::sync::Arc<str>,
    /// Requests left.
    pub remaining: u64,
}

/// Header effects as data: applied to upstream answers and to our own refusals alike.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    /// Set on the answer, replacing what is there.
    pub response: Vec<(HeaderName, HeaderValue)>,
    /// Set on the answer where it has no such header of its own, in this order.
    pub response_default: Vec<DefaultHeader>,
}

/// A header that an answer gets when it does not bring one itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultHeader {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
    /// Whether only 2xx answers get it.
    pub success_only: bool,
}

impl Edits {
    /// Sets a header of the answer.
    pub fn set_response(&mut self, name: HeaderName, value: HeaderValue) {
        self.response.push((name, value));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::clock::Clock;
    use crate::model::identity::{ApiKeyId, Credential, UserId};
    use crate::model::role::Role;

    /// A request for the tests of filters.
    pub(crate) struct Request {
        head: http::request::Parts,
        address: IpAddr,
        identity: Option<Identity>,
    }

    impl Request {
        pub(crate) fn get(path: &str) -> Request {
            let (head, ()) = http::Request::get(path).body(()).unwrap().into_parts();
            Request { head, address: IpAddr::from([127, 0, 0, 1]), identity: None }
        }

        pub(crate) fn method(mut self, method: http::Method) -> Request {
            self.head.method = method;
            self
        }

        pub(crate) fn from(mut self, address: &str) -> Request {
            self.address = address.parse().unwrap();
            self
        }

        pub(crate) fn with(mut self, name: &str, value: &str) -> Request {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            self.head.headers.append(HeaderName::try_from(name).unwrap(), value);
            self
        }

        pub(crate) fn by(mut self, user: i64, role: Role) -> Request {
            self.identity = Some(Identity {
                user: UserId(user),
                email: "someone@example.org".into(),
                role,
                credential: Credential::ApiKey(ApiKeyId(1)),
                issued_at: 0,
                expires_at: i64::MAX,
            });
            self
        }

        /// The exchange at the start of a manual clock.
        pub(crate) fn exchange(&self) -> Exchange<'_> {
            self.exchange_at(&Clock::manual().0)
        }

        pub(crate) fn exchange_at(&self, clock: &Clock) -> Exchange<'_> {
            Exchange {
                head: &self.head,
                client: Client { address: self.address, secure: false },
                route: "route",
                now: clock.now(),
                started_at: clock.wall(),
                identity: self.identity.clone(),
                edits: Edits::default(),
                limit: None,
                keyed: None,
                permits: Vec::new(),
            }
        }
    }
}
