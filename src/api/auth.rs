//! `/auth`: reads bodies, calls [`Accounts`], writes answers. Decides nothing about accounts itself.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::asked::Asked;
use super::auth_types::{LoginRequest, MeResponse, Message, RefreshRequest, TokenResponse, UserView};
use super::fields::{Fields, MAX_BODY_BYTES};
use super::{answer, sessions, users};
use crate::accounts::{Accounts, Email, FullName, NewPassword, Registration, TokenPair};
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::store::User;

pub(super) type Body = Result<Bytes, BytesRejection>;

/// The pages of `/auth`, the key set and the accounts of others, at the fixed paths to which the proxy maps the public ones.
pub fn router(accounts: Arc<Accounts>) -> Router {
    Router::new()
        .route("/builtin/auth_register", post(register))
        .route("/builtin/auth_login", post(login))
        .route("/builtin/auth_refresh", post(refresh))
        .route("/builtin/auth_logout", post(logout))
        .route("/builtin/auth_me", get(me))
        .route("/builtin/jwks", get(key_set))
        .merge(sessions::router())
        .merge(users::router())
        .method_not_allowed_fallback(answer::wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(accounts)
}

async fn register(State(accounts): State<Arc<Accounts>>, asked: Asked, body: Body) -> Response {
    let result = match registration(&asked, body) {
        Ok(registration) => accounts.register(registration, &asked.origin()).await,
        Err(rejection) => Err(rejection),
    };
    answer::outcome(StatusCode::CREATED, result.map(tokens), &asked)
}

async fn login(State(accounts): State<Arc<Accounts>>, asked: Asked, body: Body) -> Response {
    let result = match login_request(&asked, body) {
        Ok(LoginRequest { email, password }) => accounts.login(&email, password, &asked.origin()).await,
        Err(rejection) => Err(rejection),
    };
    answer::outcome(StatusCode::OK, result.map(tokens), &asked)
}

async fn refresh(State(accounts): State<Arc<Accounts>>, asked: Asked, body: Body) -> Response {
    let result = match refresh_request(&asked, body) {
        Ok(RefreshRequest { refresh_token }) => accounts.refresh(&refresh_token, &asked.origin()).await,
        Err(rejection) => Err(rejection),
    };
    answer::outcome(StatusCode::OK, result.map(tokens), &asked)
}

async fn logout(State(accounts): State<Arc<Accounts>>, asked: Asked) -> Response {
    let result = match asked.caller() {
        Ok(caller) => accounts.logout(caller.user, caller.session, &asked.origin()).await,
        Err(rejection) => Err(rejection),
    };
    let message = asked.in_language("Déconnexion réussie", "Logged out");
    answer::outcome(StatusCode::OK, result.map(|()| Message { message }), &asked)
}

async fn me(State(accounts): State<Arc<Accounts>>, asked: Asked) -> Response {
    let result = match asked.caller() {
        Ok(caller) => accounts.me(caller.user).await,
        Err(rejection) => Err(rejection),
    };
    answer::outcome(StatusCode::OK, result.and_then(account), &asked)
}

/// The public keys, from memory. Cached by the route's word.
async fn key_set(State(accounts): State<Arc<Accounts>>) -> Response {
    answer::content("application/jwk-set+json", accounts.authenticator().key_set(), [])
}

fn registration(asked: &Asked, body: Body) -> Result<Registration, Rejection> {
    let mut fields = Fields::read(asked, body)?;
    let email = fields.parsed::<Email>("email");
    let password = fields.required("password").map(SecretString::from);
    let password = password.and_then(|text| fields.check("password", NewPassword::parse(text, email.as_ref())));
    let full_name = fields.parsed::<FullName>("full_name");
    let role = match fields.optional("role") {
        Some(text) => fields.check("role", text.parse::<Role>().map_err(|_| "must be candidat or recruteur")),
        None => Some(Role::Candidat),
    };
    fields.finish()?;
    match (email, full_name, password, role) {
        (Some(email), Some(full_name), Some(password), Some(role)) => {
            Ok(Registration { email, full_name, password, role })
        }
        // Whatever is missing was noted as a problem, so `finish` refused already.
        _ => Err(Rejection::Validation(Vec::new())),
    }
}

fn login_request(asked: &Asked, body: Body) -> Result<LoginRequest, Rejection> {
    let mut fields = Fields::read(asked, body)?;
    let (email, password) = (fields.required("email"), fields.required("password").map(SecretString::from));
    fields.finish()?;
    match (email, password) {
        (Some(email), Some(password)) => Ok(LoginRequest { email, password }),
        _ => Err(Rejection::Validation(Vec::new())),
    }
}

fn refresh_request(asked: &Asked, body: Body) -> Result<RefreshRequest, Rejection> {
    let mut fields = Fields::read(asked, body)?;
    let refresh_token = fields.required("refresh_token").map(SecretString::from);
    fields.finish()?;
    refresh_token.map(|refresh_token| RefreshRequest { refresh_token }).ok_or_else(|| Rejection::Validation(Vec::new()))
}

pub(super) fn tokens(pair: TokenPair) -> TokenResponse {
    TokenResponse {
        access_token: pair.access.expose_secret().to_owned(),
        refresh_token: pair.refresh.expose_secret().to_owned(),
        token_type: "bearer",
        expires_in: pair.expires_in,
        user: UserView::from(&pair.user),
    }
}

/// A whole account, as its owner and administrators see it.
pub(super) fn account(user: User) -> Result<MeResponse, Rejection> {
    Ok(MeResponse {
        id: user.id.0,
        email: user.email,
        full_name: user.full_name,
        role: user.role,
        created_at: moment(user.created_at_ms)?,
        is_active: user.is_active,
    })
}

/// Unix milliseconds as RFC 3339 with an offset.
pub(super) fn moment(at_ms: i64) -> Result<String, Rejection> {
    let at = Timestamp::from_millisecond(at_ms).map_err(|error| {
        tracing::error!(%error, "a time in the identity store is out of range");
        Rejection::Internal
    })?;
    Ok(at.display_with_offset(jiff::tz::Offset::UTC).to_string())
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
