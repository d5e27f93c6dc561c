//! Replicas, clients and a shared bucket on a time line of their own: messages take time, answers get lost, replicas die.
//! Every step is one event, so every interleaving can come up; all is drawn from a seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::plan::Plan;
use super::{Asked, Leases, Paid, Payment, REFILL_PAUSE};
use crate::clock::Tick;
use crate::config::spec::Sharing;
use crate::limits::{Buckets, Check, Policy, PolicyOptions, Scope, Subject};
use crate::model::gcra::{self, Outcome, Quota};
use crate::store::limits_model::ModelBucketStore;
use crate::store::{Charge, Found};

/// When a replica no longer waits for an answer.
const PATIENCE: u64 = 25_000;
const START: u64 = 5_000_000_000;
const BUCKET: &str = "bucket";

/// What came of a run, in tokens where nothing else is said.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// By time.
    pub(super) admitted: Vec<(u64, u32)>,
    /// Of these, paid from leases.
    pub(super) leased: u64,
    /// Requests.
    pub(super) refused: u64,
    pub(super) calls: u64,
    /// Charged, and no replica heard of it; and those of replicas that died.
    pub(super) lost: u64,
    /// Taken ahead.
    pub(super) ahead: u64,
    /// The most that a replica lost when it died.
    pub(super) dearest_death: u64,
    pub(super) deaths: u64,
    /// In leases at the end.
    pub(super) outstanding: u64,
}

impl Outcomes {
    pub(super) fn tokens(&self) -> u64 {
        self.admitted.iter().map(|(_, cost)| u64::from(*cost)).sum()
    }

    /// Tokens that ended in leases of replicas that lived. Those lost with answers and deaths are not among them.
    pub(super) fn wasted(&self, lost_ahead: u64) -> u64 {
        self.ahead - lost_ahead - self.leased - self.outstanding
    }

    /// The first time at which more was admitted than the quota lets in some window that ends there. A token bucket
    /// holds exactly when every window does.
    pub(super) fn over(&mut self, quota: Quota) -> Option<u64> {
        self.admitted.sort_unstable();
        let mut tat = gcra::Tat::FULL;
        for (time, cost) in &self.admitted {
            match gcra::decide(tat, *time, quota, *cost).outcome {
                Outcome::Allowed(after) => tat = after,
                Outcome::Denied(_) => return Some(*time),
            }
        }
        None
    }
}

struct Replica {
    leases: Leases,
    /// Its clock is so far ahead of the true time.
    offset: u64,
    /// Counts its lives.
    life: u64,
    /// No call before this, by the true time.
    holds_off: u64,
    waits: BTreeMap<u64, Asked>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Request { replica: usize, next: bool },
    Refund { replica: usize, life: u64, cost: u32, paid: usize },
    Charged { replica: usize, life: u64, call: u64, cost: u32, ahead: u32 },
    Answered { replica: usize, life: u64, call: u64, at: u64, found: usize },
    GivesUp { replica: usize, life: u64, call: u64 },
    Dies,
    Storm,
}

/// A run.
pub(super) struct World {
    plan: Plan,
    rng: StdRng,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    counted: u64,
    redis: ModelBucketStore,
    policy: &'static Policy,
    replicas: Vec<Replica>,
    paid: Vec<(Paid, u64)>,
    found: Vec<Found>,
    pub(super) outcomes: Outcomes,
    pub(super) lost_ahead: u64,
}

impl World {
    pub(super) fn run(plan: Plan) -> World {
        let mut rng = StdRng::seed_from_u64(plan.seed ^ 0x5eed);
        let replica = |offset| Replica { leases: Leases::new(), offset, life: 0, holds_off: 0, waits: BTreeMap::new() };
        let replicas = (0..plan.replicas).map(|_| replica(rng.random_range(0..1_000_000_000))).collect();
        let options = PolicyOptions { sharing: Sharing::Lease, ..PolicyOptions::default() };
        let policy = Policy::new("p", Scope::AllRoutes, options, &Buckets::new(1));
        let mut world = World {
            policy: Box::leak(Box::new(policy)), // small, once per run, and checks can borrow it beside the rest
            rng,
            now: START,
            events: BinaryHeap::new(),
            counted: 0,
            redis: ModelBucketStore::new(START),
            replicas,
            paid: Vec::new(),
            found: Vec::new(),
            outcomes: Outcomes::default(),
            lost_ahead: 0,
            plan,
        };
        for replica in 0..world.plan.replicas {
            world.next_request(replica);
        }
        world.next_death();
        world.next_storm();
        world.go();
        world
    }

    fn go(&mut self) {
        let end = START + self.plan.lasts;
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            if time > end {
                break;
            }
            self.now = time;
            self.step(event);
        }
        self.now = end;
        // What is under way at the end is nobody's.
        let unheard: Vec<_> = self.events.drain().collect();
        for Reverse((_, _, event)) in unheard {
            if let Event::Answered { found, .. } = event {
                self.lost_ahead += u64::from(self.found[found].ahead);
            }
        }
        self.outcomes.outstanding =
            self.replicas.iter().map(|replica| replica.leases.sweep(Tick(end + replica.offset))).sum();
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Request { replica, next } => {
                self.request(replica);
                if next {
                    self.next_request(replica);
                }
            }
            Event::Storm => self.storm(),
            Event::Refund { replica, life, cost, paid } if self.replicas[replica].life == life => {
                let (paid, time) = self.paid[paid];
                let check = self.check(cost);
                self.replicas[replica].leases.refund(&check, &paid);
                self.outcomes.leased -= u64::from(cost);
                let at = self.outcomes.admitted.iter().rposition(|entry| *entry == (time, cost)).unwrap();
                self.outcomes.admitted.swap_remove(at);
            }
            Event::Charged { replica, life, call, cost, ahead } => self.charged(replica, life, call, (cost, ahead)),
            Event::Answered { replica, life, call, at, found } => self.answered(replica, life, (call, at), found),
            Event::GivesUp { replica, life, call } if self.replicas[replica].life == life => {
                if let Some(asked) = self.replicas[replica].waits.remove(&call) {
                    let check = self.check(asked.cost);
                    let now = self.local(replica);
                    self.replicas[replica].leases.missed(now, &check, asked);
                }
            }
            Event::Refund { .. } | Event::GivesUp { .. } => {}
            Event::Dies => {
                self.die();
                self.next_death();
            }
        }
    }

    fn request(&mut self, replica: usize) {
        let cost = self.rng.random_range(1..=self.plan.max_cost);
        let (now, check) = (self.local(replica), self.check(cost));
        match self.replicas[replica].leases.spend(now, &check, self.plan.believed) {
            Payment::Paid(paid) => {
                assert!(paid.decision.is_allowed());
                assert!(paid.decision.remaining <= self.plan.shared.holds());
                self.outcomes.leased += u64::from(cost);
                self.outcomes.admitted.push((self.now, cost));
                if self.rng.random_range(0..100) < self.plan.refunds {
                    self.paid.push((paid, self.now));
                    let (life, after) = (self.replicas[replica].life, self.rng.random_range(0..5_000));
                    self.after(after, Event::Refund { replica, life, cost, paid: self.paid.len() - 1 });
                }
                if paid.refill > 0 {
                    self.call(replica, Asked { sent: now, cost: 0, ahead: paid.refill });
                }
            }
            Payment::Ask(ahead) if self.now < self.replicas[replica].holds_off => {
                self.replicas[replica].leases.missed(now, &check, Asked { sent: now, cost, ahead });
                self.outcomes.refused += 1;
            }
            Payment::Ask(ahead) => self.call(replica, Asked { sent: now, cost, ahead }),
        }
    }

    fn call(&mut self, replica: usize, asked: Asked) {
        self.outcomes.calls += 1;
        let (call, life) = (self.outcomes.calls, self.replicas[replica].life);
        self.replicas[replica].waits.insert(call, asked);
        let way = self.way();
        self.after(way, Event::Charged { replica, life, call, cost: asked.cost, ahead: asked.ahead });
        self.after(PATIENCE, Event::GivesUp { replica, life, call });
    }

    fn charged(&mut self, replica: usize, life: u64, call: u64, (cost, ahead): (u32, u32)) {
        let quota = self.plan.shared;
        let charge = Charge { bucket: BUCKET.to_owned(), quota, cost, ahead, shadow: false };
        self.redis.set_time(self.now);
        let found = self.redis.charge_now(&[charge])[0];
        self.outcomes.ahead += u64::from(found.ahead);
        self.found.push(found);
        let way = self.way();
        let lost = self.plan.loses.is_some_and(|one_in| self.rng.random_range(0..one_in) == 0);
        let way = if lost { PATIENCE } else { way };
        self.after(way, Event::Answered { replica, life, call, at: self.now, found: self.found.len() - 1 });
    }

    fn answered(&mut self, replica: usize, life: u64, (call, at): (u64, u64), found: usize) {
        let found = self.found[found];
        let heard = if self.replicas[replica].life == life { self.replicas[replica].waits.remove(&call) } else { None };
        let Some(asked) = heard else {
            // The cost is lost too, but whether it was one is not known here.
            self.outcomes.lost += u64::from(found.ahead) + u64::from(self.plan.max_cost);
            self.lost_ahead += u64::from(found.ahead);
            return;
        };
        let asked = Asked { sent: asked.sent.after(self.plan.ends_late), ..asked };
        let (now, check) = (self.local(replica), self.check(asked.cost));
        match found.debt.decide(now.0, check.quota, asked.cost).outcome {
            Outcome::Allowed(_) => {
                self.replicas[replica].leases.took(now, &check, asked, &found);
                if asked.cost > 0 {
                    self.outcomes.admitted.push((at, asked.cost));
                }
            }
            Outcome::Denied(wait) => {
                self.replicas[replica].leases.missed(now, &check, asked);
                let wait = wait.max(REFILL_PAUSE).as_micros() as u64;
                self.replicas[replica].holds_off = self.now + wait;
                self.outcomes.refused += 1;
            }
        }
    }

    fn die(&mut self) {
        let replica = self.rng.random_range(0..self.plan.replicas);
        let now = self.local(replica);
        let dying = &mut self.replicas[replica];
        let lost = dying.leases.sweep(now);
        (dying.leases, dying.life, dying.holds_off) = (Leases::new(), dying.life + 1, 0);
        dying.waits.clear();
        self.outcomes.deaths += 1;
        self.outcomes.lost += lost;
        self.lost_ahead += lost;
        self.outcomes.dearest_death = self.outcomes.dearest_death.max(lost);
    }

    fn check(&self, cost: u32) -> Check<'static> {
        Check::single(self.policy, Subject::Everyone, self.plan.shared, cost)
    }

    fn local(&self, replica: usize) -> Tick {
        Tick(self.now + self.replicas[replica].offset)
    }

    fn next_request(&mut self, replica: usize) {
        let drawn: f64 = self.rng.random_range(0.0..1.0);
        let gap = (-(1.0 - drawn).ln() * self.plan.gap as f64) as u64;
        let at = self.now + gap;
        let asleep = (at % 1_000_000 >= self.plan.awake).then(|| 1_000_000 - at % 1_000_000);
        self.after(gap + asleep.unwrap_or(0), Event::Request { replica, next: true });
    }

    fn next_death(&mut self) {
        if let Some(mean) = self.plan.dies {
            let after = self.rng.random_range(0..2 * mean);
            self.after(after, Event::Dies);
        }
    }

    fn next_storm(&mut self) {
        if let Some(mean) = self.plan.storms {
            let after = self.rng.random_range(0..2 * mean);
            self.after(after, Event::Storm);
        }
    }

    /// One replica after the other is sent a little, so that each has tokens ahead; then all are sent all there is, twice.
    fn storm(&mut self) {
        let capacity = self.plan.quota.capacity();
        let pause = [2_000, 20_000, 400_000][self.rng.random_range(0..3)];
        let (mut at, a_little) = (0, 4 + capacity / [4, 20, 100][self.rng.random_range(0..3)]);
        for replica in 0..self.plan.replicas {
            for _ in 0..a_little {
                let within = self.rng.random_range(0..2_000);
                self.after(at + within, Event::Request { replica, next: false });
            }
            at += pause;
        }
        at += self.rng.random_range(0..190_000);
        for _ in 0..2 * capacity {
            let (within, replica) = (self.rng.random_range(0..2_000), self.rng.random_range(0..self.plan.replicas));
            self.after(at + within, Event::Request { replica, next: false });
        }
        self.next_storm();
    }

    fn way(&mut self) -> u64 {
        let way = self.rng.random_range(self.plan.way / 10..=self.plan.way);
        if self.rng.random_range(0..100) == 0 { 20 * way } else { way }
    }

    fn after(&mut self, by: u64, event: Event) {
        self.counted += 1;
        self.events.push(Reverse((self.now + by, self.counted, event)));
    }
}
