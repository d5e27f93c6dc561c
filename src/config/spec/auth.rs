//! The shape of `auth` in `routes.yaml`.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::role::Role;

/// Who may call a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum AuthSpec {
    /// `public`, `optional` or `required`.
    Word(AuthWord),
    /// Only some roles, or also machines.
    Roles(RolesSpec),
}

impl AuthSpec {
    /// Whether machines with an API key may call.
    pub const fn takes_api_keys(&self) -> bool {
        matches!(self, AuthSpec::Roles(RolesSpec { api_keys: true, .. }))
    }
}

impl<'de> Deserialize<'de> for AuthSpec {
    /// By hand, because serde's untagged enums cannot say what is wrong inside one of their forms.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrRoles;
        impl<'de> Visitor<'de> for WordOrRoles {
            type Value = AuthSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`public`, `optional`, `required`, or `{roles: […], api_keys: true}`")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<AuthSpec, E> {
                AuthWord::deserialize(word.into_deserializer()).map(AuthSpec::Word)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AuthSpec, A::Error> {
                RolesSpec::deserialize(MapAccessDeserializer::new(map)).map(AuthSpec::Roles)
            }
        }
        deserializer.deserialize_any(WordOrRoles)
    }
}

/// Who may call, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthWord {
    /// Everybody; a token is not looked at.
    Public,
    /// Everybody; a token that is sent must be valid, and makes its owner known.
    Optional,
    /// Every role, with a valid token.
    Required,
}

/// Only some roles, with a valid token or, where it says so, an API key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolesSpec {
    /// The roles; default: every role.
    #[serde(default = "every_role")]
    #[schemars(length(min = 1))]
    pub roles: Vec<Role>,
    /// Text of the refusal for other roles.
    #[serde(default)]
    pub message: Option<TextSpec>,
    /// Whether an API key in `X-API-Key` is as good as a token; default false.
    #[serde(default)]
    pub api_keys: bool,
}

impl RolesSpec {
    /// Whether no role is refused.
    pub fn takes_every_role(&self) -> bool {
        Role::ALL.iter().all(|role| self.roles.contains(role))
    }
}

fn every_role() -> Vec<Role> {
    Role::ALL.to_vec()
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
