//! From the first byte to the decision: who asks, for which route, and may it go on.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Version};
use pingora::Result;
use pingora_proxy::Session;
use uuid::Uuid;

use super::ctx::RequestCtx;
use super::trace::TraceParent;
use super::{Gateway, aggregate, body, compression, hash_key, idempotency, presence};
use crate::clock::Tick;
use crate::filters::Exchange;
use crate::filters::chain::Admission;
use crate::model::forwarded;
use crate::model::identity::Client;
use crate::model::path::canonicalize;
use crate::model::rejection::Rejection;
use crate::model::reply::Reply;
use crate::snapshot::{Destination, Found, Matched};
use crate::upstream::upgrade::Handshake;

/// Longest silence of a client in the middle of a request or an answer, and the time of a request without a route.
const CLIENT_SILENCE: Duration = Duration::from_secs(30);

/// What happens to a request next.
pub(super) enum Step {
    /// It goes to its upstream.
    Forward,
    /// The gateway answers it.
    Answer(Reply),
    /// The gateway refuses it.
    Refuse(Rejection),
}

impl Gateway {
    /// Everything that needs no waiting: the request's id, its client, the protocol's rules, its route.
    pub(super) fn arrive(&self, session: &mut Session, ctx: &mut RequestCtx) {
        ctx.in_flight = Some(self.connections.begin_request());
        self.set_waiting_times(session);
        let snapshot = self.live.load_full();
        let fresh = Uuid::new_v4().as_u128();
        let head = session.req_header();
        ctx.request_id = request_id(&head.headers);
        ctx.trace = TraceParent::from_headers(&head.headers, fresh);
        let peer = session.client_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::ip);
        ctx.peer = peer;
        ctx.client = self.client(peer, &head.headers);
        ctx.cors = snapshot.cors.evaluate(&head.method, &head.headers);
        ctx.rejection = self.look_up(session, ctx, &snapshot).err();
        prepare_upgrade(session, ctx);
        let compress = ctx.matched.as_ref().is_some_and(|matched| matched.route.compress);
        let timeout = ctx.matched.as_ref().map_or(CLIENT_SILENCE, |matched| matched.route.timeout);
        ctx.deadline = ctx.started.after(timeout);
        ctx.snapshot = Some(snapshot);
        if compress && session.req_header().headers.contains_key(ACCEPT_ENCODING) {
            compression::enable(session);
        }
    }

    fn set_waiting_times(&self, session: &mut Session) {
        session.set_keepalive(Some(self.connections.keepalive().as_secs().max(1)));
        session.set_read_timeout(Some(CLIENT_SILENCE));
        session.set_write_timeout(Some(CLIENT_SILENCE));
        session.set_total_drain_timeout(Some(Duration::from_secs(1)));
        // Interim answers are between the upstream and us: `100` is ours to send, others tell of what is inside.
        session.set_ignore_info_resp(true);
        // Not beside an upgrade: its first bytes would be taken for a next request.
        let upgrade = session.req_header().headers.contains_key(UPGRADE);
        session.as_downstream_mut().set_pipelining_enabled(!upgrade);
    }

    fn client(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Client {
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Client {
            address: forwarded::client_address(peer, lines(headers, "x-forwarded-for"), &self.trusted_proxies),
            secure: forwarded::client_secure(
                peer,
                self.tls,
                lines(headers, "x-forwarded-proto"),
                &self.trusted_proxies,
            ),
        }
    }

    fn look_up(
        &self,
        session: &Session,
        ctx: &mut RequestCtx,
        snapshot: &crate::snapshot::Snapshot,
    ) -> Result<(), Rejection> {
        let head = session.req_header();
        self.check_head(session)?;
        let sent = head.uri.path();
        let path = canonicalize(sent).map_err(Rejection::BadRequest)?;
        // A preflight asks for another method's route; without one it is an ordinary OPTIONS.
        let method = match head.headers.get("access-control-request-method") {
            Some(wanted) if head.method == Method::OPTIONS => Method::from_bytes(wanted.as_bytes()).ok(),
            _ => None,
        };
        let found = snapshot.find(method.as_ref().unwrap_or(&head.method), &path);
        if path != sent {
            ctx.path = Some(path.into_owned());
        }
        match found {
            Found::Route(matched) => ctx.matched = Some(matched),
            Found::WrongMethod(allow) => return Err(Rejection::MethodNotAllowed(allow)),
            Found::Nothing => return Err(Rejection::NotFound),
        }
        Ok(())
    }

    /// What Pingora lets pass and we do not (RFC 9112 §3.2, §6.1; RFC 9110 §8.6).
    fn check_head(&self, session: &Session) -> Result<(), Rejection> {
        let head = session.req_header();
        let headers = &head.headers;
        if headers.len() > self.head_limits.headers {
            return Err(Rejection::BadRequest("too many headers"));
        }
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if bytes + head.uri.path().len() + head.uri.query().map_or(0, str::len) > self.head_limits.bytes {
            return Err(Rejection::BadRequest("request head too large"));
        }
        let mut hosts = headers.get_all(HOST).iter();
        match (hosts.next(), hosts.next()) {
            (Some(host), None) if is_host(host) => {}
            (None, _) if head.version == Version::HTTP_10 => {}
            _ => return Err(Rejection::BadRequest("one valid Host header is required")),
        }
        let raw = head.version != Version::HTTP_2; // which has no such text, and no way to say both
        if raw && headers.contains_key(TRANSFER_ENCODING) && names_a_length(&session.as_downstream().to_h1_raw()) {
            return Err(Rejection::BadRequest("both Transfer-Encoding and Content-Length"));
        }
        check_framing(headers)
    }

    /// Blocked addresses and the flood guard, then what the look-up said, the chain, the body rules, and the choice of a target.
    pub(super) async fn admit(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<Step> {
        if self.rules.blocks().refuse(ctx.client.address, ctx.started_at.as_second()) {
            self.blocked.inc();
            return Ok(Step::Refuse(Rejection::ForbiddenAddress));
        }
        if let Err(rejection) = guard_from_floods(ctx) {
            return Ok(Step::Refuse(rejection));
        }
        if let Some(rejection) = ctx.rejection.take() {
            return Ok(Step::Refuse(rejection));
        }
        let Some(matched) = ctx.matched.clone() else { return Ok(Step::Refuse(Rejection::NotFound)) };
        if is_preflight(session) {
            return Ok(Step::Answer(Reply::empty(http::StatusCode::NO_CONTENT)));
        }
        let mut exchange = Exchange {
            head: session.req_header().as_ref(),
            client: ctx.client,
            route: &matched.route.name,
            now: ctx.started,
            started_at: ctx.started_at,
            identity: None,
            edits: std::mem::take(&mut ctx.edits),
            limit: None,
            keyed: None,
            permits: Vec::new(),
        };
        let admission = matched.route.chain.admit(&mut exchange).await;
        let Exchange { identity, edits, limit, keyed, permits, .. } = exchange;
        (ctx.identity, ctx.edits, ctx.limit, ctx.permits) = (identity, edits, limit, permits);
        match admission {
            Err(rejection) => return Ok(Step::Refuse(rejection)),
            Ok(Admission::Answered(reply)) => return Ok(Step::Answer(reply)),
            Ok(Admission::Granted(permit)) => ctx.permit = Some(permit),
        }
        if let Some(keyed) = keyed
            && let Some(step) = idempotency::begin(self, session, ctx, keyed, &matched.route).await?
        {
            return Ok(step);
        }
        if let Err(rejection) = body::check(self, session, ctx, &matched.route.body).await? {
            return Ok(Step::Refuse(rejection));
        }
        if let Destination::Aggregate(aggregate) = &matched.route.destination {
            return Ok(match presence::unless_gone(session, aggregate::collect(self, aggregate, ctx)).await? {
                Ok(reply) => Step::Answer(reply),
                Err(rejection) => Step::Refuse(rejection),
            });
        }
        ctx.hash_key = hash_key::of(&matched.route.destination, &session.req_header().headers, ctx);
        Ok(match self.choose(session, ctx).await? {
            Ok(()) => Step::Forward,
            Err(rejection) => Step::Refuse(rejection),
        })
    }

    /// When the request must be over, as a duration from now.
    pub(super) fn remaining(&self, ctx: &RequestCtx) -> Duration {
        let now: Tick = self.clock.now();
        ctx.deadline.since(now)
    }
}

/// A tunnel may be silent on the client's side for as long as on the other.
fn prepare_upgrade(session: &mut Session, ctx: &mut RequestCtx) {
    let Some(Matched { route, .. }) = &ctx.matched else { return };
    let head = session.req_header();
    let is_websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let asks = head.version == Version::HTTP_11 && head.headers.get(UPGRADE).is_some_and(is_websocket);
    if asks && matches!(route.destination, Destination::Pool { .. }) {
        ctx.handshake = Some(Handshake::default());
        session.set_read_timeout(Some(route.upgrade_idle));
    }
}

/// Counts the request against its address's cap, whatever it asks for; probes and collectors are let alone.
fn guard_from_floods(ctx: &RequestCtx) -> Result<(), Rejection> {
    let for_machines = ctx.matched.as_ref().is_some_and(|matched| matched.route.for_machines);
    match ctx.snapshot.as_ref().and_then(|snapshot| snapshot.flood_guard.as_ref()) {
        Some(guard) if !for_machines => guard.check(ctx.client.address, ctx.started),
        _ => Ok(()),
    }
}

fn lines<'h>(headers: &'h HeaderMap, name: &'static str) -> impl DoubleEndedIterator<Item = &'h [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes)
}

fn is_preflight(session: &Session) -> bool {
    let head = session.req_header();
    head.method == Method::OPTIONS && head.headers.contains_key("access-control-request-method")
}

/// Keeps the client's id when it is harmless, else makes one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let harmless = |value: &&HeaderValue| {
        (8..=128).contains(&value.len())
            && value.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    headers.get("x-request-id").filter(harmless).cloned().unwrap_or_else(|| {
        let mut buffer = Uuid::encode_buffer();
        let text = Uuid::now_v7().simple().encode_lower(&mut buffer);
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("-"))
    })
}

/// `host[:port]` (RFC 9112 §3.2): a name, an IPv4 address or a bracketed IPv6 address.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_number = port.is_none_or(|port| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let valid = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(plain),
    };
    valid && port_is_number && text.len() <= 261
}

/// Whether a head as it came has a `Content-Length`. Beside a `Transfer-Encoding`, Pingora drops it before we see the
/// parsed head; a request with both is an attempt to be read in two ways (RFC 9112 §6.1).
fn names_a_length(head: &[u8]) -> bool {
    let name = b"content-length";
    head.split(|byte| *byte == b'\n')
        .any(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
}

/// One way to know where the body ends, or none.
fn check_framing(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut lengths = headers.get_all(http::header::CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (_, Some(_)) => return Err(Rejection::BadRequest("more than one Content-Length")),
        (length, None) => length,
    };
    if length.is_some_and(|value| value.len() > 15 || !value.as_bytes().iter().all(u8::is_ascii_digit)) {
        return Err(Rejection::BadRequest("malformed Content-Length"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_some_and(|coding| !chunked(coding)) || codings.next().is_some() {
        return Err(Rejection::BadRequest("unsupported Transfer-Encoding"));
    }
    if headers.get(EXPECT).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Rejection::BadRequest("unsupported Expect"));
    }
    Ok(())
}
