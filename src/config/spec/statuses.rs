//! Lists of HTTP statuses in `routes.yaml`: numbers, and ranges such as `"500-599"`.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Some of the statuses 100 to 599.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusesSpec(Vec<(u16, u16)>);

impl StatusesSpec {
    /// 500 to 599.
    pub fn server_errors() -> StatusesSpec {
        StatusesSpec(vec![(500, 599)])
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `status` is among them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

const EXPECTED: &str = "a list of statuses (100 to 599) and ranges of them, such as [503, \"520-529\"]";

fn known(status: u64) -> Option<u16> {
    u16::try_from(status).ok().filter(|status| (100..=599).contains(status))
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.trim().parse().ok().and_then(known);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Comma-separated, so that a variable can fill a list.
fn ranges<E: de::Error>(text: &str) -> Result<Vec<(u16, u16)>, E> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let one = |part: &str| range(part).ok_or_else(|| E::custom(format!("{part:?} is not one: expected {EXPECTED}")));
    parts.map(one).collect()
}

impl<'de> Deserialize<'de> for StatusesSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Statuses;
        impl<'de> Visitor<'de> for Statuses {
            type Value = StatusesSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusesSpec, E> {
                ranges(text).map(StatusesSpec)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StatusesSpec, A::Error> {
                let mut all = Vec::new();
                while let Some(Entry(ranges)) = seq.next_element()? {
                    all.extend(ranges);
                }
                Ok(StatusesSpec(all))
            }
        }
        deserializer.deserialize_any(Statuses)
    }
}

/// One entry of the list.
struct Entry(Vec<(u16, u16)>);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status (100 to 599), or a range such as \"500-599\"")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Entry, E> {
                let unknown = || E::custom(format!("{number} is not one: expected {EXPECTED}"));
                known(number).map(|status| Entry(vec![(status, status)])).ok_or_else(unknown)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Entry, E> {
                ranges(text).map(Entry)
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

impl Serialize for StatusesSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        }))
    }
}

impl JsonSchema for StatusesSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatusesSpec".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let number = schemars::json_schema!({ "type": "integer", "minimum": 100, "maximum": 599 });
        schemars::json_schema!({
            "description": EXPECTED,
            "anyOf": [{ "type": "array", "items": { "anyOf": [number, { "type": "string" }] } }, { "type": "string" }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<StatusesSpec, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_ranges_and_comma_lists() {
        let spec = read(r#"[429, "500-503, 507", "520 - 529"]"#).unwrap();
        for (status, is_one) in
            [(429, true), (499, false), (500, true), (503, true), (504, false), (507, true), (529, true), (530, false)]
        {
            assert_eq!(spec.contains(status), is_one, "{status}");
        }
        assert_eq!(read(&serde_json::to_string(&spec).unwrap()), Ok(spec));
        assert_eq!(read(r#""500-599""#), Ok(StatusesSpec::server_errors()));
        assert_eq!(read("[]").map(|none| none.contains(500)), Ok(false));
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for json in [r#"[600]"#, "[99]", r#"["500-"]"#, r#"["509-500"]"#, r#"["5xx"]"#, "503", "[-1]", "[5.5]"] {
            let error = read(json).unwrap_err();
            assert!(error.contains("100 to 599"), "{json}: {error}");
        }
    }
}
