//! The thread that writes the access log's lines: in batches, and never in a request's way.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::telemetry::metrics::Counter;

use super::{SHARDS, Shared, open};

/// Buffers that a burst made larger than this are given back.
const KEPT_CAPACITY: usize = 256 << 10;
/// Time for the next lines to gather.
const GATHER: Duration = Duration::from_millis(20);

/// Where batches go.
pub(super) enum Output {
    /// A stream that cannot be opened again.
    Stream(Box<dyn Write + Send>),
    /// The end of a file.
    File {
        /// Its name.
        path: PathBuf,
        /// The file, which may have been given another name since.
        file: File,
    },
}

impl Output {
    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Output::Stream(stream) => stream.write_all(batch).and_then(|()| stream.flush()),
            Output::File { file, .. } => file.write_all(batch),
        }
    }
}

/// State of the writing thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    output: Output,
    dropped: Counter,
    /// The buffer that takes the place of the one being written.
    spare: Vec<u8>,
    failing: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, output: Output, dropped: Counter) -> Writer {
        Writer { shared, output, dropped, spare: Vec::new(), failing: false }
    }

    /// Writes until told to stop and nothing is queued.
    pub(super) fn run(mut self) {
        loop {
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                // What was said before belongs to the file as it was.
                self.drain();
                self.reopen();
            }
            let stopping = self.shared.stop.load(Ordering::SeqCst);
            let wrote = self.drain();
            if stopping {
                return;
            }
            if wrote {
                std::thread::park_timeout(GATHER);
            } else {
                self.sleep();
            }
        }
    }

    /// Sleeps until a line, a stop or a reopening comes. A line that came between the last look and the word
    /// "asleep" is seen by the second look.
    fn sleep(&mut self) {
        self.shared.asleep.store(true, Ordering::SeqCst);
        if !self.drain() {
            std::thread::park();
        }
        self.shared.asleep.store(false, Ordering::SeqCst);
    }

    /// Writes everything that is queued; whether there was anything.
    fn drain(&mut self) -> bool {
        let mut any = false;
        for index in 0..SHARDS {
            let Some(shard) = self.shared.shards.get(index) else { continue };
            let lines = {
                let mut shard = shard.lock();
                std::mem::swap(&mut shard.bytes, &mut self.spare);
                std::mem::take(&mut shard.lines)
            };
            any |= lines > 0;
            self.write_batch(lines);
        }
        any
    }

    /// Writes the lines in `spare`, and empties it.
    fn write_batch(&mut self, lines: u64) {
        if lines == 0 {
            return;
        }
        match self.output.write(&self.spare) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("the access log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.dropped.inc_by(lines);
                if !self.failing {
                    self.failing = true;
                    tracing::error!(%error, "the access log cannot be written; its lines are dropped until it can");
                }
            }
        }
        self.spare.clear();
        self.spare.shrink_to(KEPT_CAPACITY);
    }

    fn reopen(&mut self) {
        let Output::File { path, file } = &mut self.output else { return };
        match open(path) {
            Ok(opened) => *file = opened,
            Err(error) => tracing::error!(%error, "the access log goes on in the file it had"),
        }
    }
}
