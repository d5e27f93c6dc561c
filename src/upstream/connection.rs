//! What a connection to a target needs: address, TLS, protocol and waiting times, as the template that every try copies.
//!
//! Pingora keeps connections for reuse by a hash of the peer that leaves out the authorities and the protocol; the
//! peer's group has them, so that no request goes over a connection that another configuration trusted.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::SocketAddr as UnixAddress;
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::ALPN;
use pingora::protocols::l4::socket::SocketAddr as SocketAddress;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::{HttpPeer, PeerOptions, Scheme};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{Error, ErrorType, Result};
use tokio::net::{TcpStream, UnixStream};

use crate::config::spec::{PoolSpec, TimeoutsSpec};
use crate::model::endpoint::{Address, Endpoint, SocketPath};
use crate::model::server_name::ServerName;

/// Most requests at once on one HTTP/2 connection; a target may allow fewer.
const STREAMS: usize = 100;
/// Most bytes of an answer that are on their way on one stream of HTTP/2.
const STREAM_WINDOW: u32 = 256 << 10;
/// Between two pings on an HTTP/2 connection. A target that does not answer one is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Where nobody can listen.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Keeps probes off the connections of requests: each has to show that the target accepts new ones.
const PROBES: u64 = 1;

/// How all targets of a pool are reached.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// Accepted authorities; none: the system's.
    authorities: Option<Arc<CaType>>,
    /// The gateway's own certificate and key.
    identity: Option<Arc<CertKey>>,
    /// The name that certificates are for, where it is not the target's host.
    server_name: Option<ServerName>,
    http2: bool,
    group: u64,
}

impl Transport {
    /// As the pool says. Its files were read and checked with the table.
    pub(super) fn of(spec: &PoolSpec) -> Transport {
        let tls = spec.tls.clone().unwrap_or_default();
        let parsed = |der: &Vec<u8>| WrappedX509::new(der.clone(), parse_x509);
        let authorities: Vec<WrappedX509> = tls.files.ca.iter().map(parsed).collect();
        let identity = !tls.files.cert.is_empty() && !tls.files.key.is_empty();
        Transport {
            authorities: (!authorities.is_empty()).then(|| Arc::from(authorities)),
            identity: identity.then(|| Arc::new(CertKey::new(tls.files.cert.clone(), tls.files.key.clone()))),
            server_name: tls.server_name.clone(),
            http2: spec.http2,
            group: group(spec),
        }
    }

    /// Whether both reach targets in the same way.
    pub(super) fn is(&self, other: &Transport) -> bool {
        (self.group, &self.server_name) == (other.group, &other.server_name)
    }

    /// What connections to the target need: every one of Pingora's five timeouts, none of which has a default.
    pub(super) fn template(&self, endpoint: &Endpoint, address: &Address, timeouts: &TimeoutsSpec) -> HttpPeer {
        let mut peer = HttpPeer {
            _address: socket_address(address),
            scheme: Scheme::HTTP,
            sni: String::new(),
            proxy: None,
            client_cert_key: None,
            group_key: self.group,
            options: PeerOptions::new(),
        };
        if let Endpoint::Tls(at) = endpoint {
            // Pingora verifies nothing when this is empty. Neither can be.
            peer.sni = self.server_name.as_ref().map_or(at.host(), ServerName::as_str).to_owned();
            peer.scheme = Scheme::HTTPS;
            peer.client_cert_key = self.identity.clone();
            peer.options.ca = self.authorities.clone();
        }
        let options = &mut peer.options;
        if self.http2 {
            options.alpn = ALPN::H2;
            options.max_h2_streams = STREAMS;
            options.h2_ping_interval = Some(PING_EVERY);
            // The connection has room for what all its streams may hold: a slow reader keeps nobody else waiting.
            options.h2_stream_window_size = Some(STREAM_WINDOW);
            options.h2_connection_window_size = Some(STREAM_WINDOW.saturating_mul(STREAMS as u32));
        }
        options.connection_timeout = Some(timeouts.connect.0);
        options.total_connection_timeout = Some(timeouts.connect.0);
        options.read_timeout = Some(timeouts.read.0);
        options.write_timeout = Some(timeouts.write.0);
        options.idle_timeout = Some(timeouts.idle.0);
        peer
    }
}

/// The address in Pingora's form.
pub(super) fn socket_address(address: &Address) -> SocketAddress {
    match address {
        Address::Inet(addr) => SocketAddress::Inet(*addr),
        Address::Unix(path) => match UnixAddress::from_pathname(path.path()) {
            Ok(path) => SocketAddress::Unix(path),
            Err(_) => SocketAddress::Inet(NOWHERE), // no path that was parsed is too long or has a zero in it
        },
    }
}

/// The address in ours. Sockets without a path are nobody's target.
pub(super) fn address(address: &SocketAddress) -> Option<Address> {
    match address {
        SocketAddress::Inet(addr) => Some(Address::Inet(*addr)),
        SocketAddress::Unix(path) => SocketPath::of(path.as_pathname()?).map(Address::Unix),
    }
}

/// The same target for a probe, on a connection of its own: no other call of this group is on it, and none will be.
pub(super) fn for_probe(template: &HttpPeer) -> HttpPeer {
    let mut peer = template.clone();
    peer.group_key ^= PROBES;
    // A connection that takes one stream is not shared.
    peer.options.max_h2_streams = 1;
    peer.options.h2_ping_interval = None;
    peer
}

/// Connects, and closes again. The caller bounds the time.
pub(super) async fn open(address: &Address) -> Result<()> {
    let opened = match address {
        Address::Inet(addr) => TcpStream::connect(addr).await.map(drop),
        Address::Unix(path) => UnixStream::connect(path.path()).await.map(drop),
    };
    opened.map_err(|error| {
        let kind = match error.kind() {
            ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
            _ => ErrorType::ConnectError,
        };
        Error::because(kind, "while connecting", error)
    })
}

/// Differs when anything differs that makes one connection not as good as another. The plain case is 0.
fn group(spec: &PoolSpec) -> u64 {
    if spec.tls.is_none() && !spec.http2 {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    let tls = spec.tls.as_ref().map(|tls| &tls.files);
    tls.map(|files| (&files.ca, &files.cert, &files.key)).hash(&mut hasher);
    spec.http2.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::UpstreamTlsSpec;
    use crate::upstream::testing::unchecked;
    use pingora::upstreams::peer::Peer as _;

    fn peer(spec: &PoolSpec, url: &str) -> HttpPeer {
        let endpoint: Endpoint = url.parse().unwrap();
        let address = endpoint.literal().unwrap_or(Address::Inet(([10, 0, 0, 1], 443).into()));
        Transport::of(spec).template(&endpoint, &address, &TimeoutsSpec::default())
    }

    fn der(text: &str) -> Vec<u8> {
        use rustls_pki_types::pem::PemObject as _;
        rustls_pki_types::CertificateDer::from_pem_slice(text.as_bytes()).unwrap().to_vec()
    }

    fn trusting(authorities: Vec<Vec<u8>>) -> PoolSpec {
        let mut tls = UpstreamTlsSpec::default();
        tls.files.ca = authorities;
        PoolSpec { tls: Some(tls), ..unchecked(&[]) }
    }

    #[test]
    fn whatever_is_reached_over_tls_has_a_name_to_verify() {
        let mut named = trusting(Vec::new());
        named.tls.as_mut().unwrap().server_name = Some("other.example".parse().unwrap());
        for (spec, url, name) in [
            (unchecked(&[]), "https://a.example", "a.example"),
            (unchecked(&[]), "https://[::1]:8443", "::1"),
            (unchecked(&[]), "https://10.0.0.1", "10.0.0.1"),
            (named, "https://10.0.0.1", "other.example"),
        ] {
            let peer = peer(&spec, url);
            assert_eq!((peer.sni.as_str(), peer.is_tls()), (name, true), "{url}");
            assert!(peer.verify_cert() && peer.verify_hostname(), "{url}");
        }
        assert!(!peer(&unchecked(&[]), "http://a:1").is_tls() && !peer(&unchecked(&[]), "unix:/a").is_tls());
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_target_over_tls_without_a_name(text in "https://[a-z0-9:._/-]{0,12}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                let address = Address::Inet(([10, 0, 0, 1], 443).into());
                let peer = Transport::default().template(&endpoint, &address, &TimeoutsSpec::default());
                proptest::prop_assert!(peer.is_tls() && !peer.sni.is_empty());
            }
        }
    }

    #[test]
    fn connections_are_shared_only_where_all_is_the_same() {
        let one = der(include_str!("../../tests/config/tls/authority.pem"));
        let two = der(include_str!("../../tests/config/tls/client.pem"));
        let http2 = PoolSpec { http2: true, ..unchecked(&[]) };
        let specs = [unchecked(&[]), trusting(Vec::new()), trusting(vec![one.clone()]), trusting(vec![two]), http2];
        let hashes: Vec<u64> = specs.iter().map(|spec| peer(spec, "https://a.example").reuse_hash()).collect();
        let distinct: std::collections::BTreeSet<&u64> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len());
        assert_eq!(peer(&trusting(vec![one]), "https://a.example").reuse_hash(), hashes[2]);
        for spec in &specs {
            let requests = peer(spec, "https://a.example");
            assert_ne!(for_probe(&requests).reuse_hash(), requests.reuse_hash());
        }
    }
}
