//! Signals, and the way out: stop accepting, finish what is in flight, flush, leave.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::proxy::connections::Connections;

/// Between two looks at what is still open.
const LOOK: Duration = Duration::from_millis(20);
/// Looks in a row that must find nothing: a connection that was just accepted is not counted before its task runs,
/// over TLS not before its handshake is done.
const QUIET: u32 = 10;
const QUIET_TLS: u32 = 50;

/// The signals this process listens to.
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Load the table again (SIGHUP).
    Reload,
    /// Let a new process take over (SIGQUIT).
    HandOver,
    /// Finish what is in flight, then end (SIGTERM).
    Drain,
    /// End now (SIGINT).
    Stop,
}

impl Signals {
    /// Installs the handlers. Until then SIGHUP would end the process.
    pub fn install() -> std::io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The next wish.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.terminate.recv() => Wish::Drain,
            _ = self.quit.recv() => Wish::HandOver,
            _ = self.interrupt.recv() => Wish::Stop,
        }
    }

    /// Returns when the process is asked to end.
    pub async fn end(&mut self) {
        while !matches!(self.next().await, Wish::Drain | Wish::Stop) {}
    }

    /// Returns at the next signal that means more haste than a drain.
    async fn impatience(&mut self) {
        while self.next().await == Wish::Reload {}
    }
}

/// How to drain.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// How long to go on accepting after `/readyz` turned 503, so that balancers notice.
    pub delay: Duration,
    /// How long requests in flight may take.
    pub grace: Duration,
    /// Whether connections begin with a TLS handshake.
    pub tls: bool,
}

/// Drains: for the delay answers end their connections, then no new connections are taken, then what is in flight is
/// waited for, at most for the grace time. Another signal but SIGHUP ends the wait. Returns how many requests were cut
/// off.
pub async fn drain(
    drain: Drain,
    stop: &watch::Sender<bool>,
    connections: &Arc<Connections>,
    signals: &mut Signals,
) -> usize {
    connections.close_with_answers();
    let orderly = async {
        tokio::time::sleep(drain.delay).await;
        let _ = stop.send(true); // nobody listening means that the listener ended already
        connections.close_unused();
        let finished = all_gone(connections, if drain.tls { QUIET_TLS } else { QUIET });
        let _ = tokio::time::timeout(drain.grace, finished).await;
    };
    tokio::select! {
        () = orderly => {}
        () = signals.impatience() => tracing::warn!("second signal, ending at once"),
    }
    let _ = stop.send(true);
    connections.requests()
}

/// Returns when there was no connection for so many looks in a row.
async fn all_gone(connections: &Connections, looks: u32) {
    let mut quiet = 0;
    while quiet < looks {
        tokio::time::sleep(LOOK).await;
        quiet = if connections.open() == 0 && connections.requests() == 0 { quiet + 1 } else { 0 };
    }
}
