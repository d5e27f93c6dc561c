//! The shape of `limits`, `limit_headers` and `flood_guard` in `routes.yaml`.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::role::Role;
use crate::model::units::{Rate, Span};

/// One policy: a token bucket per subject, a bound on its requests in flight, or both. A bucket's capacity is the
/// rate's count plus the burst.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// Whose bucket.
    pub by: SubjectSpec,
    /// One bucket per route, per group of routes, or over all routes with this policy; default `route`.
    #[serde(default)]
    pub over: ScopeSpec,
    /// The same rate for everybody. Not beside `roles`.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// A rate per role. Not beside `rate`.
    #[serde(default)]
    pub roles: Option<RoleRates>,
    /// Tokens on top of the rate's count; default 20.
    #[serde(default = "defaults::burst")]
    pub burst: u32,
    /// Tokens that a request takes, where its route does not say otherwise; default 1.
    #[serde(default = "defaults::cost")]
    #[schemars(range(min = 1))]
    pub cost: u32,
    /// Most requests of one subject in flight at once, in one process; default: no bound.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub in_flight: Option<u32>,
    /// Counts what it would refuse, and refuses nothing; default false.
    #[serde(default)]
    pub shadow: bool,
    /// How replicas count together, where REDIS_URL is set; default `exact`.
    #[serde(default)]
    pub sharing: Sharing,
    /// What happens while the shared store does not answer; default `local`.
    #[serde(default)]
    pub on_store_failure: OnStoreFailure,
}

/// A rate for each role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRates {
    /// For callers who prove nothing; default: that of `candidat`.
    #[serde(default)]
    pub anonymous: Option<Rate>,
    /// For `candidat`.
    pub candidat: Rate,
    /// For `recruteur`.
    pub recruteur: Rate,
    /// For `admin`.
    pub admin: Rate,
}

impl RoleRates {
    /// The rate of a role; `None` is who proved nothing.
    pub fn of(&self, role: Option<Role>) -> Rate {
        match role {
            None => self.anonymous.unwrap_or(self.candidat),
            Some(Role::Candidat) => self.candidat,
            Some(Role::Recruteur) => self.recruteur,
            Some(Role::Admin) => self.admin,
        }
    }
}

/// Whose bucket a policy charges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum SubjectSpec {
    /// Who sent the request.
    Word(SubjectWord),
    /// What a header says.
    Header(SubjectHeaderSpec),
}

impl SubjectSpec {
    /// Whether a bucket may be that of an account.
    pub fn may_be_a_user(&self) -> bool {
        matches!(self, SubjectSpec::Word(SubjectWord::User | SubjectWord::ApiKey))
    }

    /// Whether all requests of one subject come with one role.
    pub fn has_one_role(&self) -> bool {
        matches!(self, SubjectSpec::Word(SubjectWord::User | SubjectWord::ApiKey | SubjectWord::Role))
    }
}

/// Who sent the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectWord {
    /// The proven user; the client address where nobody is proven.
    User,
    /// The API key; where there is none, the user, then the address.
    ApiKey,
    /// The role: one bucket for all who have it, and one for all who proved nothing.
    Role,
    /// The client address (IPv4 exact, IPv6 by its /64).
    Address,
    /// All callers together.
    Everyone,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectHeaderSpec {
    /// Its name. Requests without it, or with nothing in it, are counted by the client address. Whoever sends it chooses it: not a limit on its own.
    pub header: String,
}

/// What a policy's bucket spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScopeSpec {
    /// One bucket per route.
    #[default]
    Route,
    /// One bucket for the routes of the same `group`; a route without one is on its own.
    Group,
    /// One bucket over all routes that use the policy.
    AllRoutes,
}

/// How replicas count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Every request is decided in Redis.
    #[default]
    Exact,
    /// Replicas take a few tokens ahead. Where a few would be less than two, as `exact`.
    Lease,
    /// Each replica counts alone.
    None,
}

/// What happens while the shared store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreFailure {
    /// Each replica counts alone, with its share of the limit.
    #[default]
    Local,
    /// Requests pass uncounted. Not on routes where passwords are tried.
    Allow,
    /// Requests are refused (429).
    Deny,
}

/// A policy on a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum LimitUse {
    /// By name.
    Name(String),
    /// With a cost of the route's own.
    Costing(LimitCostSpec),
}

/// A policy with a cost of the route's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitCostSpec {
    /// Its name.
    pub policy: String,
    /// Tokens that a request takes here.
    #[schemars(range(min = 1))]
    pub cost: u32,
}

impl LimitUse {
    /// The policy's name.
    pub fn policy(&self) -> &str {
        match self {
            LimitUse::Name(name) => name,
            LimitUse::Costing(with) => &with.policy,
        }
    }

    /// Tokens that a request takes, where the route says so.
    pub fn cost(&self) -> Option<u32> {
        match self {
            LimitUse::Name(_) => None,
            LimitUse::Costing(with) => Some(with.cost),
        }
    }
}

/// How answers tell clients about their limits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitHeadersSpec {
    /// Form of `RateLimit` and `RateLimit-Policy`; default `draft_10`.
    pub ietf: IetfForm,
    /// Whether `X-RateLimit-*` are sent; default true.
    pub x_ratelimit: bool,
    /// Up to so much is added, at random, to the times until clients may come again; default 0s.
    pub jitter: Span,
}

impl Default for LimitHeadersSpec {
    fn default() -> Self {
        LimitHeadersSpec { ietf: IetfForm::Draft10, x_ratelimit: true, jitter: Span(std::time::Duration::ZERO) }
    }
}

/// Form of the IETF headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IetfForm {
    /// draft-ietf-httpapi-ratelimit-headers-10: `r` and `t`.
    #[default]
    #[serde(rename = "draft_10")]
    Draft10,
    /// The names that were talked about for its successor: `a` and `w`.
    #[serde(rename = "draft_11")]
    Draft11,
    /// Not sent.
    Off,
}

/// Cap on requests per client address, before anything is answered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FloodGuardSpec {
    /// Requests per address, whatever they ask for.
    pub rate: Rate,
    /// Tokens on top of the rate's count; default 20.
    #[serde(default = "defaults::burst")]
    pub burst: u32,
}

/// Tokens on top of a rate's count, where nothing is said.
pub const DEFAULT_BURST: u32 = 20;

mod defaults {
    pub(super) fn burst() -> u32 {
        super::DEFAULT_BURST
    }

    pub(super) fn cost() -> u32 {
        1
    }
}

impl<'de> Deserialize<'de> for SubjectSpec {
    /// By hand, because serde's untagged enums cannot say what is wrong inside one of their forms.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrHeader;
        impl<'de> Visitor<'de> for WordOrHeader {
            type Value = SubjectSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`user`, `api_key`, `role`, `address`, `everyone`, or `{header: x-name}`")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<SubjectSpec, E> {
                SubjectWord::deserialize(word.into_deserializer()).map(SubjectSpec::Word)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SubjectSpec, A::Error> {
                SubjectHeaderSpec::deserialize(MapAccessDeserializer::new(map)).map(SubjectSpec::Header)
            }
        }
        deserializer.deserialize_any(WordOrHeader)
    }
}

impl<'de> Deserialize<'de> for LimitUse {
    /// By hand, for the same reason.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrCost;
        impl<'de> Visitor<'de> for NameOrCost {
            type Value = LimitUse;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a policy, or `{policy: name, cost: 5}`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<LimitUse, E> {
                Ok(LimitUse::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LimitUse, A::Error> {
                LimitCostSpec::deserialize(MapAccessDeserializer::new(map)).map(LimitUse::Costing)
            }
        }
        deserializer.deserialize_any(NameOrCost)
    }
}
