//! `Location` of an upstream's redirect: internal names never reach a client.

use http::Uri;

use super::ctx::RequestCtx;
use crate::model::endpoint::Address;
use crate::snapshot::{Destination, Snapshot};

/// The public form of an upstream's redirect target; `None` leaves it as it is.
///
/// A target at one of our upstreams becomes the public path of the route that leads there, or loses its host when
/// no route does. A target elsewhere is the client's business.
pub(super) fn rewrite(target: &str, ctx: &RequestCtx) -> Option<String> {
    let (matched, snapshot) = (ctx.matched.as_ref()?, ctx.snapshot.as_ref()?);
    let Destination::Pool { pool, .. } = &matched.route.destination else { return None };
    // `//host/path` names a host, too (RFC 3986 §4.2); it needs a scheme to be read.
    let absolute = if target.starts_with("//") { format!("http:{target}") } else { target.to_owned() };
    let uri: Uri = absolute.parse().ok()?;
    let pool = match uri.authority() {
        Some(_) => owner(&uri, snapshot, ctx)?,
        None if target.starts_with('/') => pool.name(),
        None => return None,
    };
    let path = matched
        .route
        .public_path(pool, uri.path())
        .or_else(|| snapshot.public_path(pool, uri.path()))
        .unwrap_or_else(|| uri.path().to_owned());
    Some(match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    })
}

/// The pool one of whose targets the address is, by its configured name or by where it is. Userinfo does not count.
fn owner<'a>(uri: &Uri, snapshot: &'a Snapshot, ctx: &'a RequestCtx) -> Option<&'a str> {
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let address = format!("{}:{port}", uri.host()?.to_ascii_lowercase());
    let asked = ctx.attempt.as_ref().map(crate::upstream::Attempt::target);
    let own = asked.is_some_and(|target| match target.socket() {
        Address::Inet(at) => address.parse() == Ok(at),
        Address::Unix(_) => uri.authority().is_some_and(|authority| *authority == "localhost"), // what it was asked as
    });
    if own {
        let Destination::Pool { pool, .. } = &ctx.matched.as_ref()?.route.destination else { return None };
        return Some(pool.name());
    }
    snapshot.pool_at(&address)
}
