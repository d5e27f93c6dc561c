//! Recent changes of health: a bounded ring for the history page, and one log line each.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::model::health::{Health, Transition};

/// Changes that are kept.
pub const CAPACITY: usize = 256;

/// The ring.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Transition>>);

impl History {
    /// Logs a change and keeps it; the oldest goes when the ring is full.
    pub fn record(&self, change: Transition) {
        let (service, target, reason) = (&*change.service, &*change.target, change.reason.as_deref());
        match change.health {
            Health::Healthy => tracing::info!(service, target, reason, "target is healthy"),
            Health::Unhealthy | Health::Unknown => tracing::warn!(service, target, reason, "target is unhealthy"),
        }
        let mut ring = self.0.lock();
        if ring.len() >= CAPACITY {
            ring.pop_front();
        }
        ring.push_back(change);
    }

    /// The changes, oldest first.
    pub fn list(&self) -> Vec<Transition> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use std::sync::Arc;

    #[test]
    fn it_keeps_the_latest() {
        let history = History::default();
        for second in 0..300 {
            history.record(Transition {
                at: Timestamp::from_second(second).unwrap(),
                service: Arc::from("matching"),
                target: Arc::from("target-1"),
                health: Health::Unhealthy,
                reason: None,
            });
        }
        let seconds: Vec<i64> = history.list().iter().map(|change| change.at.as_second()).collect();
        assert_eq!(seconds, (44..300).collect::<Vec<_>>());
    }
}
