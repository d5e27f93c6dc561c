//! What the proxy knows of one request, from its first byte to its log line.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

use super::connections::InFlight;
use super::retry::Retry;
use super::trace::TraceParent;
use crate::clock::Tick;
use crate::filters::chain::Permit;
use crate::filters::exchange::{Edits, LimitState};
use crate::filters::idempotency::Recording;
use crate::limits::InFlightPermit;
use crate::model::cors::CorsVerdict;
use crate::model::identity::{Client, Identity};
use crate::model::rejection::Rejection;
use crate::snapshot::{Matched, Snapshot};
use crate::upstream::upgrade::Handshake;
use crate::upstream::{Attempt, Tried};

/// One request. Boxed by the proxy: Pingora's futures carry the context by value.
pub struct RequestCtx {
    /// Marks the request in flight until the context is dropped.
    pub in_flight: Option<InFlight>,
    /// The table that serves it.
    pub snapshot: Option<Arc<Snapshot>>,
    /// When its head was read.
    pub started: Tick,
    /// The same moment on the wall.
    pub started_at: Timestamp,
    /// Its id.
    pub request_id: HeaderValue,
    /// Where it came from.
    pub client: Client,
    /// The socket's peer; differs from the client behind a trusted proxy.
    pub peer: Option<IpAddr>,
    /// Its canonical path, when that differs from the path as sent.
    pub path: Option<String>,
    /// Its route, once found.
    pub matched: Option<Matched>,
    /// Proof that it passed its chain.
    pub permit: Option<Permit>,
    /// Who asks, once proven.
    pub identity: Option<Identity>,
    /// Header effects of the filters.
    pub edits: Edits,
    /// Header effects of the cross-origin rules.
    pub cors: CorsVerdict,
    /// The limit closest to exhaustion.
    pub limit: Option<LimitState>,
    /// Its places under bounds on requests in flight; free again when the request or its tunnel ends, however it does.
    pub permits: Vec<InFlightPermit>,
    /// The trace it belongs to.
    pub trace: TraceParent,
    /// Why it was refused, if it was.
    pub rejection: Option<Rejection>,
    /// Why one of the gateway's own pages refused it, if one did.
    pub page_code: Option<&'static str>,
    /// Its body on the way to the upstream.
    pub body: BodyState,
    /// The memory reserved for its body, while it is held.
    pub memory: Option<OwnedSemaphorePermit>,
    /// Shared with its connection, when it asks for an upgrade.
    pub handshake: Option<Handshake>,
    /// Body bytes that went towards the upstream.
    pub streamed: u64,
    /// Whether the request carries a promise that doing it twice is doing it once (`Idempotency-Key`).
    pub idempotent: bool,
    /// How long it waited for a place at a target, where places are limited.
    pub queued: Option<Duration>,
    /// The guard of its key, when it is the first with it.
    pub recording: Option<Box<Recording>>,
    /// What it is told apart by, where its pool chooses targets by that.
    pub hash_key: Option<u64>,
    /// The try in progress.
    pub attempt: Option<Attempt>,
    /// The targets of tries that failed.
    pub tried: Tried,
    /// What its tries so far mean for the next.
    pub retry: Retry,
    /// Tries made.
    pub attempts: u32,
    /// When the first try began.
    pub upstream_started: Option<Tick>,
    /// Status of the upstream's answer.
    pub upstream_status: Option<u16>,
    /// When the answer's head was ready.
    pub first_byte: Option<Tick>,
    /// When it must be over.
    pub deadline: Tick,
}

/// A request body on its way.
#[derive(Default)]
pub enum BodyState {
    /// Streams through; counts its bytes against the cap.
    #[default]
    Streaming,
    /// Was read whole (and checked, where it must be JSON) before the upstream was chosen, and stands in for what the session replays.
    Checked(Bytes),
    /// Must be JSON, comes without a length and is long: held back until it is whole and checked.
    Held(BytesMut),
}

impl RequestCtx {
    /// A request of which nothing is known yet.
    pub fn new(started: Tick, started_at: Timestamp) -> RequestCtx {
        RequestCtx {
            in_flight: None,
            snapshot: None,
            started,
            started_at,
            request_id: HeaderValue::from_static(""),
            client: Client { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), secure: false },
            peer: None,
            path: None,
            matched: None,
            permit: None,
            identity: None,
            edits: Edits::default(),
            cors: CorsVerdict::NotCors,
            limit: None,
            permits: Vec::new(),
            trace: TraceParent::default(),
            rejection: None,
            page_code: None,
            body: BodyState::Streaming,
            memory: None,
            handshake: None,
            streamed: 0,
            idempotent: false,
            queued: None,
            recording: None,
            hash_key: None,
            attempt: None,
            tried: Tried::default(),
            retry: Retry::default(),
            attempts: 0,
            upstream_started: None,
            upstream_status: None,
            first_byte: None,
            deadline: Tick(u64::MAX),
        }
    }

    /// The id as text.
    pub fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    /// The canonical path of the request whose path as sent is `sent`.
    pub fn path<'a>(&'a self, sent: &'a str) -> &'a str {
        self.path.as_deref().unwrap_or(sent)
    }

    /// Whether the connection switched protocols: then there is no message and no end to wait for.
    pub fn is_upgraded(&self) -> bool {
        self.upstream_status == Some(101)
    }
}
