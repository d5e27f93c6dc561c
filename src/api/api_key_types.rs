//! Bodies of the API-key pages, as the API documentation shows them.

use serde::Serialize;
use utoipa::ToSchema;

use super::auth_types::role;
use crate::model::role::Role;

/// An API key to be made.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "only described: the fields are read one by one")]
pub struct ApiKeyRequest {
    /// Name for people; no control characters.
    #[schema(min_length = 1, max_length = 100, example = "Nightly import")]
    pub name: String,
    /// The active account that it acts for.
    #[schema(example = 1)]
    pub user_id: i64,
    /// The role that it acts with, not above the account's; the account's when absent.
    #[schema(schema_with = role)]
    pub role: Option<Role>,
    /// Names of the routes that it may call; every route that takes API keys when absent or empty.
    #[schema(max_items = 64, example = json!(["match", "match-batch"]))]
    pub routes: Option<Vec<String>>,
    /// When it ends (RFC 3339, in the future); never when absent.
    #[schema(format = "date-time", example = "2030-01-01T00:00:00Z")]
    pub expires_at: Option<String>,
}

/// An API key, without the key itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct ApiKeyView {
    /// Its number.
    #[schema(example = 1)]
    pub id: i64,
    /// Name for people.
    #[schema(example = "Nightly import")]
    pub name: String,
    /// The public part of the key: the characters after `ssm_`.
    #[schema(example = "x7Kd02Qz")]
    pub prefix: String,
    /// The account that it acts for.
    #[schema(example = 1)]
    pub user_id: i64,
    /// The role that it acts with.
    #[schema(schema_with = role)]
    pub role: Role,
    /// Names of the routes that it may call; empty: every route that takes API keys.
    pub routes: Vec<String>,
    /// The admin who made it; `null`: the command line.
    pub created_by: Option<i64>,
    /// When it was made (RFC 3339).
    #[schema(format = "date-time")]
    pub created_at: String,
    /// When it ends; `null`: never.
    #[schema(format = "date-time")]
    pub expires_at: Option<String>,
    /// When it was last used, to the minute; `null`: never.
    #[schema(format = "date-time")]
    pub last_used_at: Option<String>,
    /// When it was revoked; `null` while it is good.
    #[schema(format = "date-time")]
    pub revoked_at: Option<String>,
}

/// A new API key. The only answer that ever shows it.
#[derive(Serialize, ToSchema)]
pub struct ApiKeyCreated {
    /// For `X-API-Key`. Keep it: it is not shown again.
    #[schema(pattern = "^ssm_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}$")]
    pub key: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub about: ApiKeyView,
}

/// One page of the API keys, in the order of their numbers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiKeyList {
    /// The keys, revoked and expired ones included.
    pub api_keys: Vec<ApiKeyView>,
    /// `after` of the next page; `null` on the last one.
    pub next_after: Option<i64>,
}
