//! Lists of texts as ops write them: a YAML list, one text, or comma-separated texts in either, so that one
//! variable (`ALLOWED_ORIGINS=a,b`) can fill a list. Split when read; nobody splits again.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Reads a list of texts; empty entries are dropped.
pub fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(ListVisitor::<String>(PhantomData))
}

/// Reads a list of networks; a bare address is a network of its own.
pub fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let list = deserializer.deserialize_any(ListVisitor::<Network>(PhantomData))?;
    Ok(list.into_iter().map(|network| network.0).collect())
}

/// Schema of such a list.
pub(super) fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "description": "A list of texts, or one text; each may hold a comma-separated list.",
        "anyOf": [{ "type": "array", "items": { "type": "string" } }, { "type": "string" }]
    })
}

trait Entry: Sized {
    const EXPECTED: &'static str;
    fn read(text: &str) -> Option<Self>;
}

impl Entry for String {
    const EXPECTED: &'static str = "a list of texts";

    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

/// `10.0.0.0/8`, or an address alone.
struct Network(IpNet);

impl Entry for Network {
    const EXPECTED: &'static str = "a network such as 10.0.0.0/8, or an address";

    fn read(text: &str) -> Option<Self> {
        text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map(Network).ok()
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Entry> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        entries(text).map(|list| list.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(Entries(list)) = seq.next_element()? {
            all.extend(list);
        }
        Ok(all)
    }
}

/// The entries of one text.
struct Entries<T>(Vec<T>);

fn entries<T: Entry, E: de::Error>(text: &str) -> Result<Entries<T>, E> {
    let texts = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let list: Option<Vec<T>> = texts.map(T::read).collect();
    list.map(Entries).ok_or_else(|| E::custom(format_args!("expected {}", T::EXPECTED)))
}

impl<'de, T: Entry> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);
        impl<T: Entry> Visitor<'_> for Text<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Entries<T>, E> {
                entries(text)
            }
        }
        deserializer.deserialize_any(Text(PhantomData))
    }
}

/// Networks of clients or proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl Networks {
    /// Whether one of them holds `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        networks(deserializer).map(Networks)
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Shape {
        #[serde(default, deserialize_with = "texts")]
        names: Vec<String>,
        #[serde(default)]
        from: Networks,
    }

    #[test]
    fn texts_split_at_commas_wherever_they_stand() {
        for text in [r#"{"names":"a, b,,c"}"#, r#"{"names":["a,b","c"]}"#, r#"{"names":["a","b","c",""]}"#] {
            assert_eq!(serde_json::from_str::<Shape>(text).unwrap().names, ["a", "b", "c"], "{text}");
        }
        assert!(serde_json::from_str::<Shape>(r#"{"names":[1]}"#).is_err());
    }

    #[test]
    fn networks_may_be_single_addresses() {
        let shape: Shape = serde_json::from_str(r#"{"from":["10.0.0.0/8,::1","127.0.0.1"]}"#).unwrap();
        assert!(shape.from.contains("10.9.8.7".parse().unwrap()) && shape.from.contains("::1".parse().unwrap()));
        assert!(!shape.from.contains("127.0.0.2".parse().unwrap()));
        assert!(serde_json::from_str::<Shape>(r#"{"from":["10.0.0.0/33"]}"#).is_err());
    }
}
