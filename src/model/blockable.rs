//! Which networks may be blocked, and what an operator means who names one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// Of IPv6, a subscriber has all the addresses of a /64: who is blocked by less comes back with the next one.
const LONGEST_V6: u8 = 64;
/// Shortest prefixes that need no second thought.
const SHORTEST: (u8, u8) = (8, 16);

/// Why a network may not be blocked, or a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotBlockable {
    /// It is neither an address nor a network.
    #[error("expected an address such as 192.0.2.7 or 2001:db8::1, or a network such as 192.0.2.0/24")]
    NoNetwork,
    /// It is everybody.
    #[error("that is everybody: to take the gateway out of service, stop it")]
    Everybody,
    /// It has addresses of the machine itself.
    #[error("it has loopback addresses: the machine's own probes and its operators come from there")]
    Loopback,
    /// It has so many addresses that it looks like a mistake.
    #[error("it is wider than /8 (IPv4) or /16 (IPv6); if you mean it, add --wide")]
    Wide,
}

/// The network that is meant by an address or a network: without host bits, of IPv6 at least the /64; IPv4-mapped IPv6 is
/// IPv4.
///
/// # Errors
/// [`NotBlockable::NoNetwork`].
pub fn network_meant(text: &str) -> Result<IpNet, NotBlockable> {
    let text = text.trim();
    let named = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = named.map_err(|_| NotBlockable::NoNetwork)?.trunc();
    let meant = match network {
        IpNet::V6(v6) => match v6.addr().to_ipv4_mapped() {
            Some(v4) if v6.prefix_len() >= 96 => Ipv4Net::new(v4, v6.prefix_len() - 96).map(IpNet::V4),
            _ => IpNet::new(v6.addr().into(), v6.prefix_len().min(LONGEST_V6)),
        },
        v4 => Ok(v4),
    };
    meant.map(|network| network.trunc()).map_err(|_| NotBlockable::NoNetwork)
}

/// Whether a network may be blocked; `wide`: also when it is wider than it usually should be.
///
/// # Errors
/// Why it may not.
pub fn check(network: IpNet, wide: bool) -> Result<(), NotBlockable> {
    let (shortest, has_loopback) = match network {
        // 127.0.0.0/8 has the network, or the network has it.
        IpNet::V4(v4) => (SHORTEST.0, v4.addr().is_loopback() || v4.contains(&Ipv4Addr::LOCALHOST)),
        IpNet::V6(v6) => (SHORTEST.1, v6.contains(&Ipv6Addr::LOCALHOST)),
    };
    if network.prefix_len() == 0 {
        return Err(NotBlockable::Everybody);
    }
    if has_loopback {
        return Err(NotBlockable::Loopback);
    }
    if network.prefix_len() < shortest && !wide {
        return Err(NotBlockable::Wide);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_has_no_host_bits_and_a_subscriber_at_least() {
        for (text, meant) in [
            ("192.0.2.7", "192.0.2.7/32"),
            (" 192.0.2.7/24 ", "192.0.2.0/24"),
            ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:3::/80", "2001:db8:1:2::/64"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(network_meant(text).unwrap().to_string(), meant, "{text}");
        }
        for text in ["", "localhost", "192.0.2", "192.0.2.7/33", "192.0.2.7-9", "[2001:db8::1]", "2001:db8::1%eth0"] {
            assert_eq!(network_meant(text), Err(NotBlockable::NoNetwork), "{text}");
        }
    }

    #[test]
    fn everybody_the_machine_itself_and_most_of_the_world_are_not_blocked() {
        let verdict = |text: &str, wide| check(network_meant(text).unwrap(), wide).err();
        for (text, usual, wide) in [
            ("192.0.2.7", None, None),
            ("10.0.0.0/8", None, None),
            ("12.0.0.0/7", Some(NotBlockable::Wide), None),
            ("128.0.0.0/1", Some(NotBlockable::Wide), None),
            ("2001::/16", None, None),
            ("2000::/3", Some(NotBlockable::Wide), None),
            ("0.0.0.0/0", Some(NotBlockable::Everybody), Some(NotBlockable::Everybody)),
            ("::/0", Some(NotBlockable::Everybody), Some(NotBlockable::Everybody)),
            ("::ffff:0:0/96", Some(NotBlockable::Everybody), Some(NotBlockable::Everybody)),
            ("127.0.0.9", Some(NotBlockable::Loopback), Some(NotBlockable::Loopback)),
            ("0.0.0.0/1", Some(NotBlockable::Loopback), Some(NotBlockable::Loopback)),
            ("::1", Some(NotBlockable::Loopback), Some(NotBlockable::Loopback)),
            ("::/8", Some(NotBlockable::Loopback), Some(NotBlockable::Loopback)),
        ] {
            assert_eq!((verdict(text, false), verdict(text, true)), (usual, wide), "{text}");
        }
    }
}
