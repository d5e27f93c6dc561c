//! The records as JSON lines, for whoever keeps them elsewhere. A thread of its own: a reader of our standard output
//! that stops reading must not keep records from the store.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;

use crate::store::{AuditHash, AuditRecord};
use crate::telemetry::access_log::Sink;
use crate::telemetry::metrics::Counter;

/// Batches that may wait for the writer; more are dropped and counted.
const QUEUE: usize = 64;

/// Where the lines go. Cheap to share; does nothing when they go nowhere.
#[derive(Debug)]
pub(super) struct Lines(Option<Running>);

#[derive(Debug)]
struct Running {
    orders: SyncSender<Order>,
    dropped: Counter,
    finished: Mutex<Receiver<()>>,
}

#[derive(Debug)]
enum Order {
    Write { text: Vec<u8>, lines: u64 },
    Reopen,
    End,
}

enum Output {
    Stream(Box<dyn Write + Send>),
    File { path: PathBuf, file: File },
}

impl Lines {
    /// Opens `sink` and starts the thread; `dropped` counts lines that could not be written.
    pub(super) fn start(sink: &Sink, dropped: Counter) -> io::Result<Lines> {
        match sink {
            Sink::Off => Ok(Lines(None)),
            Sink::Stdout => Lines::over(Output::Stream(Box::new(io::stdout())), dropped),
            Sink::File(path) => Lines::over(Output::File { path: path.clone(), file: open(path)? }, dropped),
        }
    }

    fn over(output: Output, dropped: Counter) -> io::Result<Lines> {
        let (orders, taken) = sync_channel(QUEUE);
        let (done, finished) = sync_channel(1);
        let counter = dropped.clone();
        std::thread::Builder::new().name("audit-lines".into()).spawn(move || {
            work(output, &taken, &counter);
            drop(taken); // first: what comes after the end must find nobody, and be counted
            let _ = done.send(()); // nobody may be waiting any more
        })?;
        Ok(Lines(Some(Running { orders, dropped, finished: Mutex::new(finished) })))
    }

    /// Whether lines go anywhere.
    pub(super) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes these records, which follow the one with the hash `previous`. Never waits.
    pub(super) fn write(&self, previous: AuditHash, records: &[AuditRecord]) {
        let mut text = Vec::new();
        let mut previous = previous;
        for record in records {
            text.extend_from_slice(line(record, &previous).as_bytes());
            text.push(b'\n');
            previous = record.hash;
        }
        self.order(Order::Write { text, lines: records.len() as u64 });
    }

    /// So many lines cannot be written.
    pub(super) fn skip(&self, lines: usize) {
        if let Some(running) = &self.0 {
            running.dropped.inc_by(lines as u64);
        }
    }

    /// Has the file opened again under its name, after `logrotate` has moved it away.
    pub(super) fn reopen(&self) {
        self.order(Order::Reopen);
    }

    /// Waits, at most so long, until everything is written; later lines are dropped and counted.
    pub(super) fn finish(&self, at_most: Duration) -> bool {
        self.order(Order::End);
        match &self.0 {
            Some(running) => running.finished.lock().recv_timeout(at_most).is_ok(),
            None => true,
        }
    }

    fn order(&self, order: Order) {
        let Some(running) = &self.0 else { return };
        let lines = if let Order::Write { lines, .. } = &order { *lines } else { 0 };
        if running.orders.try_send(order).is_err() {
            running.dropped.inc_by(lines);
        }
    }
}

/// A record as one line: its text, with both hashes at the end.
pub fn line(record: &AuditRecord, previous: &AuditHash) -> String {
    let text = record.entry.strip_suffix('}').unwrap_or(&record.entry);
    format!("{text},\"prev_hash\":\"{}\",\"hash\":\"{}\"}}", hex(previous), hex(&record.hash))
}

/// A hash as 64 hexadecimal digits.
pub fn hex(hash: &AuditHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn open(path: &Path) -> io::Result<File> {
    let open = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    open.map_err(|error| io::Error::new(error.kind(), format!("audit lines {}: {error}", path.display())))
}

fn work(mut output: Output, orders: &Receiver<Order>, dropped: &Counter) {
    let mut failing = false;
    while let Ok(order) = orders.recv() {
        match order {
            Order::End => return,
            Order::Reopen => reopen(&mut output),
            Order::Write { text, lines } => match write(&mut output, &text) {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("audit lines are written again");
                }
                Ok(()) => {}
                Err(error) => {
                    dropped.inc_by(lines);
                    if !failing {
                        failing = true;
                        tracing::error!(%error, "audit lines cannot be written; the store has the records");
                    }
                }
            },
        }
    }
}

fn write(output: &mut Output, text: &[u8]) -> io::Result<()> {
    match output {
        Output::Stream(stream) => stream.write_all(text).and_then(|()| stream.flush()),
        Output::File { file, .. } => file.write_all(text),
    }
}

fn reopen(output: &mut Output) {
    let Output::File { path, file } = output else { return };
    match open(path) {
        Ok(opened) => *file = opened,
        Err(error) => tracing::error!(%error, "audit lines go on in the file they had"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::audit::testing::{counter, records};

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_line_is_the_text_and_both_hashes() {
        let records = records(2);
        let line: serde_json::Value = serde_json::from_str(&line(&records[1], &records[0].hash)).unwrap();
        assert_eq!((&line["seq"], &line["event"]), (&2.into(), &"authn_login_success".into()));
        assert_eq!(line["prev_hash"], hex(&records[0].hash));
        assert_eq!(line["hash"].as_str().map(str::len), Some(64));
    }

    #[test]
    fn a_rotated_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        let lines = Lines::start(&Sink::File(path.clone()), counter()).unwrap();
        let records = records(2);
        lines.write([0; 32], &records[..1]);
        std::fs::rename(&path, &moved).unwrap();
        lines.reopen();
        lines.write(records[0].hash, &records[1..]);
        assert!(lines.finish(PATIENCE));
        let first = std::fs::read_to_string(&moved).unwrap();
        let second = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            first + &second,
            format!("{}\n{}\n", line(&records[0], &[0; 32]), line(&records[1], &records[0].hash))
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let dropped = counter();
        let full =
            Output::File { path: "/dev/full".into(), file: File::options().write(true).open("/dev/full").unwrap() };
        let lines = Lines::over(full, dropped.clone()).unwrap();
        lines.write([0; 32], &records(3));
        assert!(lines.finish(PATIENCE));
        assert_eq!(dropped.get(), 3);
        lines.write([0; 32], &records(1));
        assert_eq!(dropped.get(), 4);
    }
}
