//! Cases about limits: rates and the policies that they belong to, requests in flight, connections, and what operators
//! decide about single users and addresses.

mod blocks;
mod clients;
mod connection_caps;
mod identities;
mod in_flight;
mod operators;
mod overrides;
mod policies;
mod replicas;
mod spellings;

use crate::harness::limits::passes_before_429;
use crate::harness::{Gateway, Session};

/// How many requests of a user to a path pass before a rate limit refuses one.
async fn spend(gateway: &Gateway, user: &Session, path: &str) -> usize {
    passes_before_429(async || gateway.client.get_as(user, path).await).await
}
