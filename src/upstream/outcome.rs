//! What became of a request at its target, and what the breaker and the client make of it. Holds no state.

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::http::v2::client::PING_TIMEDOUT;
use pingora::{Error, ErrorSource, ErrorType};

use crate::model::rejection::Rejection;
use crate::model::retry::Failure;
use crate::telemetry::metrics::AttemptResult;

/// What one attempt says about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// It works: any answer below 500.
    Success,
    /// It does not.
    Failure(FailureKind),
    /// Nothing: the client left, or the gateway itself gave up.
    Neutral,
    /// Nothing: a kept connection was closed before a byte of an answer.
    Stale,
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

    /// What it means for a retry, when there may have been no connection.
    pub(super) const fn of_call(self) -> Failure {
        match self {
            FailureKind::Connect => Failure::Unsent,
            other => other.of_exchange(),
        }
    }

    /// What it means for a retry, once a connection was there.
    pub(crate) const fn of_exchange(self) -> Failure {
        match self {
            FailureKind::Timeout => Failure::Timeout,
            FailureKind::Connect | FailureKind::Reset | FailureKind::Protocol | FailureKind::Status => Failure::Broken,
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

    /// The word under which the try is counted.
    pub fn result(self) -> AttemptResult {
        match self {
            Observed::Success => AttemptResult::Success,
            Observed::Neutral => AttemptResult::Cancelled,
            Observed::Stale => AttemptResult::Stale,
            Observed::Failure(FailureKind::Status) => AttemptResult::ServerError,
            Observed::Failure(FailureKind::Connect) => AttemptResult::ConnectError,
            Observed::Failure(FailureKind::Timeout) => AttemptResult::Timeout,
            Observed::Failure(FailureKind::Reset | FailureKind::Protocol) => AttemptResult::Broken,
        }
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
        other if *other == PING_TIMEDOUT => Some(FailureKind::Timeout),
        // Among others a stream that the target reset, and a connection that it ended with a GOAWAY.
        E::ReadError | E::WriteError | E::ConnectionClosed | E::H2Error => Some(FailureKind::Reset),
        E::InvalidHTTPHeader | E::H1Error | E::H2Downgrade | E::InvalidH2 => Some(FailureKind::Protocol),
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
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => tls_words(error, "the TLS handshake failed"),
        ErrorType::ReadError | ErrorType::ConnectionClosed => {
            tls_words(error, "connection closed before the end of the answer")
        }
        other => match failure_kind(other) {
            Some(FailureKind::Connect) => "connection failed",
            Some(FailureKind::Timeout) => "no answer in time",
            Some(FailureKind::Reset) => "connection closed before the end of the answer",
            Some(FailureKind::Protocol) => "the answer is not valid HTTP",
            Some(FailureKind::Status) | None => "request failed",
        },
    }
}

/// What TLS found wrong. In TLS 1.3 a target refuses our certificate after the handshake, where we first read.
///
/// Pingora passes on rustls's words only, so they are looked for.
fn tls_words(error: &Error, otherwise: &'static str) -> &'static str {
    let text = error.to_string();
    let found = TLS_WORDS.iter().find(|(theirs, _)| text.contains(theirs));
    found.map_or(otherwise, |(_, ours)| ours)
}

/// Words of rustls, and what they mean.
const TLS_WORDS: [(&str, &str); 10] = [
    ("UnknownIssuer", "the target's certificate is of an unknown authority"),
    ("BadSignature", "the target's certificate is of an unknown authority"),
    ("not valid for name", "the target's certificate is for another name"),
    ("NotValidForName", "the target's certificate is for another name"),
    ("certificate expired", "the target's certificate has expired"),
    ("certificate not valid yet", "the target's certificate is not valid yet"),
    ("invalid peer certificate", "the target's certificate is not accepted"),
    ("CertificateRequired", "the target asks for a client certificate"),
    ("received fatal alert", "the target ended the TLS handshake"),
    ("InvalidContentType", "the target does not speak TLS"),
];

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
