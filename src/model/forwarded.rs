//! Who the client really is, behind proxies of ours. Headers are believed only as far as trusted proxies wrote
//! them: from anybody else they are a wish, not a fact. Reads text; does no I/O.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// Most entries of `X-Forwarded-For` that are walked; more proxies in a row than this is no real deployment.
const MAX_HOPS: usize = 32;

/// The client's address: the rightmost hop that is not a trusted proxy.
///
/// `x_forwarded_for` gives the header's lines in the order they came. They are read only when the `peer` itself
/// is trusted, from the right; an entry that is no address stops the walk at the last trusted hop. IPv4-mapped
/// IPv6 addresses are given as IPv4.
///
/// Lines are bytes, because none may be left out: a client that makes its proxy's line unreadable as text would have
/// the line before it believed, which is its own.
pub fn client_address<'h>(
    peer: IpAddr,
    x_forwarded_for: impl DoubleEndedIterator<Item = &'h [u8]>,
    trusted: &[IpNet],
) -> IpAddr {
    let mut client = peer.to_canonical();
    if !is_trusted(client, trusted) {
        return client;
    }
    for entry in x_forwarded_for.rev().flat_map(entries).take(MAX_HOPS) {
        let Some(address) = parse_hop(entry) else { return client };
        client = address;
        if !is_trusted(client, trusted) {
            return client;
        }
    }
    client
}

/// Whether the client's own connection is TLS: what the last trusted proxy said in `X-Forwarded-Proto`, else
/// `own` (whether ours to the peer is).
pub fn client_secure<'h>(
    peer: IpAddr,
    own: bool,
    x_forwarded_proto: impl DoubleEndedIterator<Item = &'h [u8]>,
    trusted: &[IpNet],
) -> bool {
    if !is_trusted(peer, trusted) {
        return own;
    }
    match x_forwarded_proto.rev().flat_map(entries).next().map(<[u8]>::trim_ascii) {
        Some(proto) if proto.eq_ignore_ascii_case(b"https") => true,
        Some(proto) if proto.eq_ignore_ascii_case(b"http") => false,
        _ => own,
    }
}

/// Whether `address` is in one of the networks; an IPv4-mapped IPv6 address is the IPv4 address.
pub fn is_trusted(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Whom an address stands for where clients are counted: IPv4 itself, also IPv4-mapped IPv6; of IPv6 the /64, since
/// one subscriber has all the addresses in it.
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

/// The entries of a line, the last one first.
fn entries(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.rsplit(|byte| *byte == b',')
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn parse_hop(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse::<IpAddr>().or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trusted() -> Vec<IpNet> {
        ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec()
    }

    fn client(peer: &str, lines: &[&str]) -> String {
        client_address(peer.parse().unwrap(), lines.iter().map(|line| line.as_bytes()), &trusted()).to_string()
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        for (peer, lines, expected) in [
            ("192.0.2.9", &["198.51.100.1"][..], "192.0.2.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["6.6.6.6", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.1, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["198.51.100.1,,"], "10.0.0.1"),
            ("10.0.0.1", &["", "198.51.100.1:4711"], "198.51.100.1"),
            ("fd00::1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("fd00::1", &["[2001:db8::1]"], "2001:db8::1"),
            ("fd00::1", &["2001:db8::1"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("::ffff:192.0.2.9", &["198.51.100.1"], "192.0.2.9"),
        ] {
            assert_eq!(client(peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_text_hides_nothing() {
        let lines: [&[u8]; 2] = [b"6.6.6.6", b"\xff, 198.51.100.1, 10.0.0.2"];
        let client = |count| {
            let lines = lines.into_iter().take(count).chain([&b"\xff, 10.0.0.2"[..]].into_iter().take(2 - count));
            client_address("10.0.0.1".parse().unwrap(), lines, &trusted()).to_string()
        };
        assert_eq!(client(2), "198.51.100.1");
        assert_eq!(client(1), "10.0.0.2", "the last that is known, not what stands on the line before");
    }

    #[test]
    fn the_walk_is_bounded() {
        let line = format!("198.51.100.1{}", ", 10.0.0.2".repeat(MAX_HOPS));
        assert_eq!(client("10.0.0.1", &[&line]), "10.0.0.2");
    }

    #[test]
    fn addresses_stand_for_their_subscriber() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2::1", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ] {
            assert_eq!(subscriber(address.parse().unwrap()).to_string(), expected, "{address}");
        }
    }

    #[test]
    fn the_scheme_is_believed_only_from_trusted_proxies() {
        let secure = |peer: &str, own, lines: &[&str]| {
            client_secure(peer.parse().unwrap(), own, lines.iter().map(|line| line.as_bytes()), &trusted())
        };
        assert!(secure("10.0.0.1", false, &["https"]));
        assert!(secure("10.0.0.1", false, &["http, HTTPS"]));
        assert!(!secure("10.0.0.1", true, &["http"]));
        assert!(!secure("192.0.2.9", false, &["https"]));
        assert!(secure("10.0.0.1", true, &["gopher"]));
        assert!(secure("10.0.0.1", true, &[]));
    }

    proptest! {
        #[test]
        fn an_untrusted_peer_cannot_move_its_address(lines in prop::collection::vec(any::<String>(), 0..5)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(client("192.0.2.9", &lines), "192.0.2.9");
            let _ = client("10.0.0.1", &lines);
        }
    }
}
