//! Who waits for a place, in the order they came. Pure: what a place is, and whether one is free, the caller says.
//!
//! Only the first of the line looks for a place, and only when it is woken: one place that becomes free wakes one
//! waiter, who wakes the next when it goes. Whoever arrives while somebody waits joins at the end.

use std::collections::BTreeMap;

/// How a waiter is told to look. Called under the line's lock: must not call back, must not block, and must be
/// remembered when the waiter is not listening just then.
pub trait Wake {
    /// Tells the waiter.
    fn wake(&self);
}

/// What a look for a place gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Look<A, R> {
    /// A place, taken.
    Taken(A),
    /// No place is free, but there will be.
    Full,
    /// There is nothing to wait for.
    Refused(R),
}

/// How an arrival ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival<A, R> {
    /// The look decided at once.
    Decided(Result<A, R>),
    /// It waits.
    Joined(Ticket),
    /// The line is as long as it may be.
    TooMany,
}

/// A waiter's position: a later one is larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The line.
#[derive(Debug)]
pub struct Line<W> {
    waiting: BTreeMap<Ticket, W>,
    next: u64,
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Line { waiting: BTreeMap::new(), next: 0 }
    }
}

impl<W: Wake> Line<W> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Somebody comes: looks for a place when nobody waits, and joins the line, of at most `longest`, when there is
    /// none.
    pub fn arrive<A, R>(
        &mut self,
        longest: usize,
        look: impl FnOnce() -> Look<A, R>,
        waiter: impl FnOnce() -> W,
    ) -> Arrival<A, R> {
        if self.waiting.is_empty() {
            match look() {
                Look::Taken(place) => return Arrival::Decided(Ok(place)),
                Look::Refused(reason) => return Arrival::Decided(Err(reason)),
                Look::Full => {}
            }
        }
        if self.waiting.len() >= longest {
            return Arrival::TooMany;
        }
        let ticket = Ticket(self.next);
        self.next = self.next.wrapping_add(1);
        self.waiting.insert(ticket, waiter());
        Arrival::Joined(ticket)
    }

    /// Whether it is this waiter's turn to look.
    pub fn is_first(&self, ticket: Ticket) -> bool {
        self.waiting.keys().next() == Some(&ticket)
    }

    /// A waiter was woken: looks when it is its turn. `None` when it must go on waiting; else it has left the line,
    /// and the next one was woken.
    pub fn turn<A, R>(&mut self, ticket: Ticket, look: impl FnOnce() -> Look<A, R>) -> Option<Result<A, R>> {
        if !self.is_first(ticket) {
            return None;
        }
        let decided = match look() {
            Look::Full => return None,
            Look::Taken(place) => Ok(place),
            Look::Refused(reason) => Err(reason),
        };
        self.leave(ticket);
        Some(decided)
    }

    /// A waiter goes, for whatever reason. When it was the first, the next one is woken: a wake-up that this one got
    /// and did not use is passed on. Nothing happens when it had left before.
    pub fn leave(&mut self, ticket: Ticket) {
        let first = self.is_first(ticket);
        if self.waiting.remove(&ticket).is_some() && first {
            self.wake();
        }
    }

    /// A place may have become free: wakes the first.
    pub fn wake(&self) {
        if let Some(first) = self.waiting.values().next() {
            first.wake();
        }
    }
}

#[cfg(test)]
mod tests;
