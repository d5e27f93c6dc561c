//! A JSON object read member by member, so that a name given twice can be seen and refused.
//!
//! Parsers differ in which of two equal names they believe (RFC 8259 §4); where that matters, neither is believed.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The members of an object, in their order, with repeats.
#[derive(Debug, Clone, PartialEq)]
pub struct Members(pub Vec<(String, Value)>);

/// Why a text is not an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnObject {
    /// It is not JSON.
    #[error("not JSON")]
    Syntax,
    /// It is JSON, but an array, a string, a number, a boolean or null.
    #[error("not a JSON object")]
    OtherValue,
}

impl Members {
    /// Reads one object that fills the whole text.
    pub fn parse(text: &[u8]) -> Result<Members, NotAnObject> {
        serde_json::from_slice(text).map_err(|error| {
            // The reader stops at the first byte that opens no object; only the rest tells whether it is JSON.
            if error.is_data() && serde_json::from_slice::<IgnoredAny>(text).is_ok() {
                NotAnObject::OtherValue
            } else {
                NotAnObject::Syntax
            }
        })
    }

    /// The object, or the first name that is given twice.
    pub fn into_map(self) -> Result<Map<String, Value>, String> {
        let mut map = Map::new();
        for (name, value) in self.0 {
            if map.contains_key(&name) {
                return Err(name);
            }
            map.insert(name, value);
        }
        Ok(map)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_and_other_values_are_told_apart() {
        for text in ["", "{", "{\"a\":1,}", "[1,", "nope", "{} x", "\"\\ud800\"x"] {
            assert_eq!(Members::parse(text.as_bytes()), Err(NotAnObject::Syntax), "{text}");
        }
        for text in ["[]", "1", "\"a\"", "null", "true", "[{\"a\":1}]"] {
            assert_eq!(Members::parse(text.as_bytes()), Err(NotAnObject::OtherValue), "{text}");
        }
        assert_eq!(Members::parse(b" {} "), Ok(Members(Vec::new())));
    }

    #[test]
    fn a_repeated_name_is_seen() {
        let members = Members::parse(br#"{"a":1,"b":2,"\u0061":3}"#).unwrap();
        assert_eq!(members.into_map(), Err("a".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text: Vec<u8>) {
            let _ = Members::parse(&text);
        }
    }
}
