//! The line against a world of targets with limits, closed gates, and waiters that come, leave, and are slow to
//! react: nobody passes, nothing is taken beyond a limit, no wake-up is lost.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Whether the waiter was told, and did not look since.
#[derive(Debug, Clone, Default)]
struct Bell(Rc<Cell<bool>>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.set(true);
    }
}

#[derive(Debug, Default, Clone)]
struct Target {
    limit: u32,
    in_flight: u32,
    open: bool,
}

#[derive(Default)]
struct World {
    targets: Vec<Target>,
    pool_limit: u32,
    held: u32,
}

impl World {
    fn look(&mut self) -> Look<usize, ()> {
        let usable = |target: &Target| target.open && target.in_flight < target.limit;
        if self.held < self.pool_limit
            && let Some(index) = self.targets.iter().position(usable)
        {
            self.targets[index].in_flight += 1;
            self.held += 1;
            assert!(self.held <= self.pool_limit && self.targets[index].in_flight <= self.targets[index].limit);
            return Look::Taken(index);
        }
        if self.targets.iter().any(|target| target.open) { Look::Full } else { Look::Refused(()) }
    }

    /// Whether the first waiter would get an answer if it looked now.
    fn has_news(&self) -> bool {
        let room = |target: &Target| target.open && target.in_flight < target.limit;
        let free = self.held < self.pool_limit && self.targets.iter().any(room);
        free || !self.targets.iter().any(|target| target.open)
    }
}

struct Simulation {
    world: World,
    line: Line<Bell>,
    waiting: VecDeque<(Ticket, Bell)>,
    running: Vec<usize>,
    last_served: Option<Ticket>,
    longest: usize,
    rng: StdRng,
    served_after_a_wait: u64,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut rng = StdRng::seed_from_u64(seed);
        let target = |rng: &mut StdRng| Target { limit: rng.random_range(1..4), in_flight: 0, open: true };
        let targets = (0..rng.random_range(1..5)).map(|_| target(&mut rng)).collect();
        let world = World { targets, pool_limit: rng.random_range(1..8), held: 0 };
        Simulation {
            world,
            line: Line::default(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            last_served: None,
            longest: rng.random_range(0..12),
            rng,
            served_after_a_wait: 0,
        }
    }

    fn arrive(&mut self) {
        let (bell, nobody, length) = (Bell::default(), self.line.is_empty(), self.line.len());
        match self.line.arrive(self.longest, || self.world.look(), || bell.clone()) {
            Arrival::Decided(Ok(place)) => {
                assert!(nobody, "passed a waiter");
                self.running.push(place);
            }
            Arrival::Decided(Err(())) => assert!(nobody, "refused before its turn"),
            Arrival::Joined(ticket) => self.waiting.push_back((ticket, bell)),
            Arrival::TooMany => assert_eq!(length, self.longest),
        }
        assert!(self.line.len() <= self.longest);
    }

    /// Some waiter looks, told or not: the second may not take anything.
    fn look(&mut self, index: usize) {
        let Some((ticket, bell)) = self.waiting.get(index).cloned() else { return };
        bell.0.set(false);
        let decided = self.line.turn(ticket, || self.world.look());
        if let Some(result) = decided {
            assert_eq!(index, 0, "not the first in line");
            assert!(self.last_served.is_none_or(|last| last < ticket));
            self.last_served = Some(ticket);
            self.waiting.remove(index);
            if let Ok(place) = result {
                self.running.push(place);
                self.served_after_a_wait += 1;
            }
        }
    }

    fn release(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.running.len());
        let target = self.running.swap_remove(index);
        self.world.targets[target].in_flight -= 1;
        self.world.held -= 1;
        self.line.wake();
    }

    /// A gate opens or closes, or a limit changes, as a reload or the checks do.
    fn change(&mut self) {
        let index = self.rng.random_range(0..self.world.targets.len());
        match self.rng.random_range(0..3) {
            0 => self.world.targets[index].open ^= true,
            1 => self.world.targets[index].limit = self.rng.random_range(1..5),
            _ => self.world.pool_limit = self.rng.random_range(1..9),
        }
        self.line.wake();
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..35 => self.arrive(),
            35..60 => self.release(),
            60..85 => {
                let told = self.waiting.iter().position(|(_, bell)| bell.0.get());
                if let Some(index) = told {
                    self.look(index);
                }
            }
            85..88 if !self.waiting.is_empty() => {
                let index = self.rng.random_range(0..self.waiting.len());
                self.look(index);
            }
            88..96 if !self.waiting.is_empty() => {
                // Gone, often just after it was told.
                let told = self.waiting.iter().position(|(_, bell)| bell.0.get()).filter(|_| self.rng.random());
                let index = told.unwrap_or_else(|| self.rng.random_range(0..self.waiting.len()));
                let (ticket, _) = self.waiting.remove(index).unwrap();
                self.line.leave(ticket);
                self.line.leave(ticket);
            }
            96.. => self.change(),
            _ => {}
        }
        assert_eq!(self.line.len(), self.waiting.len());
        if let Some((ticket, bell)) = self.waiting.front() {
            assert!(self.line.is_first(*ticket));
            assert!(!self.world.has_news() || bell.0.get(), "the first was not told of a place");
        }
        let told = self.waiting.iter().skip(1).filter(|(_, bell)| bell.0.get()).count();
        assert_eq!(told, 0, "a herd");
    }
}

#[test]
fn places_go_round_in_order_and_no_wake_up_is_lost() {
    let mut served = 0;
    for seed in 0..100 {
        let mut simulation = Simulation::new(seed);
        for _ in 0..5_000 {
            simulation.step();
        }
        // With everybody reacting and everything ending, nobody is left.
        simulation.world.targets.iter_mut().for_each(|target| target.open = true);
        simulation.line.wake();
        while !simulation.waiting.is_empty() {
            let before = simulation.waiting.len();
            while simulation.waiting.front().is_some_and(|(_, bell)| bell.0.get()) {
                simulation.look(0);
            }
            assert!(simulation.waiting.len() < before || !simulation.running.is_empty(), "stuck");
            simulation.release();
        }
        served += simulation.served_after_a_wait;
    }
    assert!(served > 10_000, "only {served} waiters were served: the steps show nothing");
}

#[test]
fn a_wake_up_that_is_not_used_goes_to_the_next() {
    let mut line: Line<Bell> = Line::default();
    let mut bells = Vec::new();
    let mut tickets = Vec::new();
    for _ in 0..3 {
        let bell = Bell::default();
        match line.arrive(3, || Look::<(), ()>::Full, || bell.clone()) {
            Arrival::Joined(ticket) => tickets.push(ticket),
            other => panic!("{other:?}"),
        }
        bells.push(bell);
    }
    assert_eq!(line.arrive(3, || Look::<(), ()>::Taken(()), Bell::default), Arrival::TooMany);
    line.wake();
    line.leave(tickets[0]);
    assert!(bells[1].0.get() && !bells[2].0.get());
    line.leave(tickets[2]);
    assert_eq!(line.turn(tickets[1], || Look::<_, ()>::Taken(7)), Some(Ok(7)));
    assert!(line.is_empty());
}
