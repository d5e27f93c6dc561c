//! Where a target of a pool is, as written in the table: `http://host:port`. Parses text, looks up nothing.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A host and a port, as written; the host in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// Why a text is not a target, and what would be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(&'static str);

const FORM: EndpointError = EndpointError("expected http://host:port");

impl Endpoint {
    /// The host as written, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, when it is written as one and needs no look-up.
    pub fn literal(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// `host:port`, without the scheme.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `http://host:port`; one slash may follow.
    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        if text.starts_with("https:") {
            return Err(EndpointError("targets over TLS come with a later version; use http://host:port"));
        }
        if text.starts_with("unix:") {
            return Err(EndpointError("targets on Unix sockets come with a later version; use http://host:port"));
        }
        let authority = text.strip_prefix("http://").ok_or(FORM)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#']) {
            return Err(EndpointError("a target has no path of its own; give the path in `to.path` of the route"));
        }
        let (host, port) = host_and_port(authority).ok_or(FORM)?;
        let port = port.ok_or(EndpointError("the port is missing; expected http://host:port"))?;
        Ok(Endpoint { host: host.to_ascii_lowercase(), port })
    }
}

/// Splits `host[:port]`; an IPv6 host stands in brackets and is given without (RFC 3986 §3.2.2, without escapes).
pub fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
    } else {
        let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if host.is_empty() || host.len() > 253 || !host.chars().all(fits) {
            return None;
        }
        (host, port)
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse::<u16>().ok().filter(|port| *port > 0)?)
        }
        Some(_) => return None,
        None => None,
    };
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_hosts_and_ports() {
        for (text, shown, literal) in [
            ("http://cv-parser:5051", "cv-parser:5051", false),
            ("http://CV-Parser:5051/", "cv-parser:5051", false),
            ("http://Matching_1.internal:1", "matching_1.internal:1", false),
            ("http://127.0.0.1:5060", "127.0.0.1:5060", true),
            ("http://[::1]:5060", "[::1]:5060", true),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(endpoint.literal().is_some(), literal, "{text}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "",
            "cv-parser:5051",
            "http://",
            "http://a",
            "http://a:",
            "https://a:1",
            "unix:/run/a",
            "http://a:0",
            "http://a:65536",
            "http://a:+1",
            "http://a:1/path",
            "http://user@a:1",
            "http://a b:1",
            "http://[::1",
            "http://[zz]:1",
            "http://[::1]1",
            "http://a:1:2",
            "http://:80",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_written_the_same(text in ".{0,40}", host in "[a-z][a-z0-9.-]{0,20}", port in 1_u16..) {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                proptest::prop_assert_eq!(format!("http://{endpoint}").parse(), Ok(endpoint));
            }
            let written = format!("{host}:{port}");
            proptest::prop_assert_eq!(format!("http://{written}").parse::<Endpoint>().unwrap().to_string(), written);
        }
    }
}
