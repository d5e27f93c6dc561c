//! Bodies of `/auth`, as the API documentation shows them. Nothing that can print a password or a token.

use secrecy::SecretString;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use crate::model::role::Role;
use crate::store::User;

/// Makes an account.
#[derive(Debug, ToSchema)]
pub struct RegisterRequest {
    /// Address of the account; compared without regard to case.
    #[schema(format = "email", max_length = 254, example = "anna@example.com")]
    pub email: String,
    /// 10 to 128 characters; not a common one, and not containing the address.
    #[schema(value_type = String, format = "password", min_length = 10, max_length = 128)]
    pub password: SecretString,
    /// Name for people.
    #[schema(min_length = 1, max_length = 200, example = "Anna Martin")]
    pub full_name: String,
    /// `candidat` (default) or `recruteur`.
    #[schema(schema_with = role_to_choose)]
    pub role: Option<Role>,
}

/// Opens a session.
#[derive(Debug, ToSchema)]
pub struct LoginRequest {
    /// Address of the account.
    #[schema(format = "email", example = "anna@example.com")]
    pub email: String,
    /// Its password.
    #[schema(value_type = String, format = "password")]
    pub password: SecretString,
}

/// Goes on with a session.
#[derive(Debug, ToSchema)]
pub struct RefreshRequest {
    /// The refresh token of the latest answer; each is good once.
    #[schema(value_type = String)]
    pub refresh_token: SecretString,
}

/// Tokens of a session.
#[derive(Serialize, ToSchema)]
pub struct TokenResponse {
    /// For `Authorization: Bearer`.
    pub access_token: String,
    /// For `/auth/refresh`; opaque.
    pub refresh_token: String,
    /// Always `bearer`.
    #[schema(example = "bearer")]
    pub token_type: &'static str,
    /// Life of the access token, in seconds.
    #[schema(example = 86400)]
    pub expires_in: i64,
    /// Whose they are.
    pub user: UserView,
}

/// An account, in short.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserView {
    /// Its number.
    #[schema(example = 1)]
    pub id: i64,
    /// Its address.
    #[schema(format = "email", example = "anna@example.com")]
    pub email: String,
    /// Name for people.
    #[schema(example = "Anna Martin")]
    pub full_name: String,
    /// What it may do.
    #[schema(schema_with = role)]
    pub role: Role,
}

/// A whole account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub struct MeResponse {
    /// Its number.
    #[schema(example = 1)]
    pub id: i64,
    /// Its address.
    #[schema(format = "email", example = "anna@example.com")]
    pub email: String,
    /// Name for people.
    #[schema(example = "Anna Martin")]
    pub full_name: String,
    /// What it may do.
    #[schema(schema_with = role)]
    pub role: Role,
    /// When it was made (RFC 3339).
    #[schema(format = "date-time", example = "2026-01-01T00:00:00+00:00")]
    pub created_at: String,
    /// Whether it may log in.
    pub is_active: bool,
}

/// A sentence for people.
#[derive(Debug, Serialize, ToSchema)]
pub struct Message {
    /// The sentence.
    #[schema(example = "Déconnexion réussie")]
    pub message: &'static str,
}

impl From<&User> for UserView {
    fn from(user: &User) -> UserView {
        UserView { id: user.id.0, email: user.email.clone(), full_name: user.full_name.clone(), role: user.role }
    }
}

/// Every role.
pub(super) fn role() -> Object {
    choice(&Role::ALL).build()
}

/// The roles that registration gives.
fn role_to_choose() -> Object {
    let description = "`candidat` when absent; `admin` is refused.";
    choice(&[Role::Candidat, Role::Recruteur]).description(Some(description)).build()
}

fn choice(roles: &[Role]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(roles.iter().map(|role| role.as_str())))
}
