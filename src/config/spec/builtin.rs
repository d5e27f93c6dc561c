//! The gateway's own pages, as `routes.yaml` names them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The gateway's own pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Builtin {
    /// Name, version and routes of the gateway.
    ServiceCard,
    /// `{"status":"ok"}`; touches nothing else.
    Status,
    /// Health of all services, from the background checks.
    Health,
    /// Health of the service named by the path parameter `{service}`.
    ServiceHealth,
    /// Health of all targets, with their addresses.
    HealthDetailed,
    /// Recent changes of health.
    HealthHistory,
    /// Forgets probe results and asks for a new round.
    HealthReset,
    /// Prometheus text.
    Metrics,
    /// Swagger UI.
    Docs,
    /// ReDoc.
    Redoc,
    /// OpenAPI 3.1 of all routes.
    Openapi,
    /// The public keys that verify access tokens: a JWK set.
    Jwks,
    /// Makes an account.
    AuthRegister,
    /// Opens a session.
    AuthLogin,
    /// Goes on with a session.
    AuthRefresh,
    /// Ends a session.
    AuthLogout,
    /// The caller's account.
    AuthMe,
    /// The caller's sessions.
    AuthSessions,
    /// Ends the caller's session named by the path parameter `{sid}`.
    AuthSessionEnd,
    /// Ends all sessions of the caller.
    AuthLogoutAll,
    /// Changes the caller's password.
    AuthPassword,
    /// All accounts, page by page.
    AdminUsers,
    /// The account named by the path parameter `{id}`, as every page below.
    AdminUser,
    /// Changes what an account may do.
    AdminUserChange,
    /// The sessions of an account.
    AdminUserSessions,
    /// Ends all sessions of an account.
    AdminUserSignOut,
    /// Ends the session of an account named by `{sid}`.
    AdminUserSessionEnd,
    /// Makes an API key.
    ApiKeyCreate,
    /// The API keys.
    ApiKeyList,
    /// Revokes the API key with the path parameter `{id}`.
    ApiKeyRevoke,
}

/// Who may be let to a page by the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    Anybody,
    /// Proven users: the page is about their own account. A stolen API key must not reach further than itself.
    Users,
    /// Administrators: the page is about the accounts and keys of others.
    Admins,
}

impl Builtin {
    /// Whether it answers probes and collectors, which must never be refused for asking often.
    pub const fn is_for_machines(self) -> bool {
        matches!(self, Builtin::Status | Builtin::Health | Builtin::Metrics)
    }

    /// Whether passwords or refresh tokens are tried there: no limit may open up when its store fails.
    pub const fn takes_passwords(self) -> bool {
        matches!(self, Builtin::AuthRegister | Builtin::AuthLogin | Builtin::AuthRefresh | Builtin::AuthPassword)
    }

    /// Who may be let to it.
    pub const fn audience(self) -> Audience {
        use Builtin as B;
        match self {
            B::AuthLogout | B::AuthMe | B::AuthSessions | B::AuthSessionEnd | B::AuthLogoutAll | B::AuthPassword => {
                Audience::Users
            }
            B::AdminUsers
            | B::AdminUser
            | B::AdminUserChange
            | B::AdminUserSessions
            | B::AdminUserSignOut
            | B::AdminUserSessionEnd
            | B::ApiKeyCreate
            | B::ApiKeyList
            | B::ApiKeyRevoke => Audience::Admins,
            _ => Audience::Anybody,
        }
    }

    /// The path parameters that it reads.
    pub const fn parameters(self) -> &'static [&'static str] {
        match self {
            Builtin::ServiceHealth => &["service"],
            Builtin::AuthSessionEnd => &["sid"],
            Builtin::AdminUser
            | Builtin::AdminUserChange
            | Builtin::AdminUserSessions
            | Builtin::AdminUserSignOut
            | Builtin::ApiKeyRevoke => &["id"],
            Builtin::AdminUserSessionEnd => &["id", "sid"],
            _ => &[],
        }
    }

    /// Its name in the table, and the last segment of its path on the side-listener.
    pub const fn as_str(self) -> &'static str {
        match self {
            Builtin::ServiceCard => "service_card",
            Builtin::Status => "status",
            Builtin::Health => "health",
            Builtin::ServiceHealth => "service_health",
            Builtin::HealthDetailed => "health_detailed",
            Builtin::HealthHistory => "health_history",
            Builtin::HealthReset => "health_reset",
            Builtin::Metrics => "metrics",
            Builtin::Docs => "docs",
            Builtin::Redoc => "redoc",
            Builtin::Openapi => "openapi",
            Builtin::Jwks => "jwks",
            Builtin::AuthRegister => "auth_register",
            Builtin::AuthLogin => "auth_login",
            Builtin::AuthRefresh => "auth_refresh",
            Builtin::AuthLogout => "auth_logout",
            Builtin::AuthMe => "auth_me",
            Builtin::AuthSessions => "auth_sessions",
            Builtin::AuthSessionEnd => "auth_session_end",
            Builtin::AuthLogoutAll => "auth_logout_all",
            Builtin::AuthPassword => "auth_password",
            Builtin::AdminUsers => "admin_users",
            Builtin::AdminUser => "admin_user",
            Builtin::AdminUserChange => "admin_user_change",
            Builtin::AdminUserSessions => "admin_user_sessions",
            Builtin::AdminUserSignOut => "admin_user_sign_out",
            Builtin::AdminUserSessionEnd => "admin_user_session_end",
            Builtin::ApiKeyCreate => "api_key_create",
            Builtin::ApiKeyList => "api_key_list",
            Builtin::ApiKeyRevoke => "api_key_revoke",
        }
    }
}
