//! How many requests a pool works on at a time, and who waits for a place: in the order they came, for a bounded
//! time, in a bounded line. Used by pools with `concurrency` only; the others take no lock and count nothing here.
//!
//! A place is taken under the line's lock, together with the target's gate: two requests cannot both take the last
//! one. One that becomes free wakes the first waiter, which looks for itself; see [`crate::model::line`]. A waiter
//! looks at the pool in force, not at the one it came by: a reload may have brought targets or raised a limit.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::attempt::Attempt;
use super::demand::Demand;
use super::pool::Pool;
use crate::clock::{Clock, Tick};
use crate::config::spec::ConcurrencySpec;
use crate::model::line::{Arrival, Line, Look, Ticket, Wake};
use crate::model::rejection::Rejection;

/// What a client is told to wait when there is no room: by then a place in the line may be free.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often the first waiter looks unasked. Freed places and reloads wake it; the end of a circuit's open time, a
/// verdict of the checks and a look-up do not.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The places of one pool and its line; survives reloads by the pool's name.
#[derive(Debug, Default)]
pub(super) struct Bulkhead(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    line: Line<Bell>,
    /// Places taken, also those at targets that are gone.
    taken: u64,
    /// The pool of this name that is in force.
    in_force: Weak<Pool>,
}

#[derive(Debug, Clone, Default)]
struct Bell(Arc<Notify>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// A place in a pool; free again when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Bulkhead>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.taken = state.taken.saturating_sub(1);
        state.line.wake();
    }
}

impl Bulkhead {
    /// `pool` is in force from now on.
    pub(super) fn publish(&self, pool: &Arc<Pool>) {
        let mut state = self.0.lock();
        state.in_force = Arc::downgrade(pool);
        state.line.wake();
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.0.lock().line.len() as u64
    }

    /// Takes a place at a target of `pool`, and waits for it when it must: at most the pool's `queue_timeout`, and
    /// not beyond `deadline`.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        pool: &Pool,
        limits: &ConcurrencySpec,
        demand: &Demand<'_>,
        clock: &Clock,
        deadline: Tick,
    ) -> Result<Attempt, Rejection> {
        let now = clock.now();
        let bell = Bell::default();
        let longest = usize::try_from(limits.queue).unwrap_or(usize::MAX);
        let arrival = {
            let State { line, taken, in_force } = &mut *self.0.lock();
            line.arrive(longest, || self.look(in_force, pool, taken, demand, now), || bell.clone())
        };
        let ticket = match arrival {
            Arrival::Decided(result) => return result,
            Arrival::TooMany => return Err(Rejection::Overloaded(RETRY_AFTER)),
            Arrival::Joined(ticket) => ticket,
        };
        let waiter = Waiter { bulkhead: self, pool, clock, ticket, bell, since: now };
        let patience = limits.queue_timeout.0.min(deadline.since(now));
        tokio::time::timeout(patience, waiter.place(demand)).await.unwrap_or(Err(Rejection::Overloaded(RETRY_AFTER)))
    }

    /// Looks for a place, under the lock.
    fn look(
        self: &Arc<Self>,
        in_force: &Weak<Pool>,
        own: &Pool,
        taken: &mut u64,
        demand: &Demand<'_>,
        now: Tick,
    ) -> Look<Attempt, Rejection> {
        let in_force = in_force.upgrade();
        let pool = in_force.as_deref().unwrap_or(own);
        if pool.has_room(*taken)
            && let Ok(mut attempt) = pool.pick(demand, now)
        {
            *taken += 1;
            attempt.hold(Place(self.clone()));
            return Look::Taken(attempt);
        }
        match pool.closed(now) {
            Some(rejection) => Look::Refused(rejection),
            None => Look::Full,
        }
    }
}

/// One request in the line; leaves it when dropped, for whatever reason.
struct Waiter<'a> {
    bulkhead: &'a Arc<Bulkhead>,
    pool: &'a Pool,
    clock: &'a Clock,
    ticket: Ticket,
    bell: Bell,
    since: Tick,
}

impl Waiter<'_> {
    /// Its place, once it has one.
    async fn place(&self, demand: &Demand<'_>) -> Result<Attempt, Rejection> {
        loop {
            let first = {
                let State { line, taken, in_force } = &mut *self.bulkhead.0.lock();
                let look = || self.bulkhead.look(in_force, self.pool, taken, demand, self.clock.now());
                if let Some(decided) = line.turn(self.ticket, look) {
                    return decided;
                }
                line.is_first(self.ticket)
            };
            let woken = self.bell.0.notified();
            if first {
                // Either way it looks again.
                let _ = tokio::time::timeout(LOOK_AGAIN, woken).await;
            } else {
                woken.await;
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.bulkhead.0.lock().line.leave(self.ticket);
        self.pool.count_wait(self.clock.now().since(self.since));
    }
}
