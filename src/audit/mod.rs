//! The audit trail: who did what, in an order that cannot be changed unseen.
//!
//! [`Audit::record`] puts an entry into a bounded queue and returns. One thread takes batches from it and adds them to
//! the store's chain. What the store does not take, now or in time, goes to a file (`spool`), in order, and from
//! there to the store when it answers again. Each entry has an id, so that none is added twice after a crash or an
//! answer that was lost. Only what no disk takes is lost, and that is counted and said.

mod event;
mod flood;
mod lines;
mod loss;
mod retention;
mod slot;
mod spool;
pub mod verify;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock::Clock;
use crate::store::{AuditEntry, AuditStore};
use crate::telemetry::access_log::Sink;
use crate::telemetry::metrics::{AuditMetrics, Metrics};
pub use event::{Actor, Event, EventKind, Subject};
use flood::Flood;
use lines::Lines;
pub use lines::{hex, line};
use loss::Loss;
use slot::Slot;
use spool::Spool;
use writer::{Pace, Writer};

/// Name of the spool in the data folder.
pub const SPOOL_NAME: &str = "audit.spool";

/// Entries that may wait in memory: some 3 MiB, and a tenth of a second of a flood that no filter stopped.
const QUEUE: usize = 8_192;

/// Settings of this room.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// File of the entries that the store did not take.
    pub spool: PathBuf,
    /// Most bytes in it.
    pub spool_max: u64,
    /// Where the records go as JSON lines.
    pub lines: Sink,
    /// How long records are kept.
    pub retention: Duration,
}

/// Takes events, from wherever they happen. Cheap to clone.
#[derive(Clone)]
pub struct Audit(Option<Arc<Shared>>);

struct Shared {
    queue: mpsc::Sender<AuditEntry>,
    desk: Arc<Desk>,
    lines: Arc<Lines>,
    stop: Arc<Notify>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What those who record and the one who writes share.
struct Desk {
    flood: Flood,
    loss: Loss,
    metrics: AuditMetrics,
    clock: Clock,
}

impl Desk {
    fn now_ms(&self) -> i64 {
        self.clock.wall().as_millisecond()
    }
}

impl Audit {
    /// A trail that keeps nothing: for benches, and for tests of other things.
    pub const fn off() -> Audit {
        Audit(None)
    }

    /// Starts the writer on a thread of its own, with what an earlier process left in the spool; and retention.
    ///
    /// # Errors
    /// When the file of the lines cannot be opened, the spool's folder takes no lock, or no thread can be made.
    pub fn start(
        store: Arc<dyn AuditStore>,
        config: &AuditConfig,
        clock: Clock,
        metrics: &Metrics,
        runtime: &Handle,
    ) -> io::Result<Audit> {
        let lines = Arc::new(Lines::start(&config.lines, metrics.log_lines_dropped())?);
        let (audit, queue) = Audit::with_queue(clock, metrics.audit(), lines.clone());
        let Some(shared) = &audit.0 else { return Ok(audit) };
        let slot = Slot::take(&config.spool)?;
        let spool = Spool::new(slot.path().to_owned(), config.spool_max);
        let writer =
            Writer::new(store.clone(), queue, shared.desk.clone(), spool, lines, shared.stop.clone(), Pace::REAL)
                .adopting(slot);
        let (done, ended) = oneshot::channel();
        *shared.ended.lock() = Some(ended);
        // A runtime of its own: a start that is refused takes the process's away while this thread still writes.
        let own = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("audit".into()).spawn(move || {
            own.block_on(writer.run());
            let _ = done.send(()); // nobody may be waiting any more
        })?;
        retention::spawn(runtime, Arc::downgrade(shared), store, config.retention);
        Ok(audit)
    }

    fn with_queue(clock: Clock, metrics: AuditMetrics, lines: Arc<Lines>) -> (Audit, mpsc::Receiver<AuditEntry>) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let loss = Loss::new(metrics.dropped.clone(), clock.clone());
        let desk = Arc::new(Desk { flood: Flood::default(), loss, metrics, clock });
        let (stop, ended) = (Arc::new(Notify::new()), Mutex::new(None));
        (Audit(Some(Arc::new(Shared { queue: sender, desk, lines, stop, ended }))), queue)
    }

    /// A trail whose entries a test takes from the queue.
    #[cfg(test)]
    pub(crate) fn in_memory(clock: Clock, metrics: &Metrics) -> (Audit, mpsc::Receiver<AuditEntry>) {
        let nowhere = Arc::new(Lines::start(&Sink::Off, metrics.log_lines_dropped()).unwrap());
        Audit::with_queue(clock, metrics.audit(), nowhere)
    }

    /// Records an event that happens now. Never waits, and never fails its caller: an entry that finds the queue full
    /// is counted as lost, and said.
    pub fn record(&self, event: Event) {
        if let Some(shared) = &self.0 {
            shared.record(event);
        }
    }

    /// Has the file of the lines opened again under its name, after `logrotate` has moved it away.
    pub fn reopen(&self) {
        if let Some(shared) = &self.0 {
            shared.lines.reopen();
        }
    }

    /// Ends the writer: what is queued goes to the store, or to the spool. Waits at most so long for each of the
    /// records and the lines; answers whether all was done. Later entries are lost, and counted.
    pub async fn close(&self, at_most: Duration) -> bool {
        let Some(shared) = &self.0 else { return true };
        shared.stop.notify_one();
        let ended = shared.ended.lock().take();
        let kept = match ended {
            Some(ended) => tokio::time::timeout(at_most, ended).await.is_ok_and(|ended| ended.is_ok()),
            None => true,
        };
        shared.lines.finish(at_most) && kept
    }
}

impl Shared {
    fn record(&self, event: Event) {
        let at_ms = self.desk.now_ms();
        if !self.desk.flood.admits(&event, at_ms) {
            return;
        }
        let refused = match self.queue.try_send(event.into_entry(at_ms)) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(entry)) => (entry, "the queue is full: neither store nor disk follow"),
            Err(mpsc::error::TrySendError::Closed(entry)) => (entry, "the gateway is ending"),
        };
        self.desk.loss.of(&[refused.0], refused.1);
    }
}
