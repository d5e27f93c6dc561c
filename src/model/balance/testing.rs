//! A target that is what a test says.

use super::{Ask, Member, Order, Plan, Turns, WHOLE, identity};
use crate::clock::Tick;

/// Some time after the start.
pub(super) const NOW: Tick = Tick(86_400_000_000);

#[derive(Debug, Clone)]
pub(super) struct Fake {
    pub(super) name: usize,
    pub(super) weight: u32,
    pub(super) permille: u32,
    pub(super) in_flight: u64,
    pub(super) latency: Option<f64>,
}

impl Fake {
    pub(super) fn new(name: usize, weight: u32) -> Fake {
        Fake { name, weight, permille: WHOLE, in_flight: 0, latency: None }
    }

    /// One for each weight.
    pub(super) fn all(weights: &[u32]) -> Vec<Fake> {
        weights.iter().enumerate().map(|(name, weight)| Fake::new(name, *weight)).collect()
    }
}

impl Member for Fake {
    fn weight(&self) -> u32 {
        self.weight
    }
    fn permille(&self, _now: Tick) -> u32 {
        self.permille
    }
    fn in_flight(&self) -> u64 {
        self.in_flight
    }
    fn latency(&self, _now: Tick) -> Option<f64> {
        self.latency
    }
    fn identity(&self) -> u64 {
        identity(&format!("10.0.0.{}:80", self.name))
    }
}

/// The name of the first one that is accepted.
pub(super) fn pick(
    plan: &Plan<Fake>,
    turns: &Turns,
    key: Option<u64>,
    accept: impl Fn(&Fake) -> bool,
) -> Option<usize> {
    let mut order = Order::new(Ask { key, now: NOW });
    while let Some(position) = order.next(plan, turns) {
        let fake = plan.member(position).unwrap();
        if accept(fake) {
            return Some(fake.name);
        }
    }
    None
}

/// How often each of `count` names is picked in `picks`, with keys that differ.
pub(super) fn shares(plan: &Plan<Fake>, count: usize, picks: u64, accept: impl Fn(&Fake) -> bool) -> Vec<u64> {
    let (turns, mut counts) = (Turns::default(), vec![0; count]);
    for key in 0..picks {
        if let Some(name) = pick(plan, &turns, Some(super::dice::mix(key)), &accept) {
            counts[name] += 1;
        }
    }
    counts
}
