//! The name that a server's certificate must be for. Never empty: an empty one would switch verification off.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::ServerName as Name;
use schemars::JsonSchema;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// A host name, or an address, that a certificate can be for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub struct ServerName(String);

/// Why a text is not such a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a host name (letters, digits, `-` and `.`) or an address")]
pub struct ServerNameError;

impl ServerName {
    /// As written, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerName {
    type Err = ServerNameError;

    /// Reads a host name (RFC 6125 §1.7.2, without wildcards) or an address without brackets. `_` is refused:
    /// Pingora would verify another name, with `-` in its place.
    fn from_str(text: &str) -> Result<ServerName, ServerNameError> {
        let text = text.to_ascii_lowercase();
        if text.contains('_') || Name::try_from(text.as_str()).is_err() {
            return Err(ServerNameError);
        }
        Ok(ServerName(text))
    }
}

impl<'de> Deserialize<'de> for ServerName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = ServerName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a host name")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ServerName, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_server_names_and_nothing_is_not() {
        for (text, name) in
            [("Api.Example", Some("api.example")), ("127.0.0.1", Some("127.0.0.1")), ("::1", Some("::1"))]
                .into_iter()
                .chain(["", " ", "a_b", "a b", "*.a", "a/b", "[::1]", "-", "a..b"].map(|text| (text, None)))
        {
            assert_eq!(text.parse::<ServerName>().ok().as_ref().map(ServerName::as_str), name, "{text:?}");
        }
    }
}
