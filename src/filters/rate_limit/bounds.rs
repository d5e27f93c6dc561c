//! The bounds on requests in flight of a route. They are asked before any token is charged.

use super::subjects::SubjectOf;
use crate::filters::Exchange;
use crate::limits::{InFlight, InFlightPermit, Key, Policy, PolicySet};
use crate::telemetry::metrics::LimitMetrics;

/// A policy's bound on this route.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) policy: Policy,
    pub(super) by: SubjectOf,
    /// Most requests of one subject at once.
    pub(super) most: u32,
    /// Its index in the route's list of policies.
    pub(super) list_index: usize,
    /// Whether it also has a rate, which is counted on its own.
    pub(super) rated: bool,
    /// Where its decisions are counted.
    pub(super) metrics: LimitMetrics,
}

/// What the bounds said of a request that they let pass.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Held until it ends.
    pub(super) permits: Vec<InFlightPermit>,
    /// The shadows that would have refused; they count the request no further.
    pub(super) over: PolicySet,
}

/// Takes a place under every bound, or none. Shadows do not refuse, and hold what they would have let pass.
///
/// # Errors
/// The bound that refused.
pub(super) fn take<'b>(bounds: &'b [Bound], exchange: &Exchange<'_>, in_flight: &InFlight) -> Result<Taken, &'b Bound> {
    let mut taken = Taken { permits: Vec::with_capacity(bounds.len()), over: PolicySet::EMPTY };
    for bound in bounds {
        let key = Key { scope: bound.policy.scope_id, subject: bound.by.subject(exchange) };
        match in_flight.take(key, bound.most) {
            Some(permit) => taken.permits.push(permit),
            None if bound.policy.shadow => taken.over.insert(bound.list_index),
            None => return Err(bound), // what was taken is free again
        }
    }
    Ok(taken)
}
