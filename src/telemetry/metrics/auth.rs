//! What can happen to accounts, sessions and tokens, as the counter and the log name it.

/// One kind of event, under its name in the OWASP application logging vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthEvent {
    /// An account was made.
    UserCreated,
    /// A password was right.
    LoginSuccess,
    /// Address and password did not fit together, or the account may not log in.
    LoginFail,
    /// A log-in was refused unseen: too many failures before it.
    LoginLock,
    /// An access token was given out.
    TokenCreated,
    /// A session was ended, with its tokens.
    TokenRevoked,
    /// A spent refresh token came back: somebody has a copy.
    TokenReuse,
    /// A password was changed.
    PasswordChange,
    /// Somebody with a token of an account did not know its password.
    PasswordChangeFail,
    /// An account got another role or state.
    UserUpdated,
    /// Somebody proven was refused for the role, or came with a revoked credential.
    AuthzFail,
    /// An administrator did something.
    AuthzAdmin,
    /// An API key was made.
    ApiKeyCreated,
    /// An API key was revoked.
    ApiKeyRevoked,
}

impl AuthEvent {
    /// Every event.
    pub const ALL: [AuthEvent; 14] = [
        AuthEvent::UserCreated,
        AuthEvent::LoginSuccess,
        AuthEvent::LoginFail,
        AuthEvent::LoginLock,
        AuthEvent::TokenCreated,
        AuthEvent::TokenRevoked,
        AuthEvent::TokenReuse,
        AuthEvent::PasswordChange,
        AuthEvent::PasswordChangeFail,
        AuthEvent::UserUpdated,
        AuthEvent::AuthzFail,
        AuthEvent::AuthzAdmin,
        AuthEvent::ApiKeyCreated,
        AuthEvent::ApiKeyRevoked,
    ];

    /// Its name in label and log.
    pub const fn as_str(self) -> &'static str {
        match self {
            AuthEvent::UserCreated => "user_created",
            AuthEvent::LoginSuccess => "authn_login_success",
            AuthEvent::LoginFail => "authn_login_fail",
            AuthEvent::LoginLock => "authn_login_lock",
            AuthEvent::TokenCreated => "authn_token_created",
            AuthEvent::TokenRevoked => "authn_token_revoked",
            AuthEvent::TokenReuse => "authn_token_reuse",
            AuthEvent::PasswordChange => "authn_password_change",
            AuthEvent::PasswordChangeFail => "authn_password_change_fail",
            AuthEvent::UserUpdated => "user_updated",
            AuthEvent::AuthzFail => "authz_fail",
            AuthEvent::AuthzAdmin => "authz_admin",
            AuthEvent::ApiKeyCreated => "authn_api_key_created",
            AuthEvent::ApiKeyRevoked => "authn_api_key_revoked",
        }
    }
}
