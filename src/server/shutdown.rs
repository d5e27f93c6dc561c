//! Signals, and the way out: stop accepting, finish what is in flight, flush, leave.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::api::Readiness;
use crate::proxy::connections::Connections;

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
    /// Finish what is in flight, then end (SIGTERM, SIGQUIT).
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
            _ = self.quit.recv() => Wish::Drain,
            _ = self.interrupt.recv() => Wish::Stop,
        }
    }
}

/// How to drain.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// How long to go on accepting after `/readyz` turned 503, so that balancers notice.
    pub delay: Duration,
    /// How long requests in flight may take.
    pub grace: Duration,
}

/// Drains: not ready, then no new connections, then wait for the requests in flight, at most for the grace time.
/// Another SIGTERM, SIGQUIT or SIGINT ends the wait. Returns how many requests were cut off.
pub async fn drain(
    drain: Drain,
    readiness: &Readiness,
    stop: &watch::Sender<bool>,
    connections: &Arc<Connections>,
    signals: &mut Signals,
) -> usize {
    readiness.set_draining();
    let orderly = async {
        tokio::time::sleep(drain.delay).await;
        let _ = stop.send(true); // nobody listening means that the listener ended already
        let finished = async {
            while connections.requests() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(drain.grace, finished).await;
    };
    let impatient = async { while signals.next().await == Wish::Reload {} };
    tokio::select! {
        () = orderly => {}
        () = impatient => tracing::warn!("second signal, ending at once"),
    }
    let _ = stop.send(true);
    connections.requests()
}
