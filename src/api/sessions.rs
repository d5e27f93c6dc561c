//! What users do with their own sessions and password.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{delete, get, post};
use http::StatusCode;
use secrecy::SecretString;

use super::answer;
use super::asked::{Asked, Caller};
use super::auth::{Body, moment, tokens};
use super::auth_types::{Message, TokenResponse};
use super::fields::Fields;
use super::session_types::{SessionList, SessionView};
use crate::accounts::{Accounts, Email, LivingSession, NewPassword};
use crate::model::identity::SessionId;
use crate::model::rejection::Rejection;

/// The pages, at `/builtin/<name>`.
pub(super) fn router() -> Router<Arc<Accounts>> {
    Router::new()
        .route("/builtin/auth_sessions", get(list))
        .route("/builtin/auth_session_end", delete(end))
        .route("/builtin/auth_logout_all", post(logout_all))
        .route("/builtin/auth_password", post(password))
}

async fn list(State(accounts): State<Arc<Accounts>>, asked: Asked) -> Response {
    let result = match asked.caller() {
        Ok(caller) => accounts.own_sessions(caller.user).await.and_then(|all| views(all, caller.session)),
        Err(rejection) => Err(rejection),
    };
    answer::outcome(StatusCode::OK, result, &asked)
}

async fn end(State(accounts): State<Arc<Accounts>>, asked: Asked) -> Response {
    let result = match asked.caller().and_then(|caller| Ok((caller, asked.session()?))) {
        Ok((caller, sid)) => accounts.end_own_session(caller.user, sid, &asked.origin()).await,
        Err(rejection) => Err(rejection),
    };
    answer::outcome(StatusCode::OK, result.map(|()| ended(&asked)), &asked)
}

async fn logout_all(State(accounts): State<Arc<Accounts>>, asked: Asked) -> Response {
    let result = match asked.caller() {
        Ok(caller) => accounts.logout_all(caller.user, &asked.origin()).await,
        Err(rejection) => Err(rejection),
    };
    answer::outcome(StatusCode::OK, result.map(|()| all_ended(&asked)), &asked)
}

async fn password(State(accounts): State<Arc<Accounts>>, asked: Asked, body: Body) -> Response {
    let result = match asked.caller() {
        Ok(caller) => change_password(&accounts, caller, &asked, body).await,
        Err(rejection) => Err(rejection),
    };
    answer::outcome(StatusCode::OK, result, &asked)
}

async fn change_password(
    accounts: &Accounts,
    caller: Caller,
    asked: &Asked,
    body: Body,
) -> Result<TokenResponse, Rejection> {
    let mut fields = Fields::read(asked, body)?;
    let email = accounts.me(caller.user).await?.email.parse::<Email>().ok();
    let current = fields.required("current_password").map(SecretString::from);
    let new = fields.required("new_password").map(SecretString::from);
    let new = new.and_then(|new| {
        let none = SecretString::default();
        let checked = NewPassword::in_place_of(current.as_ref().unwrap_or(&none), new, email.as_ref());
        fields.check("new_password", checked)
    });
    fields.finish()?;
    match (current, new) {
        (Some(current), Some(new)) => {
            accounts.change_password(caller.user, current, new, &asked.origin()).await.map(tokens)
        }
        // Whatever is missing was noted as a problem, so `finish` refused already.
        _ => Err(Rejection::Validation(Vec::new())),
    }
}

/// The sessions as they are shown to somebody who asks from the session `current`.
pub(super) fn views(sessions: Vec<LivingSession>, current: SessionId) -> Result<SessionList, Rejection> {
    let view = |session: LivingSession| {
        Ok(SessionView {
            id: session.sid.to_string(),
            created_at: moment(session.created_at_ms)?,
            last_used_at: moment(session.last_used_at_ms)?,
            expires_at: moment(session.expires_at_ms)?,
            address: session.address.map(|address| address.to_string()),
            user_agent: session.user_agent,
            current: session.sid == current,
        })
    };
    Ok(SessionList { sessions: sessions.into_iter().map(view).collect::<Result<_, Rejection>>()? })
}

pub(super) fn ended(asked: &Asked) -> Message {
    Message { message: asked.in_language("Session terminée", "Session ended") }
}

pub(super) fn all_ended(asked: &Asked) -> Message {
    Message { message: asked.in_language("Toutes les sessions sont terminées", "All sessions are ended") }
}
