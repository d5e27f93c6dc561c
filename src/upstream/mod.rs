//! Upstream pools: which targets there are ([`discovery`]), which of them may be used ([`verdict`] ∧ [`circuit`] ∧ not
//! draining, asked in one place, the [`gate`]), and which one comes next ([`balancer`]).
//!
//! A [`Pool`] belongs to one snapshot of the configuration; what is known about its targets survives reloads by
//! identity, through the [`Registry`]. Nothing here decides what a client is told beyond a `Rejection`.

pub mod attempt;
mod balancer;
mod bulkhead;
mod circuit;
mod client;
mod connection;
mod demand;
mod discovery;
mod ejection;
pub mod fetch;
mod gate;
mod history;
mod keeper;
mod memory;
pub mod outcome;
pub mod pool;
mod probe;
pub mod registry;
mod resolver;
pub mod retries;
pub mod target;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod upgrade;
mod verdict;

pub use attempt::Attempt;
pub use demand::{Demand, Tried};
pub use outcome::{FailureKind, Observed};
pub use pool::Pool;
pub use registry::Registry;
pub use target::Target;
