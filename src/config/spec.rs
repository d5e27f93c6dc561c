//! The shape of `routes.yaml`, as written. Plain data: what it means is decided when the snapshot is compiled.
//!
//! Every struct refuses unknown keys. Docstrings become the descriptions in `conf/routes.schema.json`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::role::Role;
use crate::model::units::{ByteSize, Rate, Span};

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

/// One upstream service.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Targets: `http://host:port`. One entry may hold a comma-separated list.
    #[schemars(length(min = 1))]
    pub targets: Vec<String>,
    /// Name of the service in health, metrics and messages; default: the pool's name with `-` as `_`.
    #[serde(default)]
    pub service: Option<String>,
    /// Active checks; without them a target is available until its circuit opens.
    #[serde(default)]
    pub health: Option<HealthSpec>,
    /// Circuit breaker per target.
    #[serde(default)]
    pub breaker: BreakerSpec,
    /// Waiting times towards the targets.
    #[serde(default)]
    pub timeouts: TimeoutsSpec,
    /// How often names are looked up again; default 10s.
    #[serde(default = "defaults::resolve_every")]
    pub resolve_every: Span,
}

/// Active health checks of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthSpec {
    /// Path of the HTTP probe; a 2xx answer is healthy.
    pub path: String,
    /// Time between probes of one target, ± 10 %; default 10s.
    #[serde(default = "defaults::health_every")]
    pub every: Span,
    /// Longest a probe may take; default 5s.
    #[serde(default = "defaults::health_timeout")]
    pub timeout: Span,
    /// Passing probes in a row that bring a target back; default 2.
    #[serde(default = "defaults::rise")]
    #[schemars(range(min = 1))]
    pub rise: u32,
    /// Failing probes in a row that take a target out; default 3. The very first probe decides alone.
    #[serde(default = "defaults::fall")]
    #[schemars(range(min = 1))]
    pub fall: u32,
}

/// Circuit breaker of each target of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSpec {
    /// Failures in a row that open the circuit; default 5. 0 turns the breaker off.
    pub failures: u32,
    /// How long it stays open before one probe request is let through; default 60s.
    pub open_for: Span,
    /// Probe requests that must succeed to close it; default 3.
    #[schemars(range(min = 1))]
    pub close_after: u32,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        BreakerSpec { failures: 5, open_for: Span(std::time::Duration::from_secs(60)), close_after: 3 }
    }
}

/// Waiting times towards the targets of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsSpec {
    /// To open a connection; default 2s.
    pub connect: Span,
    /// Silence while reading an answer, its head included; default 30s.
    pub read: Span,
    /// Silence while sending a request; default 30s.
    pub write: Span,
    /// How long an unused connection is kept; default 4s, below the 5s of common Python servers.
    pub idle: Span,
}

impl Default for TimeoutsSpec {
    fn default() -> Self {
        let seconds = |n| Span(std::time::Duration::from_secs(n));
        TimeoutsSpec { connect: seconds(2), read: seconds(30), write: seconds(30), idle: seconds(4) }
    }
}

/// One rate-limit policy: a token bucket per subject. Its capacity is the rate's count plus the burst.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// Whose bucket: the proven user's (the client address where there is none), or the client address's.
    pub by: Subject,
    /// One bucket per route, or one over all routes with this policy; default `route`.
    #[serde(default)]
    pub over: Scope,
    /// The same rate for everybody. Give this or `roles`.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// A rate per role. Give this or `rate`.
    #[serde(default)]
    pub roles: Option<RoleRates>,
    /// Tokens on top of the rate's count; default 20.
    #[serde(default = "defaults::burst")]
    pub burst: u32,
}

/// A rate for each role; anonymous callers have the rate of `candidat`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRates {
    /// For `candidat`.
    pub candidat: Rate,
    /// For `recruteur`.
    pub recruteur: Rate,
    /// For `admin`.
    pub admin: Rate,
}

/// Whose bucket a policy charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The proven user; the client address where nobody is proven.
    User,
    /// The client address (IPv4 exact, IPv6 by its /64).
    Address,
}

/// What a policy's bucket spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One bucket per route.
    #[default]
    Route,
    /// One bucket over all routes that use the policy.
    AllRoutes,
}

/// Cap on requests per client address, before authentication.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FloodGuardSpec {
    /// Requests per address over all routes.
    pub rate: Rate,
    /// Tokens on top of the rate's count; default 20.
    #[serde(default = "defaults::burst")]
    pub burst: u32,
}

/// Cross-origin rules (Fetch standard, CORS protocol).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorsSpec {
    /// Origins that browsers may call from, with credentials: `scheme://host[:port]`. One entry may hold a
    /// comma-separated list. Default: ports 3000 and 8080 on localhost and 127.0.0.1.
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
    pub limits: Vec<String>,
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
    /// Policies that a request must pass, all of them; default `defaults.limits`. `[]` is none.
    #[serde(default)]
    pub limits: Option<Vec<String>>,
    /// Longest a whole request may take; default `defaults.timeout`.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// What bodies it takes.
    #[serde(default)]
    pub body: BodySpec,
    /// Client networks that may call; default: all.
    #[serde(default)]
    pub allow_from: Option<AllowFrom>,
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

/// The gateway's own pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Builtin {
    /// Name, version and routes of the gateway.
    ServiceCard,
    /// `{"status":"ok"}`; touches nothing else.
    Status,
    /// Health of all services, from the background checks.
    Health,
    /// Health of the service named by the path parameter `{service}`.
    ServiceHealth,
    /// Health of all targets, with their addresses.
    HealthDetailed,
    /// Recent changes of health.
    HealthHistory,
    /// Forgets probe results and asks for a new round.
    HealthReset,
    /// Prometheus text.
    Metrics,
    /// Swagger UI.
    Docs,
    /// ReDoc.
    Redoc,
    /// OpenAPI 3.1 of all routes.
    Openapi,
    /// Makes an account.
    AuthRegister,
    /// Opens a session.
    AuthLogin,
    /// Goes on with a session.
    AuthRefresh,
    /// Ends a session.
    AuthLogout,
    /// The caller's account.
    AuthMe,
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

/// Who may call a route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum AuthSpec {
    /// `public`, `optional` or `required`.
    Word(AuthWord),
    /// Only some roles.
    Roles(RolesSpec),
}

/// Who may call, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthWord {
    /// Everybody; a token is not looked at.
    Public,
    /// Everybody; a valid token makes its owner known.
    Optional,
    /// Every role, with a valid token.
    Required,
}

/// Only some roles, with a valid token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolesSpec {
    /// The roles.
    #[schemars(length(min = 1))]
    pub roles: Vec<Role>,
    /// Text of the refusal for other roles.
    #[serde(default)]
    pub message: Option<TextSpec>,
}

/// A text for clients.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    /// French.
    pub fr: String,
    /// English; default: the French text.
    #[serde(default)]
    pub en: Option<String>,
}

/// What bodies a route takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BodySpec {
    /// Cap; default `defaults.max_body`. One byte more is 413.
    pub max: Option<ByteSize>,
    /// Media types it takes; others are 415. Default: all.
    pub content_types: Vec<String>,
    /// Whether a JSON body is checked before any upstream is called. A body of another media type passes.
    pub json: bool,
}

/// Client networks: a list, one entry of which may hold a comma-separated list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct AllowFrom(#[schemars(with = "Vec<String>")] pub Vec<IpNet>);

mod defaults {
    use super::Span;
    use std::time::Duration;

    pub(super) fn resolve_every() -> Span {
        Span(Duration::from_secs(10))
    }
    pub(super) fn health_every() -> Span {
        Span(Duration::from_secs(10))
    }
    pub(super) fn health_timeout() -> Span {
        Span(Duration::from_secs(5))
    }
    pub(super) fn rise() -> u32 {
        2
    }
    pub(super) fn fall() -> u32 {
        3
    }
    pub(super) fn burst() -> u32 {
        20
    }
}
