//! The shape of `targets` of a pool in `routes.yaml`.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// One target of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    /// Where it is: `http://host:port`, `https://host[:port]` or `unix:/path`.
    pub url: String,
    /// Its share of the requests beside the others'; default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,
    /// Whether it gets requests only while the others cannot take them; default false.
    #[serde(default)]
    pub backup: bool,
    /// Whether it gets no new requests; those that it has are finished; default false.
    #[serde(default)]
    pub drain: bool,
}

impl TargetSpec {
    /// The target at `url`, with nothing special about it.
    pub fn at(url: &str) -> TargetSpec {
        TargetSpec { url: url.to_owned(), weight: 1, backup: false, drain: false }
    }
}

fn one() -> u32 {
    1
}

/// Reads a list of targets: texts, each of which may hold several with commas, and maps.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TargetSpec>, D::Error> {
    struct Targets;
    impl<'de> Visitor<'de> for Targets {
        type Value = Vec<TargetSpec>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of targets")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<TargetSpec>, E> {
            Ok(urls(text))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<TargetSpec>, A::Error> {
            let mut all = Vec::new();
            while let Some(Entry(targets)) = seq.next_element()? {
                all.extend(targets);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(Targets)
}

/// One entry of the list.
struct Entry(Vec<TargetSpec>);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrMap;
        impl<'de> Visitor<'de> for TextOrMap {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`http://host:port`, or `{url: http://host:port, weight: 2}`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Entry, E> {
                Ok(Entry(urls(text)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
                TargetSpec::deserialize(MapAccessDeserializer::new(map)).map(|target| Entry(vec![target]))
            }
        }
        deserializer.deserialize_any(TextOrMap)
    }
}

fn urls(text: &str) -> Vec<TargetSpec> {
    text.split(',').map(str::trim).filter(|url| !url.is_empty()).map(TargetSpec::at).collect()
}

/// Schema of such a list.
pub(super) fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let target = generator.subschema_for::<TargetSpec>();
    schemars::json_schema!({
        "description": "A list of targets, or one text; each text may hold a comma-separated list.",
        "anyOf": [{ "type": "array", "items": { "anyOf": [{ "type": "string" }, target] } }, { "type": "string" }]
    })
}
