//! What the proxy says about a request for one of our pages. The inner socket is reachable by the proxy alone,
//! which drops what clients sent under these names, so the values are believed.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::USER_AGENT;
use http::request::Parts;

use crate::accounts::Origin;
use crate::model::identity::{SessionId, UserId};
use crate::model::lang::Lang;
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
/// The client's address, as trusted proxies told it.
pub(super) const CLIENT: &str = "x-ssm-client";
/// The proven role.
pub(super) const ROLE: &str = "x-user-role";
/// Path parameter `{service}`.
pub(super) const SERVICE: &str = "x-ssm-param-service";
/// Path parameter `{id}`.
pub(super) const ID: &str = "x-ssm-param-id";
/// Path parameter `{file}`.
pub(super) const FILE: &str = "x-ssm-param-file";

/// Path parameter `{sid}`.
const SID: &str = "x-ssm-param-sid";

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

    /// Who was proven; refused where the route let somebody pass without a token, or with a machine's key.
    pub(super) fn caller(&self) -> Result<Caller, Rejection> {
        let user = self.text(USER_ID).and_then(|text| text.parse().ok()).map(UserId);
        let user = user.ok_or(Rejection::MissingToken)?;
        let session = self.text(SESSION).and_then(|text| text.parse().ok());
        session.map(|session| Caller { user, session }).ok_or(Rejection::SessionRequired)
    }

    /// The session that the path names, in the one form in which we write it; what has another form is not found.
    pub(super) fn session(&self) -> Result<SessionId, Rejection> {
        let text = self.text(SID).unwrap_or_default();
        text.parse().ok().filter(|sid: &SessionId| sid.to_string() == text).ok_or(Rejection::NotFound)
    }

    /// The account that the path names; what is no number is not found.
    pub(super) fn user(&self) -> Result<UserId, Rejection> {
        self.number(ID).map(UserId)
    }

    /// The number in the path parameter `name`, in the one form in which we write it; what has another form is not found.
    pub(super) fn number(&self, name: &str) -> Result<i64, Rejection> {
        let text = self.text(name).unwrap_or_default();
        text.parse().ok().filter(|number: &i64| number.to_string() == text).ok_or(Rejection::NotFound)
    }

    /// The text in the language that the client prefers.
    pub(super) fn in_language(&self, fr: &'static str, en: &'static str) -> &'static str {
        match self.error_context().lang {
            Lang::Fr => fr,
            Lang::En => en,
        }
    }

    /// Where the request came from.
    pub(super) fn origin(&self) -> Origin {
        let address = self.text(CLIENT).and_then(|text| text.parse().ok());
        Origin::new(address, self.text(USER_AGENT.as_str()), self.text(REQUEST_ID))
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
        for pairs in [&[][..], &[(SESSION, sid)], &[(USER_ID, "x"), (SESSION, sid)]] {
            assert_eq!(asked(pairs).caller(), Err(Rejection::MissingToken));
        }
        assert_eq!(asked(&[(USER_ID, "7")]).caller(), Err(Rejection::SessionRequired));
    }

    #[test]
    fn numbers_in_paths_have_one_form() {
        let with = |name: &'static str, value: &'static str| {
            Asked(HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))]))
        };
        assert_eq!(with(ID, "7").user(), Ok(UserId(7)));
        for text in ["", "+7", "07", "-0", " 7", "7.0", "9223372036854775808", "%C3%A9", "x"] {
            assert_eq!(with(ID, text).user(), Err(Rejection::NotFound), "{text}");
        }
        let sid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert!(with(SID, sid).session().is_ok());
        for text in [
            "",
            "67E55044-10B1-426F-9247-BB680E5FE0C8",
            "67e5504410b1426f9247bb680e5fe0c8",
            "urn:uuid:67e55044-10b1-426f-9247-bb680e5fe0c8",
        ] {
            assert_eq!(with(SID, text).session(), Err(Rejection::NotFound), "{text}");
        }
    }
}
