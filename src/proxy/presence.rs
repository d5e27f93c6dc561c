//! Whether the client is still there while its request waits. Nothing is read: what it sent stays where it is.

use std::time::Duration;

use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

/// How often to look. A client that left holds its turn in a queue for no longer.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The state of a connection (Linux, `include/net/tcp_states.h`) that neither side closed.
const ESTABLISHED: u8 = 1;

/// Awaits `work`, unless the client leaves first.
///
/// # Errors
/// [`ErrorType::ConnectionClosed`] of the client's side when it left. `work` is dropped then.
pub(super) async fn unless_gone<T>(session: &Session, work: impl Future<Output = T>) -> Result<T> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = gone(session) => Err(Error::explain(ErrorType::ConnectionClosed, "the client left").into_down()),
    }
}

/// Ends when the client closed its connection, or its sending side of it: in the middle of an exchange, Pingora takes
/// both for the same. Does not end where that cannot be seen.
async fn gone(session: &Session) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    while is_connected(session) {
        tick.tick().await;
    }
}

fn is_connected(session: &Session) -> bool {
    let socket = session.as_downstream().digest().and_then(|digest| digest.socket_digest.as_ref());
    let info = socket.and_then(|socket| socket.tcp_info());
    // Zero is no state: this system does not tell.
    info.is_none_or(|info| matches!(info.tcpi_state, 0 | ESTABLISHED))
}
