//! Tests of leases: the simulation, and single steps.

use std::time::Duration;

use super::plan::{Plan, quota};
use super::simulation::{Outcomes, World};
use super::{Asked, Leases, MAX_PER_SHARD, Paid, Payment, REFILL_PAUSE, SHARDS};
use crate::clock::Tick;
use crate::config::spec::Sharing;
use crate::limits::{Buckets, Check, Policy, PolicyOptions, Scope, Subject};
use crate::model::gcra::Debt;
use crate::model::lease::{self, LEASE};
use crate::store::limits_model::ModelBucketStore;
use crate::store::{Charge, Found};

/// Runs a plan; what came of it, the tokens that ended unspent.
fn run(plan: &Plan) -> (Outcomes, u64) {
    let world = World::run(plan.clone());
    let wasted = world.outcomes.wasted(world.lost_ahead);
    (world.outcomes, wasted)
}

#[test]
fn no_window_ever_admits_more_than_the_quota() {
    let (mut admitted, mut leased) = (0, 0);
    for seed in 0..150 {
        let plan = Plan::drawn(seed);
        let (mut outcomes, wasted) = run(&plan);
        assert_eq!(outcomes.over(plan.quota), None, "{plan:?}");
        // Given back by requests that were refused after all, tokens come on top of those taken meanwhile.
        let most = u64::from(lease::most_ahead(plan.shared, plan.believed)) * if plan.refunds > 0 { 2 } else { 1 };
        assert!(outcomes.dearest_death <= most, "{} of {most}: {plan:?}", outcomes.dearest_death);
        assert!(wasted <= outcomes.tokens(), "{wasted} of {}: {plan:?}", outcomes.tokens());
        admitted += outcomes.tokens();
        leased += outcomes.leased;
    }
    assert!(leased * 2 > admitted, "{leased} of {admitted} were leased: the runs say little about leases");
}

/// The simulation sees what it must: without tokens held back, or with leases that end late, windows admit too much.
#[test]
fn the_simulation_notices_what_leases_must_not_do() {
    let too_much = |change: fn(&mut Plan)| {
        (0..50).map(Plan::hard).any(|mut plan| {
            change(&mut plan);
            run(&plan).0.over(plan.quota).is_some()
        })
    };
    assert!(!too_much(|_| ()));
    assert!(too_much(|plan| plan.shared = plan.quota.holding_back(Duration::from_micros(1))));
    assert!(too_much(|plan| plan.ends_late = 1_000 * LEASE));
}

/// Some tokens are in leases, some gather in the shared bucket; some died with replicas and lost answers. All others that
/// flow in are admitted.
#[test]
fn under_constant_pressure_little_is_withheld() {
    for seed in 0..40 {
        let drawn = Plan::drawn(seed);
        let (limit, way) = (drawn.quota.limit().min(5_000), drawn.way.min(1_000));
        let quota = quota(limit, 1, drawn.quota.burst().min(limit));
        let gap = (drawn.replicas as f64 * 1e6 / (f64::from(limit) * 4.0)) as u64;
        let shared = lease::reduced(quota);
        let plan = Plan { quota, shared, gap, awake: 1_000_000, way, refunds: 0, storms: None, ..drawn };
        let (outcomes, wasted) = run(&plan);
        let owed = plan.shared.holds() + plan.quota.flow(Duration::from_micros(plan.lasts));
        let gathers = plan.quota.flow(REFILL_PAUSE + Duration::from_millis(25) + Duration::from_micros(gap));
        let per_replica = lease::most_ahead(plan.shared, plan.believed) + plan.max_cost;
        let withheld = gathers + per_replica as u64 * plan.replicas as u64 + outcomes.lost;
        let admitted = outcomes.tokens();
        assert!(admitted + withheld >= owed, "{admitted} + {withheld} of {owed}, {wasted} unspent: {plan:?}");
    }
}

#[test]
fn who_stays_at_half_the_rate_is_never_refused() {
    for seed in 0..100 {
        let drawn = Plan::drawn(seed);
        let rate = f64::from(drawn.quota.limit()) / drawn.quota.period().as_secs_f64();
        let gap = (drawn.replicas as f64 * 1e6 / (rate * 0.5)) as u64;
        let way = drawn.way.min(1_000);
        let quiet = Plan {
            gap,
            awake: 1_000_000,
            max_cost: 1,
            refunds: 0,
            loses: None,
            dies: None,
            storms: None,
            way,
            ..drawn
        };
        let (outcomes, _) = run(&quiet);
        assert_eq!(outcomes.refused, 0, "{quiet:?}");
    }
}

/// A bucket of 1000 per second, and the leases of one replica that is alone.
struct Alone {
    leases: Leases,
    redis: ModelBucketStore,
    policy: Policy,
    now: Tick,
}

impl Alone {
    fn new() -> Alone {
        let options = PolicyOptions { sharing: Sharing::Lease, ..PolicyOptions::default() };
        let policy = Policy::new("p", Scope::AllRoutes, options, &Buckets::new(1));
        let alone = Alone { leases: Leases::new(), redis: ModelBucketStore::new(1), policy, now: Tick(86_400_000_000) };
        assert_eq!(alone.spend(1), Payment::Ask(0), "nothing is known yet");
        alone
    }

    fn check(&self, user: u32, cost: u32) -> Check<'_> {
        let quota = lease::reduced(quota(1_000, 1, 0));
        Check::single(&self.policy, Subject::V4(user), quota, cost)
    }

    fn spend(&self, cost: u32) -> Payment {
        self.leases.spend(self.now, &self.check(1, cost), 1)
    }

    /// Asks the shared bucket as [`Leases::spend`] told; says how many tokens came ahead.
    fn ask(&self, cost: u32, ahead: u32) -> u32 {
        let (check, asked) = (self.check(1, cost), Asked { sent: self.now, cost, ahead });
        let charge = Charge { bucket: "b".to_owned(), quota: check.quota, cost, ahead, shadow: false };
        let found = self.redis.charge_now(&[charge])[0];
        self.leases.took(self.now, &check, asked, &found);
        found.ahead
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now.after(by);
        self.redis.advance(by);
    }

    fn paid(&self, cost: u32) -> Option<Paid> {
        match self.spend(cost) {
            Payment::Paid(paid) => Some(paid),
            Payment::Ask(_) => None,
        }
    }
}

#[test]
fn as_many_are_taken_ahead_as_half_of_what_was_spent_lately() {
    let mut alone = Alone::new();
    for (spent, ahead) in [(0, 0), (1, 0), (2, 0), (3, 0), (4, 2)] {
        assert_eq!(alone.spend(1), Payment::Ask(ahead), "{spent}");
        assert_eq!(alone.ask(1, ahead), ahead);
    }
    assert!(alone.paid(1).is_some_and(|paid| paid.refill == 0), "one is left of three");
    assert!(alone.paid(1).is_some_and(|paid| paid.refill == 3), "none is left, seven were spent");
    assert_eq!(alone.spend(1), Payment::Ask(0), "one call at a time takes tokens ahead");
    assert_eq!(alone.ask(0, 3), 3);
    assert!(alone.paid(4).is_none(), "three are there");
    alone.advance(LEASE - Duration::from_micros(1));
    let last = alone.paid(1).unwrap();
    alone.advance(Duration::from_micros(1));
    assert!(alone.paid(1).is_none(), "the lease is over");
    alone.leases.refund(&alone.check(1, 1), &last);
    assert!(alone.paid(1).is_none(), "what comes back does not live longer");
    assert_eq!(alone.leases.sweep(alone.now), 0);
}

#[test]
fn who_asked_and_heard_nothing_asks_again() {
    let mut alone = Alone::new();
    alone.ask(10, 0);
    assert_eq!(alone.spend(1), Payment::Ask(5));
    assert_eq!(alone.spend(1), Payment::Ask(0));
    alone.advance(LEASE);
    assert_eq!(alone.spend(1), Payment::Ask(5), "a call that long ago is lost");
    alone.leases.missed(alone.now, &alone.check(1, 1), Asked { sent: alone.now, cost: 1, ahead: 5 });
    assert_eq!(alone.spend(1), Payment::Ask(5));
}

#[test]
fn clients_are_told_what_is_in_the_shared_bucket_and_here() {
    let mut alone = Alone::new();
    alone.ask(100, 50);
    let paid = alone.paid(1).unwrap();
    assert_eq!((paid.decision.remaining, paid.decision.reset_after), (699, Duration::from_millis(101)));
    alone.advance(Duration::from_millis(90));
    assert_eq!(alone.paid(9).unwrap().decision.remaining, 780, "800, less the 20 that have not flowed in again");
    let paid = alone.paid(10).unwrap();
    assert_eq!(paid.decision.remaining, 770);
    alone.leases.refund(&alone.check(1, 10), &paid);
    assert_eq!(alone.paid(10).unwrap().decision.remaining, 770);
}

#[test]
fn tokens_are_spent_under_the_quota_that_they_were_taken_under() {
    let alone = Alone::new();
    alone.ask(100, 50);
    let other = Check { quota: lease::reduced(quota(2_000, 1, 0)), ..alone.check(1, 1) };
    assert_eq!(alone.leases.spend(alone.now, &other, 1), Payment::Ask(0));
    assert!(alone.paid(1).is_some());
    let now = alone.now.after(3 * LEASE);
    let asked = Asked { sent: now, cost: 8, ahead: 0 };
    assert_eq!(alone.leases.spend(now, &other, 1), Payment::Ask(0));
    alone.leases.took(now, &other, asked, &Found { debt: Debt::NONE, ahead: 0 });
    assert_eq!(alone.leases.spend(now, &other, 1), Payment::Ask(4));
    let exact = Check { quota: quota(1_000, 1, 0), ..other };
    assert_eq!(alone.leases.spend(now, &exact, 1), Payment::Ask(0), "nothing is held back: no leases");
}

#[test]
fn the_table_is_bounded_and_forgets() {
    let alone = Alone::new();
    let most = (SHARDS * MAX_PER_SHARD) as u32;
    for user in 0..2 * most {
        assert_eq!(alone.leases.spend(alone.now, &alone.check(user, 1), 1), Payment::Ask(0));
        let asked = Asked { sent: alone.now, cost: 10, ahead: 5 };
        alone.leases.took(alone.now, &alone.check(user, 10), asked, &Found { debt: Debt::NONE, ahead: 5 });
    }
    let tokens = alone.leases.sweep(alone.now);
    assert!(tokens <= u64::from(5 * most) && tokens > u64::from(4 * most), "{tokens}");
    assert_eq!(alone.leases.sweep(alone.now.after(3 * LEASE)), 0);
    assert!(alone.leases.shards.iter().all(|shard| shard.lock().is_empty()));
}
