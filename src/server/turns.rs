//! Blocking work that is asked for again and again: one run at a time, and never in the way of who asks.

use tokio::task::JoinHandle;

/// Runs of some work. What is asked for during a run becomes one more run after it.
pub struct Turns<F> {
    work: F,
    running: Option<JoinHandle<()>>,
    again: bool,
}

impl<F: Fn() + Clone + Send + 'static> Turns<F> {
    /// Nothing runs yet.
    pub fn new(work: F) -> Turns<F> {
        Turns { work, running: None, again: false }
    }

    /// Asks for a run. False when an earlier one is still under way: then the new one follows it.
    pub fn ask(&mut self) -> bool {
        self.again = self.running.is_some();
        if !self.again {
            self.start();
        }
        !self.again
    }

    /// Ends with the run under way, and starts the next if one was asked for; without a run, it never ends.
    /// Nothing is lost when it is dropped before.
    pub async fn ended(&mut self) {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        if let Err(error) = running.await {
            tracing::error!(%error, "background work broke off");
        }
        self.running = None;
        if std::mem::take(&mut self.again) {
            self.start();
        }
    }

    fn start(&mut self) {
        self.running = Some(tokio::task::spawn_blocking(self.work.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Arc, Mutex};

    use futures_util::FutureExt;

    use super::*;

    /// Work that ends when told to.
    fn held() -> (Sender<()>, impl Fn() + Clone + Send + 'static) {
        let (go_on, told) = channel();
        let told = Arc::new(Mutex::new(told));
        (go_on, move || told.lock().unwrap().recv().unwrap_or_default())
    }

    #[tokio::test]
    async fn a_run_that_hangs_holds_nobody_up_and_many_requests_become_one() {
        let (go_on, work) = held();
        let mut turns = Turns::new(work);
        assert!(turns.ended().now_or_never().is_none(), "nothing runs");
        assert!(turns.ask());
        assert!(!turns.ask() && !turns.ask());
        assert!(turns.ended().now_or_never().is_none());
        go_on.send(()).unwrap();
        turns.ended().await;
        assert!(turns.ended().now_or_never().is_none(), "the second run is under way");
        go_on.send(()).unwrap();
        turns.ended().await;
        assert!(turns.running.is_none() && !turns.again);
        assert!(turns.ask(), "free for the next");
    }

    #[tokio::test]
    async fn a_run_that_panics_is_over() {
        let mut turns = Turns::new(|| panic!("in the work"));
        assert!(turns.ask());
        turns.ended().await;
        assert!(turns.ask());
    }
}
