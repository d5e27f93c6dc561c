//! Which of several targets comes next: the algorithms, without targets, time or threads of their own.
//!
//! A [`Plan`] is compiled when the set of targets changes. An [`Order`] is one request's walk through it: it names
//! members, best first, until one is taken. Who may be used is decided elsewhere, by who refuses what it names.

mod dice;
mod ewma;
mod hash;
mod order;
mod schedule;
mod seen;
#[cfg(test)]
mod shares_tests;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod testing;

use std::ops::Range;
use std::sync::atomic::AtomicU64;

pub use ewma::{DECAY, Ewma};
pub use hash::{Key, identity};
pub use order::{Ask, Order};
pub use schedule::LONGEST;

use crate::clock::Tick;

/// How the next target is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// Turns by weight, as evenly spread as can be (smooth weighted round robin).
    #[default]
    RoundRobin,
    /// The less busy of two drawn at random, by requests in flight per weight (power of two choices).
    LeastRequest,
    /// The quicker of two drawn at random, by recent latency times requests in flight per weight.
    PeakEwma,
    /// At random, by weight.
    Random,
    /// By the request's key (weighted rendezvous hashing): the same key, the same target.
    ConsistentHash,
}

/// The whole share of a target, in thousandths.
pub const WHOLE: u32 = 1_000;

/// What the algorithms see of a target.
pub trait Member {
    /// Its configured part of the requests, beside the others'; at least 1.
    fn weight(&self) -> u32;
    /// How much of that it gets now, in thousandths, 1 to [`WHOLE`]: less while it starts slowly.
    fn permille(&self, now: Tick) -> u32;
    /// Requests that it is working on.
    fn in_flight(&self) -> u64;
    /// How long it takes to answer, in seconds; `None` before the first answer.
    fn latency(&self, now: Tick) -> Option<f64>;
    /// A number of its own, the same in every process: see [`identity`].
    fn identity(&self) -> u64;
}

/// Tiers, in the order in which they are asked: the primary targets, then the backups.
pub const TIERS: usize = 2;

/// Whose turn it is in each tier. Outlives plans: a new one goes on where the old one was.
#[derive(Debug, Default)]
pub struct Turns([AtomicU64; TIERS]);

/// The members of one set, compiled for one algorithm.
#[derive(Debug)]
pub struct Plan<M> {
    algorithm: Algorithm,
    members: Box<[M]>,
    tiers: [Tier; TIERS],
}

/// Members of one rank.
#[derive(Debug, Default)]
struct Tier {
    members: Range<usize>,
    /// For round robin: members in the order of their turns, counted from the tier's first.
    schedule: Box<[u32]>,
}

impl<M: Member> Plan<M> {
    /// Compiles a set. Costs at most [`LONGEST`] steps over all members.
    pub fn new(algorithm: Algorithm, primary: Vec<M>, backup: Vec<M>) -> Plan<M> {
        let border = primary.len();
        let mut members = primary;
        members.extend(backup);
        let tier = |range: Range<usize>| {
            let weights: Vec<u32> = members.get(range.clone()).unwrap_or_default().iter().map(Member::weight).collect();
            let turns = algorithm == Algorithm::RoundRobin;
            Tier { members: range, schedule: if turns { schedule::smooth(&weights) } else { Box::default() } }
        };
        let tiers = [tier(0..border), tier(border..members.len())];
        Plan { algorithm, members: members.into_boxed_slice(), tiers }
    }

    /// The member that an [`Order`] named.
    pub fn member(&self, index: usize) -> Option<&M> {
        self.members.get(index)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}
