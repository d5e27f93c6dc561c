//! The room's promises, on loopback.

mod calls;
mod checks;
mod circuits;
mod names;
mod reloads;
