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
mod balance;
mod bodies;
mod breaker;
mod bulkheads;
mod contract;
mod demo;
mod docs;
mod documents;
mod drain;
mod edges;
mod errors;
mod expect;
mod faults;
mod health;
mod hostile;
mod http2;
mod idempotency;
mod idempotency_replicas;
mod json_bodies;
mod keys;
mod last_good;
mod life;
mod limits;
mod logins;
mod odd;
mod proxying;
mod reloads;
mod replicas;
mod retries;
mod seen;
mod session_ends;
mod sessions;
mod slow;
mod store_outage;
mod stores;
mod targets_die;
mod transport;
mod tunnels;
mod upgrade;
mod uploads;
mod websocket;
