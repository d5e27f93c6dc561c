//! The ejection cap: of a pool with several targets, only so many circuits may be out of use at the same time.
//! Decides nothing about a single circuit.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use super::memory::TargetMemory;
use crate::model::breaker::most_open;

/// One at a time opens a circuit of the pool: held while the others are counted. Shared by all configurations of the
/// pool, as the circuits are.
pub(super) type Turn = Arc<Mutex<()>>;

/// Which circuits count, and how many of them may be out of use. One for each configuration of a pool.
#[derive(Debug, Default)]
pub struct Ejections {
    turn: Turn,
    percent: u32,
    members: ArcSwap<Vec<Arc<TargetMemory>>>,
}

impl Ejections {
    pub(super) fn new(percent: u32, turn: Turn) -> Ejections {
        Ejections { turn, percent, members: ArcSwap::default() }
    }

    /// From now on these targets are the pool's.
    pub(super) fn over(&self, members: Vec<Arc<TargetMemory>>) {
        self.members.store(Arc::new(members));
    }

    /// Leave to open one closed circuit, for as long as it is held; `None` when as many as may be are out of use.
    ///
    /// Asked for with the circuit's own lock held. It looks at the others without their locks, so two circuits
    /// cannot wait for each other; with hundreds of targets it takes microseconds, when something fails.
    pub(super) fn place(&self) -> Option<MutexGuard<'_, ()>> {
        let turn = self.turn.lock();
        let members = self.members.load();
        let out = members.iter().filter(|memory| !memory.circuit.is_closed()).count();
        (out < most_open(members.len(), self.percent)).then_some(turn)
    }
}
