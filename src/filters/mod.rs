//! What a route may do to a request before it goes on: one file per filter, each optional per route.
//!
//! A filter holds its parsed settings and handles to process state, never counters of its own: it is built
//! anew at each reload.

pub mod auth;
pub mod body;
pub mod cache_control;
pub mod catalog;
pub mod chain;
pub mod exchange;
pub mod idempotency;
pub mod ip_access;
pub mod rate_limit;

use async_trait::async_trait;

pub use exchange::{Edits, Exchange};

use crate::model::rejection::Rejection;
use crate::model::reply::Reply;

/// How a filter lets a request go on.
#[derive(Debug)]
pub enum Decision {
    /// To the next filter, and after the last to the destination.
    Continue,
    /// It ends here, with this answer.
    Respond(Reply),
}

/// One step in the admission of a request.
#[async_trait]
pub trait Filter: Send + Sync {
    /// Looks at the request. An error refuses it: there is no third way on.
    async fn on_request(&self, exchange: &mut Exchange<'_>) -> Result<Decision, Rejection>;
}
