//! Every reason for which the gateway refuses a request: a closed list, turned into status, code and
//! message here and nowhere else.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::lang::{Lang, LocalText};

/// One field of a body that is not acceptable. Never carries the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldProblem {
    /// Name of the field, as the client wrote it or as it is documented.
    pub field: Cow<'static, str>,
    /// What is wrong with it.
    pub problem: Cow<'static, str>,
}

/// Every code that [`Rejection::code`] gives.
const CODES: [&str; 31] = [
    "INVALID_JSON",
    "BAD_REQUEST",
    "EMAIL_ALREADY_USED",
    "MISSING_TOKEN",
    "INVALID_TOKEN_FORMAT",
    "TOKEN_REVOKED",
    "TOKEN_EXPIRED",
    "INVALID_TOKEN",
    "WRONG_TOKEN_TYPE",
    "INVALID_CREDENTIALS",
    "INVALID_REFRESH_TOKEN",
    "INVALID_API_KEY",
    "FORBIDDEN_ROLE",
    "FORBIDDEN_SCOPE",
    "ROLE_NOT_ALLOWED",
    "FORBIDDEN_ADDRESS",
    "SESSION_REQUIRED",
    "OWN_ACCOUNT",
    "NOT_FOUND",
    "METHOD_NOT_ALLOWED",
    "PAYLOAD_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "VALIDATION_ERROR",
    "RATE_LIMIT_EXCEEDED",
    "INTERNAL_ERROR",
    "BAD_GATEWAY",
    "SERVICE_UNAVAILABLE",
    "CIRCUIT_OPEN",
    "OVERLOADED",
    "AUTH_UNAVAILABLE",
    "UPSTREAM_TIMEOUT",
];

/// A reason to refuse. docs/errors.md lists them for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// A body that must be JSON is not.
    InvalidJson,
    /// The request breaks HTTP or our rules for it; the text says which, never what was sent.
    BadRequest(&'static str),
    /// Registration of an address that has an account.
    EmailAlreadyUsed,
    /// No `Authorization` on a route that needs one.
    MissingToken,
    /// `Authorization` is not one bearer token.
    InvalidTokenFormat,
    /// The token, its session or its account was revoked.
    TokenRevoked,
    /// The token is past its end.
    TokenExpired,
    /// The token does not verify.
    InvalidToken,
    /// A verified token of another type than the one needed.
    WrongTokenType,
    /// Log-in failed, for whatever reason.
    InvalidCredentials,
    /// The refresh token is unknown, ended, or was used before.
    InvalidRefreshToken,
    /// `X-API-Key` is not exactly one key that may be used.
    InvalidApiKey,
    /// The role is not among the route's; the route may bring its own text.
    ForbiddenRole(Option<Arc<LocalText>>),
    /// The API key is not for this route.
    ForbiddenScope,
    /// A role that nobody may give themselves.
    RoleNotAllowed,
    /// The client's address is not among the route's.
    ForbiddenAddress,
    /// A page for people, who log in, was asked for by a machine.
    SessionRequired,
    /// Administrators change the accounts of others, never their own.
    OwnAccount,
    /// No route has this path.
    NotFound,
    /// The path exists, the method does not; carries the value of `Allow`.
    MethodNotAllowed(HeaderValue),
    /// The body is over the route's cap.
    PayloadTooLarge,
    /// The route does not take this content type.
    UnsupportedMediaType,
    /// Well-formed JSON that says something unacceptable.
    Validation(Vec<FieldProblem>),
    /// A limit is spent; carries the wait until the request can pass.
    RateLimited(Duration),
    /// Our own fault.
    Internal,
    /// The upstream answered with something that is not HTTP, or broke off.
    BadGateway(Arc<str>),
    /// No target of the pool can be reached.
    ServiceUnavailable(Arc<str>, Duration),
    /// Every target of the pool has an open circuit; carries the time until the first probe.
    CircuitOpen(Arc<str>, Duration),
    /// A bounded queue of ours is full.
    Overloaded(Duration),
    /// The identity store cannot be reached.
    AuthUnavailable(Duration),
    /// The upstream did not answer in time.
    UpstreamTimeout(Arc<str>),
}

impl Rejection {
    /// The HTTP status: always 4xx or 5xx.
    pub fn status(&self) -> StatusCode {
        use Rejection as R;
        match self {
            R::InvalidJson | R::BadRequest(_) | R::EmailAlreadyUsed => StatusCode::BAD_REQUEST,
            R::MissingToken
            | R::InvalidTokenFormat
            | R::TokenRevoked
            | R::TokenExpired
            | R::InvalidToken
            | R::WrongTokenType
            | R::InvalidCredentials
            | R::InvalidRefreshToken
            | R::InvalidApiKey => StatusCode::UNAUTHORIZED,
            R::ForbiddenRole(_)
            | R::ForbiddenScope
            | R::RoleNotAllowed
            | R::ForbiddenAddress
            | R::SessionRequired
            | R::OwnAccount => StatusCode::FORBIDDEN,
            R::NotFound => StatusCode::NOT_FOUND,
            R::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            R::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            R::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            R::Validation(_) => StatusCode::UNPROCESSABLE_ENTITY,
            R::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            R::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            R::BadGateway(_) => StatusCode::BAD_GATEWAY,
            R::ServiceUnavailable(..) | R::CircuitOpen(..) | R::Overloaded(_) | R::AuthUnavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            R::UpstreamTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// One of our codes by its text.
    pub fn known_code(text: &str) -> Option<&'static str> {
        CODES.into_iter().find(|code| *code == text)
    }

    /// The stable code that programs match on.
    pub fn code(&self) -> &'static str {
        use Rejection as R;
        match self {
            R::InvalidJson => "INVALID_JSON",
            R::BadRequest(_) => "BAD_REQUEST",
            R::EmailAlreadyUsed => "EMAIL_ALREADY_USED",
            R::MissingToken => "MISSING_TOKEN",
            R::InvalidTokenFormat => "INVALID_TOKEN_FORMAT",
            R::TokenRevoked => "TOKEN_REVOKED",
            R::TokenExpired => "TOKEN_EXPIRED",
            R::InvalidToken => "INVALID_TOKEN",
            R::WrongTokenType => "WRONG_TOKEN_TYPE",
            R::InvalidCredentials => "INVALID_CREDENTIALS",
            R::InvalidRefreshToken => "INVALID_REFRESH_TOKEN",
            R::InvalidApiKey => "INVALID_API_KEY",
            R::ForbiddenRole(_) => "FORBIDDEN_ROLE",
            R::ForbiddenScope => "FORBIDDEN_SCOPE",
            R::RoleNotAllowed => "ROLE_NOT_ALLOWED",
            R::ForbiddenAddress => "FORBIDDEN_ADDRESS",
            R::SessionRequired => "SESSION_REQUIRED",
            R::OwnAccount => "OWN_ACCOUNT",
            R::NotFound => "NOT_FOUND",
            R::MethodNotAllowed(_) => "METHOD_NOT_ALLOWED",
            R::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            R::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            R::Validation(_) => "VALIDATION_ERROR",
            R::RateLimited(_) => "RATE_LIMIT_EXCEEDED",
            R::Internal => "INTERNAL_ERROR",
            R::BadGateway(_) => "BAD_GATEWAY",
            R::ServiceUnavailable(..) => "SERVICE_UNAVAILABLE",
            R::CircuitOpen(..) => "CIRCUIT_OPEN",
            R::Overloaded(_) => "OVERLOADED",
            R::AuthUnavailable(_) => "AUTH_UNAVAILABLE",
            R::UpstreamTimeout(_) => "UPSTREAM_TIMEOUT",
        }
    }

    /// The sentence for people, in `lang`.
    pub fn message(&self, lang: Lang) -> Cow<'_, str> {
        use Rejection as R;
        let (fr, en) = match self {
            R::InvalidJson => ("Corps JSON invalide", "Invalid JSON body"),
            R::BadRequest(why) => {
                return Cow::Owned(match lang {
                    Lang::Fr => format!("Requête invalide ({why})"),
                    Lang::En => format!("Bad request ({why})"),
                });
            }
            R::EmailAlreadyUsed => ("Email déjà utilisé", "E-mail already used"),
            R::MissingToken => ("Token d'autorisation requis", "Authorization token required"),
            R::InvalidTokenFormat => ("Format d'autorisation invalide", "Invalid authorization format"),
            R::TokenRevoked => ("Token révoqué", "Token revoked"),
            R::TokenExpired => ("Token expiré", "Token expired"),
            R::InvalidToken => ("Token invalide", "Invalid token"),
            R::WrongTokenType => ("Type de token invalide", "Invalid token type"),
            R::InvalidCredentials => ("Email ou mot de passe incorrect", "Wrong e-mail or password"),
            R::InvalidRefreshToken => ("Token de refresh invalide", "Invalid refresh token"),
            R::InvalidApiKey => ("Clé API invalide", "Invalid API key"),
            R::ForbiddenRole(Some(text)) => return Cow::Borrowed(text.get(lang)),
            R::ForbiddenRole(None) => ("Rôle insuffisant", "Insufficient role"),
            R::ForbiddenScope => ("Route hors de la portée de la clé API", "Route outside the API key's scope"),
            R::RoleNotAllowed => ("Rôle non autorisé à l'inscription", "Role not allowed at registration"),
            R::ForbiddenAddress => ("Adresse non autorisée", "Address not allowed"),
            R::SessionRequired => ("Connexion d'un utilisateur requise", "A user's log-in is required"),
            R::OwnAccount => {
                ("Un administrateur ne modifie pas son propre compte", "Administrators cannot change their own account")
            }
            R::NotFound => ("Ressource non trouvée", "Resource not found"),
            R::MethodNotAllowed(_) => ("Méthode non autorisée", "Method not allowed"),
            R::PayloadTooLarge => ("Corps trop volumineux", "Body too large"),
            R::UnsupportedMediaType => ("Type de contenu non supporté", "Unsupported content type"),
            R::Validation(_) => ("Données invalides", "Invalid data"),
            R::RateLimited(_) => ("Trop de requêtes", "Too many requests"),
            R::Internal => ("Erreur interne du serveur", "Internal server error"),
            R::Overloaded(_) => ("Service surchargé, réessayez plus tard", "Service overloaded, try again later"),
            R::AuthUnavailable(_) => ("Service d'authentification indisponible", "Authentication service unavailable"),
            R::BadGateway(name) => {
                return named(lang, name, ["Réponse invalide du service ", ""], ["Invalid answer from service ", ""]);
            }
            R::ServiceUnavailable(name, _) => {
                return named(lang, name, ["Service ", " indisponible"], ["Service ", " unavailable"]);
            }
            R::CircuitOpen(name, _) => {
                return named(
                    lang,
                    name,
                    ["Service ", " indisponible (circuit ouvert)"],
                    ["Service ", " unavailable (circuit open)"],
                );
            }
            R::UpstreamTimeout(name) => {
                return named(lang, name, ["Timeout du service ", ""], ["Timeout of service ", ""]);
            }
        };
        Cow::Borrowed(match lang {
            Lang::Fr => fr,
            Lang::En => en,
        })
    }

    /// How long the client should wait: the true time, for 429 and 503.
    pub fn retry_after(&self) -> Option<Duration> {
        use Rejection as R;
        match self {
            R::RateLimited(wait)
            | R::ServiceUnavailable(_, wait)
            | R::CircuitOpen(_, wait)
            | R::Overloaded(wait)
            | R::AuthUnavailable(wait) => Some(*wait),
            _ => None,
        }
    }

    /// The fields at fault, for 422.
    pub fn details(&self) -> &[FieldProblem] {
        match self {
            Rejection::Validation(fields) => fields,
            _ => &[],
        }
    }
}

fn named<'a>(lang: Lang, name: &str, fr: [&str; 2], en: [&str; 2]) -> Cow<'a, str> {
    let [before, after] = match lang {
        Lang::Fr => fr,
        Lang::En => en,
    };
    Cow::Owned(format!("{before}{name}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_known_by_its_text() {
        let (name, wait) = (Arc::<str>::from("s"), Duration::ZERO);
        use Rejection as R;
        let all = [
            R::InvalidJson,
            R::BadRequest("why"),
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
            R::PayloadTooLarge,
            R::UnsupportedMediaType,
            R::Validation(Vec::new()),
            R::RateLimited(wait),
            R::Internal,
            R::BadGateway(name.clone()),
            R::ServiceUnavailable(name.clone(), wait),
            R::CircuitOpen(name.clone(), wait),
            R::Overloaded(wait),
            R::AuthUnavailable(wait),
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
}
