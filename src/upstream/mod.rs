//! Upstream pools: which targets there are ([`discovery`]), which of them may be used ([`verdict`] ∧ [`circuit`],
//! asked in one place, `Target::admit`), and which one comes next ([`rotation`]).
//!
//! A [`Pool`] belongs to one snapshot of the configuration; what is known about its targets survives reloads by
//! identity, through the [`Registry`]. Nothing here decides what a client is told beyond a `Rejection`.

pub mod attempt;
pub mod circuit;
mod client;
pub mod discovery;
pub mod fetch;
pub mod history;
mod keeper;
pub mod outcome;
pub mod pool;
mod probe;
pub mod registry;
pub mod rotation;
pub mod target;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod verdict;

pub use attempt::Attempt;
pub use outcome::{FailureKind, Observed};
pub use pool::Pool;
pub use registry::Registry;
pub use target::Target;
