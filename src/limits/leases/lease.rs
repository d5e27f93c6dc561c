//! One bucket's lease in this replica: tokens taken ahead, how fast they are spent, and what is known of the shared
//! bucket. No clock, no lock.

use super::{LEASE, MIN_REFILL_TOKENS, REFILL_PAUSE};
use crate::clock::Tick;
use crate::model::gcra::{self, Decision, Outcome, Quota, Tat};
use crate::model::lease::LEASE_MICROS;

/// Tokens of one call.
#[derive(Debug, Clone, Copy, Default)]
struct Batch {
    tokens: u32,
    /// The moment from which they may not be spent.
    until: Tick,
}

impl Batch {
    fn left(&self, now: Tick) -> u32 {
        if now < self.until { self.tokens } else { 0 }
    }
}

/// Tokens spent in this and the previous window of [`LEASE`].
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    window: u64,
    current: u32,
    previous: u32,
}

impl Spent {
    fn turn(&mut self, now: Tick) {
        let window = now.0 / LEASE_MICROS;
        match window.saturating_sub(self.window) {
            0 => return,
            1 => self.previous = self.current,
            _ => self.previous = 0,
        }
        (self.current, self.window) = (0, window);
    }

    fn lately(&self) -> u32 {
        self.current.max(self.previous)
    }
}

/// What was asked of the shared bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limits) struct Asked {
    /// Read before the call was sent.
    pub(in crate::limits) sent: Tick,
    /// Tokens that the request costs; 0 when only tokens ahead are wanted.
    pub(in crate::limits) cost: u32,
    /// Tokens ahead.
    pub(in crate::limits) ahead: u32,
}

/// One bucket's lease.
#[derive(Debug)]
pub(super) struct Lease {
    quota: Quota,
    /// The older one is spent first.
    older: Batch,
    newer: Batch,
    spent: Spent,
    /// The shared bucket as it was last seen, on the clock of this process.
    seen: Tat,
    /// When the call for tokens ahead that is under way was sent.
    asking: Option<Tick>,
    /// No call only for tokens ahead before this: the last one found fewer than it wanted.
    no_refill_before: Tick,
}

impl Lease {
    pub(super) fn new(quota: Quota) -> Lease {
        let (batch, spent) = (Batch::default(), Spent::default());
        let seen = Tat::FULL;
        Lease { quota, older: batch, newer: batch, spent, seen, asking: None, no_refill_before: Tick(0) }
    }

    /// The quota that its tokens were taken under.
    pub(super) fn quota(&self) -> Quota {
        self.quota
    }

    /// Tokens that can be spent.
    pub(super) fn left(&self, now: Tick) -> u32 {
        self.older.left(now).saturating_add(self.newer.left(now))
    }

    /// Whether it says nothing: forgetting it changes nothing.
    pub(super) fn is_idle(&mut self, now: Tick) -> bool {
        self.spent.turn(now);
        self.left(now) == 0 && self.spent.lately() == 0 && !self.is_asking(now)
    }

    /// Spends `cost` tokens when they are there; says until when they could have been spent.
    pub(super) fn pay(&mut self, now: Tick, cost: u32) -> Option<Tick> {
        let (older, newer) = (self.older.left(now), self.newer.left(now));
        if older.saturating_add(newer) < cost {
            return None;
        }
        let of_older = older.min(cost);
        self.older.tokens = older - of_older;
        self.newer.tokens = newer - (cost - of_older);
        self.count(now, cost);
        Some(match (of_older, cost - of_older) {
            (0, _) => self.newer.until,
            (_, 0) => self.older.until,
            _ => self.older.until.min(self.newer.until),
        })
    }

    /// Undoes [`Lease::pay`]. Tokens whose batch is no longer known are lost.
    pub(super) fn refund(&mut self, cost: u32, until: Tick) {
        self.spent.current = self.spent.current.saturating_sub(cost);
        if let Some(batch) = [&mut self.older, &mut self.newer].into_iter().find(|batch| batch.until == until) {
            batch.tokens = batch.tokens.saturating_add(cost);
        }
    }

    /// Tokens to ask for besides what a request costs, at most `most` in all; none while such a call is under way.
    pub(super) fn wants(&mut self, now: Tick, most: u32) -> u32 {
        self.spent.turn(now);
        let target = (self.spent.lately() / 2).min(most);
        let wanted = target.saturating_sub(self.left(now));
        if wanted < MIN_REFILL_TOKENS || self.is_asking(now) {
            return 0;
        }
        self.asking = Some(now);
        wanted
    }

    /// Whether the next tokens are worth a call of their own: a quarter is left, and the shared bucket is not known to
    /// be empty.
    pub(super) fn is_low(&self, now: Tick, most: u32) -> bool {
        let target = (self.spent.lately() / 2).min(most);
        now >= self.no_refill_before && self.left(now) <= target / 4
    }

    /// The shared bucket answered: it was charged, `granted` tokens ahead included, and is as `seen` since, on the clock
    /// of this process.
    pub(super) fn took(&mut self, now: Tick, asked: Asked, granted: u32, seen: Tat) {
        self.seen = seen;
        self.count(now, asked.cost);
        if asked.ahead == 0 {
            return;
        }
        self.asking = None;
        if granted < asked.ahead {
            self.no_refill_before = now.after(REFILL_PAUSE);
        }
        if granted > 0 {
            self.keep(now, Batch { tokens: granted, until: asked.sent.after(LEASE) });
        }
    }

    /// The call did not charge, or nobody knows.
    pub(super) fn missed(&mut self, now: Tick, asked: Asked) {
        self.no_refill_before = now.after(REFILL_PAUSE);
        if asked.ahead > 0 {
            self.asking = None;
        }
    }

    /// Where a client stands: what the shared bucket was last seen to hold, what has flowed in since, and what is left here.
    pub(super) fn standing(&self, now: Tick) -> Decision {
        let seen = gcra::give_back(self.seen, now.0, self.quota, self.left(now));
        let decision = gcra::decide(seen, now.0, self.quota, 0);
        Decision { outcome: Outcome::Allowed(seen), ..decision }
    }

    fn is_asking(&self, now: Tick) -> bool {
        self.asking.is_some_and(|sent| now.since(sent) < LEASE)
    }

    fn count(&mut self, now: Tick, cost: u32) {
        self.spent.turn(now);
        self.spent.current = self.spent.current.saturating_add(cost);
    }

    /// Two batches are kept. A third shares the newer one's end: the earlier of both.
    fn keep(&mut self, now: Tick, batch: Batch) {
        let left = self.newer.left(now);
        if self.older.left(now) == 0 {
            self.older = Batch { tokens: left, until: self.newer.until };
            self.newer = batch;
        } else if left == 0 {
            self.newer = batch;
        } else {
            let until = self.newer.until.min(batch.until);
            self.newer = Batch { tokens: left.saturating_add(batch.tokens), until };
        }
    }
}
