//! Whose bucket it is, and which.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::forwarded;
use crate::model::identity::{ApiKeyId, UserId};
use crate::model::role::Role;

/// Whose bucket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A proven user.
    User(UserId),
    /// An API key.
    ApiKey(ApiKeyId),
    /// An IPv4 address, also one that came as IPv4-mapped IPv6.
    V4(u32),
    /// An IPv6 network, its upper 64 bits: one subscriber has all the addresses below it.
    V6(u64),
    /// All who have a role; `None`: all who proved nothing.
    Role(Option<Role>),
    /// All whose header says the same: the first 64 bits of its SHA-256.
    Header(u64),
    /// All callers.
    Everyone,
}

impl Subject {
    /// The subject that stands for a client address.
    pub fn address(address: IpAddr) -> Subject {
        match forwarded::subscriber(address) {
            IpAddr::V4(v4) => Subject::V4(v4.to_bits()),
            IpAddr::V6(v6) => Subject::V6(u64::try_from(v6.to_bits() >> 64).unwrap_or(u64::MAX)),
        }
    }
}

impl fmt::Display for Subject {
    /// As it stands in the keys of the shared store and in what operators are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::User(id) => write!(f, "user:{id}"),
            Subject::ApiKey(id) => write!(f, "api_key:{id}"),
            Subject::V4(bits) => write!(f, "address:{}", Ipv4Addr::from_bits(*bits)),
            Subject::V6(bits) => write!(f, "address:{}/64", Ipv6Addr::from_bits(u128::from(*bits) << 64)),
            Subject::Role(role) => write!(f, "role:{}", role.map_or("anonymous", Role::as_str)),
            Subject::Header(hash) => write!(f, "header:{hash:016x}"),
            Subject::Everyone => f.write_str("everyone"),
        }
    }
}

/// A policy and what its bucket spans, as a number that is the same over every reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScopeId(pub(super) u32);

/// Which bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The policy and what its bucket spans.
    pub scope: ScopeId,
    /// Whose it is.
    pub subject: Subject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stand_for_their_subscriber() {
        let subject = |text: &str| Subject::address(text.parse().unwrap());
        assert_eq!(subject("192.0.2.1"), subject("::ffff:192.0.2.1"));
        assert_ne!(subject("192.0.2.1"), subject("192.0.2.2"));
        assert_eq!(subject("2001:db8:1:2::1"), subject("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(subject("2001:db8:1:2::1"), subject("2001:db8:1:3::1"));
    }

    #[test]
    fn subjects_are_told_apart_in_text() {
        let all = [
            (Subject::User(UserId(7)), "user:7"),
            (Subject::ApiKey(ApiKeyId(7)), "api_key:7"),
            (Subject::address("192.0.2.1".parse().unwrap()), "address:192.0.2.1"),
            (Subject::address("2001:db8:1:2::9".parse().unwrap()), "address:2001:db8:1:2::/64"),
            (Subject::Role(Some(Role::Admin)), "role:admin"),
            (Subject::Role(None), "role:anonymous"),
            (Subject::Header(255), "header:00000000000000ff"),
            (Subject::Everyone, "everyone"),
        ];
        for (subject, text) in all {
            assert_eq!(subject.to_string(), text);
        }
    }
}
