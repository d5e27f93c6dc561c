//! The access log: one JSON line per finished request.
//!
//! A request formats its line into a bounded buffer; one thread takes whole buffers and writes them. There are
//! several buffers, so that threads seldom meet at one. Lines of one thread keep their order. A request never waits
//! for the disk or for whoever reads our standard output: when its buffer is full the line is
//! dropped and counted. Keys of a line: `ts`, `request_id`, `trace_id`, `client`, `method`, `route`, `path` (without
//! query), `status`, `code`, `outcome`, `bytes_in`, `bytes_out`, `duration_ms`, `first_byte_ms`, `queue_ms`,
//! `upstream{pool,target,status,ms,attempts}`, `user`, `role`, `sid` (8 digits), `limit{policy,remaining}` and
//! `flags` (`slow`, `server_error`, `large_upload`); a key without a value is left out.

mod line;
mod writer;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use crate::telemetry::metrics::Counter;
use parking_lot::Mutex;

use crate::model::access::AccessRecord;
use writer::{Output, Writer};

/// Where the lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// The end of a file, made if need be; see [`AccessLog::reopen`].
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// The log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file cannot be opened.
    #[error("cannot open the access log {}: {source}; create its folder, or make it writable for this user", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No thread can be made.
    #[error("cannot start the access log's thread: {0}")]
    Thread(#[source] io::Error),
}

/// Buffers; a few more than proxy threads on most machines.
const SHARDS: usize = 8;
/// A buffer that holds this much takes no further line.
const SHARD_BYTES: usize = 2 << 20;

/// The log. Dropping it stops the writer as soon as the queue is empty.
pub struct AccessLog(Option<Running>);

struct Running {
    shared: Arc<Shared>,
    dropped: Counter,
    writer: Thread,
    join: Mutex<Option<JoinHandle<()>>>,
    finished: Mutex<Receiver<()>>,
}

/// What requests and the writer tell each other.
#[derive(Default)]
struct Shared {
    shards: [Mutex<Shard>; SHARDS],
    /// The writer sleeps until somebody wakes it.
    asleep: AtomicBool,
    stop: AtomicBool,
    reopen: AtomicBool,
}

/// Lines that wait for the writer.
#[derive(Default)]
struct Shard {
    bytes: Vec<u8>,
    lines: u64,
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Which buffer this thread uses.
    static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

impl AccessLog {
    /// Opens `sink` and starts the writer; `dropped` counts lines that could not be written.
    ///
    /// # Errors
    /// When the file cannot be opened or no thread can be made.
    pub fn start(sink: &Sink, dropped: Counter) -> Result<AccessLog, AccessLogError> {
        let output = match sink {
            Sink::Off => return Ok(AccessLog(None)),
            Sink::Stdout => Output::Stream(Box::new(io::stdout())),
            Sink::File(path) => Output::File { path: path.clone(), file: open(path)? },
        };
        AccessLog::start_with(output, dropped)
    }

    fn start_with(output: Output, dropped: Counter) -> Result<AccessLog, AccessLogError> {
        let (done, finished) = mpsc::sync_channel(1);
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(shared.clone(), output, dropped.clone());
        let join = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                writer.run();
                // Nobody may be waiting any more.
                done.send(()).unwrap_or_default();
            })
            .map_err(AccessLogError::Thread)?;
        let writer = join.thread().clone();
        let (join, finished) = (Mutex::new(Some(join)), Mutex::new(finished));
        Ok(AccessLog(Some(Running { shared, dropped, writer, join, finished })))
    }

    /// Queues the line of `record`. Never waits for the writer: a line that finds its buffer full is dropped and
    /// counted.
    pub fn write(&self, record: &AccessRecord<'_>) {
        let Some(running) = &self.0 else { return };
        if !running.shared.queue(record) {
            running.dropped.inc();
            return;
        }
        // The writer is woken once per sleep, not once per line: waking it is a system call.
        let asleep = &running.shared.asleep;
        if asleep.load(Ordering::SeqCst) && asleep.swap(false, Ordering::SeqCst) {
            running.writer.unpark();
        }
    }

    /// Has the file opened again under its name, after `logrotate` has moved it away. Other sinks: nothing.
    pub fn reopen(&self) {
        if let Some(running) = &self.0 {
            running.shared.reopen.store(true, Ordering::Release);
            running.writer.unpark();
        }
    }

    /// Writes what is queued and stops the writer; waits `at_most` for that, as a reader of our standard output may
    /// have stopped reading. Returns whether everything was written. Later lines are dropped and counted.
    pub fn flush_and_stop(&self, at_most: Duration) -> bool {
        let Some(running) = &self.0 else { return true };
        running.shared.stop.store(true, Ordering::SeqCst);
        running.writer.unpark();
        let Some(join) = running.join.lock().take() else { return true };
        let finished = running.finished.lock().recv_timeout(at_most).is_ok();
        finished && join.join().is_ok()
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        if let Some(running) = &self.0 {
            running.shared.stop.store(true, Ordering::SeqCst);
            running.writer.unpark();
        }
    }
}

impl Shared {
    /// Whether there was room.
    fn queue(&self, record: &AccessRecord<'_>) -> bool {
        let Some(shard) = self.shards.get(SHARD.with(|index| *index)) else { return false };
        let mut shard = shard.lock();
        // Looked at under the lock: once the writer has taken this buffer for the last time, no line slips in.
        let room = shard.bytes.len() < SHARD_BYTES && !self.stop.load(Ordering::SeqCst);
        if room {
            line::write(&mut shard.bytes, record);
            shard.lines += 1;
        }
        room
    }
}

fn open(path: &Path) -> Result<File, AccessLogError> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| AccessLogError::Open { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
