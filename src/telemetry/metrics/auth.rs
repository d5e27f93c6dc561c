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
    /// An access token was given out.
    TokenCreated,
    /// A session was ended, with its tokens.
    TokenRevoked,
    /// A spent refresh token came back: somebody has a copy.
    TokenReuse,
}

impl AuthEvent {
    /// Every event.
    pub const ALL: [AuthEvent; 6] = [
        AuthEvent::UserCreated,
        AuthEvent::LoginSuccess,
        AuthEvent::LoginFail,
        AuthEvent::TokenCreated,
        AuthEvent::TokenRevoked,
        AuthEvent::TokenReuse,
    ];

    /// Its name in label and log.
    pub const fn as_str(self) -> &'static str {
        match self {
            AuthEvent::UserCreated => "user_created",
            AuthEvent::LoginSuccess => "authn_login_success",
            AuthEvent::LoginFail => "authn_login_fail",
            AuthEvent::TokenCreated => "authn_token_created",
            AuthEvent::TokenRevoked => "authn_token_revoked",
            AuthEvent::TokenReuse => "authn_token_reuse",
        }
    }
}
