//! The shape of `routes.yaml`, as written. Plain data: what it means is decided when the snapshot is compiled.
//!
//! Every struct refuses unknown keys. Docstrings become the descriptions in `conf/routes.schema.json`.

mod auth;
mod balance;
mod breaker;
mod builtin;
mod concurrency;
mod health;
mod idempotency;
mod limits;
mod pool;
mod retries;
mod revocation;
mod statuses;
mod target;
mod upstream_tls;
mod websocket;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use auth::{AuthSpec, AuthWord, RolesSpec, TextSpec};
pub use balance::{BalanceSpec, BalanceWord, HashHeaderSpec, HashKeySpec, HashSpec, HashWord};
pub use breaker::{BreakerSpec, PanicSpec};
pub use builtin::{Audience, Builtin};
pub use concurrency::ConcurrencySpec;
pub use health::HealthSpec;
pub use idempotency::IdempotencySpec;
pub use limits::{
    DEFAULT_BURST, FloodGuardSpec, IetfForm, LimitCostSpec, LimitHeadersSpec, LimitSpec, LimitUse, OnStoreFailure,
    RoleRates, ScopeSpec, Sharing, SubjectHeaderSpec, SubjectSpec, SubjectWord,
};
pub use pool::{PoolSpec, TimeoutsSpec};
pub use retries::RetriesSpec;
pub use revocation::{BoundedSpec, RevocationSpec, RevocationWord};
pub use statuses::StatusesSpec;
pub use target::TargetSpec;
pub use upstream_tls::{TlsFiles, UpstreamTlsSpec};
pub use websocket::WebsocketSpec;

use super::list::{self, Networks};
use crate::model::units::{ByteSize, Span};

/// The whole table.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutesSpec {
    /// Version of this format: 1.
    pub version: u32,
    /// Upstream services by name.
    #[serde(default)]
    pub pools: BTreeMap<String, PoolSpec>,
    /// Rate-limit policies by name, used by `routes[].limits` and `defaults.limits`.
    #[serde(default)]
    pub limits: BTreeMap<String, LimitSpec>,
    /// How answers tell clients about their limits.
    #[serde(default)]
    pub limit_headers: LimitHeadersSpec,
    /// Cap on requests per client address, before authentication, over all routes.
    #[serde(default)]
    pub flood_guard: Option<FloodGuardSpec>,
    /// Cross-origin rules for every route.
    #[serde(default)]
    pub cors: CorsSpec,
    /// What a route gets when it does not say otherwise.
    #[serde(default)]
    pub defaults: DefaultsSpec,
    /// The routes. Their order means nothing: exact beats parameter beats prefix.
    pub routes: Vec<RouteSpec>,
}

/// Cross-origin rules (Fetch standard, CORS protocol).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorsSpec {
    /// Origins that browsers may call from, with credentials: `scheme://host[:port]`. One entry may hold a
    /// comma-separated list. Default: ports 3000 and 8080 on localhost and 127.0.0.1.
    #[serde(deserialize_with = "list::texts")]
    #[schemars(schema_with = "list::schema")]
    pub origins: Vec<String>,
    /// How long browsers may keep a preflight answer; default 10m.
    pub max_age: Span,
}

impl Default for CorsSpec {
    fn default() -> Self {
        let origins = ["localhost", "127.0.0.1"]
            .into_iter()
            .flat_map(|host| [3000, 8080].map(|port| format!("http://{host}:{port}")))
            .collect();
        CorsSpec { origins, max_age: Span(std::time::Duration::from_secs(600)) }
    }
}

/// What a route gets when it does not say otherwise.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DefaultsSpec {
    /// Who may call; default `required`.
    pub auth: AuthSpec,
    /// Policies; default none.
    pub limits: Vec<LimitUse>,
    /// Longest a whole request may take, its answer included; default 30s.
    pub timeout: Span,
    /// Cap on request bodies; default 1MiB.
    pub max_body: ByteSize,
    /// Whether answers may be compressed; default true.
    pub compress: bool,
}

impl Default for DefaultsSpec {
    fn default() -> Self {
        DefaultsSpec {
            auth: AuthSpec::Word(AuthWord::Required),
            limits: Vec::new(),
            timeout: Span(std::time::Duration::from_secs(30)),
            max_body: ByteSize(1 << 20),
            compress: true,
        }
    }
}

/// One route.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// Unique name, in logs, metrics and buckets: lower-case letters, digits, `-`.
    #[schemars(regex(pattern = r"^[a-z0-9-]+$"))]
    pub name: String,
    /// Which requests it takes.
    pub r#match: MatchSpec,
    /// Where they go.
    pub to: DestinationSpec,
    /// Who may call; default `defaults.auth`.
    #[serde(default)]
    pub auth: Option<AuthSpec>,
    /// How old the knowledge of revocations may be by which callers are let in; default `eventual`.
    #[serde(default)]
    pub revocation: Option<RevocationSpec>,
    /// Policies that a request must pass, all of them; default `defaults.limits`. `[]` is none.
    #[serde(default)]
    pub limits: Option<Vec<LimitUse>>,
    /// Routes of the same group share the buckets of policies `over: group`.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[a-z0-9-]+$"))]
    pub group: Option<String>,
    /// Longest a whole request may take; default `defaults.timeout`.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// Most retries of one request, at most 10; default: the pool's `retries.max`.
    #[serde(default)]
    #[schemars(range(max = 10))]
    pub retries: Option<u32>,
    /// What bodies it takes.
    #[serde(default)]
    pub body: BodySpec,
    /// Requests with an `Idempotency-Key` are carried out once, and repeats get the first one's answer; default: the header
    /// is passed on and means nothing here.
    #[serde(default)]
    pub idempotency: Option<IdempotencySpec>,
    /// Upgraded connections (WebSocket).
    #[serde(default)]
    pub websocket: Option<WebsocketSpec>,
    /// Client networks that may call (`10.0.0.0/8`, or an address); default: all.
    #[serde(default)]
    #[schemars(schema_with = "list::schema")]
    pub allow_from: Option<Networks>,
    /// `Cache-Control` of successful answers that bring none of their own; default: `no-store` when authenticated.
    #[serde(default)]
    pub cache_control: Option<String>,
    /// Whether answers may be compressed; default `defaults.compress`.
    #[serde(default)]
    pub compress: Option<bool>,
    /// One line for the API documentation.
    #[serde(default)]
    pub summary: Option<String>,
}

/// Which requests a route takes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchSpec {
    /// The whole path; `{name}` matches one segment. Give this or `prefix`.
    #[serde(default)]
    pub path: Option<String>,
    /// The path and everything below it, by whole segments. Give this or `path`.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Methods; `GET` also serves `HEAD`. `OPTIONS` belongs to CORS.
    #[schemars(length(min = 1))]
    pub methods: Vec<String>,
}

/// Where requests go: give one of `pool`, `builtin`, `aggregate`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationSpec {
    /// A pool.
    #[serde(default)]
    pub pool: Option<String>,
    /// With `pool`: the path there. For a `prefix` route it replaces the prefix. Default: the public path.
    #[serde(default)]
    pub path: Option<String>,
    /// One of the gateway's own pages.
    #[serde(default)]
    pub builtin: Option<Builtin>,
    /// Several calls in parallel, their JSON merged into one object.
    #[serde(default)]
    pub aggregate: Option<AggregateSpec>,
}

/// Several calls in parallel, merged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AggregateSpec {
    /// The calls (GET), by the key that each answer gets in the merged object.
    pub parts: BTreeMap<String, PartSpec>,
    /// What happens when a part fails; default `report_part`.
    #[serde(default)]
    pub on_failure: PartFailure,
}

/// One call of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartSpec {
    /// The pool that is asked.
    pub pool: String,
    /// The path there.
    pub path: String,
}

/// What an aggregate does when a part does not answer 2xx with JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartFailure {
    /// The part is `{"error": true, "code", "status_code"}`; the whole is 200, or 502 when every part failed.
    #[default]
    ReportPart,
    /// The whole request fails with that part's refusal.
    Fail,
}

/// What bodies a route takes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BodySpec {
    /// Cap; default `defaults.max_body`. One byte more is 413.
    pub max: Option<ByteSize>,
    /// Media types it takes; others are 415. Default: all.
    pub content_types: Vec<String>,
    /// Whether a body must be JSON, checked before any upstream is called; default false. Other media types pass
    /// unchecked where `content_types` names them.
    pub json: bool,
    /// Cap on bodies that are checked as JSON, which are held in memory for it; default 1MiB, at most `max`.
    pub json_max: ByteSize,
}

impl Default for BodySpec {
    fn default() -> Self {
        BodySpec { max: None, content_types: Vec::new(), json: false, json_max: ByteSize(1 << 20) }
    }
}
