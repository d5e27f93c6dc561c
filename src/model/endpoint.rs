//! Where a target of a pool is, as written in the table: `http://host:port`, `https://host[:port]` or `unix:/path`.
//! Parses text, looks up nothing.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// One target, as written: how it is reached is a part of what it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// Over TCP.
    Plain(Authority),
    /// Over TLS over TCP.
    Tls(Authority),
    /// Over a Unix socket.
    Unix(SocketPath),
}

/// A host and a port, as written; the host in lower case and never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    host: String,
    port: u16,
}

/// The absolute path of a Unix socket, short enough to be one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketPath(Arc<Path>);

/// Where to connect: what an endpoint is, or what its name was found to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An address and a TCP port.
    Inet(SocketAddr),
    /// A Unix socket.
    Unix(SocketPath),
}

/// Why a text is not a target, and what would be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(&'static str);

const FORM: EndpointError = EndpointError("expected http://host:port, https://host[:port] or unix:/path");
/// Longest path of a Unix socket, in bytes (`sun_path` with its closing zero, unix(7)).
const LONGEST_PATH: usize = 107;
/// Port of `https` without one (RFC 9110 §4.2.2).
const HTTPS: u16 = 443;

impl Endpoint {
    /// The name to look up and its port; none when the address is known from the text.
    pub fn name(&self) -> Option<(&str, u16)> {
        match self {
            Endpoint::Plain(at) | Endpoint::Tls(at) => match at.literal() {
                Some(_) => None,
                None => Some((&at.host, at.port)),
            },
            Endpoint::Unix(_) => None,
        }
    }

    /// Its address, when it is written as one and needs no look-up.
    pub fn literal(&self) -> Option<Address> {
        match self {
            Endpoint::Plain(at) | Endpoint::Tls(at) => at.literal().map(Address::Inet),
            Endpoint::Unix(path) => Some(Address::Unix(path.clone())),
        }
    }

    /// Its host and port; none of a Unix socket.
    pub fn host_and_port(&self) -> Option<&Authority> {
        match self {
            Endpoint::Plain(at) | Endpoint::Tls(at) => Some(at),
            Endpoint::Unix(_) => None,
        }
    }

    /// The `Host` of requests to it: `host:port`, without the port where it is `https`'s own, and `localhost` for a
    /// Unix socket, which has no name.
    pub fn authority(&self) -> String {
        match self {
            Endpoint::Plain(at) => at.to_string(),
            Endpoint::Tls(at) if at.port == HTTPS => at.bracketed(),
            Endpoint::Tls(at) => at.to_string(),
            Endpoint::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl Authority {
    /// The host as written, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    fn literal(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

impl SocketPath {
    /// A path that can be a socket's.
    pub fn of(path: &Path) -> Option<SocketPath> {
        socket_path(path.to_str()?).ok()
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Address {
    /// The address and port, unless it is a Unix socket.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Address::Inet(addr) => Some(*addr),
            Address::Unix(_) => None,
        }
    }
}

impl PartialEq<SocketAddr> for Address {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.inet() == Some(*other)
    }
}

/// `host:port`.
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.bracketed(), self.port)
    }
}

/// The path.
impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// `host:port` without the scheme over plain TCP, else with it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Plain(at) => at.fmt(f),
            Endpoint::Tls(at) => write!(f, "https://{at}"),
            Endpoint::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// `address:port`, or the path.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(addr) => addr.fmt(f),
            Address::Unix(path) => path.fmt(f),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `http://host:port` and `https://host[:port]`, which one slash may follow, and `unix:/path`.
    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket_path(path).map(Endpoint::Unix);
        }
        let (authority, tls) = match text.strip_prefix("https://") {
            Some(authority) => (authority, true),
            None => (text.strip_prefix("http://").ok_or(FORM)?, false),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#']) {
            return Err(EndpointError("a target has no path of its own; give the path in `to.path` of the route"));
        }
        let (host, port) = host_and_port(authority).ok_or(FORM)?;
        let at = |port| Authority { host: host.to_ascii_lowercase(), port };
        match port {
            Some(port) if tls => Ok(Endpoint::Tls(at(port))),
            None if tls => Ok(Endpoint::Tls(at(HTTPS))),
            Some(port) => Ok(Endpoint::Plain(at(port))),
            None => Err(EndpointError("the port is missing; expected http://host:port")),
        }
    }
}

fn socket_path(text: &str) -> Result<SocketPath, EndpointError> {
    if !text.starts_with('/') || text.starts_with("//") || text.ends_with('/') {
        return Err(EndpointError("expected unix:/path, with the absolute path of a socket"));
    }
    if text.len() > LONGEST_PATH {
        return Err(EndpointError("the path is too long for a Unix socket, at most 107 bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err(EndpointError("a socket's path has no control characters"));
    }
    Ok(SocketPath(PathBuf::from(text).into()))
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
    fn targets_are_hosts_and_ports_or_sockets() {
        for (text, shown, authority, literal) in [
            ("http://cv-parser:5051", "cv-parser:5051", "cv-parser:5051", false),
            ("http://CV-Parser:5051/", "cv-parser:5051", "cv-parser:5051", false),
            ("http://Matching_1.internal:1", "matching_1.internal:1", "matching_1.internal:1", false),
            ("http://127.0.0.1:5060", "127.0.0.1:5060", "127.0.0.1:5060", true),
            ("http://[::1]:5060", "[::1]:5060", "[::1]:5060", true),
            ("https://Api.example", "https://api.example:443", "api.example", false),
            ("https://api.example:8443/", "https://api.example:8443", "api.example:8443", false),
            ("https://[::1]", "https://[::1]:443", "[::1]", true),
            ("unix:/run/App.sock", "unix:/run/App.sock", "localhost", true),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.to_string(), endpoint.authority()), (shown.to_owned(), authority.to_owned()));
            assert_eq!((endpoint.literal().is_some(), endpoint.name().is_none()), (literal, literal), "{text}");
        }
    }

    #[test]
    fn how_a_target_is_reached_is_part_of_what_it_is() {
        let parse = |text: &str| text.parse::<Endpoint>().unwrap();
        assert_ne!(parse("http://a:443"), parse("https://a:443"));
        assert_eq!(parse("https://a:443"), parse("https://a"));
        assert_ne!(parse("unix:/a"), parse("unix:/b"));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        let long = format!("unix:/{}", "x".repeat(107));
        for text in [
            "",
            "cv-parser:5051",
            "http://",
            "http://a",
            "http://a:",
            "https://",
            "https://:443",
            "https://a:0",
            "https:a:1",
            "ftp://a:1",
            "unix:",
            "unix:/",
            "unix:run/a",
            "unix://run/a",
            "unix:/run/a/",
            "unix:/run/\0a",
            &long,
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
        fn no_text_panics_and_what_is_read_is_written_the_same(text in "(http://|https://|unix:)?.{0,40}", host in "[a-z][a-z0-9.-]{0,20}", port in 1_u16..) {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                let written = match &endpoint {
                    Endpoint::Plain(at) => format!("http://{at}"),
                    Endpoint::Tls(_) | Endpoint::Unix(_) => endpoint.to_string(),
                };
                proptest::prop_assert_eq!(written.parse(), Ok(endpoint));
            }
            let written = format!("{host}:{port}");
            proptest::prop_assert_eq!(format!("http://{written}").parse::<Endpoint>().unwrap().to_string(), written);
        }
    }
}
