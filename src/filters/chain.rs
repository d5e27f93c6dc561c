//! The filters of one route, in order. Only a chain that every filter let pass makes a [`Permit`].

use super::{Decision, Exchange, Filter};
use crate::model::rejection::Rejection;
use crate::model::reply::Reply;

/// Proof that a request passed its whole chain. Choosing an upstream needs one.
#[derive(Debug)]
pub struct Permit(());

/// What became of a request in the chain.
#[derive(Debug)]
pub enum Admission {
    /// It may go on.
    Granted(Permit),
    /// A filter answered it.
    Answered(Reply),
}

/// The filters of one route.
#[derive(Default)]
pub struct Chain(Vec<Box<dyn Filter>>);

impl Chain {
    /// A chain of these filters, in this order.
    pub fn new(filters: Vec<Box<dyn Filter>>) -> Chain {
        Chain(filters)
    }

    /// Runs the filters in order until one answers or refuses.
    pub async fn admit(&self, exchange: &mut Exchange<'_>) -> Result<Admission, Rejection> {
        for filter in &self.0 {
            match filter.on_request(exchange).await? {
                Decision::Continue => {}
                Decision::Respond(reply) => return Ok(Admission::Answered(reply)),
            }
        }
        Ok(Admission::Granted(Permit(())))
    }
}
