//! The only `impl ProxyHttp`: the steps that every request takes, in order. What is optional per route is a filter.
//!
//! Early: `admit::arrive` (id, client, protocol rules, canonical path, look-up). Then `admit::admit` (blocked addresses, flood
//! guard, chain, body rules, choice of a target), [`peer`], [`headers`], [`body`], and at the end exactly one [`record`].

mod admit;
mod aggregate;
mod body;
mod compression;
pub mod connections;
mod ctx;
mod failure;
mod hash_key;
mod headers;
mod http2;
mod idempotency;
mod location;
mod peer;
mod presence;
mod record;
mod respond;
mod retry;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use ipnet::IpNet;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::audit::Audit;
use crate::clock::Clock;
use crate::limits::OperatorRules;
use crate::snapshot::{Destination, Live};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{Counter, Metrics, RouteMetrics};
use crate::upstream::{Attempt, Observed};
pub use body::BodyBudget;
use connections::Connections;
pub use ctx::RequestCtx;

/// The proxy and what it needs for the life of the process.
pub struct Gateway {
    /// Time.
    pub clock: Clock,
    /// The table in force.
    pub live: Arc<Live>,
    /// Client connections.
    pub connections: Arc<Connections>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What operators decided about addresses.
    pub rules: Arc<OperatorRules>,
    /// Counts requests of blocked addresses.
    pub blocked: Counter,
    /// Counters of requests without a route.
    pub unmatched: Arc<RouteMetrics>,
    /// Where finished requests are written.
    pub access_log: Arc<AccessLog>,
    /// Where refusals that matter are recorded.
    pub audit: Audit,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Caps on request heads.
    pub head_limits: HeadLimits,
    /// Memory for JSON bodies.
    pub json_budget: BodyBudget,
    /// Memory for other bodies that are read whole.
    pub kept_budget: BodyBudget,
    /// Path of the side-listener's Unix socket.
    pub side_socket: String,
    /// Whether the public listener speaks TLS.
    pub tls: bool,
}

/// Caps on request heads, below Pingora's own fixed ones (256 headers, 1 MiB).
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Most bytes.
    pub bytes: usize,
    /// Most header lines.
    pub headers: usize,
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Box<RequestCtx>;

    fn new_ctx(&self) -> Self::CTX {
        Box::new(RequestCtx::new(self.clock.now(), self.clock.wall()))
    }

    fn init_downstream_modules(&self, modules: &mut pingora::modules::http::HttpModules) {
        compression::install(modules);
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<()> {
        http2::in_terms_of_http1(session)?;
        self.arrive(session, ctx);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        match self.admit(session, ctx).await? {
            admit::Step::Forward => Ok(false),
            admit::Step::Answer(reply) => respond::answer(self, session, ctx, reply).await.map(|()| true),
            admit::Step::Refuse(rejection) => respond::refuse(self, session, ctx, rejection).await.map(|()| true),
        }
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        self.next_try(session, ctx).await?;
        self.peer(ctx)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        headers::towards_upstream(self, session, request, ctx)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        body::towards_upstream(self, body, end_of_stream, ctx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        ctx.retry.heard = true;
        if is_final(response.status) {
            let status = response.status.as_u16();
            ctx.upstream_status = Some(status);
            if let Some(handshake) = &ctx.handshake {
                handshake.answered();
            }
            // Judged by the head: how long the client takes to read the rest is not the target's doing.
            let retry_after = response.headers.get(http::header::RETRY_AFTER);
            if let Some(attempt) = &mut ctx.attempt {
                attempt.answered(status, retry_after, &self.clock);
            }
            self.after_answer(session, ctx, response)?;
        }
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        // The target's part ends here, however long the client takes to read the rest; but not while the target is
        // still being sent the request, nor with a message of an upgraded connection.
        if end_of_stream && !ctx.is_upgraded() && session.as_downstream_mut().is_body_done() {
            ctx.attempt.iter_mut().for_each(Attempt::finish);
        }
        Ok(None)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        if !is_final(response.status) {
            return Ok(());
        }
        headers::towards_client(self, response, ctx).await?;
        if self.connections.are_closing() && response.status != StatusCode::SWITCHING_PROTOCOLS {
            session.set_keepalive(None);
        }
        compression::decide(session, response);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        // An upgraded connection has no end to wait for; its silence is bounded by the read timeouts.
        if !end_of_stream && !ctx.is_upgraded() && self.clock.now() > ctx.deadline {
            return Err(failure::deadline());
        }
        if let Some(recording) = &mut ctx.recording {
            recording.answer_body(body.as_ref(), end_of_stream);
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Self::CTX,
        mut error: Box<Error>,
    ) -> Box<Error> {
        self.after_no_connection(session, ctx, &mut error);
        error
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        // A shared connection (HTTP/2) was in use, not idle.
        let idle_before = reused && peer.options.alpn.get_max_http_version() == 1;
        self.after_exchange(session, ctx, &mut error, idle_before);
        error
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Self::CTX, _: &Error, _: ProxyWarnLogContext) -> bool {
        true // metrics and the access record say it
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Self::CTX) -> FailToProxy {
        failure::answer(self, session, error, ctx).await
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Self::CTX, _error: &Error) -> bool {
        true // the access record says it, with the request id and without the query
    }

    fn request_summary(&self, session: &Session, ctx: &Self::CTX) -> String {
        format!("{} {}, request {}", session.req_header().method, session.req_header().uri.path(), ctx.request_id())
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Self::CTX) {
        idempotency::finish(ctx, error.is_none());
        record::write(self, session, error, ctx);
        // The exchange with the target is over; one with the client may go on for a while.
        ctx.attempt.iter_mut().for_each(Attempt::finish);
        ctx.permits.clear();
        if error.is_none() {
            respond::linger(session, ctx).await;
        }
    }
}

impl Gateway {
    /// Tells the breaker how the try in progress went; only the first word counts.
    fn observe(&self, ctx: &mut RequestCtx, observed: Observed) {
        if let Some(attempt) = &mut ctx.attempt {
            attempt.observe(observed, self.clock.now());
        }
    }
}

/// Whether no other head follows: `101` ends the exchange of messages, too.
fn is_final(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}

/// An error that ends the exchange at once, with nothing left to say.
fn internal(what: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InternalError, what)
}

/// Name of the service behind the request's route, for messages; none for the gateway's own pages.
fn service(ctx: &RequestCtx) -> Option<&Arc<str>> {
    match ctx.matched.as_ref().map(|matched| &matched.route.destination) {
        Some(Destination::Pool { pool, .. }) => Some(pool.service()),
        _ => None,
    }
}
