//! The choice of a target, and the connection to it.

use std::time::Duration;

use pingora::Result;
use pingora::upstreams::peer::{HttpPeer, Peer as _};

use super::ctx::RequestCtx;
use super::{Gateway, internal};
use crate::filters::chain::Permit;
use crate::model::rejection::Rejection;
use crate::snapshot::Destination;
use crate::upstream::{Attempt, Pool};

impl Gateway {
    /// Picks a target for the request's pool. The side-listener needs no choice.
    pub(super) fn choose(&self, ctx: &mut RequestCtx) -> Result<(), Rejection> {
        let (Some(permit), Some(matched)) = (&ctx.permit, &ctx.matched) else { return Err(Rejection::Internal) };
        if let Destination::Pool { pool, .. } = &matched.route.destination {
            ctx.attempt = Some(self.pick(permit, pool)?);
        }
        Ok(())
    }

    /// Only who was admitted may ask for a target.
    fn pick(&self, _permit: &Permit, pool: &Pool) -> Result<Attempt, Rejection> {
        pool.pick(self.clock.now())
    }

    /// The connection to the chosen target, its waiting times cut to what is left of the request's.
    pub(super) fn peer(&self, ctx: &mut RequestCtx) -> Result<Box<HttpPeer>> {
        let remaining = self.remaining(ctx).max(Duration::from_millis(1));
        ctx.attempts += 1;
        ctx.streamed = 0; // the body filter sees a replayed body again
        ctx.upstream_started.get_or_insert(self.clock.now());
        let mut peer = match &ctx.attempt {
            Some(attempt) => attempt.peer(),
            None => self.side_listener_peer()?,
        };
        if let Some(options) = peer.get_mut_peer_options() {
            let cut = |limit: Option<Duration>| Some(limit.map_or(remaining, |limit| limit.min(remaining)));
            options.connection_timeout = cut(options.connection_timeout);
            options.total_connection_timeout = cut(options.total_connection_timeout);
            options.read_timeout = cut(options.read_timeout);
            options.write_timeout = cut(options.write_timeout);
        }
        Ok(peer)
    }

    fn side_listener_peer(&self) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new_uds(&self.side_socket, false, String::new())
            .map_err(|_| internal("the side-listener's socket path is unusable"))?;
        peer.options.idle_timeout = Some(Duration::from_secs(60));
        Ok(Box::new(peer))
    }
}
