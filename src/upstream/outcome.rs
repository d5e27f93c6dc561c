//! What became of a request at its target, and what the breaker and the client make of it. Holds no state.

use std::sync::Arc;
use std::time::Duration;

use pingora::{Error, ErrorSource, ErrorType};

use crate::model::rejection::Rejection;

/// What one attempt says about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// It works: any answer below 500.
    Success,
    /// It does not.
    Failure(FailureKind),
    /// Nothing: the client left, or the gateway itself gave up.
    Neutral,
}

/// How a target failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke.
    Reset,
    /// The answer is not HTTP.
    Protocol,
    /// A 5xx answer.
    Status,
}

impl FailureKind {
    /// Its name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            FailureKind::Connect => "connect",
            FailureKind::Timeout => "timeout",
            FailureKind::Reset => "reset",
            FailureKind::Protocol => "protocol",
            FailureKind::Status => "status",
        }
    }

    /// What the client is told; `retry_after` is for a target that cannot be reached.
    pub fn rejection(self, service: &Arc<str>, retry_after: Duration) -> Rejection {
        match self {
            FailureKind::Connect => Rejection::ServiceUnavailable(service.clone(), retry_after),
            FailureKind::Timeout => Rejection::UpstreamTimeout(service.clone()),
            FailureKind::Reset | FailureKind::Protocol | FailureKind::Status => Rejection::BadGateway(service.clone()),
        }
    }
}

impl Observed {
    /// What an answer's status says: 5xx is a failure, everything else a success.
    pub fn from_status(status: u16) -> Observed {
        if status >= 500 { Observed::Failure(FailureKind::Status) } else { Observed::Success }
    }

    /// What an error of Pingora's says; errors of the client's side or of our own making say nothing.
    pub fn from_error(error: &Error) -> Observed {
        if error.esource() == &ErrorSource::Downstream {
            return Observed::Neutral;
        }
        failure_kind(error.etype()).map_or(Observed::Neutral, Observed::Failure)
    }
}

fn failure_kind(error: &ErrorType) -> Option<FailureKind> {
    use ErrorType as E;
    match error {
        E::ConnectTimedout
        | E::ConnectRefused
        | E::ConnectNoRoute
        | E::ConnectError
        | E::ConnectProxyFailure
        | E::SocketError
        | E::TLSWantX509Lookup
        | E::TLSHandshakeFailure
        | E::TLSHandshakeTimedout
        | E::InvalidCert
        | E::HandshakeError => Some(FailureKind::Connect),
        E::ReadTimedout | E::WriteTimedout => Some(FailureKind::Timeout),
        E::ReadError | E::WriteError | E::ConnectionClosed => Some(FailureKind::Reset),
        E::InvalidHTTPHeader | E::H1Error | E::H2Error | E::H2Downgrade | E::InvalidH2 => Some(FailureKind::Protocol),
        E::HTTPStatus(status) if *status >= 500 => Some(FailureKind::Status),
        _ => None,
    }
}

/// What went wrong, in words without addresses.
pub(super) fn words(error: &Error) -> &'static str {
    match error.etype() {
        ErrorType::ConnectRefused => "connection refused",
        ErrorType::ConnectTimedout => "no connection in time",
        ErrorType::ConnectNoRoute => "no route to the target",
        other => match failure_kind(other) {
            Some(FailureKind::Connect) => "connection failed",
            Some(FailureKind::Timeout) => "no answer in time",
            Some(FailureKind::Reset) => "connection closed before the end of the answer",
            Some(FailureKind::Protocol) => "the answer is not valid HTTP",
            Some(FailureKind::Status) | None => "request failed",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_count_from_500_on() {
        for (status, observed) in [
            (200, Observed::Success),
            (404, Observed::Success),
            (429, Observed::Success),
            (500, Observed::Failure(FailureKind::Status)),
            (503, Observed::Failure(FailureKind::Status)),
        ] {
            assert_eq!(Observed::from_status(status), observed);
        }
    }

    #[test]
    fn errors_of_the_client_say_nothing_about_the_target() {
        let mut error = *Error::new(ErrorType::ReadTimedout);
        error.esource = ErrorSource::Downstream;
        assert_eq!(Observed::from_error(&error), Observed::Neutral);
        error.esource = ErrorSource::Upstream;
        assert_eq!(Observed::from_error(&error), Observed::Failure(FailureKind::Timeout));
        error.etype = ErrorType::InternalError;
        assert_eq!(Observed::from_error(&error), Observed::Neutral);
    }
}
