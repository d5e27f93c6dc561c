//! The shape of `balance` of a pool in `routes.yaml`.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// How a pool chooses among its targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum BalanceSpec {
    /// By turns, by load, or at random.
    Word(BalanceWord),
    /// By something of the request.
    Hash(HashSpec),
}

/// How, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BalanceWord {
    /// Turns by weight, evenly spread.
    RoundRobin,
    /// The less busy of two drawn at random: requests in flight per weight.
    LeastRequest,
    /// The quicker of two drawn at random: recent latency times requests in flight per weight.
    PeakEwma,
    /// At random, by weight.
    Random,
}

/// By what of the request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HashSpec {
    /// Requests with the same one go to the same target, as long as it is there.
    pub consistent_hash: HashKeySpec,
}

/// What requests are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum HashKeySpec {
    /// Who sent it.
    Word(HashWord),
    /// A header.
    Header(HashHeaderSpec),
}

/// Who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashWord {
    /// The client's address.
    Address,
    /// The proven user; the client's address where nobody is proven.
    User,
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HashHeaderSpec {
    /// Its name. Its first line counts; requests without it go by the client's address.
    pub header: String,
}

impl Default for BalanceSpec {
    fn default() -> Self {
        BalanceSpec::Word(BalanceWord::RoundRobin)
    }
}

impl<'de> Deserialize<'de> for BalanceSpec {
    /// By hand, because serde's untagged enums cannot say what is wrong inside one of their forms.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrHash;
        impl<'de> Visitor<'de> for WordOrHash {
            type Value = BalanceSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`round_robin`, another word, or `{consistent_hash: address}`")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<BalanceSpec, E> {
                if word == "consistent_hash" {
                    return Err(E::custom("say by what: `{consistent_hash: address}`, `user` or `{header: x-name}`"));
                }
                BalanceWord::deserialize(word.into_deserializer()).map(BalanceSpec::Word)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BalanceSpec, A::Error> {
                HashSpec::deserialize(MapAccessDeserializer::new(map)).map(BalanceSpec::Hash)
            }
        }
        deserializer.deserialize_any(WordOrHash)
    }
}

impl<'de> Deserialize<'de> for HashKeySpec {
    /// By hand, for the same reason.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrHeader;
        impl<'de> Visitor<'de> for WordOrHeader {
            type Value = HashKeySpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`address`, `user`, or `{header: x-name}`")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<HashKeySpec, E> {
                HashWord::deserialize(word.into_deserializer()).map(HashKeySpec::Word)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HashKeySpec, A::Error> {
                HashHeaderSpec::deserialize(MapAccessDeserializer::new(map)).map(HashKeySpec::Header)
            }
        }
        deserializer.deserialize_any(WordOrHeader)
    }
}
