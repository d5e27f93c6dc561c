//! What a request is told apart by, for pools that send the same key to the same target.

use std::net::IpAddr;

use http::HeaderMap;

use super::ctx::RequestCtx;
use crate::config::spec::{HashKeySpec, HashWord};
use crate::model::balance::Key;
use crate::snapshot::Destination;

/// The key of a request that goes to `destination`; `None` when nobody asks for one.
pub(super) fn of(destination: &Destination, headers: &HeaderMap, ctx: &RequestCtx) -> Option<u64> {
    match destination {
        Destination::Pool { pool, .. } => pool.hash_key().map(|by| key(by, headers, ctx)),
        _ => None,
    }
}

/// The key by `by`. What a request does not have is stood in for by the client's address.
pub(super) fn key(by: &HashKeySpec, headers: &HeaderMap, ctx: &RequestCtx) -> u64 {
    let found = match by {
        HashKeySpec::Word(HashWord::Address) => None,
        HashKeySpec::Word(HashWord::User) => {
            ctx.identity.as_ref().map(|who| Key::of_kind("user").with(&who.user.0.to_be_bytes()))
        }
        HashKeySpec::Header(header) => {
            headers.get(&*header.header).map(|value| Key::of_kind("header").with(value.as_bytes()))
        }
    };
    found.unwrap_or_else(|| address(ctx.client.address)).number()
}

/// IPv4 however it is written.
fn address(address: IpAddr) -> Key {
    let key = Key::of_kind("address");
    match address.to_canonical() {
        IpAddr::V4(address) => key.with(&address.octets()),
        IpAddr::V6(address) => key.with(&address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Tick;
    use crate::config::spec::HashHeaderSpec;
    use http::HeaderValue;
    use jiff::Timestamp;

    #[test]
    fn what_is_missing_is_stood_in_for_by_the_address() {
        let mut ctx = RequestCtx::new(Tick(0), Timestamp::UNIX_EPOCH);
        let by_header = HashKeySpec::Header(HashHeaderSpec { header: "X-Tenant".to_owned() });
        let (by_address, by_user) = (HashKeySpec::Word(HashWord::Address), HashKeySpec::Word(HashWord::User));
        let tenant =
            |name: &'static str| HeaderMap::from_iter([("x-tenant".parse().unwrap(), HeaderValue::from_static(name))]);
        ctx.client.address = "192.0.2.1".parse().unwrap();
        let here = key(&by_address, &HeaderMap::new(), &ctx);
        assert_eq!(key(&by_header, &HeaderMap::new(), &ctx), here);
        assert_eq!(key(&by_user, &tenant("a"), &ctx), here);
        assert_ne!(key(&by_header, &tenant("a"), &ctx), here);
        assert_ne!(key(&by_header, &tenant("a"), &ctx), key(&by_header, &tenant("b"), &ctx));
        let a = key(&by_header, &tenant("a"), &ctx);
        ctx.client.address = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(key(&by_address, &HeaderMap::new(), &ctx), here);
        ctx.client.address = "192.0.2.2".parse().unwrap();
        assert_ne!(key(&by_address, &HeaderMap::new(), &ctx), here);
        assert_eq!(key(&by_header, &tenant("a"), &ctx), a);
    }
}
