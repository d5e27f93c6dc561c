//! Keys and answers of this process alone, in memory: bounded by bytes and by number, under one small lock that is never
//! held over anything that waits.
//!
//! At a bound, those answers that would end first go first. Keys in flight are never given up before their lease ends: their
//! number is that of requests, with those of the last minutes whose end nobody knows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::idempotency::{Begun, Ending, IdempotencyStore, Kept, KeyScope, ScopeHasher, ScopeId, Ticket};
use super::{Pseudonyms, StoreError};
use crate::clock::{Clock, Tick};

/// Bytes that an answer takes besides itself: its places in the two tables.
const ENTRY_COST: usize = 256;
/// Most answers, and most leases, past their time that one call forgets.
const FORGET_AT_ONCE: usize = 32;

/// Bounds of the memory for answers.
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyBounds {
    /// Most bytes.
    pub bytes: usize,
    /// Most answers.
    pub entries: usize,
}

/// The keys and answers of this process.
pub struct LocalIdempotency {
    clock: Clock,
    hasher: ScopeHasher,
    bounds: IdempotencyBounds,
    table: Mutex<Table>,
    evicted: Box<dyn Fn(u64) + Send + Sync>,
}

#[derive(Default)]
struct Table {
    slots: HashMap<ScopeId, Slot, RandomState>,
    /// Answers by when they end; the number tells those apart that end at once.
    ends: BTreeMap<(Tick, u128), ScopeId>,
    /// Keys in flight by when their lease ends, and their owners.
    leases: BTreeMap<(Tick, u128), ScopeId>,
    bytes: usize,
    turn: u128,
}

enum Slot {
    /// When the lease ends, and its owner.
    InFlight((Tick, u128)),
    Kept {
        kept: Arc<Kept>,
        end: (Tick, u128),
        bytes: usize,
    },
}

impl LocalIdempotency {
    /// Nothing yet. `evicted` is told how many answers were given up before their time.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(
        clock: Clock,
        bounds: IdempotencyBounds,
        evicted: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<LocalIdempotency, StoreError> {
        let hasher = ScopeHasher::under(Pseudonyms::random_key()?);
        Ok(LocalIdempotency { clock, hasher, bounds, table: Mutex::default(), evicted: Box::new(evicted) })
    }

    fn try_begin(&self, scope: &KeyScope, lease: Duration) -> Begun {
        let (scope, now) = (self.hasher.of(scope), self.clock.now());
        let mut table = self.table.lock();
        table.forget_past(now);
        match table.slots.get(&scope) {
            Some(Slot::InFlight((until, _))) if *until > now => Begun::InFlight,
            Some(Slot::Kept { kept, end, .. }) if end.0 > now => Begun::Kept(kept.clone()),
            Some(_) | None => {
                table.remove(&scope);
                let owner = table.next();
                table.mark(scope, (now.after(lease), owner));
                Begun::First(Ticket { scope, owner })
            }
        }
    }

    fn settle(&self, ticket: Ticket, ending: Ending) {
        let now = self.clock.now();
        let mut table = self.table.lock();
        match table.slots.get(&ticket.scope) {
            Some(Slot::InFlight((_, owner))) if *owner == ticket.owner => {}
            // The lease ran out and nobody else came: the answer is still the first one.
            None => {}
            Some(_) => return,
        }
        table.remove(&ticket.scope);
        if let Ending::Keep(kept, ttl) = ending {
            table.keep(ticket.scope, kept, now.after(ttl));
        }
        let evicted = table.shrink(self.bounds);
        drop(table);
        if evicted > 0 {
            (self.evicted)(evicted);
        }
    }
}

impl Table {
    fn next(&mut self) -> u128 {
        self.turn += 1;
        self.turn
    }

    fn mark(&mut self, scope: ScopeId, lease: (Tick, u128)) {
        self.leases.insert(lease, scope);
        self.slots.insert(scope, Slot::InFlight(lease));
    }

    fn keep(&mut self, scope: ScopeId, kept: Kept, until: Tick) {
        let (bytes, end) = (kept.size() + ENTRY_COST, (until, self.next()));
        self.bytes += bytes;
        self.ends.insert(end, scope);
        self.slots.insert(scope, Slot::Kept { kept: Arc::new(kept), end, bytes });
    }

    fn remove(&mut self, scope: &ScopeId) {
        match self.slots.remove(scope) {
            Some(Slot::Kept { end, bytes, .. }) => {
                self.bytes -= bytes;
                self.ends.remove(&end);
            }
            Some(Slot::InFlight(lease)) => drop(self.leases.remove(&lease)),
            None => {}
        }
    }

    fn forget_past(&mut self, now: Tick) {
        let first = |ends: &BTreeMap<(Tick, u128), ScopeId>| {
            ends.first_key_value().filter(|(end, _)| end.0 <= now).map(|(_, scope)| *scope)
        };
        for _ in 0..FORGET_AT_ONCE {
            let (answer, lease) = (first(&self.ends), first(&self.leases));
            if answer.is_none() && lease.is_none() {
                return;
            }
            answer.iter().chain(&lease).for_each(|scope| self.remove(scope));
        }
    }

    /// Gives answers up until the bounds hold; says how many.
    fn shrink(&mut self, bounds: IdempotencyBounds) -> u64 {
        let mut gone = 0;
        while self.bytes > bounds.bytes || self.ends.len() > bounds.entries {
            let Some((_, scope)) = self.ends.first_key_value() else { break };
            self.remove(&{ *scope });
            gone += 1;
        }
        gone
    }
}

#[async_trait]
impl IdempotencyStore for LocalIdempotency {
    async fn begin(&self, scope: &KeyScope, lease: Duration) -> Result<Begun, StoreError> {
        Ok(self.try_begin(scope, lease))
    }

    fn end(&self, ticket: Ticket, ending: Ending) -> Option<JoinHandle<()>> {
        self.settle(ticket, ending);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Hand;
    use crate::store::idempotency::tests::{kept, scope};

    const TTL: Duration = Duration::from_secs(60);
    const LEASE: Duration = Duration::from_secs(600);

    fn store(bytes: usize, entries: usize) -> (LocalIdempotency, Hand, Arc<AtomicU64>) {
        let (clock, hand) = Clock::manual();
        let count = Arc::new(AtomicU64::new(0));
        let evicted = count.clone();
        let told = move |more| {
            evicted.fetch_add(more, Ordering::Relaxed);
        };
        (LocalIdempotency::new(clock, IdempotencyBounds { bytes, entries }, told).unwrap(), hand, count)
    }

    fn first(store: &LocalIdempotency, key: &str) -> Ticket {
        match store.try_begin(&scope(1, "r", key), LEASE) {
            Begun::First(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn keep(store: &LocalIdempotency, key: &str, length: usize) {
        store.settle(first(store, key), Ending::Keep(kept(length), TTL));
    }

    #[test]
    fn one_goes_on_the_others_wait_and_then_get_its_answer_for_its_time() {
        let (store, hand, _) = store(1 << 20, 10);
        let ticket = first(&store, "k");
        assert!(matches!(store.try_begin(&scope(1, "r", "k"), LEASE), Begun::InFlight));
        assert!(matches!(store.try_begin(&scope(2, "r", "k"), LEASE), Begun::First(_)));
        store.settle(ticket, Ending::Keep(kept(3), TTL));
        hand.advance(TTL - Duration::from_micros(1));
        assert!(matches!(store.try_begin(&scope(1, "r", "k"), LEASE), Begun::Kept(kept) if kept.answer.is_some()));
        hand.advance(Duration::from_micros(1));
        first(&store, "k");
        let table = store.table.lock();
        assert_eq!((table.bytes, table.ends.len()), (0, 0));
    }

    #[test]
    fn a_failure_frees_the_key_and_only_the_owner_may_say_so() {
        let (store, ..) = store(1 << 20, 10);
        let ticket = first(&store, "k");
        store.settle(ticket, Ending::Free);
        let second = first(&store, "k");
        store.settle(ticket, Ending::Keep(kept(3), TTL));
        store.settle(ticket, Ending::Free);
        assert!(matches!(store.try_begin(&scope(1, "r", "k"), LEASE), Begun::InFlight));
        store.settle(second, Ending::Keep(kept(3), TTL));
        store.settle(second, Ending::Free);
        assert!(matches!(store.try_begin(&scope(1, "r", "k"), LEASE), Begun::Kept(_)));
    }

    #[test]
    fn a_lease_ends_by_itself_and_leaves_nothing_behind() {
        let (store, hand, _) = store(1 << 20, 10);
        let (late, gone) = (first(&store, "k"), first(&store, "gone"));
        hand.advance(LEASE - Duration::from_micros(1));
        assert!(matches!(store.try_begin(&scope(1, "r", "k"), LEASE), Begun::InFlight));
        hand.advance(Duration::from_micros(1));
        let second = first(&store, "k");
        let left = {
            let table = store.table.lock();
            (table.slots.len(), table.leases.len())
        };
        assert_eq!(left, (1, 1));
        store.settle(late, Ending::Free);
        store.settle(late, Ending::Keep(kept(3), TTL));
        assert!(matches!(store.try_begin(&scope(1, "r", "k"), LEASE), Begun::InFlight));
        store.settle(second, Ending::Free);
        // Late, but nobody came meanwhile.
        store.settle(gone, Ending::Keep(kept(3), TTL));
        assert!(matches!(store.try_begin(&scope(1, "r", "gone"), LEASE), Begun::Kept(_)));
        assert!(store.table.lock().leases.is_empty());
    }

    #[test]
    fn the_oldest_answers_go_at_the_bounds_and_keys_in_flight_stay() {
        let (by_bytes, hand, evicted) = store(10_000, 1_000);
        let flying = first(&by_bytes, "flying");
        for key in ["a", "b", "c"] {
            hand.advance(Duration::from_secs(1));
            keep(&by_bytes, key, 4_000);
        }
        assert!(matches!(by_bytes.try_begin(&scope(1, "r", "flying"), LEASE), Begun::InFlight));
        assert!(matches!(by_bytes.try_begin(&scope(1, "r", "b"), LEASE), Begun::Kept(_)));
        first(&by_bytes, "a");
        assert_eq!(evicted.load(Ordering::Relaxed), 1);
        by_bytes.settle(flying, Ending::Free);

        let (by_number, _, evicted) = store(1 << 20, 2);
        ["a", "b", "c"].into_iter().for_each(|key| keep(&by_number, key, 1));
        first(&by_number, "a");
        assert_eq!(evicted.load(Ordering::Relaxed), 1);
    }

    proptest! {
        #[test]
        fn the_counts_are_those_of_what_is_kept(steps in prop::collection::vec((0_u8..6, 0_u8..4, 0_u64..40), 0..200)) {
            let (store, hand, _) = store(6_000, 4);
            for (key, act, pause) in steps {
                hand.advance(Duration::from_secs(pause));
                if let Begun::First(ticket) = store.try_begin(&scope(1, "r", &key.to_string()), LEASE) {
                    if act == 1 {
                        continue; // nobody says how it ended
                    }
                    let ending = if act == 0 { Ending::Free } else { Ending::Keep(kept(usize::from(act) * 900), TTL) };
                    store.settle(ticket, ending);
                }
                let table = store.table.lock();
                let kept = table.slots.values().filter_map(|slot| match slot {
                    Slot::Kept { bytes, .. } => Some(*bytes),
                    Slot::InFlight(_) => None,
                });
                prop_assert_eq!(table.bytes, kept.clone().sum::<usize>());
                prop_assert_eq!(table.ends.len(), kept.count());
                prop_assert_eq!(table.leases.len() + table.ends.len(), table.slots.len());
                prop_assert!(table.bytes <= 6_000 && table.ends.len() <= 4);
            }
        }
    }
}
