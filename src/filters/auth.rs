//! Who may call a route: proves the caller and checks the role. Judges tokens through the [`Authenticator`] only.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::AUTHORIZATION;

use super::{Decision, Exchange, Filter};
use crate::accounts::Authenticator;
use crate::config::spec::{AuthSpec, AuthWord, RolesSpec};
use crate::model::lang::LocalText;
use crate::model::rejection::Rejection;
use crate::model::role::Role;

/// Authentication and role check of one route.
pub struct Auth {
    authenticator: Arc<Authenticator>,
    rule: Rule,
}

enum Rule {
    /// Nobody needs a token; a token that is there must be good.
    Optional,
    Required,
    Roles {
        roles: Vec<Role>,
        message: Option<Arc<LocalText>>,
    },
}

impl Auth {
    /// The filter of a route; `None` for a public one, which needs none.
    pub fn new(spec: &AuthSpec, authenticator: Arc<Authenticator>) -> Option<Auth> {
        let rule = match spec {
            AuthSpec::Word(AuthWord::Public) => return None,
            AuthSpec::Word(AuthWord::Optional) => Rule::Optional,
            AuthSpec::Word(AuthWord::Required) => Rule::Required,
            AuthSpec::Roles(RolesSpec { roles, message }) => Rule::Roles {
                roles: roles.clone(),
                message: message.as_ref().map(|text| {
                    let en = text.en.as_ref().unwrap_or(&text.fr);
                    Arc::new(LocalText { fr: text.fr.as_str().into(), en: en.as_str().into() })
                }),
            },
        };
        Some(Auth { authenticator, rule })
    }
}

#[async_trait]
impl Filter for Auth {
    async fn on_request(&self, exchange: &mut Exchange<'_>) -> Result<Decision, Rejection> {
        let headers = &exchange.head.headers;
        if matches!(self.rule, Rule::Optional) && !headers.contains_key(AUTHORIZATION) {
            return Ok(Decision::Continue);
        }
        // Known before the role is judged: the access log names who was refused.
        let identity = exchange.identity.insert(self.authenticator.authenticate(headers, exchange.unix_seconds)?);
        match &self.rule {
            Rule::Roles { roles, message } if !roles.contains(&identity.role) => {
                Err(Rejection::ForbiddenRole(message.clone()))
            }
            Rule::Optional | Rule::Required | Rule::Roles { .. } => Ok(Decision::Continue),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Revocations;
    use crate::clock::Tick;
    use crate::config::spec::TextSpec;
    use crate::filters::Edits;
    use crate::model::identity::{Client, Identity};
    use crate::model::lang::Lang;

    const NOW: i64 = 1_800_000_000;

    /// Signed with `secret` for user 7, recruteur, until 2100.
    fn token() -> String {
        let claims = serde_json::json!({"iss": "iss", "sub": "7", "email": "a@b.fr", "role": "recruteur",
            "sid": "67e55044-10b1-426f-9247-bb680e5fe0c8", "jti": "67e55044-10b1-426f-9247-bb680e5fe0c9",
            "iat": NOW, "exp": 4_102_444_800_i64, "type": "access"});
        let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    }

    async fn judge(spec: &AuthSpec, authorization: Option<&str>) -> (Result<(), Rejection>, Option<Identity>) {
        let authenticator = Arc::new(Authenticator::new(&"secret".into(), "iss", Arc::new(Revocations::new())));
        let filter = Auth::new(spec, authenticator).unwrap();
        let mut request = http::Request::builder().uri("/");
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut exchange = Exchange {
            head: &head,
            client: Client { address: [127, 0, 0, 1].into(), secure: false },
            route: "r",
            now: Tick(0),
            unix_seconds: NOW,
            identity: None,
            edits: Edits::default(),
            limit: None,
        };
        let result = filter.on_request(&mut exchange).await.map(|_| ());
        (result, exchange.identity)
    }

    #[tokio::test]
    async fn required_and_optional_differ_only_without_a_token() {
        let (required, optional) = (AuthSpec::Word(AuthWord::Required), AuthSpec::Word(AuthWord::Optional));
        let good = format!("Bearer {}", token());
        for spec in [&required, &optional] {
            let (result, identity) = judge(spec, Some(&good)).await;
            assert!(result.is_ok() && identity.is_some_and(|identity| identity.user.0 == 7));
            assert_eq!(judge(spec, Some("Bearer a.b.c")).await, (Err(Rejection::InvalidToken), None));
        }
        assert_eq!(judge(&required, None).await, (Err(Rejection::MissingToken), None));
        assert_eq!(judge(&optional, None).await, (Ok(()), None));
    }

    #[tokio::test]
    async fn other_roles_are_refused_with_the_route_s_text() {
        let good = format!("Bearer {}", token());
        let spec = |roles: &[Role], message| AuthSpec::Roles(RolesSpec { roles: roles.to_vec(), message });
        assert!(judge(&spec(&[Role::Recruteur, Role::Admin], None), Some(&good)).await.0.is_ok());
        let text = TextSpec { fr: "Seuls les admins".into(), en: None };
        let (refused, identity) = judge(&spec(&[Role::Admin], Some(text)), Some(&good)).await;
        let refused = refused.unwrap_err();
        assert_eq!((refused.code(), refused.message(Lang::En).as_ref()), ("FORBIDDEN_ROLE", "Seuls les admins"));
        assert!(identity.is_some());
        assert_eq!(judge(&spec(&[Role::Admin], None), Some(&good)).await.0, Err(Rejection::ForbiddenRole(None)));
        assert_eq!(judge(&spec(&[Role::Admin], None), None).await.0, Err(Rejection::MissingToken));
    }

    #[test]
    fn a_public_route_has_no_filter() {
        let authenticator = Arc::new(Authenticator::new(&"secret".into(), "iss", Arc::new(Revocations::new())));
        assert!(Auth::new(&AuthSpec::Word(AuthWord::Public), authenticator).is_none());
    }
}
