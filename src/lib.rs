//! The SuperSmartMatch gateway: a config-driven, programmable proxy on Cloudflare Pingora.
//!
//! The map, in reading order. ARCHITECTURE.md walks one request through it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod clock;
pub mod model;

pub mod telemetry;

pub mod store;

pub mod audit;

pub mod accounts;

pub mod upstream;

pub mod limits;

pub mod filters;

pub mod config;

pub mod snapshot;

pub mod api;
pub mod proxy;

pub mod server;

pub mod demo;

pub mod cli;

#[cfg(test)]
mod testkit;
