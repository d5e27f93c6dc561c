//! What the shape of `routes.yaml` cannot say: names that must exist, choices that exclude each other, routes that
//! hide each other. Every check adds to the report and goes on.

mod balance;
mod breaker;
mod destination;
mod idempotency;
mod limits;
mod overlap;
mod path;
mod pools;
mod retries;
mod route;
mod text;
mod transport;

use std::collections::HashSet;

pub use limits::is_policy_name;

use super::report::Report;
use super::spec::{LimitUse, RouteSpec, RoutesSpec};
use crate::model::route_table::RouteTable;

/// Checks everything and builds the table of paths; its values are indices into `spec.routes`.
pub fn check(spec: &RoutesSpec, report: &mut Report) -> RouteTable<usize> {
    if spec.version != 1 {
        report.add("version", format!("this program reads version 1, not {}", spec.version));
    }
    pools::check(spec, report);
    limits::check(spec, report);
    pools::check_cors(spec, report);
    route::check_defaults(spec, report);
    route::check_names(spec, report);
    for (index, route) in spec.routes.iter().enumerate() {
        route::check(spec, route, index, report);
    }
    overlap::table(spec, report)
}

/// What is not wrong, but probably not meant either: pools and policies that nothing uses, groups that nothing is in.
pub fn unused<'s>(spec: &'s RoutesSpec, report: &mut Report) {
    let parts = |route: &'s RouteSpec| route.to.aggregate.iter().flat_map(|aggregate| aggregate.parts.values());
    let pools = |route: &'s RouteSpec| route.to.pool.iter().chain(parts(route).map(|part| &part.pool));
    let used: HashSet<&String> = spec.routes.iter().flat_map(pools).collect();
    for pool in spec.pools.keys().filter(|name| !used.contains(name)) {
        report.add(format!("pools.{pool}"), "no route goes to this pool");
    }
    let named = spec.routes.iter().filter_map(|route| route.limits.as_ref()).flatten();
    let used: HashSet<&str> = named.chain(&spec.defaults.limits).map(LimitUse::policy).collect();
    for limit in spec.limits.keys().filter(|name| !used.contains(name.as_str())) {
        report.add(format!("limits.{limit}"), "no route has this policy");
    }
    limits::without_group(spec, report);
}
