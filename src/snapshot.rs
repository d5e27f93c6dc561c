//! The compiled table ([`Snapshot`]) and the one pointer through which it is published ([`Live`]).

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::config::spec::RoutesSpec;

/// One generation of the table. Immutable; a request holds one from its first byte to its log line.
pub struct Snapshot {
    /// Counts up from 1 with each published table.
    pub generation: u64,
    /// The table as written, environment substituted.
    pub spec: RoutesSpec,
}

/// The table in force.
pub struct Live(ArcSwap<Snapshot>);

impl Live {
    /// Starts with `snapshot`.
    pub fn new(snapshot: Snapshot) -> Live {
        Live(ArcSwap::from_pointee(snapshot))
    }

    /// The table in force, for the length of a request.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// The table in force, for a glance.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// Publishes the next table with one pointer swap.
    pub fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}
