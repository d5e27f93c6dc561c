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
const CODES: [&str; 38] = [
    "INVALID_JSON",
    "BAD_REQUEST",
    "INVALID_IDEMPOTENCY_KEY",
    "MISSING_IDEMPOTENCY_KEY",
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
    "IDEMPOTENCY_IN_FLIGHT",
    "IDEMPOTENCY_ANSWER_TOO_LONG",
    "PAYLOAD_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "VALIDATION_ERROR",
    "IDEMPOTENCY_MISMATCH",
    "RATE_LIMIT_EXCEEDED",
    "CONCURRENCY_LIMIT_EXCEEDED",
    "INTERNAL_ERROR",
    "BAD_GATEWAY",
    "SERVICE_UNAVAILABLE",
    "CIRCUIT_OPEN",
    "OVERLOADED",
    "AUTH_UNAVAILABLE",
    "IDEMPOTENCY_UNAVAILABLE",
    "UPSTREAM_TIMEOUT",
];

/// A reason to refuse. docs/errors.md lists them for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// A body that must be JSON is not.
    InvalidJson,
    /// The request breaks HTTP or our rules for it; the text says which, never what was sent.
    BadRequest(&'static str),
    /// `Idempotency-Key` is not exactly one key.
    InvalidIdempotencyKey,
    /// No `Idempotency-Key` on a route that needs one.
    MissingIdempotencyKey,
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
    /// Another request with this `Idempotency-Key` is in flight.
    IdempotencyInFlight(Duration),
    /// The request was answered, but the answer was too long to keep for this repeat.
    IdempotencyAnswerTooLong,
    /// The body is over the route's cap.
    PayloadTooLarge,
    /// The route does not take this content type.
    UnsupportedMediaType,
    /// Well-formed JSON that says something unacceptable.
    Validation(Vec<FieldProblem>),
    /// Another request was answered under this `Idempotency-Key`.
    IdempotencyMismatch,
    /// A limit is spent; carries the wait until the request can pass.
    RateLimited(Duration),
    /// As many requests as a limit allows at once are in flight.
    ConcurrencyLimited,
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
    /// What was answered under an `Idempotency-Key` cannot be looked up.
    IdempotencyUnavailable(Duration),
    /// The upstream did not answer in time.
    UpstreamTimeout(Arc<str>),
}

impl Rejection {
    /// The HTTP status: always 4xx or 5xx.
    pub fn status(&self) -> StatusCode {
        use Rejection as R;
        match self {
            R::InvalidJson
            | R::BadRequest(_)
            | R::InvalidIdempotencyKey
            | R::MissingIdempotencyKey
            | R::EmailAlreadyUsed => StatusCode::BAD_REQUEST,
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
            R::IdempotencyInFlight(_) | R::IdempotencyAnswerTooLong => StatusCode::CONFLICT,
            R::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            R::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            R::Validation(_) | R::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
            R::RateLimited(_) | R::ConcurrencyLimited => StatusCode::TOO_MANY_REQUESTS,
            R::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            R::BadGateway(_) => StatusCode::BAD_GATEWAY,
            R::ServiceUnavailable(..)
            | R::CircuitOpen(..)
            | R::Overloaded(_)
            | R::AuthUnavailable(_)
            | R::IdempotencyUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
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
            R::InvalidIdempotencyKey => "INVALID_IDEMPOTENCY_KEY",
            R::MissingIdempotencyKey => "MISSING_IDEMPOTENCY_KEY",
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
            R::IdempotencyInFlight(_) => "IDEMPOTENCY_IN_FLIGHT",
            R::IdempotencyAnswerTooLong => "IDEMPOTENCY_ANSWER_TOO_LONG",
            R::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            R::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            R::Validation(_) => "VALIDATION_ERROR",
            R::IdempotencyMismatch => "IDEMPOTENCY_MISMATCH",
            R::RateLimited(_) => "RATE_LIMIT_EXCEEDED",
            R::ConcurrencyLimited => "CONCURRENCY_LIMIT_EXCEEDED",
            R::Internal => "INTERNAL_ERROR",
            R::BadGateway(_) => "BAD_GATEWAY",
            R::ServiceUnavailable(..) => "SERVICE_UNAVAILABLE",
            R::CircuitOpen(..) => "CIRCUIT_OPEN",
            R::Overloaded(_) => "OVERLOADED",
            R::AuthUnavailable(_) => "AUTH_UNAVAILABLE",
            R::IdempotencyUnavailable(_) => "IDEMPOTENCY_UNAVAILABLE",
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
            R::InvalidIdempotencyKey => ("En-tête Idempotency-Key invalide", "Invalid Idempotency-Key header"),
            R::MissingIdempotencyKey => ("En-tête Idempotency-Key requis", "Idempotency-Key header required"),
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
            R::OwnAccount => OWN_ACCOUNT,
            R::NotFound => ("Ressource non trouvée", "Resource not found"),
            R::MethodNotAllowed(_) => ("Méthode non autorisée", "Method not allowed"),
            R::IdempotencyInFlight(_) => IN_FLIGHT,
            R::IdempotencyAnswerTooLong => TOO_LONG,
            R::PayloadTooLarge => ("Corps trop volumineux", "Body too large"),
            R::UnsupportedMediaType => ("Type de contenu non supporté", "Unsupported content type"),
            R::Validation(_) => ("Données invalides", "Invalid data"),
            R::IdempotencyMismatch => MISMATCH,
            R::RateLimited(_) => ("Trop de requêtes", "Too many requests"),
            R::ConcurrencyLimited => ("Trop de requêtes simultanées", "Too many requests at once"),
            R::Internal => ("Erreur interne du serveur", "Internal server error"),
            R::Overloaded(_) => ("Service surchargé, réessayez plus tard", "Service overloaded, try again later"),
            R::IdempotencyUnavailable(_) => UNAVAILABLE,
            R::AuthUnavailable(_) => ("Service d'authentification indisponible", "Authentication service unavailable"),
            R::BadGateway(name) => {
                return named(lang, name, ["Réponse invalide du service ", ""], ["Invalid answer from service ", ""]);
            }
            R::ServiceUnavailable(name, _) => {
                return named(lang, name, ["Service ", " indisponible"], ["Service ", " unavailable"]);
            }
            R::CircuitOpen(name, _) => return named(lang, name, CIRCUIT_OPEN.0, CIRCUIT_OPEN.1),
            R::UpstreamTimeout(name) => {
                return named(lang, name, ["Timeout du service ", ""], ["Timeout of service ", ""]);
            }
        };
        Cow::Borrowed(match lang {
            Lang::Fr => fr,
            Lang::En => en,
        })
    }

    /// How long the client should wait: the true time, for 429 and 503; a guess where nobody knows.
    pub fn retry_after(&self) -> Option<Duration> {
        use Rejection as R;
        match self {
            R::RateLimited(wait)
            | R::IdempotencyInFlight(wait)
            | R::IdempotencyUnavailable(wait)
            | R::ServiceUnavailable(_, wait)
            | R::CircuitOpen(_, wait)
            | R::Overloaded(wait)
            | R::AuthUnavailable(wait) => Some(*wait),
            // Nobody knows when one of them ends.
            R::ConcurrencyLimited => Some(Duration::from_secs(1)),
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

/// A sentence in French and in English.
type Texts = (&'static str, &'static str);

const IN_FLIGHT: Texts =
    ("Une requête avec cette clé d'idempotence est en cours", "A request with this idempotency key is in progress");
const TOO_LONG: Texts = (
    "Requête déjà traitée, réponse trop longue pour être répétée",
    "Request done already, its answer was too long to repeat",
);
const MISMATCH: Texts =
    ("Clé d'idempotence déjà utilisée pour une autre requête", "Idempotency key already used for another request");
const UNAVAILABLE: Texts =
    ("Vérification de la clé d'idempotence indisponible", "Idempotency key cannot be checked now");
const OWN_ACCOUNT: Texts =
    ("Un administrateur ne modifie pas son propre compte", "Administrators cannot change their own account");
/// Around the name of the service.
const CIRCUIT_OPEN: ([&str; 2], [&str; 2]) =
    (["Service ", " indisponible (circuit ouvert)"], ["Service ", " unavailable (circuit open)"]);

fn named<'a>(lang: Lang, name: &str, fr: [&str; 2], en: [&str; 2]) -> Cow<'a, str> {
    let [before, after] = match lang {
        Lang::Fr => fr,
        Lang::En => en,
    };
    Cow::Owned(format!("{before}{name}{after}"))
}

#[cfg(test)]
mod tests;
