//! The integration tests: one binary that drives the real program over loopback, against scripted origins.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, unreachable_pub)]
#![allow(missing_docs, reason = "test code speaks by its names")]

mod harness;
mod rows;

mod admin_users;
mod api_keys;
mod architecture;
mod audit;
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
mod keys;
mod life;
mod limits;
mod logins;
mod proxying;
mod replicas;
mod seen;
mod session_ends;
mod sessions;
mod slow;
mod store_outage;
mod stores;
mod uploads;
mod websocket;
