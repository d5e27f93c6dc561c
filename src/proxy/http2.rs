//! Requests of HTTP/2 in the terms of HTTP/1.1, which the rules are written in: one place instead of a second form of
//! each rule.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Version};
use pingora::Result;
use pingora_proxy::Session;

/// Gives a request of HTTP/2 its `Host` and, when its body has no length, the mark of such bodies. Pingora refused
/// requests whose two hosts differ or that have none, and HTTP/2 knows no `Transfer-Encoding` that could be there already.
pub(super) fn in_terms_of_http1(session: &mut Session) -> Result<()> {
    if session.req_header().version != Version::HTTP_2 {
        return Ok(());
    }
    let unframed =
        !session.req_header().headers.contains_key(CONTENT_LENGTH) && !session.as_downstream_mut().is_body_empty();
    let head = session.req_header_mut();
    let authority = head.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    if let Some(authority) = authority {
        head.insert_header(HOST, authority)?;
    }
    if unframed {
        head.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
    }
    Ok(())
}

/// Takes the mark away again, for an upstream of HTTP/2: there it would be an error (RFC 9113 §8.2.2).
pub(super) fn towards_upstream(version: Version, headers: &mut HeaderMap) {
    if version == Version::HTTP_2 {
        headers.remove(TRANSFER_ENCODING);
    }
}
