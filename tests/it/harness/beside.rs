//! One more process in the folder of a running gateway, as an upgrade starts it.

use std::fs;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use super::gateway::{Ended, Gateway, collect};
use super::wait::{PATIENCE, until};

/// A process in the folder of a gateway; ended when dropped.
pub struct Beside {
    child: Ended,
    output: Arc<Mutex<Vec<String>>>,
    events: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Starts the program once more, with the same files and these arguments.
    pub fn beside(&self, arguments: &[&str]) -> Beside {
        let mut command = self.folder.command(&[&["run"], arguments].concat(), &self.env);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
        let output = collect(child.stdout.take().expect("stdout"));
        let events = collect(child.stderr.take().expect("stderr"));
        Beside { child: Ended(child), output, events }
    }

    /// From now on this is `next`; answers the process that it was.
    pub fn becomes(&mut self, next: Beside) -> Beside {
        Beside {
            child: std::mem::replace(&mut self.child, next.child),
            output: std::mem::replace(&mut self.output, next.output),
            events: std::mem::replace(&mut self.events, next.events),
        }
    }

    /// A new process takes over, in this order of start and SIGQUIT; answers the old one, which drains.
    pub async fn upgrade(&mut self, signal_first: bool) -> Beside {
        if signal_first {
            self.signal("QUIT");
        }
        let next = self.beside(&["--upgrade"]);
        if !signal_first {
            next.wait_said("waiting for SIGQUIT").await;
            self.signal("QUIT");
        }
        next.wait_said("gateway is up").await;
        self.becomes(next)
    }

    /// The text of a file in `/proc/PID`.
    pub fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid())).expect("proc")
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("proc").count()
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).expect("Threads");
        line.trim().parse().expect("a number")
    }

    /// Writes a file beside its configuration.
    pub fn write_file(&self, name: &str, text: &str) {
        fs::write(self.folder.path(name), text).expect("a file");
    }

    /// The text of a file beside its configuration.
    pub fn read_file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path(name)).expect("a file")
    }
}

impl Beside {
    /// What it wrote to stderr so far.
    pub fn said(&self) -> String {
        self.events.lock().unwrap().join("\n")
    }

    /// What it wrote to stdout so far.
    pub fn written(&self) -> String {
        self.output.lock().unwrap().join("\n")
    }

    /// Waits until stderr holds `text`.
    pub async fn wait_said(&self, text: &str) {
        until(&format!("{text:?} on stderr"), PATIENCE, || async { self.said().contains(text).then_some(()) }).await;
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let kill = ["-c", "kill -s \"$0\" \"$1\"", name, &self.child.0.id().to_string()].map(str::to_owned);
        assert!(Command::new("sh").args(kill).status().expect("sh").success(), "kill -s {name}");
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.child.0);
        until("the end of the program", PATIENCE * 2, || async { child.lock().unwrap().try_wait().expect("its state") })
            .await
    }
}
