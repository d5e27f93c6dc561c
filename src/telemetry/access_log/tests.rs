//! The log as a whole: order, loss, flush, reopening.

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};

use jiff::Timestamp;

use super::*;
use crate::model::access::Outcome;

fn record(id: &str) -> AccessRecord<'_> {
    AccessRecord {
        started_at: Timestamp::UNIX_EPOCH,
        request_id: id,
        trace_id: None,
        client: None,
        method: "GET",
        route: None,
        path: "/",
        status: 200,
        code: None,
        outcome: Outcome::Complete,
        bytes_in: 0,
        bytes_out: 0,
        duration: Duration::ZERO,
        first_byte: None,
        queue: None,
        upstream: None,
        identity: None,
        limit: None,
    }
}

fn counter() -> Counter {
    Counter::new("dropped", "dropped").unwrap()
}

fn ids(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["request_id"].as_str().unwrap().to_owned())
        .collect()
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn lines_of_one_thread_keep_their_order_and_a_stop_writes_them_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let dropped = counter();
    let log = AccessLog::start(&Sink::File(path.clone()), dropped.clone()).unwrap();
    let expected: Vec<String> = (0..5000).map(|n| format!("request-{n}")).collect();
    expected.iter().for_each(|id| log.write(&record(id)));
    assert!(log.flush_and_stop(SOON));
    assert_eq!(ids(&std::fs::read_to_string(path).unwrap()), expected);
    assert_eq!(dropped.get(), 0);
    log.write(&record("too-late"));
    assert_eq!(dropped.get(), 1);
}

#[test]
fn after_reopening_lines_go_to_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let log = AccessLog::start(&Sink::File(path.clone()), counter()).unwrap();
    log.write(&record("before"));
    std::fs::rename(&path, &moved).unwrap();
    log.reopen();
    let deadline = std::time::Duration::from_secs(20);
    assert!(wait_for(deadline, || path.exists()));
    log.write(&record("after"));
    assert!(log.flush_and_stop(SOON));
    assert_eq!(ids(&std::fs::read_to_string(moved).unwrap()), ["before"]);
    assert_eq!(ids(&std::fs::read_to_string(path).unwrap()), ["after"]);
}

fn wait_for(at_most: Duration, condition: impl Fn() -> bool) -> bool {
    let clock = crate::clock::Clock::system();
    let start = clock.now();
    while clock.now().since(start) < at_most {
        if condition() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// A stream whose reader takes nothing until it is told to.
struct Stalled {
    entered: Sender<()>,
    go_on: Receiver<()>,
}

impl Write for Stalled {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.entered.send(()).unwrap_or_default();
        self.go_on.recv().unwrap_or_default();
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stalled_reader_costs_lines_and_never_time() {
    let (entered, is_stalled) = channel();
    let (release, go_on) = channel();
    let dropped = counter();
    let log = AccessLog::start_with(Output::Stream(Box::new(Stalled { entered, go_on })), dropped.clone()).unwrap();
    log.write(&record("first"));
    is_stalled.recv_timeout(SOON).unwrap();
    let long = "x".repeat(1 << 20);
    (0..10).for_each(|_| log.write(&record(&long)));
    assert_eq!(dropped.get(), 8, "two lines of over 1 MiB fill one buffer");
    assert!(!log.flush_and_stop(Duration::from_millis(10)), "the reader still takes nothing");
    drop(release);
}

#[test]
fn no_line_is_lost_uncounted_while_threads_write_and_the_log_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let dropped = counter();
    let log = AccessLog::start(&Sink::File(path.clone()), dropped.clone()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..2000).for_each(|_| log.write(&record("line"))));
        }
        assert!(log.flush_and_stop(SOON));
    });
    let written = std::fs::read_to_string(path).unwrap().lines().count() as u64;
    assert_eq!(written + dropped.get(), 8000);
}

#[test]
fn a_broken_stream_is_counted() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dropped = counter();
    let log = AccessLog::start_with(Output::Stream(Box::new(Broken)), dropped.clone()).unwrap();
    (0..10).for_each(|_| log.write(&record("lost")));
    assert!(log.flush_and_stop(SOON));
    assert_eq!(dropped.get(), 10);
}

#[test]
fn a_file_that_cannot_be_opened_is_said_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("access.log");
    let error = AccessLog::start(&Sink::File(path.clone()), counter()).err().unwrap();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn no_log_takes_no_lines() {
    let dropped = counter();
    let log = AccessLog::start(&Sink::Off, dropped.clone()).unwrap();
    log.write(&record("nowhere"));
    assert!(log.flush_and_stop(SOON));
    assert_eq!(dropped.get(), 0);
}
