//! The shape of `revocation` in `routes.yaml`.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::units::Span;

/// How old the knowledge of revocations may be by which a route lets callers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RevocationSpec {
    /// `eventual`.
    Word(RevocationWord),
    /// Bounded.
    Bounded(BoundedSpec),
}

/// How old, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RevocationWord {
    /// As old as it happens to be: while the store is away, what was revoked elsewhere is not seen.
    Eventual,
}

/// Not older than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BoundedSpec {
    /// Longest since the last pull from the store, 6s or more; else proven callers get 503.
    pub bounded: Span,
}

impl<'de> Deserialize<'de> for RevocationSpec {
    /// By hand, because serde's untagged enums cannot say what is wrong inside one of their forms.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrBound;
        impl<'de> Visitor<'de> for WordOrBound {
            type Value = RevocationSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`eventual`, or `{bounded: 10s}`")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RevocationSpec, E> {
                RevocationWord::deserialize(word.into_deserializer()).map(RevocationSpec::Word)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RevocationSpec, A::Error> {
                BoundedSpec::deserialize(MapAccessDeserializer::new(map)).map(RevocationSpec::Bounded)
            }
        }
        deserializer.deserialize_any(WordOrBound)
    }
}
