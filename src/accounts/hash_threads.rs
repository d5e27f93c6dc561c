//! The threads that hash passwords: few, their own, and of low priority, so that a burst of log-ins takes no time from
//! the proxy's threads.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The niceness of the threads: against a busy thread of the proxy, one of these gets about a tenth of a core.
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// The threads. They end when this is dropped and what was asked of them is done.
pub(super) struct HashThreads {
    jobs: Sender<Job>,
}

impl HashThreads {
    /// Starts so many.
    pub(super) fn start(count: usize) -> io::Result<HashThreads> {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..count {
            let queue = queue.clone();
            std::thread::Builder::new().name(format!("hash-{number}")).spawn(move || work(&queue))?;
        }
        Ok(HashThreads { jobs })
    }

    /// Runs `work` on one of the threads; `None` when it panicked.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (answer, asked) = oneshot::channel();
        // A caller that left needs no answer.
        let job: Job = Box::new(move || drop(answer.send(work())));
        self.jobs.send(job).ok()?;
        asked.await.ok()
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    lower_priority();
    loop {
        // One thread waits for the next job, the others for their turn to wait.
        let job = queue.lock().recv();
        let Ok(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("hashing a password panicked; that log-in failed, hashing goes on");
        }
    }
}

/// On Linux niceness belongs to a thread (setpriority(2), "C library/kernel differences").
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS) {
        tracing::debug!(%error, "the priority of a hashing thread stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_loses_one_job_and_no_thread() {
        let threads = HashThreads::start(1).unwrap();
        assert_eq!(threads.run(|| -> u8 { panic!("a test's panic") }).await, None);
        assert_eq!(threads.run(|| 7).await, Some(7));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_threads_and_they_alone_are_nice() {
        let niceness = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        let own = niceness();
        let threads = HashThreads::start(2).unwrap();
        assert_eq!(threads.run(niceness).await, Some(NICENESS.max(own)));
        assert_eq!(niceness(), own);
    }
}
