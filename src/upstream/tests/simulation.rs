//! Circuits, cap, gate and panic together, over millions of random steps from a fixed seed, held to what must always
//! be true. No clock, no network: time is a number that only grows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::config::spec::PanicSpec;
use crate::model::breaker::{Admission, Outcome, Policy, Report, most_open};
use crate::model::health::Circuit as State;
use crate::upstream::ejection::Ejections;
use crate::upstream::gate::{Candidate, Passage, Tier};
use crate::upstream::memory::TargetMemory;

/// Steps of one run of the test. `SIMULATION_STEPS=100000000` in the environment of the test run makes it longer.
const STEPS: u64 = 2_000_000;
/// Steps of one pool before it is replaced by another one with another policy.
const STEPS_PER_POOL: u64 = 2_000;
const SEED: u64 = 0x5eed_2026;

/// One target of the pool: its circuit, what the checks say, whether it works, and what it was asked.
struct Simulated {
    memory: Arc<TargetMemory>,
    tier: Tier,
    healthy: bool,
    draining: bool,
    works: u32,
    /// Requests that it has not answered yet: how and when they were let through, after how many openings.
    pending: VecDeque<(Admission, Tick, u64)>,
    /// Its latest state, kept by the changes that it told of.
    told: State,
    opened: Tick,
    openings: u64,
}

/// SplitMix64 (Steele, Lea and Flood, 2014): quick in a debug build, and the same for ever.
struct Random(u64);

impl Random {
    /// One of `range`, its end excluded.
    fn among(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + (mixed ^ (mixed >> 31)) % (range.end - range.start)
    }

    fn small(&mut self, range: std::ops::Range<u64>) -> u32 {
        u32::try_from(self.among(range)).unwrap()
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.among(0..len as u64)).unwrap()
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.among(range))
    }

    /// True in so many of a hundred cases.
    fn in_hundred(&mut self, percent: u64) -> bool {
        self.among(0..100) < percent
    }
}

struct World {
    random: Random,
    now: Tick,
    policy: Policy,
    percent: u32,
    panic: PanicSpec,
    ejections: Ejections,
    targets: Vec<Simulated>,
    /// What happened at all, so that an idle simulation is no success.
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    opened: u64,
    closed: u64,
    denied: u64,
    forced: u64,
    refused: u64,
    takeovers: u64,
    stale: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            random: Random(seed),
            now: Tick(86_400_000_000),
            policy: Policy {
                failures: 1,
                success_percent: 0,
                min_requests: 1,
                window: Duration::from_secs(1),
                open_for: Duration::from_secs(1),
                longest_open: Duration::from_secs(1),
                close_after: 1,
                probe_lease: Duration::from_secs(1),
            },
            percent: 50,
            panic: PanicSpec::RouteAll,
            ejections: Ejections::default(),
            targets: Vec::new(),
            seen: Seen::default(),
        };
        world.replace();
        world
    }

    /// Another pool of 1 to 8 targets under another policy.
    fn replace(&mut self) {
        let random = &mut self.random;
        self.policy = Policy {
            failures: random.small(1..7),
            success_percent: if random.in_hundred(30) { 0 } else { random.small(1..101) },
            min_requests: random.small(1..31),
            window: random.millis(1..20_000),
            open_for: random.millis(1..60_000),
            longest_open: random.millis(1..300_000),
            close_after: random.small(1..5),
            probe_lease: random.millis(1..10_000),
        };
        self.percent = random.small(1..101);
        self.panic = if random.in_hundred(50) { PanicSpec::RouteAll } else { PanicSpec::FailFast };
        let now = self.now;
        self.targets = (0..random.among(1..9))
            .map(|_| Simulated {
                memory: TargetMemory::new(now),
                tier: if random.in_hundred(20) { Tier::Backup } else { Tier::Primary },
                healthy: true,
                draining: random.in_hundred(5),
                works: random.small(0..101),
                pending: VecDeque::new(),
                told: State::Closed,
                opened: now,
                openings: 0,
            })
            .collect();
        self.ejections = Ejections::new(self.percent, Arc::default());
        self.ejections.over(self.targets.iter().map(|target| target.memory.clone()).collect());
    }

    fn step(&mut self) {
        let pause = match self.random.among(0..100) {
            0..80 => self.random.millis(0..50),
            80..99 => self.random.millis(0..2_000),
            _ => self.random.millis(0..120_000),
        };
        self.now = self.now.after(pause);
        let chosen = self.random.index(self.targets.len());
        match self.random.among(0..100) {
            0..45 => self.request(),
            45..90 => self.answer(chosen),
            90..93 => self.targets[chosen].healthy ^= true,
            93..96 => self.targets[chosen].works = self.random.small(0..101),
            _ => self.check(chosen),
        }
        self.invariants();
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |target: &Simulated| {
            let permits = target.memory.circuit.permits(&self.policy, self.now);
            let available = !target.draining && target.healthy && permits;
            Candidate { tier: target.tier, counts: !target.draining, available }
        };
        self.targets.iter().map(candidate).collect()
    }

    fn request(&mut self) {
        let candidates = self.candidates();
        let passage = Passage::of(candidates.iter().copied(), self.panic);
        let (tier, panic) = match passage {
            Passage::Gate(tier) => (tier, false),
            Passage::Everyone(tier) => (tier, true),
            Passage::Nowhere { .. } => {
                self.seen.refused += 1;
                return;
            }
        };
        assert!(!panic || (self.panic == PanicSpec::RouteAll && self.targets.len() > 1), "a panic of one target");
        let fits: Vec<usize> = (0..candidates.len())
            .filter(|n| candidates[*n].tier == tier && candidates[*n].counts)
            .filter(|n| panic || candidates[*n].available)
            .collect();
        assert!(!fits.is_empty(), "{passage:?} leads nowhere");
        let chosen = fits[self.random.index(fits.len())];
        let was = self.targets[chosen].memory.circuit.state(&self.policy, self.now);
        let (admission, change) = self.targets[chosen].memory.circuit.admit(&self.policy, self.now);
        admission.iter().for_each(|admission| self.targets[chosen].memory.circuit.sent(*admission, self.now));
        assert!(panic || admission.is_some(), "available, and not let through");
        if was == State::Closed {
            assert!(matches!(admission, Some(Admission::Normal(_))), "a closed circuit lets everything through");
        }
        self.told(chosen, change);
        self.seen.forced += u64::from(admission.is_none());
        let admission = admission.unwrap_or(Admission::Forced);
        let target = &mut self.targets[chosen];
        let is_probe = matches!(admission, Admission::Probe(_));
        if is_probe {
            assert!(self.now.since(target.opened) >= self.policy.open_for, "a probe before its time");
            let earlier = target.pending.iter().any(|(pending, ..)| matches!(pending, Admission::Probe(_)));
            self.seen.takeovers += u64::from(earlier);
        }
        target.pending.push_back((admission, self.now, target.openings));
        if target.pending.len() > 16 {
            self.answer(chosen);
        }
    }

    /// The oldest or the newest request of a target ends, one way or another.
    fn answer(&mut self, chosen: usize) {
        let target = &mut self.targets[chosen];
        let ended = if self.random.in_hundred(70) { target.pending.pop_front() } else { target.pending.pop_back() };
        let Some((admission, _, openings)) = ended else { return };
        let draw = self.random.small(0..100);
        if draw >= 98 {
            target.memory.circuit.release(admission);
            return;
        }
        let outcome = match draw {
            _ if draw < target.works => Outcome::Success,
            _ if draw.is_multiple_of(5) => Outcome::Throttled,
            _ => Outcome::Failure,
        };
        let hint = self.random.in_hundred(10);
        let retry_after = hint.then(|| self.random.millis(0..600_000));
        let report = Report { admission, outcome, retry_after };
        let before = target.memory.circuit.failures();
        let jitter = self.random.small(0..101);
        let (circuit, was) = (&target.memory.circuit, target.told);
        let change = circuit.report(&report, &self.policy, &self.ejections, self.now, jitter);
        let counted = u64::from(outcome == Outcome::Failure && admission != Admission::Forced);
        assert_eq!(target.memory.circuit.failures() - before, counted);
        let is_stale = match admission {
            Admission::Normal(_) => was != State::Closed || openings != target.openings,
            Admission::Probe(_) => was != State::HalfOpen || openings != target.openings,
            Admission::Forced => true,
        };
        if is_stale {
            self.seen.stale += 1;
            assert_eq!(change, None, "an outcome from before changed the circuit");
        }
        if outcome == Outcome::Success {
            assert_ne!(change, Some(State::Open), "a success opened the circuit");
        }
        let longest = self.policy.longest_open.max(self.policy.open_for);
        if let Some(wait) = self.targets[chosen].memory.circuit.wait(&self.policy, self.now) {
            assert!(wait <= longest + longest / 10, "open for {wait:?}");
        }
        if change.is_none() && was == State::Closed && outcome == Outcome::Failure {
            let out = self.out();
            self.seen.denied += u64::from(out >= most_open(self.targets.len(), self.percent));
        }
        self.told(chosen, change);
    }

    fn check(&mut self, chosen: usize) {
        if self.targets[chosen].healthy && self.random.in_hundred(20) {
            let change = self.targets[chosen].memory.circuit.check_passed(&self.policy, self.now);
            assert_ne!(change, Some(State::Open));
            self.told(chosen, change);
        }
    }

    fn told(&mut self, chosen: usize, change: Option<State>) {
        let (target, Some(state)) = (&mut self.targets[chosen], change) else { return };
        assert_ne!(state, target.told, "told of a change that is none");
        if state == State::Open {
            target.opened = self.now;
            target.openings += 1;
            self.seen.opened += 1;
        }
        self.seen.closed += u64::from(state == State::Closed);
        target.told = state;
    }

    fn out(&self) -> usize {
        self.targets.iter().filter(|target| !target.memory.circuit.is_closed()).count()
    }

    /// The cap holds for the pool, and the rest for one target at a time, of which each step draws another.
    fn invariants(&mut self) {
        assert!(self.out() <= most_open(self.targets.len(), self.percent), "more circuits open than may be");
        let drawn = self.random.index(self.targets.len());
        let target = &self.targets[drawn];
        let circuit = &target.memory.circuit;
        let state = circuit.state(&self.policy, self.now);
        assert_eq!(circuit.is_closed(), target.told == State::Closed);
        assert!(state == target.told || (state, target.told) == (State::HalfOpen, State::Open));
        let wait = circuit.wait(&self.policy, self.now);
        assert_eq!(circuit.permits(&self.policy, self.now), wait.is_none());
        match state {
            State::Closed => assert_eq!(wait, None),
            State::HalfOpen => assert!(wait.is_none_or(|wait| wait.is_zero())),
            State::Open => assert!(wait.is_some_and(|wait| !wait.is_zero())),
        }
        let live = |(admission, taken, openings): &&(Admission, Tick, u64)| {
            let holds = *openings == target.openings && self.now.since(*taken) < self.policy.probe_lease;
            matches!(admission, Admission::Probe(_)) && holds
        };
        assert!(target.pending.iter().filter(live).count() <= 1, "two live probe requests");
        // Whoever holds what, time alone makes it probeable again.
        let longest = self.policy.longest_open.max(self.policy.open_for);
        let later = self.now.after((longest * 11 / 10).max(self.policy.probe_lease));
        assert!(circuit.permits(&self.policy, later), "never to be tried again");
    }
}

#[expect(clippy::disallowed_methods, reason = "a knob of the test, not of the program")]
fn steps() -> u64 {
    std::env::var("SIMULATION_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(STEPS)
}

#[test]
fn whatever_happens_the_invariants_hold() {
    let mut world = World::new(SEED);
    for step in 1..=steps() {
        if step % STEPS_PER_POOL == 0 {
            world.replace();
        }
        world.step();
    }
    let Seen { opened, closed, denied, forced, refused, takeovers, stale } = world.seen;
    for (what, count) in [
        ("circuits opened", opened),
        ("circuits closed", closed),
        ("openings denied by the cap", denied),
        ("requests forced through", forced),
        ("requests refused", refused),
        ("probe places taken over", takeovers),
        ("outcomes from before", stale),
    ] {
        println!("{what}: {count}");
        assert!(count > steps() / 10_000, "{what}: only {count}, the simulation shows too little");
    }
}

#[test]
fn many_threads_that_trip_at_once_stay_below_the_cap() {
    let policy = Policy { failures: 1, open_for: Duration::from_secs(60), ..World::new(SEED).policy };
    let now = Tick(1);
    for round in 0..300_u64 {
        let targets: Vec<_> = (0..8).map(|_| TargetMemory::new(now)).collect();
        let ejections = Ejections::new(50, Arc::default());
        ejections.over(targets.clone());
        std::thread::scope(|scope| {
            for target in &targets {
                let ejections = &ejections;
                scope.spawn(move || {
                    let admission = target.circuit.admit(&policy, now).0.unwrap();
                    let report = Report { admission, outcome: Outcome::Failure, retry_after: None };
                    target.circuit.report(&report, &policy, ejections, now, 0);
                });
            }
        });
        let open = targets.iter().filter(|target| !target.circuit.is_closed()).count();
        assert_eq!(open, 4, "round {round}");
    }
}
