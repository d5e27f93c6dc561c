//! Bodies about sessions and about the accounts of others, as the API documentation shows them.

use secrecy::SecretString;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth_types::{MeResponse, role};
use crate::model::role::Role;

/// One log-in that goes on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionView {
    /// Its number.
    #[schema(format = "uuid", example = "67e55044-10b1-426f-9247-bb680e5fe0c8")]
    pub id: String,
    /// When the log-in was (RFC 3339).
    #[schema(format = "date-time", example = "2026-01-01T00:00:00+00:00")]
    pub created_at: String,
    /// The log-in or the last refresh (RFC 3339).
    #[schema(format = "date-time", example = "2026-01-02T00:00:00+00:00")]
    pub last_used_at: String,
    /// When it ends unless it is refreshed before (RFC 3339).
    #[schema(format = "date-time", example = "2026-01-09T00:00:00+00:00")]
    pub expires_at: String,
    /// Where the log-in came from.
    #[schema(example = "192.0.2.1")]
    pub address: Option<String>,
    /// What the client called itself then.
    pub user_agent: Option<String>,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// The living sessions of an account, the youngest log-in first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sessions)]
pub struct SessionList {
    /// The sessions.
    pub sessions: Vec<SessionView>,
}

/// Another password for the caller's account.
#[derive(Debug, ToSchema)]
pub struct PasswordChangeRequest {
    /// The one in force.
    #[schema(value_type = String, format = "password")]
    pub current_password: SecretString,
    /// 10 to 128 characters; another one, not a common one, and not containing the address.
    #[schema(value_type = String, format = "password", min_length = 10, max_length = 128)]
    pub new_password: SecretString,
}

/// Some accounts, in the order of their numbers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Accounts)]
pub struct UserList {
    /// The accounts.
    pub users: Vec<MeResponse>,
    /// `after` of the next page; `null` on the last one.
    #[schema(example = 100)]
    pub next_after: Option<i64>,
}

/// What an account may do from now on; at least one of the two.
#[derive(Debug, ToSchema)]
#[schema(min_properties = 1)]
pub struct AccessChangeRequest {
    /// Its role.
    #[schema(schema_with = role, required = false)]
    pub role: Option<Role>,
    /// Whether it may log in.
    #[schema(value_type = bool, required = false)]
    pub is_active: Option<bool>,
}
