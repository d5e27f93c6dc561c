//! The bounds on requests in flight of a route. They are asked before any token is charged.

use super::subjects::SubjectOf;
use crate::filters::Exchange;
use crate::limits::{InFlight, Key, Place, Policy};

/// A policy's bound on this route.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) policy: Policy,
    pub(super) by: SubjectOf,
    /// Most requests of one subject at once.
    pub(super) most: u32,
    /// Its place in the list that the filter was made from.
    pub(super) index: usize,
    /// Whether it also has a rate, which is counted on its own.
    pub(super) rated: bool,
}

/// What the bounds said of a request that they let pass.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Its places, to be held until it ends.
    pub(super) places: Vec<Place>,
    /// Bit i is set when the shadow at index i would have refused; that one counts the request no further.
    over: u64,
}

impl Taken {
    /// Whether the shadow at this index would have refused.
    pub(super) fn is_over(&self, index: usize) -> bool {
        self.over & bit(index) != 0
    }
}

/// Takes a place under every bound, or none. Shadows do not refuse, and hold what they would have let pass.
///
/// # Errors
/// The index of the policy that refused.
pub(super) fn take(bounds: &[Bound], exchange: &Exchange<'_>, in_flight: &InFlight) -> Result<Taken, usize> {
    let mut taken = Taken { places: Vec::with_capacity(bounds.len()), over: 0 };
    for bound in bounds {
        let key = Key { slot: bound.policy.slot, subject: bound.by.subject(exchange) };
        match in_flight.take(key, bound.most) {
            Some(place) => taken.places.push(place),
            None if bound.policy.shadow => taken.over |= bit(bound.index),
            None => return Err(bound.index), // what was taken is free again
        }
    }
    Ok(taken)
}

fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
}
