//! The compiled table ([`Snapshot`]) and the one pointer through which it is published ([`Live`]).

mod compile;
mod route;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use http::Method;

pub use compile::{Handles, compile};
pub use route::{Aggregate, Destination, Matched, Part, Route, UpstreamPath};

use crate::config::spec::RoutesSpec;
use crate::limits::flood_guard::FloodGuard;
use crate::model::cors::CorsPolicy;
use crate::model::route_table::{Lookup, RouteTable};
use crate::upstream::Pool;

/// One generation of the table. Immutable; a request holds one from its first byte to its log line.
pub struct Snapshot {
    /// Counts up from 1 with each published table.
    pub generation: u64,
    /// The table as written, environment substituted.
    pub spec: RoutesSpec,
    /// The cap per client address, which every request meets first; not those on [`Route::for_machines`].
    pub flood_guard: Option<FloodGuard>,
    /// Cross-origin rules.
    pub cors: CorsPolicy,
    /// The pools of this table.
    pub pools: BTreeMap<String, Arc<Pool>>,
    routes: Vec<Arc<Route>>,
    table: RouteTable<usize>,
    /// Configured addresses (`host:port`) of targets, and their pools.
    inside: BTreeMap<String, String>,
}

/// What a look-up found.
pub enum Found {
    /// The route.
    Route(Matched),
    /// The path is known, the method is not; the value of `Allow`.
    WrongMethod(http::HeaderValue),
    /// No route has this path.
    Nothing,
}

impl Snapshot {
    /// A table that routes nothing, for tests of what only reads the spec.
    #[cfg(test)]
    pub(crate) fn of_spec(generation: u64, spec: RoutesSpec) -> Snapshot {
        let cors = CorsPolicy::new(&[], std::time::Duration::ZERO).unwrap();
        Snapshot {
            generation,
            spec,
            flood_guard: None,
            cors,
            pools: BTreeMap::new(),
            routes: Vec::new(),
            table: RouteTable::default(),
            inside: BTreeMap::new(),
        }
    }

    /// The route for a method and a canonical path.
    pub fn find(&self, method: &Method, path: &str) -> Found {
        match self.table.lookup(method, path) {
            Lookup::Found(index, params) => match self.routes.get(*index) {
                Some(route) => Found::Route(Matched::new(route.clone(), &params)),
                None => Found::Nothing,
            },
            Lookup::WrongMethod(allow) => Found::WrongMethod(allow.clone()),
            Lookup::Unknown => Found::Nothing,
        }
    }

    /// The pool that has a target configured at `address` (`host:port`, lower case).
    pub fn pool_at(&self, address: &str) -> Option<&str> {
        self.inside.get(address).map(String::as_str)
    }

    /// The public path of whatever route sends requests to `path` of the pool named `pool`.
    pub fn public_path(&self, pool: &str, path: &str) -> Option<String> {
        self.routes.iter().find_map(|route| route.public_path(pool, path))
    }
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
