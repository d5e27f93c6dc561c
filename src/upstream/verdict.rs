//! The verdict of the active checks on one target: rise, fall, and a decisive first probe. Probes nothing itself.

use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

use crate::model::health::{Health, Probe};

/// What the active checks found; the verdict itself is read without a lock.
#[derive(Debug)]
pub struct Verdict {
    current: AtomicU8,
    track: Mutex<Track>,
}

#[derive(Debug, Clone)]
struct Track {
    health: Health,
    /// Probes in a row that speak against `health`.
    against: u32,
    /// Whether the next probe decides alone.
    decisive: bool,
    probed: bool,
    last: Option<Probe>,
}

impl Verdict {
    /// Nothing is known: no traffic until the first probe, which decides alone.
    pub fn unknown() -> Verdict {
        Verdict::from_track(Track { health: Health::Unknown, against: 0, decisive: true, probed: false, last: None })
    }

    /// There are no active checks.
    pub fn unchecked() -> Verdict {
        Verdict::from_track(Track { health: Health::Healthy, against: 0, decisive: true, probed: true, last: None })
    }

    /// Goes on from `earlier`, the same target under an earlier configuration. When the two are checked in
    /// different ways, the verdict holds until the next probe, which decides alone.
    pub fn inherited(earlier: &Verdict, same_check: bool) -> Verdict {
        let mut track = earlier.track.lock().clone();
        if !same_check {
            track = Track { against: 0, decisive: true, last: None, ..track };
        }
        Verdict::from_track(track)
    }

    fn from_track(track: Track) -> Verdict {
        Verdict { current: AtomicU8::new(track.health as u8), track: Mutex::new(track) }
    }

    /// Whether the target may get traffic, as far as the checks are concerned.
    pub fn is_healthy(&self) -> bool {
        self.current.load(Ordering::Acquire) == Health::Healthy as u8
    }

    /// Whether there is a verdict: the target was probed, or need not be.
    pub fn is_known(&self) -> bool {
        self.current.load(Ordering::Acquire) != Health::Unknown as u8
    }

    /// The verdict.
    pub fn health(&self) -> Health {
        self.track.lock().health
    }

    /// The last probe, unless forgotten.
    pub fn last_probe(&self) -> Option<Probe> {
        self.track.lock().last.clone()
    }

    /// Whether there was a probe, or need not be one.
    pub fn probed(&self) -> bool {
        self.track.lock().probed
    }

    /// Records a probe; the new verdict when it changed. A target comes back after `rise` passing probes in a
    /// row and goes after `fall` failing ones; the first probe decides alone.
    pub fn observe(&self, probe: Probe, passed: bool, rise: u32, fall: u32) -> Option<Health> {
        let mut track = self.track.lock();
        track.probed = true;
        track.last = Some(probe);
        let found = if passed { Health::Healthy } else { Health::Unhealthy };
        let decisive = std::mem::replace(&mut track.decisive, false);
        if found == track.health {
            track.against = 0;
            return None;
        }
        track.against = track.against.saturating_add(1);
        if !decisive && track.against < if passed { rise } else { fall } {
            return None;
        }
        track.health = found;
        track.against = 0;
        self.current.store(found as u8, Ordering::Release);
        Some(found)
    }

    /// Forgets the last probe; the verdict stays until the next one, which decides alone.
    pub fn forget(&self) {
        let mut track = self.track.lock();
        track.last = None;
        track.against = 0;
        track.decisive = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use std::time::Duration;

    fn observe(verdict: &Verdict, passed: bool) -> Option<Health> {
        let probe = Probe {
            at: Timestamp::UNIX_EPOCH,
            took: Duration::ZERO,
            status: None,
            error: None,
            version: None,
            uptime: None,
        };
        verdict.observe(probe, passed, 2, 3)
    }

    #[test]
    fn the_first_probe_decides_alone() {
        for (passed, health) in [(true, Health::Healthy), (false, Health::Unhealthy)] {
            let verdict = Verdict::unknown();
            assert!(!verdict.is_healthy() && !verdict.probed());
            assert_eq!(observe(&verdict, passed), Some(health));
            assert_eq!(verdict.is_healthy(), passed);
        }
    }

    #[test]
    fn later_it_falls_after_three_and_rises_after_two_in_a_row() {
        let verdict = Verdict::unknown();
        observe(&verdict, true);
        let changes: Vec<_> = [false, false, true, false, false, false, true, false, true, true]
            .into_iter()
            .map(|passed| observe(&verdict, passed))
            .collect();
        let (none, down, up) = (None, Some(Health::Unhealthy), Some(Health::Healthy));
        assert_eq!(changes, [none, none, none, none, none, down, none, none, none, up]);
    }

    #[test]
    fn what_is_inherited_holds_until_the_first_probe_of_another_check() {
        let old = Verdict::unchecked();
        let new = Verdict::inherited(&old, false);
        assert!(new.is_healthy());
        assert_eq!(observe(&new, false), Some(Health::Unhealthy));
        let same = Verdict::inherited(&new, true);
        assert_eq!(observe(&same, true), None, "the same check goes on counting");
        same.forget();
        assert!(same.last_probe().is_none() && !same.is_healthy());
        assert_eq!(observe(&same, true), Some(Health::Healthy));
    }
}
