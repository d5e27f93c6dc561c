//! The room's promises, on loopback.

mod balance;
mod bulkheads;
mod calls;
mod checks;
mod circuits;
mod gate;
mod names;
mod reloads;
mod retries;
mod simulation;
