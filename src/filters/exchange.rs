//! What filters see of a request, and what they may say about it.

use http::{HeaderName, HeaderValue};

use crate::clock::Tick;
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
    /// The same moment in whole seconds since the Unix epoch.
    pub unix_seconds: i64,
    /// Who asks; set by authentication.
    pub identity: Option<Identity>,
    /// Header effects.
    pub edits: Edits,
    /// The limit closest to exhaustion; set by rate limiting.
    pub limit: Option<LimitState>,
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
}

impl Edits {
    /// Sets a header of the answer.
    pub fn set_response(&mut self, name: HeaderName, value: HeaderValue) {
        self.response.push((name, value));
    }
}
