//! The accounts of others, for administrators.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::{delete, get, patch};
use http::StatusCode;

use super::answer;
use super::asked::Asked;
use super::auth::{Body, account};
use super::auth_types::{MeResponse, Message};
use super::fields::{Fields, problem};
use super::query::PageQuery;
use super::session_types::{SessionList, UserList};
use super::sessions::{all_ended, ended, views};
use crate::accounts::{AccessChange, Accounts};
use crate::model::identity::UserId;
use crate::model::rejection::Rejection;
use crate::model::role::Role;

/// The pages, at `/builtin/<name>`.
pub(super) fn router() -> Router<Arc<Accounts>> {
    Router::new()
        .route("/builtin/admin_users", get(list))
        .route("/builtin/admin_user", get(one))
        .route("/builtin/admin_user_change", patch(change))
        .route("/builtin/admin_user_sessions", get(sessions))
        .route("/builtin/admin_user_sign_out", delete(sign_out))
        .route("/builtin/admin_user_session_end", delete(end_session))
}

async fn list(State(accounts): State<Arc<Accounts>>, RawQuery(query): RawQuery, asked: Asked) -> Response {
    answer::outcome(StatusCode::OK, listed(&accounts, query.as_deref(), &asked).await, &asked)
}

async fn listed(accounts: &Accounts, query: Option<&str>, asked: &Asked) -> Result<UserList, Rejection> {
    let admin = asked.caller()?;
    let wanted = PageQuery::parse(query)?;
    let page = accounts.users(admin.user, UserId(wanted.after), wanted.limit, &asked.origin()).await?;
    let users = page.items.into_iter().map(account).collect::<Result<_, Rejection>>()?;
    Ok(UserList { users, next_after: page.next })
}

async fn one(State(accounts): State<Arc<Accounts>>, asked: Asked) -> Response {
    answer::outcome(StatusCode::OK, shown(&accounts, &asked).await, &asked)
}

async fn shown(accounts: &Accounts, asked: &Asked) -> Result<MeResponse, Rejection> {
    let (admin, id) = (asked.caller()?, asked.user()?);
    accounts.user(admin.user, id, &asked.origin()).await.and_then(account)
}

async fn change(State(accounts): State<Arc<Accounts>>, asked: Asked, body: Body) -> Response {
    answer::outcome(StatusCode::OK, changed(&accounts, &asked, body).await, &asked)
}

async fn changed(accounts: &Accounts, asked: &Asked, body: Body) -> Result<MeResponse, Rejection> {
    let (admin, id) = (asked.caller()?, asked.user()?);
    let change = access_change(asked, body)?;
    accounts.change_access(admin.user, id, change, &asked.origin()).await.and_then(account)
}

async fn sessions(State(accounts): State<Arc<Accounts>>, asked: Asked) -> Response {
    answer::outcome(StatusCode::OK, sessions_shown(&accounts, &asked).await, &asked)
}

async fn sessions_shown(accounts: &Accounts, asked: &Asked) -> Result<SessionList, Rejection> {
    let (admin, id) = (asked.caller()?, asked.user()?);
    let sessions = accounts.sessions_of(admin.user, id, &asked.origin()).await?;
    views(sessions, admin.session)
}

async fn sign_out(State(accounts): State<Arc<Accounts>>, asked: Asked) -> Response {
    answer::outcome(StatusCode::OK, signed_out(&accounts, &asked).await, &asked)
}

async fn signed_out(accounts: &Accounts, asked: &Asked) -> Result<Message, Rejection> {
    let (admin, id) = (asked.caller()?, asked.user()?);
    accounts.sign_out(admin.user, id, &asked.origin()).await.map(|()| all_ended(asked))
}

async fn end_session(State(accounts): State<Arc<Accounts>>, asked: Asked) -> Response {
    answer::outcome(StatusCode::OK, session_ended(&accounts, &asked).await, &asked)
}

async fn session_ended(accounts: &Accounts, asked: &Asked) -> Result<Message, Rejection> {
    let (admin, id, sid) = (asked.caller()?, asked.user()?, asked.session()?);
    accounts.end_session_as_admin(admin.user, id, sid, &asked.origin()).await.map(|()| ended(asked))
}

fn access_change(asked: &Asked, body: Body) -> Result<AccessChange, Rejection> {
    let mut fields = Fields::read(asked, body)?;
    let role = fields.optional("role");
    let role = role.and_then(|text| {
        fields.check("role", text.parse::<Role>().map_err(|_| "must be candidat, recruteur or admin"))
    });
    let is_active = fields.optional_bool("is_active");
    fields.finish()?;
    match (role, is_active) {
        (None, None) => Err(Rejection::Validation(vec![problem("body", "needs role, is_active or both")])),
        (role, is_active) => Ok(AccessChange { role, is_active }),
    }
}
