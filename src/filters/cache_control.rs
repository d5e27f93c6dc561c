//! What caches may do with a route's answers, where the upstream does not say so itself.

use async_trait::async_trait;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, InvalidHeaderValue};

use super::exchange::DefaultHeader;
use super::{Decision, Exchange, Filter};
use crate::model::rejection::Rejection;

/// Gives answers a `Cache-Control` (RFC 9111 §5.2) of ours where they bring none: 2xx answers the
/// route's value, and every other answer to a proven caller `no-store`.
#[derive(Debug)]
pub struct CacheControl(Option<HeaderValue>);

impl CacheControl {
    /// With the route's own value for 2xx answers; without one, `no-store` for proven callers and nothing else.
    /// An error when the value cannot be a header.
    pub fn new(value: Option<&str>) -> Result<CacheControl, InvalidHeaderValue> {
        value.map(HeaderValue::from_str).transpose().map(CacheControl)
    }
}

#[async_trait]
impl Filter for CacheControl {
    async fn on_request(&self, exchange: &mut Exchange<'_>) -> Result<Decision, Rejection> {
        let defaults = &mut exchange.edits.response_default;
        if let Some(value) = &self.0 {
            defaults.push(DefaultHeader { name: CACHE_CONTROL, value: value.clone(), success_only: true });
        }
        if exchange.identity.is_some() {
            let value = HeaderValue::from_static("no-store");
            defaults.push(DefaultHeader { name: CACHE_CONTROL, value, success_only: false });
        }
        Ok(Decision::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::exchange::tests::Request;
    use crate::model::role::Role;

    #[tokio::test]
    async fn errors_to_proven_callers_are_never_cached_by_the_route_s_value() {
        let filter = CacheControl::new(Some("private, max-age=300")).unwrap();
        let request = Request::get("/");
        let mut anonymous = request.exchange();
        filter.on_request(&mut anonymous).await.unwrap();
        assert_eq!(anonymous.edits.response_default.len(), 1);
        assert!(anonymous.edits.response_default[0].success_only);

        let request = Request::get("/").by(7, Role::Admin);
        let mut proven = request.exchange();
        filter.on_request(&mut proven).await.unwrap();
        let values: Vec<_> =
            proven.edits.response_default.iter().map(|default| (&default.value, default.success_only)).collect();
        assert_eq!(values, [(&"private, max-age=300".parse().unwrap(), true), (&"no-store".parse().unwrap(), false)]);
        assert!(CacheControl::new(Some("a\nb")).is_err());
    }
}
