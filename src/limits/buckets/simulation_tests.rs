//! Simulations of the whole table against a naive model: exact rational arithmetic, one bucket at a time, nothing packed,
//! nothing forgotten.

use std::collections::HashMap;
use std::sync::Mutex as StdMutex;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::Policy;
use crate::model::gcra::Quota;
use crate::model::identity::UserId;
use crate::model::units::Rate;

/// A rate and a burst: so many tokens in so many microseconds, and so many on top.
#[derive(Debug, Clone, Copy)]
struct Size {
    limit: u32,
    period_micros: u64,
    burst: u32,
}

impl Size {
    fn quota(self) -> Quota {
        Quota::new(Rate { limit: self.limit, period: Duration::from_micros(self.period_micros) }, self.burst)
    }

    fn capacity(self) -> u128 {
        u128::from(self.limit) + u128::from(self.burst)
    }
}

/// A bucket as a textbook has it: tokens, counted in units of 1/period so that every sum is exact.
#[derive(Debug, Clone, Copy)]
struct Naive {
    size: Size,
    units: u128,
    at: u64,
}

impl Naive {
    fn full(size: Size) -> Naive {
        Naive { size, units: size.capacity() * u128::from(size.period_micros), at: 0 }
    }

    /// Time goes on, or stands still; it never steps back.
    fn advance(&mut self, now: u64) {
        let passed = u128::from(now.saturating_sub(self.at));
        self.at = self.at.max(now);
        let full = self.size.capacity() * u128::from(self.size.period_micros);
        self.units = (self.units + passed * u128::from(self.size.limit)).min(full);
    }

    fn holds(&self, tokens: u32) -> bool {
        self.units >= u128::from(tokens) * u128::from(self.size.period_micros)
    }

    fn take(&mut self, tokens: u32) {
        self.units -= u128::from(tokens) * u128::from(self.size.period_micros);
    }
}

fn sizes() -> impl Strategy<Value = Size> {
    let periods = prop::sample::select(vec![1_000_000_u64, 60_000_000, 3_600_000_000, 86_400_000_000]);
    (prop_oneof![1_u32..20, 1_u32..2_000], periods, prop_oneof![Just(0_u32), 0_u32..50])
        .prop_map(|(limit, period_micros, burst)| Size { limit, period_micros, burst })
}

/// One request of a simulation.
#[derive(Debug, Clone)]
struct Asked {
    /// By how much the clock moves before, in microseconds; it may step back.
    step: i64,
    /// Where the request before was refused, the clock moves to so long after the moment at which it could pass.
    edge: Option<i64>,
    /// Which policies apply, a bit for each.
    policies: u8,
    user: i64,
    address: u32,
    cost: u32,
}

fn requests(most: usize) -> impl Strategy<Value = Vec<Asked>> {
    let steps = prop_oneof![
        4 => Just(0_i64),
        4 => 1_i64..200_000,
        2 => 1_i64..90_000_000,
        1 => 1_i64..4_000_000_000,
        1 => -90_000_000_i64..0,
    ];
    let cost = prop_oneof![6 => Just(1_u32), 2 => 0_u32..9, 1 => 0_u32..3_000];
    let edge = prop::option::of(-1_i64..1);
    let one = (steps, edge, 1_u8..8, 0_i64..4, 0_u32..3, cost)
        .prop_map(|(step, edge, policies, user, address, cost)| Asked { step, edge, policies, user, address, cost });
    prop::collection::vec(one, 1..most)
}

/// The policies 0 and 1 count users, the policy 2 addresses.
fn subject(policy: usize, asked: &Asked) -> Subject {
    if policy < 2 { Subject::User(UserId(asked.user)) } else { Subject::V4(asked.address) }
}

fn applies(policy: usize, asked: &Asked) -> bool {
    asked.policies & (1 << policy) != 0
}

/// Adds full buckets to every shard, so that each looks for room every few rounds, and whatever may be forgotten is.
fn evict_idle(buckets: &Buckets, now: Tick, round: u32) {
    let policy = Policy::alone("passers-by", buckets);
    let quota = Quota::new(Rate { limit: 1_000_000_000, period: Duration::from_secs(1) }, 0);
    for address in 0..600_u32 {
        let subject = Subject::V6(u64::from(round) << 32 | u64::from(address));
        buckets.decide_all(now, &[Check::single(&policy, subject, quota, 0)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// One caller: every verdict is the model's, so nothing is admitted beyond the bound and nothing withheld, whatever
    /// is forgotten in between. A clock that steps back stands still.
    #[test]
    fn every_verdict_is_that_of_the_naive_model(
        sizes in prop::array::uniform3(sizes()),
        requests in requests(200),
        evict_every in 5_usize..40,
    ) {
        let buckets = Buckets::new(SHARDS * 16);
        let policies = ["one", "two", "three"].map(|name| Policy::alone(name, &buckets));
        let mut model: HashMap<(usize, Subject), Naive> = HashMap::new();
        let (mut now, mut latest, mut wait) = (1_u64 << 40, 0, None);
        for (turn, asked) in requests.iter().enumerate() {
            now = match (wait, asked.edge) {
                (Some(wait), Some(edge)) => latest + u64::saturating_add_signed(wait, edge),
                _ => now.saturating_add_signed(asked.step),
            };
            latest = latest.max(now);
            if turn % evict_every == 0 {
                evict_idle(&buckets, Tick(latest), u32::try_from(turn).unwrap());
            }
            let applying: Vec<usize> = (0..3).filter(|policy| applies(*policy, asked)).collect();
            let check = |(index, policy): (usize, &usize)| Check {
                index,
                policy: &policies[*policy],
                subject: subject(*policy, asked),
                quota: sizes[*policy].quota(),
                cost: asked.cost,
            };
            let checks: Vec<_> = applying.iter().enumerate().map(check).collect();
            // Every shard has seen the latest time: the model has one clock only.
            for user in 0..4 {
                buckets.shards[buckets.shard_of(Subject::User(UserId(user)).into())].lock().advance(Tick(latest));
            }
            for address in 0..3 {
                buckets.shards[buckets.shard_of(Subject::V4(address).into())].lock().advance(Tick(latest));
            }
            let verdict = buckets.decide_all(Tick(now), &checks).unwrap();
            wait = match verdict.tightest.map(|tightest| tightest.decision.outcome) {
                Some(Outcome::Denied(wait)) => u64::try_from(wait.as_micros()).ok(),
                _ => None,
            };
            let mut expected = true;
            for policy in &applying {
                let naive = model
                    .entry((*policy, subject(*policy, asked)))
                    .or_insert_with(|| Naive::full(sizes[*policy]));
                naive.advance(latest);
                expected &= naive.holds(asked.cost);
            }
            prop_assert_eq!(verdict.is_allowed(), expected, "turn {}: {:?}", turn, asked);
            if expected {
                for policy in &applying {
                    model.get_mut(&(*policy, subject(*policy, asked))).unwrap().take(asked.cost);
                }
            }
        }
        prop_assert_eq!(buckets.evicted_early(), 0, "then the model would not hold");
    }

    /// Several callers at once, each with a clock of its own that steps back: in every window no bucket admits more than
    /// its capacity and what flows in, and at the end none lacks more than was taken from it.
    #[test]
    fn callers_on_several_threads_admit_no_more_than_capacity_and_rate(
        size in sizes(),
        callers in prop::collection::vec(requests(100), 2..4),
        evict_every in 5_usize..40,
    ) {
        let buckets = Buckets::new(SHARDS * 16);
        let policy = Policy::alone("one", &buckets);
        // A clock for all, which each reads late: callers bring times that others have passed.
        let clock = AtomicU64::new(1 << 40);
        let admitted: StdMutex<HashMap<i64, Vec<Take>>> = StdMutex::default();
        std::thread::scope(|scope| {
            for (caller, requests) in callers.iter().enumerate() {
                let (buckets, policy, clock, admitted) = (&buckets, &policy, &clock, &admitted);
                scope.spawn(move || {
                    for (turn, asked) in requests.iter().enumerate() {
                        let before = clock.fetch_add(asked.step.max(0).unsigned_abs(), Ordering::AcqRel);
                        let now = Tick(before.saturating_add_signed(asked.step.min(0)));
                        if turn % evict_every == 0 {
                            evict_idle(buckets, now, u32::try_from(caller << 16 | turn).unwrap());
                        }
                        let subject = Subject::User(UserId(asked.user));
                        let check = Check::single(policy, subject, size.quota(), asked.cost);
                        if buckets.decide_all(now, &[check]).unwrap().is_allowed() {
                            let after = clock.load(Ordering::Acquire);
                            let mut admitted = admitted.lock().unwrap();
                            admitted.entry(asked.user).or_default().push((now.0, after, asked.cost));
                        }
                    }
                });
            }
        });
        for (user, takes) in admitted.into_inner().unwrap() {
            bounded(size, &takes)?;
            let last = Tick(clock.load(Ordering::Acquire));
            let owes = buckets.peek(last, policy.scope_id, Subject::User(UserId(user)));
            let held = |(debt, quota): (Debt, Quota)| u128::from(debt.held(quota, u32::MAX));
            let left = owes.map_or(size.capacity(), held);
            let taken: u128 = takes.iter().map(|(_, _, cost)| u128::from(*cost)).sum();
            prop_assert!(left + taken + 1 > size.capacity(), "{} left, {} taken of {:?}", left, taken, size);
        }
    }
}

/// A request that passed: not before, not after, and what it cost.
type Take = (u64, u64, u32);

/// In each window of real time the takes that lie in it whole are at most the capacity and what flows in.
fn bounded(size: Size, takes: &[Take]) -> Result<(), TestCaseError> {
    for (start, _, _) in takes {
        for (_, end, _) in takes {
            let inside = takes.iter().filter(|(from, to, _)| from >= start && to <= end);
            let taken: u128 = inside.map(|(_, _, cost)| u128::from(*cost)).sum();
            let flowed = u128::from(end.saturating_sub(*start)) * u128::from(size.limit);
            let most = size.capacity() * u128::from(size.period_micros) + flowed;
            prop_assert!(taken * u128::from(size.period_micros) <= most, "{} in {} µs", taken, end - start);
        }
    }
    Ok(())
}
