//! The integration tests: one binary that drives the real program over loopback, against scripted origins.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, unreachable_pub)]
#![allow(missing_docs, reason = "test code speaks by its names")]

mod harness;
mod rows;

mod architecture;
mod auth;
mod bodies;
mod contract;
mod demo;
mod docs;
mod documents;
mod edges;
mod errors;
mod expect;
mod health;
mod hostile;
mod json_bodies;
mod life;
mod limits;
mod proxying;
mod seen;
mod slow;
mod uploads;
mod websocket;
