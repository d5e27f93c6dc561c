//! Codes, statuses and messages, of every reason.

use super::*;

#[test]
fn every_code_is_known_by_its_text() {
    let (name, wait) = (Arc::<str>::from("s"), Duration::ZERO);
    use Rejection as R;
    let all = [
        R::InvalidJson,
        R::BadRequest("why"),
        R::InvalidIdempotencyKey,
        R::MissingIdempotencyKey,
        R::EmailAlreadyUsed,
        R::MissingToken,
        R::InvalidTokenFormat,
        R::TokenRevoked,
        R::TokenExpired,
        R::InvalidToken,
        R::WrongTokenType,
        R::InvalidCredentials,
        R::InvalidRefreshToken,
        R::InvalidApiKey,
        R::ForbiddenRole(None),
        R::ForbiddenScope,
        R::RoleNotAllowed,
        R::ForbiddenAddress,
        R::SessionRequired,
        R::OwnAccount,
        R::NotFound,
        R::MethodNotAllowed(HeaderValue::from_static("GET")),
        R::IdempotencyInFlight(wait),
        R::IdempotencyAnswerTooLong,
        R::PayloadTooLarge,
        R::UnsupportedMediaType,
        R::Validation(Vec::new()),
        R::IdempotencyMismatch,
        R::RateLimited(wait),
        R::ConcurrencyLimited,
        R::Internal,
        R::BadGateway(name.clone()),
        R::ServiceUnavailable(name.clone(), wait),
        R::CircuitOpen(name.clone(), wait),
        R::Overloaded(wait),
        R::AuthUnavailable(wait),
        R::IdempotencyUnavailable(wait),
        R::UpstreamTimeout(name),
    ];
    assert_eq!(all.each_ref().map(Rejection::code), CODES);
    assert!(CODES.into_iter().all(|code| Rejection::known_code(code) == Some(code)));
    for rejection in &all {
        assert!(rejection.status().is_client_error() || rejection.status().is_server_error());
        assert_ne!(rejection.message(Lang::Fr), "", "{rejection:?}");
        assert_ne!(rejection.message(Lang::Fr), rejection.message(Lang::En), "{rejection:?}");
    }
}
