//! Keeps a flood of refusals from filling the trail: of each kind that a stranger can provoke, so many per second are
//! kept one by one, few of them of one actor or address; the others are counted, and the count is kept.

use std::hash::{BuildHasher, RandomState};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::event::{Event, EventKind};
use crate::store::AuditEntry;
use crate::telemetry::metrics::AuthEvent;

/// Entries of one bounded kind that are kept one by one within a second.
pub(super) const PER_SECOND: u32 = 10;

/// Those of one actor, or of one address where nobody was proven: one of them must not hide what others do.
const PER_SOURCE: u8 = 2;

/// Counts per source, found by a keyed hash: two sources may share one, at random.
const SOURCES: usize = 64;
const SOURCES_U64: u64 = SOURCES as u64;

/// The kinds that cost a stranger nothing but a request.
const BOUNDED: [EventKind; 3] = [
    EventKind::Auth(AuthEvent::LoginFail),
    EventKind::Auth(AuthEvent::LoginLock),
    EventKind::Auth(AuthEvent::AuthzFail),
];

/// What was counted of one kind.
#[derive(Debug, Clone, Copy)]
struct Window {
    second: i64,
    kept: u32,
    sources: [u8; SOURCES],
    more: u64,
    first_ms: i64,
    last_ms: i64,
}

impl Default for Window {
    fn default() -> Self {
        Window { second: 0, kept: 0, sources: [0; SOURCES], more: 0, first_ms: 0, last_ms: 0 }
    }
}

/// The windows of all bounded kinds.
#[derive(Debug, Default)]
pub(super) struct Flood {
    windows: [Mutex<Window>; BOUNDED.len()],
    hasher: RandomState,
}

impl Flood {
    /// Whether this event at `at_ms` is kept by itself; if not, it was counted.
    pub(super) fn admits(&self, event: &Event, at_ms: i64) -> bool {
        let bounded = BOUNDED.iter().zip(&self.windows).find(|(bounded, _)| **bounded == event.kind);
        let Some((_, window)) = bounded else { return true };
        let mut window = window.lock();
        let second = at_ms.div_euclid(1_000);
        if window.second != second {
            (window.second, window.kept, window.sources) = (second, 0, [0; SOURCES]);
        }
        let of_source = window.sources.get_mut(self.source(event));
        let alone = of_source.is_none_or(|count| {
            *count = count.saturating_add(1);
            *count <= PER_SOURCE
        });
        if alone && window.kept < PER_SECOND {
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

    fn source(&self, event: &Event) -> usize {
        let who = event.actor.as_ref().map(ToString::to_string);
        let source = self.hasher.hash_one((&who, event.address.filter(|_| who.is_none())));
        usize::try_from(source % SOURCES_U64).unwrap_or(0)
    }

    /// An entry for each kind of which events were only counted since the last call.
    pub(super) fn settle(&self) -> Vec<AuditEntry> {
        let mut entries = Vec::new();
        for (kind, window) in BOUNDED.iter().zip(&self.windows) {
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

    fn event(event: AuthEvent, from: u8) -> Event {
        Event::new(EventKind::Auth(event)).from(Some([192, 0, 2, from].into()), None)
    }

    #[test]
    fn a_flood_is_counted_and_others_are_kept() {
        let flood = Flood::default();
        let fail = |from: u8| event(AuthEvent::LoginFail, from);
        let kept = (0..100).filter(|i| flood.admits(&fail(*i), 5_000 + i64::from(*i))).count();
        assert_eq!(kept, PER_SECOND as usize);
        assert!((0..100).all(|_| flood.admits(&event(AuthEvent::LoginSuccess, 1), 5_000)));
        assert!(flood.admits(&event(AuthEvent::AuthzFail, 1), 5_050));
        assert!(flood.admits(&fail(1), 6_000), "a new second");
        let entries = flood.settle();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].event.as_str(), "authn_login_fail");
        assert!(entries[0].details.as_deref().unwrap().starts_with("and 90 more until 1970-01-01T00:00:05.099Z"));
        assert!(flood.settle().is_empty());
    }

    #[test]
    fn one_source_does_not_hide_the_others() {
        let flood = Flood::default();
        let loud = event(AuthEvent::AuthzFail, 1);
        assert_eq!((0..1_000).filter(|_| flood.admits(&loud, 5_000)).count(), usize::from(PER_SOURCE));
        let another = (2..=255).map(|from| event(AuthEvent::AuthzFail, from));
        let another = another.filter(|other| flood.source(other) != flood.source(&loud)).take(1);
        assert!(another.collect::<Vec<_>>().iter().all(|other| flood.admits(other, 5_001)));
    }
}
