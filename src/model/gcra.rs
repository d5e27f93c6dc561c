//! The generic cell rate algorithm (GCRA, the "virtual scheduling" form of ITU-T I.371): pure functions that
//! decide whether a request fits a token bucket. They own no state and read no clock.
//!
//! Deciding is exact: times are kept in microseconds and units of 1/limit microseconds, so that one token is worth a
//! whole number of units (the period in microseconds) whatever the rate, from 1/day to 1 000 000 000/s, and nothing
//! is ever rounded. Only the times given back are rounded, upwards, to a microsecond. `store/redis/limits.lua` does
//! the same steps on Redis' clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::Rate;

/// A clock that stepped back by more than this is believed: buckets then count as empty, not as emptier than empty.
pub const LARGEST_STEP: Duration = Duration::from_secs(60);

/// A token bucket's size and speed. It refills with `limit` tokens per `period` up to `limit + burst`, less what flows
/// in during the time that is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    limit: u32,
    burst: u32,
    period_micros: u64,
    held_back_micros: u64,
}

/// What a quota is made of, to be written down and read again. Any numbers will do: [`Quota::from_parts`] makes a quota
/// of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaParts {
    /// Tokens per period.
    pub limit: u32,
    /// Tokens on top of the limit.
    pub burst: u32,
    /// The time in which `limit` tokens flow in.
    pub period_micros: u64,
    /// The time whose tokens are held back.
    pub held_back_micros: u64,
}

/// The theoretical arrival time: the moment at which the bucket is full again. A fresh bucket is [`Tat::FULL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tat {
    /// Whole microseconds.
    pub micros: u64,
    /// What is over, in units of 1/limit microseconds of the quota it was computed with; below `limit`.
    pub part: u32,
}

impl Tat {
    /// A full bucket.
    pub const FULL: Tat = Tat { micros: 0, part: 0 };

    /// Whether a bucket is full at `now_micros`, so that forgetting it changes nothing.
    pub fn is_full(self, now_micros: u64) -> bool {
        self <= Tat { micros: now_micros, part: 0 }
    }

    /// What the bucket owes at `now_micros`.
    pub fn debt(self, now_micros: u64) -> Debt {
        if self.is_full(now_micros) {
            return Debt::NONE;
        }
        Debt { micros: self.micros - now_micros, part: self.part }
    }
}

/// The time until a bucket is full: what it owes, on whichever clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Debt {
    /// Whole microseconds.
    pub micros: u64,
    /// What is over, in units of 1/limit microseconds of the quota it was computed with; below `limit`.
    pub part: u32,
}

impl Debt {
    /// Of a full bucket.
    pub const NONE: Debt = Debt { micros: 0, part: 0 };

    /// The moment at which a bucket is full that owes this at `now_micros`; saturates.
    pub fn due(self, now_micros: u64) -> Tat {
        Tat { micros: now_micros.saturating_add(self.micros), part: self.part }
    }

    /// The same as a duration, rounded up.
    pub fn until_full(self) -> Duration {
        Duration::from_micros(self.micros.saturating_add(u64::from(self.part > 0)))
    }

    /// As [`decide`], for a bucket that owes this at `now_micros`. Only the moment in [`Outcome::Allowed`] is about that
    /// clock, so that a debt that was seen on one clock can be decided on another.
    pub fn decide(self, now_micros: u64, quota: Quota, cost: u32) -> Decision {
        let (tolerance, owed) = (quota.tolerance(), quota.units(self));
        let charged = owed + u128::from(cost) * quota.token();
        let (outcome, after) = if charged <= tolerance {
            (Outcome::Allowed(quota.debt(charged).due(now_micros)), charged)
        } else {
            (Outcome::Denied(quota.duration((charged - tolerance).min(owed))), owed)
        };
        let remaining = tolerance.saturating_sub(after) / quota.token();
        Decision {
            outcome,
            remaining: u64::try_from(remaining).unwrap_or(u64::MAX),
            reset_after: quota.duration(after),
        }
    }

    /// How many tokens, at most `most`, a bucket that owes this still holds.
    pub fn held(self, quota: Quota, most: u32) -> u32 {
        let left = quota.tolerance().saturating_sub(quota.units(self)) / quota.token();
        u32::try_from(left).unwrap_or(u32::MAX).min(most)
    }
}

/// Whether a request fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It does; this is the bucket once charged.
    Allowed(Tat),
    /// It does not; it would after this wait, if nobody else is charged. A cost above the capacity never fits:
    /// its wait is the time until the bucket is full.
    Denied(Duration),
}

/// What [`decide`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request fits.
    pub outcome: Outcome,
    /// Whole tokens left after the decision.
    pub remaining: u64,
    /// Time until the bucket is full again, after the decision.
    pub reset_after: Duration,
}

impl Decision {
    /// Whether the request fits.
    pub fn is_allowed(&self) -> bool {
        matches!(self.outcome, Outcome::Allowed(_))
    }
}

impl Quota {
    /// A quota of `rate` with `burst` tokens on top.
    pub fn new(rate: Rate, burst: u32) -> Quota {
        let period_micros = u64::try_from(rate.period.as_micros()).unwrap_or(u64::MAX).clamp(1, 1 << 40);
        Quota { limit: rate.limit.max(1), burst, period_micros, held_back_micros: 0 }
    }

    /// The quota that [`Quota::parts`] took apart; of other numbers the nearest one that there is.
    pub fn from_parts(parts: QuotaParts) -> Quota {
        let rate = Rate { limit: parts.limit, period: Duration::from_micros(parts.period_micros) };
        Quota::new(rate, parts.burst).holding_back(Duration::from_micros(parts.held_back_micros))
    }

    /// What it is made of.
    pub fn parts(&self) -> QuotaParts {
        let Quota { limit, burst, period_micros, held_back_micros } = *self;
        QuotaParts { limit, burst, period_micros, held_back_micros }
    }

    /// The same with a smaller bucket: by what flows in during `time`, at most all but one token. Whoever takes tokens
    /// ahead and keeps them for at most `time` then never admits more than the quota itself would.
    pub fn holding_back(self, time: Duration) -> Quota {
        let plain = Quota { held_back_micros: 0, ..self };
        let most = plain.tolerance().saturating_sub(plain.token()) / u128::from(self.limit);
        let held_back_micros = u64::try_from(time.as_micros().min(most)).unwrap_or(u64::MAX);
        Quota { held_back_micros, ..self }
    }

    /// The share of one of `replicas` that count alone: together they admit what the quota does, except that each has
    /// at least one token.
    pub fn share_of(self, replicas: u32) -> Quota {
        let replicas = replicas.max(1);
        let (limit, period_micros) = match self.limit / replicas {
            0 => (1, (self.period_micros * u64::from(replicas)).div_ceil(u64::from(self.limit))),
            limit => (limit, self.period_micros),
        };
        let capacity = self.capacity() / u64::from(replicas);
        let burst = u32::try_from(capacity.saturating_sub(u64::from(limit))).unwrap_or(u32::MAX);
        Quota { limit, burst, period_micros, held_back_micros: 0 }
    }

    /// Tokens per period.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Tokens on top of the limit.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The time in which `limit` tokens flow in.
    pub fn period(&self) -> Duration {
        Duration::from_micros(self.period_micros)
    }

    /// The time whose tokens are held back.
    pub fn held_back(&self) -> Duration {
        Duration::from_micros(self.held_back_micros)
    }

    /// Tokens in a full bucket, before any are held back.
    pub fn capacity(&self) -> u64 {
        u64::from(self.limit) + u64::from(self.burst)
    }

    /// Whole tokens that a full bucket holds.
    pub fn holds(&self) -> u64 {
        u64::try_from(self.tolerance() / self.token()).unwrap_or(u64::MAX)
    }

    /// Whole tokens that flow in during `time`.
    pub fn flow(&self, time: Duration) -> u64 {
        u64::try_from(time.as_micros() * u128::from(self.limit) / self.token()).unwrap_or(u64::MAX)
    }

    /// The time in which so many tokens flow in, be they more than a bucket holds.
    pub fn time_of(&self, tokens: u64) -> Debt {
        self.debt(u128::from(tokens) * self.token())
    }

    /// The time in which an empty bucket fills.
    pub fn fill_time(&self) -> Debt {
        self.debt(self.tolerance())
    }

    /// The debt of a bucket that so many tokens were taken of; at most all it holds.
    pub fn debt_of(&self, tokens: u64) -> Debt {
        self.time_of(tokens).min(self.fill_time())
    }

    fn token(&self) -> u128 {
        u128::from(self.period_micros)
    }

    fn tolerance(&self) -> u128 {
        let held_back = u128::from(self.held_back_micros) * u128::from(self.limit);
        (u128::from(self.capacity()) * self.token()).saturating_sub(held_back)
    }

    /// A debt in units; where it is larger by a [`LARGEST_STEP`] than that of an empty bucket, the bucket is empty.
    fn units(&self, debt: Debt) -> u128 {
        let units = u128::from(debt.micros) * u128::from(self.limit) + u128::from(debt.part);
        let step = LARGEST_STEP.as_micros() * u128::from(self.limit);
        if units > self.tolerance() + step { self.tolerance() } else { units }
    }

    /// So many units as a debt.
    fn debt(&self, units: u128) -> Debt {
        let limit = u128::from(self.limit);
        Debt {
            micros: u64::try_from(units / limit).unwrap_or(u64::MAX),
            part: u32::try_from(units % limit).unwrap_or(0),
        }
    }

    fn duration(&self, units: u128) -> Duration {
        Duration::from_micros(u64::try_from(units.div_ceil(u128::from(self.limit))).unwrap_or(u64::MAX))
    }
}

/// Decides whether `cost` tokens can be taken at `now_micros`. A clock that steps back grants nothing: the bucket then
/// counts as emptier by the time stepped, up to [`LARGEST_STEP`], and as empty beyond it.
pub fn decide(tat: Tat, now_micros: u64, quota: Quota, cost: u32) -> Decision {
    tat.debt(now_micros).decide(now_micros, quota, cost)
}

/// Gives tokens back that were taken and not used. What flowed in meanwhile stays in; no bucket gets more than full.
pub fn give_back(tat: Tat, now_micros: u64, quota: Quota, tokens: u32) -> Tat {
    let owed = quota.units(tat.debt(now_micros)).saturating_sub(u128::from(tokens) * quota.token());
    quota.debt(owed).due(now_micros)
}

/// Carries a bucket over from one quota to another: the share that is left stays the same, so a changed limit
/// neither refills a spent bucket nor empties a full one. Rounded up to whole microseconds.
///
/// In floating point, so that every step is the one that `store/redis/limits.lua` makes (IEEE 754 rounds each the same).
pub fn rescale(tat: Tat, now_micros: u64, from: Quota, to: Quota) -> Tat {
    if tat.is_full(now_micros) {
        return Tat::FULL;
    }
    let debt = tat.debt(now_micros);
    let owed = float(debt.micros) + f64::from(debt.part) / f64::from(from.limit);
    let share = (owed / fill_micros(from)).min(1.0);
    let carried = Debt { micros: whole((share * fill_micros(to)).ceil()), part: 0 };
    carried.min(to.fill_time()).due(now_micros)
}

fn fill_micros(quota: Quota) -> f64 {
    let capacity = f64::from(quota.limit) + f64::from(quota.burst);
    capacity * float(quota.period_micros) / f64::from(quota.limit) - float(quota.held_back_micros)
}

/// Exact below 2^53, which no time here reaches: 285 years in microseconds.
fn float(micros: u64) -> f64 {
    micros as f64
}

/// The whole number; saturates.
fn whole(micros: f64) -> u64 {
    micros as u64
}

#[cfg(test)]
mod tests;
