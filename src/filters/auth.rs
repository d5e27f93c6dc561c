//! Who may call a route: proves the caller and checks the role. Judges tokens through the [`Authenticator`] only, API keys
//! through [`ApiKeys`] only.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::AUTHORIZATION;

use super::{Decision, Exchange, Filter};
use crate::accounts::{ApiKeys, Authenticator, PULL_EVERY};
use crate::config::spec::{AuthSpec, AuthWord, RolesSpec};
use crate::model::identity::Identity;
use crate::model::lang::LocalText;
use crate::model::rejection::Rejection;
use crate::model::role::Role;

/// Authentication and role check of one route.
pub struct Auth {
    authenticator: Arc<Authenticator>,
    /// `None`: the route does not take API keys, and does not see them.
    api_keys: Option<Arc<ApiKeys>>,
    /// Longest ago that the knowledge of revocations may be; `None`: whatever it is.
    oldest: Option<Duration>,
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
    /// The filter of a route; `None` for a public one, which needs none. Nobody is let in by a knowledge of revocations
    /// that is older than `oldest`.
    pub fn new(
        spec: &AuthSpec,
        oldest: Option<Duration>,
        authenticator: Arc<Authenticator>,
        api_keys: Arc<ApiKeys>,
    ) -> Option<Auth> {
        let rule = match spec {
            AuthSpec::Word(AuthWord::Public) => return None,
            AuthSpec::Word(AuthWord::Optional) => Rule::Optional,
            AuthSpec::Word(AuthWord::Required) => Rule::Required,
            AuthSpec::Roles(RolesSpec { roles, message, api_keys: _ }) => Rule::Roles {
                roles: roles.clone(),
                message: message.as_ref().map(|text| {
                    let en = text.en.as_ref().unwrap_or(&text.fr);
                    Arc::new(LocalText { fr: text.fr.as_str().into(), en: en.as_str().into() })
                }),
            },
        };
        let api_keys = spec.takes_api_keys().then_some(api_keys);
        Some(Auth { authenticator, api_keys, oldest, rule })
    }

    /// Proves the caller, who is known from then on: the access log names who was refused.
    fn prove<'e>(&self, exchange: &'e mut Exchange<'_>) -> Result<&'e Identity, Rejection> {
        let known_long_ago =
            self.oldest.is_some_and(|oldest| self.authenticator.revocations_age(exchange.now) > oldest);
        let (headers, now) = (&exchange.head.headers, exchange.unix_seconds());
        let holder = self.api_keys.as_ref().map_or(Ok(None), |keys| keys.authenticate(headers, now))?;
        let identity = match &holder {
            Some(holder) => holder.identity().clone(),
            None => self.authenticator.authenticate(headers, now)?,
        };
        let identity = exchange.identity.insert(identity);
        if known_long_ago {
            return Err(Rejection::AuthUnavailable(PULL_EVERY));
        }
        if holder.is_some_and(|holder| !holder.may_call(exchange.route)) {
            return Err(Rejection::ForbiddenScope);
        }
        Ok(identity)
    }
}

#[async_trait]
impl Filter for Auth {
    async fn on_request(&self, exchange: &mut Exchange<'_>) -> Result<Decision, Rejection> {
        if matches!(self.rule, Rule::Optional) && !exchange.head.headers.contains_key(AUTHORIZATION) {
            return Ok(Decision::Continue);
        }
        let identity = self.prove(exchange)?;
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
    use crate::model::identity::Client;
    use crate::model::lang::Lang;

    const NOW: i64 = 1_800_000_000;
    const PULLED: Tick = Tick(1_000_000);

    /// Signed with `secret` for user 7, recruteur, for an hour.
    fn token() -> String {
        let claims = serde_json::json!({"iss": "iss", "sub": "7", "email": "a@b.fr", "role": "recruteur",
            "sid": "67e55044-10b1-426f-9247-bb680e5fe0c8", "jti": "67e55044-10b1-426f-9247-bb680e5fe0c9",
            "iat": NOW, "exp": NOW + 3600, "type": "access"});
        let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    }

    fn filter(spec: &AuthSpec, oldest: Option<Duration>, revocations: Arc<Revocations>) -> Option<Auth> {
        let authenticator = Arc::new(Authenticator::new("secret".into(), "iss", revocations.clone()));
        Auth::new(spec, oldest, authenticator, Arc::new(ApiKeys::new(revocations)))
    }

    async fn judge(spec: &AuthSpec, authorization: Option<&str>) -> (Result<(), Rejection>, Option<Identity>) {
        judge_at(spec, authorization, Tick(0), None).await
    }

    /// The judgement at `now`, when revocations were pulled at [`PULLED`].
    async fn judge_at(
        spec: &AuthSpec,
        authorization: Option<&str>,
        now: Tick,
        oldest: Option<Duration>,
    ) -> (Result<(), Rejection>, Option<Identity>) {
        let revocations = Arc::new(Revocations::new());
        revocations.pulled(revocations.pull_begins(), PULLED);
        let filter = filter(spec, oldest, revocations).unwrap();
        let mut request = http::Request::builder().uri("/");
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut exchange = Exchange {
            head: &head,
            client: Client { address: [127, 0, 0, 1].into(), secure: false },
            route: "r",
            now,
            started_at: jiff::Timestamp::from_second(NOW).unwrap(),
            identity: None,
            edits: Edits::default(),
            limit: None,
            keyed: None,
            permits: Vec::new(),
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
        let spec =
            |roles: &[Role], message| AuthSpec::Roles(RolesSpec { roles: roles.to_vec(), message, api_keys: false });
        assert!(judge(&spec(&[Role::Recruteur, Role::Admin], None), Some(&good)).await.0.is_ok());
        let text = TextSpec { fr: "Seuls les admins".into(), en: None };
        let (refused, identity) = judge(&spec(&[Role::Admin], Some(text)), Some(&good)).await;
        let refused = refused.unwrap_err();
        assert_eq!((refused.code(), refused.message(Lang::En).as_ref()), ("FORBIDDEN_ROLE", "Seuls les admins"));
        assert!(identity.is_some());
        assert_eq!(judge(&spec(&[Role::Admin], None), Some(&good)).await.0, Err(Rejection::ForbiddenRole(None)));
        assert_eq!(judge(&spec(&[Role::Admin], None), None).await.0, Err(Rejection::MissingToken));
    }

    #[tokio::test]
    async fn a_bounded_route_lets_nobody_in_by_old_knowledge() {
        let good = format!("Bearer {}", token());
        let (required, optional) = (AuthSpec::Word(AuthWord::Required), AuthSpec::Word(AuthWord::Optional));
        let bound = Duration::from_secs(10);
        let (last, late) = (PULLED.after(bound), PULLED.after(bound + Duration::from_micros(1)));
        let unavailable = Err(Rejection::AuthUnavailable(PULL_EVERY));
        for spec in [&required, &optional] {
            assert!(judge_at(spec, Some(&good), last, Some(bound)).await.0.is_ok());
            assert_eq!(judge_at(spec, Some(&good), late, Some(bound)).await.0, unavailable);
            assert!(judge_at(spec, Some(&good), late, None).await.0.is_ok());
        }
        // Nobody is proven: there is nothing to be old.
        assert!(judge_at(&optional, None, late, Some(bound)).await.0.is_ok());
        assert_eq!(judge_at(&required, None, late, Some(bound)).await.0, Err(Rejection::MissingToken));
        assert_eq!(judge_at(&required, Some("Bearer a.b.c"), late, Some(bound)).await.0, Err(Rejection::InvalidToken));
    }

    #[test]
    fn a_public_route_has_no_filter() {
        assert!(filter(&AuthSpec::Word(AuthWord::Public), None, Arc::new(Revocations::new())).is_none());
    }
}
