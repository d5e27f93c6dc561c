//! The throttle of one process, in memory. Bounded: at most [`MOST`] counts and as many known pairs, below 10 MiB.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::StoreError;
use super::throttle::{Admission, Claim, KNOWN_MS, Place, Pseudonym, Pseudonyms, Subjects, ThrottleStore};
use crate::clock::Clock;
use crate::model::throttle::{Count, PER_ADDRESS, PER_EMAIL, release, reserve};

/// Most counts, and most known pairs. The hash maps hold a power of two of places, filled to 7/8: 131,072 of 41 and of
/// 25 bytes.
const MOST: usize = 100_000;

/// The counts of this process, under a key that nobody else has and that ends with it.
pub struct LocalThrottle {
    pseudonyms: Pseudonyms,
    clock: Clock,
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counts: HashMap<Pseudonym, Count>,
    /// Until when an address is one of an account's own.
    known: HashMap<Pseudonym, u64>,
}

impl LocalThrottle {
    /// An empty one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(clock: Clock) -> Result<LocalThrottle, StoreError> {
        LocalThrottle::bounded(clock, MOST)
    }

    fn bounded(clock: Clock, most: usize) -> Result<LocalThrottle, StoreError> {
        let pseudonyms = Pseudonyms::under(Pseudonyms::random_key()?);
        Ok(LocalThrottle { pseudonyms, clock, most, state: Mutex::default() })
    }

    /// [`ThrottleStore::reserve`], which cannot fail here.
    pub fn try_reserve(&self, claim: &Claim) -> Admission {
        let (subjects, now_ms) = (self.pseudonyms.of(claim), self.now_ms());
        let mut state = self.state.lock();
        match state.reserve(claim, &subjects, now_ms, self.most) {
            Ok(place) => Admission::Admitted(place),
            Err(wait) => Admission::Wait(wait),
        }
    }

    /// [`ThrottleStore::proven`], which cannot fail here.
    pub fn note_proven(&self, claim: &Claim, place: Option<Place>) {
        let (subjects, now_ms) = (self.pseudonyms.of(claim), self.now_ms());
        let mut state = self.state.lock();
        if let Some(place) = place.filter(|place| !place.known) {
            state.counts.remove(&subjects.email);
            state.take_back(claim.address.map(|_| subjects.address), place.address_until_ms);
        }
        if claim.address.is_some() {
            state.counts.remove(&subjects.pair);
            state.remember(subjects.pair, now_ms, self.most);
        }
    }

    /// [`ThrottleStore::undecided`], which cannot fail here.
    pub fn note_undecided(&self, claim: &Claim, place: Place) {
        let subjects = self.pseudonyms.of(claim);
        let mut state = self.state.lock();
        let first = if place.known { subjects.pair } else { subjects.email };
        state.take_back(Some(first), place.email_until_ms);
        state.take_back((!place.known && claim.address.is_some()).then_some(subjects.address), place.address_until_ms);
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().0 / 1000
    }
}

impl State {
    fn reserve(&mut self, claim: &Claim, subjects: &Subjects, now_ms: u64, most: usize) -> Result<Place, Duration> {
        let (has_address, count) = (claim.address.is_some(), |id: &Pseudonym| self.counts.get(id).copied());
        if has_address && self.known.get(&subjects.pair).is_some_and(|until_ms| now_ms < *until_ms) {
            let pair = reserve(count(&subjects.pair), PER_EMAIL, now_ms)?;
            self.keep(&[(subjects.pair, pair)], now_ms, most)?;
            return Ok(Place { known: true, email_until_ms: pair.until_ms, address_until_ms: 0 });
        }
        let email = reserve(count(&subjects.email), PER_EMAIL, now_ms);
        if !has_address {
            let email = email?;
            self.keep(&[(subjects.email, email)], now_ms, most)?;
            return Ok(Place { known: false, email_until_ms: email.until_ms, address_until_ms: 0 });
        }
        let (email, address) = match (email, reserve(count(&subjects.address), PER_ADDRESS, now_ms)) {
            (Ok(email), Ok(address)) => (email, address),
            (email, address) => return Err(email.err().max(address.err()).unwrap_or_default()),
        };
        self.keep(&[(subjects.email, email), (subjects.address, address)], now_ms, most)?;
        Ok(Place { known: false, email_until_ms: email.until_ms, address_until_ms: address.until_ms })
    }

    /// Writes counts. The error: there is no room that could be made without forgiving somebody's wait.
    fn keep(&mut self, counts: &[(Pseudonym, Count)], now_ms: u64, most: usize) -> Result<(), Duration> {
        let new = counts.iter().filter(|(id, _)| !self.counts.contains_key(id)).count();
        if self.counts.len().saturating_add(new) > most {
            self.make_room(now_ms, most);
            if self.counts.len().saturating_add(new) > most {
                let first = self.counts.values().map(|count| count.until_ms).min().unwrap_or(now_ms);
                return Err(Duration::from_millis(first.saturating_sub(now_ms).max(1000)));
            }
        }
        self.counts.extend(counts.iter().copied());
        Ok(())
    }

    /// Forgets what is over; is that not enough, those that would be forgotten next, except who has to wait.
    fn make_room(&mut self, now_ms: u64, most: usize) {
        self.counts.retain(|_, count| !count.is_over(now_ms));
        let goal = most - most / 8;
        let surplus = self.counts.len().saturating_sub(goal);
        let idle = self.counts.values().filter(|count| count.wait(now_ms).is_none());
        if let Some(last) = nth_smallest(idle.map(|count| count.forget_ms).collect(), surplus) {
            self.counts.retain(|_, count| count.wait(now_ms).is_some() || count.forget_ms > last);
        }
    }

    fn remember(&mut self, pair: Pseudonym, now_ms: u64, most: usize) {
        if self.known.len() >= most && !self.known.contains_key(&pair) {
            self.known.retain(|_, until_ms| now_ms < *until_ms);
            let surplus = self.known.len().saturating_sub(most - most / 8);
            if let Some(last) = nth_smallest(self.known.values().copied().collect(), surplus) {
                self.known.retain(|_, until_ms| *until_ms > last);
            }
        }
        self.known.insert(pair, now_ms.saturating_add(KNOWN_MS));
    }

    fn take_back(&mut self, id: Option<Pseudonym>, reserved_until_ms: u64) {
        let Some(id) = id else { return };
        let Some(count) = self.counts.get(&id).copied() else { return };
        match release(count, reserved_until_ms) {
            Some(left) => self.counts.insert(id, left),
            None => self.counts.remove(&id),
        };
    }
}

/// The `nth` of the values in ascending order, counted from 1; the last one when there are fewer.
fn nth_smallest(mut values: Vec<u64>, nth: usize) -> Option<u64> {
    let index = nth.min(values.len()).checked_sub(1)?;
    Some(*values.select_nth_unstable(index).1)
}

#[async_trait]
impl ThrottleStore for LocalThrottle {
    async fn reserve(&self, claim: &Claim) -> Result<Admission, StoreError> {
        Ok(self.try_reserve(claim))
    }

    async fn proven(&self, claim: &Claim, place: Option<Place>) -> Result<(), StoreError> {
        self.note_proven(claim, place);
        Ok(())
    }

    async fn undecided(&self, claim: &Claim, place: Place) -> Result<(), StoreError> {
        self.note_undecided(claim, place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Hand;

    fn throttle(most: usize) -> (LocalThrottle, Hand) {
        let (clock, hand) = Clock::manual();
        (LocalThrottle::bounded(clock, most).unwrap(), hand)
    }

    fn claim(email: &str, address: &str) -> Claim {
        Claim { email_key: email.into(), address: address.parse().ok() }
    }

    fn place(admission: Admission) -> Place {
        match admission {
            Admission::Admitted(place) => place,
            Admission::Wait(wait) => panic!("has to wait {wait:?}"),
        }
    }

    fn wait(admission: Admission) -> u64 {
        match admission {
            Admission::Admitted(_) => 0,
            Admission::Wait(wait) => u64::try_from(wait.as_millis()).unwrap(),
        }
    }

    #[test]
    fn the_sixth_failure_waits_from_wherever_it_comes() {
        let (throttle, hand) = throttle(1000);
        for n in 0..5 {
            place(throttle.try_reserve(&claim("anna", &format!("192.0.2.{n}"))));
        }
        for address in ["192.0.2.77", "2001:db8::1", "none"] {
            assert_eq!(wait(throttle.try_reserve(&claim("anna", address))), 1000);
        }
        hand.advance(Duration::from_millis(999));
        assert_eq!(wait(throttle.try_reserve(&claim("anna", "none"))), 1);
        hand.advance(Duration::from_millis(1));
        place(throttle.try_reserve(&claim("anna", "none")));
        assert_eq!(wait(throttle.try_reserve(&claim("anna", "none"))), 2000);
    }

    #[test]
    fn an_address_has_twenty_over_all_accounts_and_a_success_gives_none_back_but_its_own() {
        let (throttle, _hand) = throttle(1000);
        for n in 0..19 {
            place(throttle.try_reserve(&claim(&format!("{n}"), "192.0.2.1")));
        }
        for _ in 0..3 {
            let own = claim("own", "192.0.2.1");
            let taken = place(throttle.try_reserve(&own));
            throttle.note_proven(&own, Some(taken));
        }
        place(throttle.try_reserve(&claim("19", "192.0.2.1")));
        assert_eq!(wait(throttle.try_reserve(&claim("20", "192.0.2.1"))), 1000);
        place(throttle.try_reserve(&claim("20", "192.0.2.2")));
        // Whoever logged in here before is not kept out by the others here.
        place(throttle.try_reserve(&claim("own", "192.0.2.1")));
    }

    #[test]
    fn an_attack_does_not_lock_the_owner_out_where_he_logged_in_before() {
        let (throttle, hand) = throttle(1000);
        let home = claim("anna", "192.0.2.1");
        let taken = place(throttle.try_reserve(&home));
        throttle.note_proven(&home, Some(taken));
        for n in 0..5 {
            place(throttle.try_reserve(&claim("anna", &format!("198.51.100.{n}"))));
        }
        assert!(wait(throttle.try_reserve(&claim("anna", "198.51.100.9"))) > 0);
        let again = place(throttle.try_reserve(&home));
        assert!(again.known);
        throttle.note_proven(&home, Some(again));
        // That success is none of the attackers' business.
        assert!(wait(throttle.try_reserve(&claim("anna", "198.51.100.9"))) > 0);
        // Failures at home are counted too.
        for _ in 0..5 {
            place(throttle.try_reserve(&home));
        }
        assert_eq!(wait(throttle.try_reserve(&home)), 1000);
        hand.advance(Duration::from_millis(KNOWN_MS));
        assert!(!place(throttle.try_reserve(&home)).known);
    }

    #[test]
    fn a_success_forgets_the_failures_of_strangers() {
        let (throttle, hand) = throttle(1000);
        let (away, other) = (claim("anna", "192.0.2.1"), claim("anna", "192.0.2.2"));
        for _ in 0..5 {
            place(throttle.try_reserve(&other));
        }
        hand.advance(Duration::from_secs(1));
        let taken = place(throttle.try_reserve(&away));
        throttle.note_proven(&away, Some(taken));
        for _ in 0..5 {
            place(throttle.try_reserve(&other));
        }
        assert_eq!(wait(throttle.try_reserve(&other)), 1000);
    }

    #[test]
    fn what_was_not_checked_is_not_counted() {
        let (throttle, _hand) = throttle(1000);
        for address in ["192.0.2.1", "none"] {
            for _ in 0..50 {
                let claim = claim("anna", address);
                let taken = place(throttle.try_reserve(&claim));
                throttle.note_undecided(&claim, taken);
            }
        }
        assert!(throttle.state.lock().counts.is_empty());
    }

    #[test]
    fn of_many_at_once_only_the_free_ones_pass() {
        let (throttle, _hand) = throttle(1000);
        let passed: usize = std::thread::scope(|scope| {
            let one = || (0..50).filter(|_| wait(throttle.try_reserve(&claim("anna", "192.0.2.1"))) == 0).count();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 5);
    }

    #[test]
    fn memory_is_bounded_and_forgives_no_wait() {
        let (throttle, _hand) = throttle(1000);
        let waiting: Vec<Claim> = (0..50).map(|n| claim(&format!("waiting-{n}"), "none")).collect();
        for one in &waiting {
            for _ in 0..5 {
                place(throttle.try_reserve(one));
            }
        }
        for n in 0..20_000 {
            place(throttle.try_reserve(&claim(&format!("idle-{n}"), "none")));
            let own = claim(&format!("own-{n}"), &format!("10.0.{}.{}", n / 250, n % 250));
            throttle.note_proven(&own, None);
        }
        let state = throttle.state.lock();
        assert!(state.counts.len() <= 1000 && state.known.len() <= 1000);
        drop(state);
        assert!(waiting.iter().all(|one| wait(throttle.try_reserve(one)) == 1000));
    }

    #[test]
    fn a_table_full_of_waits_takes_nobody_new_in() {
        let (throttle, hand) = throttle(10);
        for n in 0..10 {
            for _ in 0..5 {
                place(throttle.try_reserve(&claim(&format!("{n}"), "none")));
            }
        }
        assert!(wait(throttle.try_reserve(&claim("new", "none"))) >= 1000);
        hand.advance(Duration::from_secs(1));
        place(throttle.try_reserve(&claim("new", "none")));
    }
}
