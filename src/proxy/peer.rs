//! The choice of a target, and the connection to it.

use std::time::Duration;

use pingora::Result;
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::{Gateway, internal, presence};
use crate::clock::Tick;
use crate::filters::chain::Permit;
use crate::model::rejection::Rejection;
use crate::snapshot::Destination;
use crate::upstream::{Attempt, Demand, Pool, upgrade};

impl Gateway {
    /// Picks a target for the request's pool. The side-listener needs no choice.
    ///
    /// # Errors
    /// When the client left while its request waited for a place; within, when there is no target for it.
    pub(super) async fn choose(&self, session: &Session, ctx: &mut RequestCtx) -> Result<Result<(), Rejection>> {
        let (Some(permit), Some(matched)) = (&ctx.permit, &ctx.matched) else { return Ok(Err(Rejection::Internal)) };
        let Destination::Pool { pool, .. } = &matched.route.destination else { return Ok(Ok(())) };
        let demand = Demand { tried: &ctx.tried, key: ctx.hash_key };
        let acquiring = self.acquire(permit, pool, &demand, ctx.deadline);
        let acquired = match pool.has_queue() {
            false => Ok(acquiring.await),
            true => {
                let began = self.clock.now();
                let acquired = presence::unless_gone(session, acquiring).await;
                *ctx.queued.get_or_insert_default() += self.clock.now().since(began);
                acquired
            }
        };
        let first = ctx.attempts == 0;
        Ok(acquired?.map(|attempt| {
            if first {
                pool.count_request(self.clock.now()); // what was refused pays for no retry
            }
            ctx.attempt = Some(attempt);
        }))
    }

    /// Only who was admitted may ask for a target.
    async fn acquire(
        &self,
        _permit: &Permit,
        pool: &Pool,
        demand: &Demand<'_>,
        deadline: Tick,
    ) -> Result<Attempt, Rejection> {
        pool.acquire(demand, &self.clock, deadline).await
    }

    /// The connection to the chosen target, its waiting times cut to what is left of the request's.
    pub(super) fn peer(&self, ctx: &mut RequestCtx) -> Result<Box<HttpPeer>> {
        let remaining = self.remaining(ctx).max(Duration::from_millis(1));
        ctx.attempts += 1;
        ctx.streamed = 0; // the body filter sees a replayed body again
        if let Some(recording) = &mut ctx.recording {
            recording.restart();
        }
        (ctx.upstream_status, ctx.retry.heard) = (None, false);
        ctx.retry.began = self.clock.now();
        ctx.upstream_started.get_or_insert(self.clock.now());
        let mut peer = match &ctx.attempt {
            Some(attempt) => attempt.peer(),
            None => self.side_listener_peer()?,
        };
        if std::mem::take(&mut ctx.retry.fresh) {
            // Kept connections are found by their group; and with no time to wait for a next request it joins none.
            peer.group_key = rand::random();
            peer.options.idle_timeout = Some(Duration::ZERO);
        }
        if let Some(options) = peer.get_mut_peer_options() {
            let cut = |limit: Option<Duration>| Some(limit.map_or(remaining, |limit| limit.min(remaining)));
            options.connection_timeout = cut(options.connection_timeout);
            options.total_connection_timeout = cut(options.total_connection_timeout);
            options.read_timeout = cut(options.read_timeout);
            options.write_timeout = cut(options.write_timeout);
        }
        if let (Some(handshake), Some(matched)) = (&ctx.handshake, &ctx.matched) {
            upgrade::prepare(&mut peer, handshake, remaining, matched.route.upgrade_idle);
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
