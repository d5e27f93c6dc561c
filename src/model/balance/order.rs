//! One request's walk through a plan: it names each member once, tier by tier, best first.

use std::sync::atomic::Ordering;

use super::dice::{Dice, GOLDEN, below};
use super::hash::distance;
use super::seen::Seen;
use super::{Algorithm, Member, Plan, Tier, Turns, WHOLE};
use crate::clock::Tick;

/// In each tier so many members are named by the algorithm; when none was taken, the others follow in a circle. So a
/// walk costs little even where nobody can be had.
const CHOSEN: usize = 8;
/// A target that was not measured counts as this slow, in seconds, once it has something to do: the first answer
/// comes before the second request.
const UNMEASURED: f64 = 3_600.0;

/// What a request asks of the balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// What it is told apart by, for [`Algorithm::ConsistentHash`]; none: at random.
    pub key: Option<u64>,
    /// When it is.
    pub now: Tick,
}

impl Ask {
    /// As bytes, to be carried through an interface that knows only those.
    pub fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        let (key, rest) = bytes.split_at_mut(8);
        let (now, given) = rest.split_at_mut(8);
        key.copy_from_slice(&self.key.unwrap_or_default().to_le_bytes());
        now.copy_from_slice(&self.now.0.to_le_bytes());
        given.fill(u8::from(self.key.is_some()));
        bytes
    }

    /// From such bytes; others ask for nothing, at the beginning of time.
    pub fn from_bytes(bytes: &[u8]) -> Ask {
        let number = |at: usize| {
            let eight = bytes.get(at..at + 8).and_then(|eight| <[u8; 8]>::try_from(eight).ok());
            u64::from_le_bytes(eight.unwrap_or_default())
        };
        Ask { key: (bytes.get(16) == Some(&1)).then(|| number(0)), now: Tick(number(8)) }
    }
}

/// The walk. Made for every request and every new try of one.
#[derive(Debug)]
pub struct Order {
    ask: Ask,
    named: Seen,
    tier: usize,
    /// Named in this tier.
    count: usize,
    /// The one of a drawn pair that was not named; it stands against the next drawn.
    held: Option<usize>,
    /// Where the circle of the others goes on.
    offset: Option<usize>,
    /// The last turn that it took: no other request has that.
    taken: Option<u64>,
    dice: Option<Dice>,
}

impl Order {
    /// At the beginning.
    pub fn new(ask: Ask) -> Order {
        Order { ask, named: Seen::default(), tier: 0, count: 0, held: None, offset: None, taken: None, dice: None }
    }

    /// The next member, by its position in the plan; `None` when all were named.
    pub fn next<M: Member>(&mut self, plan: &Plan<M>, turns: &Turns) -> Option<usize> {
        loop {
            let tier = plan.tiers.get(self.tier)?;
            if self.count < tier.members.len() {
                self.count += 1;
                let position = self.choose(plan, tier, turns)?;
                self.named.insert(position);
                return Some(position);
            }
            self.tier += 1;
            (self.count, self.held, self.offset) = (0, None, None);
            (self.taken, self.dice) = (None, None);
        }
    }

    fn choose<M: Member>(&mut self, plan: &Plan<M>, tier: &Tier, turns: &Turns) -> Option<usize> {
        if self.count == tier.members.len() {
            // Without a choice there is nothing to work out.
            return tier.members.clone().find(|position| !self.named.contains(*position));
        }
        if self.count > CHOSEN {
            return self.rest(tier, turns);
        }
        match plan.algorithm {
            Algorithm::RoundRobin => self.turn(plan, tier, turns).or_else(|| self.draw(plan, tier, turns)),
            Algorithm::Random => self.draw(plan, tier, turns),
            Algorithm::LeastRequest => self.better(plan, tier, turns, busyness),
            Algorithm::PeakEwma => self.better(plan, tier, turns, slowness),
            Algorithm::ConsistentHash => self.nearest(plan, tier, turns),
        }
    }

    /// The next of the tier that was not named, around the circle from somewhere: the same place for the same key.
    fn rest(&mut self, tier: &Tier, turns: &Turns) -> Option<usize> {
        let length = tier.members.len();
        let mut offset = match (self.offset, self.ask.key) {
            (Some(offset), _) => offset,
            (None, Some(key)) => Dice::new(key).index(length),
            (None, None) => self.dice(turns).index(length),
        };
        for _ in 0..length {
            let position = tier.members.start + offset % length;
            offset += 1;
            if !self.named.contains(position) {
                self.offset = Some(offset);
                return Some(position);
            }
        }
        None
    }

    /// By turns. All requests move the position, so that the turns of those that are refused or still starting
    /// spread evenly over the others. A few steps at most: who weighs much and is refused has many turns in a row.
    fn turn<M: Member>(&mut self, plan: &Plan<M>, tier: &Tier, turns: &Turns) -> Option<usize> {
        let (counter, period) = (turns.0.get(self.tier)?, tier.schedule.len() as u64);
        for _ in 0..(2 * tier.members.len()).max(16) {
            let at = counter.fetch_add(1, Ordering::Relaxed);
            self.taken = Some(at);
            let turn = usize::try_from(at.checked_rem(period)?).ok()?;
            let position = tier.members.start + *tier.schedule.get(turn)? as usize;
            let permille = plan.member(position)?.permille(self.ask.now);
            if !self.named.contains(position) && lets_pass(at, permille) {
                return Some(position);
            }
        }
        None
    }

    /// At random, by weight.
    fn draw<M: Member>(&mut self, plan: &Plan<M>, tier: &Tier, turns: &Turns) -> Option<usize> {
        let drawn = self.dice(turns).next();
        let left = tier.members.clone().filter(|position| !self.named.contains(*position));
        let shares = left.map(|position| (position, plan.member(position).map_or(0, |one| share(one, self.ask.now))));
        let sum: u64 = shares.clone().map(|(_, share)| share).sum();
        let mut drawn = below(drawn, sum);
        let mut last = None;
        for (position, share) in shares {
            if drawn < share {
                return Some(position);
            }
            drawn -= share;
            last = Some(position); // shares may have grown or shrunk meanwhile
        }
        last
    }

    /// The better of two that are drawn at random, whatever they weigh: their cost has the weight in it. When the
    /// better one was refused, the other stands against a newly drawn one.
    fn better<M: Member>(
        &mut self,
        plan: &Plan<M>,
        tier: &Tier,
        turns: &Turns,
        cost: fn(&M, Tick) -> f64,
    ) -> Option<usize> {
        let first = match self.held.take() {
            Some(held) => held,
            None => self.any(tier, turns, None)?,
        };
        let second = self.any(tier, turns, Some(first))?;
        let cost = |position: usize| plan.member(position).map_or(f64::INFINITY, |member| cost(member, self.ask.now));
        let (better, worse) = if cost(second) < cost(first) { (second, first) } else { (first, second) };
        self.held = Some(worse);
        Some(better)
    }

    /// One that was not named and is not `other`, each as likely.
    fn any(&mut self, tier: &Tier, turns: &Turns, other: Option<usize>) -> Option<usize> {
        let length = tier.members.len();
        let free = |order: &Order, position: usize| !order.named.contains(position) && Some(position) != other;
        // Mostly the first is free; else count those that are.
        for _ in 0..4 {
            let position = tier.members.start + self.dice(turns).index(length);
            if free(self, position) {
                return Some(position);
            }
        }
        let left = tier.members.clone().filter(|position| free(self, *position)).count();
        let skip = self.dice(turns).index(left);
        tier.members.clone().filter(|position| free(self, *position)).nth(skip)
    }

    /// By the key.
    fn nearest<M: Member>(&mut self, plan: &Plan<M>, tier: &Tier, turns: &Turns) -> Option<usize> {
        if self.ask.key.is_none() {
            self.ask.key = Some(self.dice(turns).next());
        }
        let key = self.ask.key?;
        let distance = |position: usize| {
            let member = plan.member(position)?;
            Some(distance(key, member.identity(), share(member, self.ask.now) as f64))
        };
        let left = tier.members.clone().filter(|position| !self.named.contains(*position));
        let near = left.filter_map(|position| Some((position, distance(position)?)));
        near.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(position, _)| position)
    }

    /// Random numbers, another sequence for each request. Takes no turn if it has one: that would be lost for whoever
    /// it belongs to.
    fn dice(&mut self, turns: &Turns) -> &mut Dice {
        let (tier, taken) = (self.tier, self.taken);
        let take = || turns.0.get(tier).map_or(0, |counter| counter.fetch_add(1, Ordering::Relaxed));
        self.dice.get_or_insert_with(|| Dice::new(taken.unwrap_or_else(take)))
    }
}

/// What it gets by weight and slow start.
fn share<M: Member>(member: &M, now: Tick) -> u64 {
    u64::from(member.weight().max(1)) * u64::from(member.permille(now).clamp(1, WHOLE))
}

/// Requests in flight, this one included, per share.
fn busyness<M: Member>(member: &M, now: Tick) -> f64 {
    member.in_flight().saturating_add(1) as f64 / share(member, now) as f64
}

/// The time in which it will have answered, this request included, per share. Who was never measured comes first.
fn slowness<M: Member>(member: &M, now: Tick) -> f64 {
    match member.latency(now) {
        Some(seconds) => seconds * busyness(member, now),
        None if member.in_flight() == 0 => 0.0,
        None => UNMEASURED * busyness(member, now),
    }
}

/// Whether turn `at` counts for one that gets `permille` of its turns. Evenly spread, whatever the distance of turns:
/// multiples of the golden ratio fall evenly on a circle, and so do the multiples of any multiple.
fn lets_pass(at: u64, permille: u32) -> bool {
    permille >= WHOLE || (u128::from(at.wrapping_mul(GOLDEN)) * u128::from(WHOLE)) >> 64 < u128::from(permille)
}
