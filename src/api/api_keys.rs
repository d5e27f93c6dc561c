//! The admin pages of API keys: reads bodies, calls [`Accounts`], writes answers.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use http::StatusCode;
use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::api_key_types::{ApiKeyCreated, ApiKeyList, ApiKeyView};
use super::asked::{Asked, ID};
use super::auth::moment;
use super::auth_types::Message;
use super::fields::{Fields, MAX_BODY_BYTES};
use super::query::PageQuery;
use super::status::access;
use super::{Pages, answer};
use crate::accounts::api_keys::MAX_ROUTES;
use crate::accounts::{Accounts, ApiKeyName, ApiKeyRequest, IssuedApiKey};
use crate::config::spec::RoutesSpec;
use crate::model::identity::{ApiKeyId, UserId};
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::store::ApiKey;

type Body = Result<Bytes, BytesRejection>;
type Shared = State<(Arc<Accounts>, Arc<Pages>)>;

/// The pages, at the fixed paths `/builtin/api_key_*`.
pub fn router(accounts: Arc<Accounts>, pages: Arc<Pages>) -> Router {
    Router::new()
        .route("/builtin/api_key_create", post(create))
        .route("/builtin/api_key_list", get(list))
        .route("/builtin/api_key_revoke", delete(revoke))
        .method_not_allowed_fallback(answer::wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state((accounts, pages))
}

async fn create(State((accounts, pages)): Shared, asked: Asked, body: Body) -> Response {
    let table = pages.live.load_full();
    let result = match request(&asked, body, &table.spec) {
        Ok(request) => accounts.create_api_key(request, &asked.origin()).await,
        Err(rejection) => Err(rejection),
    };
    answer::outcome(StatusCode::CREATED, result.and_then(created), &asked)
}

async fn list(State((accounts, _)): Shared, asked: Asked, RawQuery(query): RawQuery) -> Response {
    answer::outcome(StatusCode::OK, listed(&accounts, query.as_deref(), &asked).await, &asked)
}

async fn listed(accounts: &Accounts, query: Option<&str>, asked: &Asked) -> Result<ApiKeyList, Rejection> {
    let admin = asked.caller()?;
    let wanted = PageQuery::parse(query)?;
    let page = accounts.list_api_keys(admin.user, ApiKeyId(wanted.after), wanted.limit, &asked.origin()).await?;
    let api_keys = page.items.into_iter().map(view).collect::<Result<_, Rejection>>()?;
    Ok(ApiKeyList { api_keys, next_after: page.next })
}

async fn revoke(State((accounts, _)): Shared, asked: Asked) -> Response {
    let result = match asked.caller().and_then(|caller| Ok((caller, ApiKeyId(asked.number(ID)?)))) {
        Ok((caller, id)) => accounts.revoke_api_key(id, caller.user, &asked.origin()).await,
        Err(rejection) => Err(rejection),
    };
    let message = asked.in_language("Clé API révoquée", "API key revoked");
    answer::outcome(StatusCode::OK, result.map(|()| Message { message }), &asked)
}

fn request(asked: &Asked, body: Body, table: &RoutesSpec) -> Result<ApiKeyRequest, Rejection> {
    let created_by = asked.caller()?.user;
    let mut fields = Fields::read(asked, body)?;
    let name = fields.parsed::<ApiKeyName>("name");
    let user = fields.number("user_id").map(UserId);
    let role = fields.optional("role");
    let role = role.and_then(|text| {
        fields.check("role", text.parse::<Role>().map_err(|_| "must be candidat, recruteur or admin"))
    });
    let routes = fields.texts("routes").unwrap_or_default();
    check_routes(&mut fields, &routes, table);
    let expires_at_ms = fields.optional("expires_at").and_then(|text| fields.check("expires_at", end(&text)));
    fields.finish()?;
    match (name, user) {
        (Some(name), Some(user)) => {
            Ok(ApiKeyRequest { name, user, role, routes, expires_at_ms, created_by: Some(created_by) })
        }
        // Whatever is missing was noted as a problem, so `finish` refused already.
        _ => Err(Rejection::Validation(Vec::new())),
    }
}

/// A route that does not exist, or takes no API keys, is a mistake: the key would open less than was meant.
fn check_routes(fields: &mut Fields, routes: &[String], table: &RoutesSpec) {
    if routes.len() > MAX_ROUTES {
        let _: Option<()> = fields.fault("routes", "must have at most 64 names");
        return;
    }
    for (index, name) in routes.iter().enumerate() {
        let route = table.routes.iter().find(|route| route.name == *name);
        let problem = match route {
            None => "names no route",
            Some(route) if !access(table, route).takes_api_keys() => "names a route that takes no API keys",
            Some(_) if routes.iter().take(index).any(|earlier| earlier == name) => "stands there twice",
            Some(_) => continue,
        };
        let _: Option<()> = fields.fault(format!("routes[{index}]"), problem);
    }
}

fn end(text: &str) -> Result<i64, &'static str> {
    let end: Timestamp = text.parse().map_err(|_| "must be a time as in RFC 3339, such as 2030-01-01T00:00:00Z")?;
    Ok(end.as_millisecond())
}

fn created(issued: IssuedApiKey) -> Result<ApiKeyCreated, Rejection> {
    let key = issued.secret.expose_secret().to_owned();
    Ok(ApiKeyCreated { key, about: view(issued.key)? })
}

fn view(key: ApiKey) -> Result<ApiKeyView, Rejection> {
    Ok(ApiKeyView {
        id: key.id.0,
        created_at: moment(key.created_at_ms)?,
        expires_at: key.expires_at_ms.map(moment).transpose()?,
        last_used_at: key.last_used_at_ms.map(moment).transpose()?,
        revoked_at: key.revoked_at_ms.map(moment).transpose()?,
        name: key.name,
        prefix: key.prefix,
        user_id: key.user.0,
        role: key.role,
        routes: key.routes,
        created_by: key.created_by.map(|user| user.0),
    })
}
