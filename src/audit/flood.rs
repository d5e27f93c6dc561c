//! Keeps a flood of refusals from filling the trail: of each kind that a stranger can provoke, so many per second are
//! kept one by one; the others are counted, and the count is kept.

use jiff::Timestamp;
use parking_lot::Mutex;

use super::event::{Event, EventKind};
use crate::store::AuditEntry;
use crate::telemetry::metrics::AuthEvent;

/// Entries of one bounded kind that are kept one by one within a second.
pub(super) const PER_SECOND: u32 = 10;

/// The kinds that cost a stranger nothing but a request.
const BOUNDED: [EventKind; 3] = [
    EventKind::Auth(AuthEvent::LoginFail),
    EventKind::Auth(AuthEvent::LoginLock),
    EventKind::Auth(AuthEvent::AuthzFail),
];

/// What was counted of one kind.
#[derive(Debug, Default, Clone, Copy)]
struct Window {
    second: i64,
    kept: u32,
    more: u64,
    first_ms: i64,
    last_ms: i64,
}

/// The windows of all bounded kinds.
#[derive(Debug, Default)]
pub(super) struct Flood([Mutex<Window>; BOUNDED.len()]);

impl Flood {
    /// Whether an event of this kind at `at_ms` is kept by itself; if not, it was counted.
    pub(super) fn admits(&self, kind: EventKind, at_ms: i64) -> bool {
        let bounded = BOUNDED.iter().zip(&self.0).find(|(bounded, _)| **bounded == kind);
        let Some((_, window)) = bounded else { return true };
        let mut window = window.lock();
        let second = at_ms.div_euclid(1_000);
        if window.second != second {
            (window.second, window.kept) = (second, 0);
        }
        if window.kept < PER_SECOND {
            window.kept += 1;
            return true;
        }
        if window.more == 0 {
            window.first_ms = at_ms;
        }
        window.more += 1;
        window.last_ms = at_ms;
        false
    }

    /// An entry for each kind of which events were only counted since the last call.
    pub(super) fn settle(&self) -> Vec<AuditEntry> {
        let mut entries = Vec::new();
        for (kind, window) in BOUNDED.iter().zip(&self.0) {
            let mut window = window.lock();
            let more = std::mem::take(&mut window.more);
            if more > 0 {
                let until = Timestamp::from_millisecond(window.last_ms).unwrap_or(Timestamp::UNIX_EPOCH);
                let details = format!("and {more} more until {until}");
                entries.push(Event::new(*kind).saying(details).into_entry(window.first_ms));
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_others_are_kept() {
        let flood = Flood::default();
        let fail = EventKind::Auth(AuthEvent::LoginFail);
        let kept = (0..100).filter(|i| flood.admits(fail, 5_000 + i)).count();
        assert_eq!(kept, PER_SECOND as usize);
        assert!((0..100).all(|_| flood.admits(EventKind::Auth(AuthEvent::LoginSuccess), 5_000)));
        assert!(flood.admits(EventKind::Auth(AuthEvent::AuthzFail), 5_050));
        assert!(flood.admits(fail, 6_000), "a new second");
        let entries = flood.settle();
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].event.as_str(), entries[0].at_ms), ("authn_login_fail", 5_010));
        assert_eq!(entries[0].details.as_deref(), Some("and 90 more until 1970-01-01T00:00:05.099Z"));
        assert!(flood.settle().is_empty());
    }
}
