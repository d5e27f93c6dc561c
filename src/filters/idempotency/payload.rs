//! What a repeat must have in common with the first request: method, path, query, content type and body, as one hash. The body
//! is hashed as it passes and never held.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use sha2::{Digest, Sha256};

use crate::store::Fingerprint;

/// The hash of a request whose body is passing by.
#[derive(Clone)]
pub struct Payload {
    head: Sha256,
    all: Sha256,
}

impl Payload {
    /// Of a request with this head; no byte of the body has passed.
    pub fn new(method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap) -> Payload {
        let mut head = Sha256::new();
        let mut put = |text: &[u8]| {
            // With its length before it, no text runs into the next one.
            head.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            head.update(text);
        };
        put(method.as_str().as_bytes());
        put(path.as_bytes());
        // No query and an empty one are two URIs.
        put(query.map(|query| format!("?{query}")).unwrap_or_default().as_bytes());
        headers.get_all(CONTENT_TYPE).iter().for_each(|value| put(value.as_bytes()));
        put(b"");
        Payload { all: head.clone(), head }
    }

    /// The body begins again.
    pub fn restart(&mut self) {
        self.all = self.head.clone();
    }

    /// The next part of the body.
    pub fn update(&mut self, chunk: &[u8]) {
        self.all.update(chunk);
    }

    /// The fingerprint of what has passed.
    pub fn fingerprint(&self) -> Fingerprint {
        self.all.clone().finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(method: Method, path: &str, query: Option<&str>, types: &[&'static str], body: &[&[u8]]) -> Fingerprint {
        let mut headers = HeaderMap::new();
        for one in types {
            headers.append(CONTENT_TYPE, HeaderValue::from_static(one));
        }
        let mut payload = Payload::new(&method, path, query, &headers);
        payload.update(b"a try before");
        payload.restart();
        body.iter().for_each(|chunk| payload.update(chunk));
        payload.fingerprint()
    }

    #[test]
    fn every_part_counts_and_chunks_do_not() {
        let one = of(Method::POST, "/a", Some("q"), &["t"], &[b"body"]);
        assert_eq!(one, of(Method::POST, "/a", Some("q"), &["t"], &[b"bo", b"", b"dy"]));
        let others = [
            of(Method::PUT, "/a", Some("q"), &["t"], &[b"body"]),
            of(Method::POST, "/b", Some("q"), &["t"], &[b"body"]),
            of(Method::POST, "/a", None, &["t"], &[b"body"]),
            of(Method::POST, "/a", Some(""), &["t"], &[b"body"]),
            of(Method::POST, "/a", Some("q"), &[], &[b"body"]),
            of(Method::POST, "/a", Some("q"), &["t", "t"], &[b"body"]),
            of(Method::POST, "/a", Some("q"), &["t"], &[b"body."]),
            of(Method::POST, "/a", Some("q"), &["t"], &[]),
        ];
        let all: std::collections::HashSet<Fingerprint> = others.into_iter().chain([one]).collect();
        assert_eq!(all.len(), 9);
    }
}
