//! The balancer over millions of random steps: targets join, leave, start slowly, fail and fill up. From one seed, so
//! that a failure can be seen again.

use super::dice::Dice;
use super::testing::Fake;
use super::{Algorithm, Ask, Member, Order, Plan, Turns, WHOLE};
use crate::clock::Tick;

const STEPS: u64 = 400_000;

struct World {
    dice: Dice,
    algorithm: Algorithm,
    turns: Turns,
    plan: Plan<Fake>,
    /// By name: whether it may be used.
    up: Vec<bool>,
    border: usize,
    now: Tick,
    /// Picks by name since the set last changed, and what was due by share.
    picked: Vec<u64>,
    due: Vec<f64>,
    checked: u32,
}

impl World {
    fn new(algorithm: Algorithm, seed: u64) -> World {
        let plan = Plan::new(algorithm, Vec::new(), Vec::new());
        let (turns, now) = (Turns::default(), super::testing::NOW);
        let mut world = World {
            dice: Dice::new(seed),
            algorithm,
            turns,
            plan,
            up: Vec::new(),
            border: 0,
            now,
            picked: Vec::new(),
            due: Vec::new(),
            checked: 0,
        };
        world.change_set();
        world
    }

    fn members(&self) -> Vec<Fake> {
        (0..self.plan.len()).filter_map(|position| self.plan.member(position).cloned()).collect()
    }

    /// Another set: some stay as they are, some leave, some join. The turns go on.
    fn change_set(&mut self) {
        let mut stay = self.members();
        stay.retain(|_| self.dice.index(3) > 0);
        let joins = self.dice.index(5) + 1;
        let weights = [1, 1, 1, 2, 3, 10, 100, 1_000];
        stay.extend((0..joins).map(|_| Fake::new(0, weights[self.dice.index(weights.len())])));
        stay.iter_mut().enumerate().for_each(|(name, fake)| fake.name = name);
        self.border = if self.dice.index(2) == 0 { stay.len() } else { self.dice.index(stay.len()) };
        self.up = stay.iter().map(|_| true).collect();
        self.rebuild(stay);
    }

    fn rebuild(&mut self, members: Vec<Fake>) {
        self.picked = vec![0; members.len()];
        self.due = vec![0.0; members.len()];
        let mut primary = members;
        let backup = primary.split_off(self.border);
        self.plan = Plan::new(self.algorithm, primary, backup);
    }

    /// A moment in which something about the targets changes.
    fn change_some(&mut self) {
        let mut members = self.members();
        let one = self.dice.index(members.len());
        match self.dice.index(4) {
            0 => self.up[one] = self.dice.index(2) == 0,
            1 => members[one].permille = 100 + u32::try_from(self.dice.index(901)).unwrap(),
            2 => members[one].in_flight = self.dice.next() % 30,
            _ => members[one].latency = Some((self.dice.index(1_000) + 1) as f64 / 1_000.0),
        }
        self.rebuild(members);
    }

    /// Who may be picked now: of the first tier that has somebody.
    fn candidates(&self) -> Vec<usize> {
        let up = |range: std::ops::Range<usize>| range.filter(|name| self.up[*name]).collect::<Vec<_>>();
        let primary = up(0..self.border);
        if primary.is_empty() { up(self.border..self.plan.len()) } else { primary }
    }

    fn pick(&mut self, candidates: &[usize]) {
        let key = Some(self.dice.next());
        let mut order = Order::new(Ask { key, now: self.now });
        let mut steps = 0;
        let found = std::iter::from_fn(|| order.next(&self.plan, &self.turns)).inspect(|_| steps += 1);
        let picked = { found }.find(|position| self.up[*position]);
        assert!(steps <= self.plan.len(), "bounded");
        match picked {
            None => assert!(candidates.is_empty(), "somebody was there"),
            Some(picked) => {
                assert!(candidates.contains(&picked), "refused, or of a later tier");
                self.picked[picked] += 1;
                let share = |name: usize| {
                    let fake = self.plan.member(name).unwrap();
                    f64::from(fake.weight()) * f64::from(fake.permille(self.now))
                };
                let sum: f64 = candidates.iter().map(|name| share(*name)).sum();
                for name in candidates {
                    self.due[*name] += share(*name) / sum;
                }
            }
        }
    }

    /// Whether shares were what they had to be while nothing changed. Five standard deviations of a random draw.
    fn check_shares(&mut self) {
        let total: f64 = self.due.iter().sum();
        for (name, (picked, due)) in self.picked.iter().zip(&self.due).enumerate() {
            let deviation = (due * (1.0 - due / total.max(1.0))).max(0.0).sqrt();
            let off = (*picked as f64 - due).abs();
            assert!(off <= 5.0 * deviation + 3.0, "{:?} {name}: {picked} instead of {due}: {:?}", self.algorithm, self);
        }
        self.checked += 1;
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "border {}, up {:?}", self.border, self.up)?;
        self.members().iter().try_for_each(|fake| writeln!(f, "{fake:?}"))
    }
}

fn run(algorithm: Algorithm, by_share: bool) {
    let mut world = World::new(algorithm, 0x5eed + algorithm as u64);
    let mut candidates = world.candidates();
    for _ in 0..STEPS {
        match world.dice.index(2_000) {
            0 => {
                if by_share {
                    world.check_shares();
                }
                world.change_set();
                candidates = world.candidates();
            }
            1..=3 => {
                if by_share {
                    world.check_shares();
                }
                world.change_some();
                candidates = world.candidates();
            }
            _ => world.pick(&candidates),
        }
    }
    assert!(!by_share || world.checked > 500);
}

#[test]
fn round_robin() {
    run(Algorithm::RoundRobin, true);
}

#[test]
fn random() {
    run(Algorithm::Random, true);
}

#[test]
fn consistent_hash() {
    run(Algorithm::ConsistentHash, true);
}

#[test]
fn least_request() {
    run(Algorithm::LeastRequest, false);
}

#[test]
fn peak_ewma() {
    run(Algorithm::PeakEwma, false);
}

/// Requests come and go: nobody gets more work than the balance of its weight allows.
#[test]
fn least_request_keeps_the_work_balanced() {
    let weights = [1, 2, 4, 4];
    let (turns, mut dice) = (Turns::default(), Dice::new(7));
    let mut plan = Plan::new(Algorithm::LeastRequest, Fake::all(&weights), Vec::new());
    let mut at_work = Vec::new();
    for step in 0..200_000_u64 {
        if step >= 440 {
            let done: usize = at_work.swap_remove(dice.index(at_work.len()));
            plan.members[done].in_flight -= 1;
        }
        let picked = super::testing::pick(&plan, &turns, None, |_| true).unwrap();
        plan.members[picked].in_flight += 1;
        at_work.push(picked);
        if step > 1_000 {
            for fake in plan.members.iter() {
                let due = 440.0 * f64::from(fake.weight) / 11.0;
                let off = (fake.in_flight as f64 - due).abs() / due;
                assert!(off < 0.5, "step {step}: {:?}", plan.members);
            }
        }
    }
    assert_eq!(plan.members.iter().map(|fake| fake.permille).max(), Some(WHOLE));
}
