//! What the proxy says about a request for one of our pages. The inner socket is reachable by the proxy alone,
//! which drops what clients sent under these names, so the values are believed.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;

use crate::model::identity::{SessionId, UserId};
use crate::model::rejection::Rejection;
use crate::model::reply::ErrorContext;
use crate::model::role::Role;

/// The public path, without query.
pub(super) const PATH: &str = "x-ssm-path";
/// The request's id.
pub(super) const REQUEST_ID: &str = "x-request-id";
/// Number of the proven user; absent for anonymous callers, as the next two are.
pub(super) const USER_ID: &str = "x-user-id";
/// Session that the proven token belongs to.
pub(super) const SESSION: &str = "x-ssm-session";
/// The proven role.
pub(super) const ROLE: &str = "x-user-role";
/// Path parameter `{service}`.
pub(super) const SERVICE: &str = "x-ssm-param-service";
/// Path parameter `{file}`.
pub(super) const FILE: &str = "x-ssm-param-file";

/// Who was proven by the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    /// The account.
    pub(super) user: UserId,
    /// The log-in.
    pub(super) session: SessionId,
}

/// A request for a page.
#[derive(Debug)]
pub(super) struct Asked(HeaderMap);

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asked, Infallible> {
        Ok(Asked(std::mem::take(&mut parts.headers)))
    }
}

impl Asked {
    /// The public path, as the client sees it.
    pub(super) fn path(&self) -> &str {
        self.text(PATH).unwrap_or_default()
    }

    /// Whether the caller may see internal addresses.
    pub(super) fn is_admin(&self) -> bool {
        self.text(ROLE) == Some(Role::Admin.as_str())
    }

    /// Who was proven; refused where the route let somebody pass without a token.
    pub(super) fn caller(&self) -> Result<Caller, Rejection> {
        let user = self.text(USER_ID).and_then(|text| text.parse().ok()).map(UserId);
        let session = self.text(SESSION).and_then(|text| text.parse().ok());
        user.zip(session).map(|(user, session)| Caller { user, session }).ok_or(Rejection::MissingToken)
    }

    /// The value of one header, when it is plain text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|value| value.to_str().ok())
    }

    /// The form in which a refusal must be written.
    pub(super) fn error_context(&self) -> ErrorContext<'_> {
        ErrorContext::new(self.path(), self.text(REQUEST_ID).unwrap_or_default(), &self.0)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_caller_needs_user_and_session() {
        let asked = |pairs: &[(&'static str, &'static str)]| {
            let header =
                |(name, value): &(&str, &'static str)| (name.parse().unwrap(), HeaderValue::from_static(value));
            Asked(pairs.iter().map(header).collect())
        };
        let sid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert!(asked(&[(USER_ID, "7"), (SESSION, sid)]).caller().is_ok());
        for pairs in [&[][..], &[(USER_ID, "7")], &[(SESSION, sid)], &[(USER_ID, "x"), (SESSION, sid)]] {
            assert_eq!(asked(pairs).caller(), Err(Rejection::MissingToken));
        }
    }
}
