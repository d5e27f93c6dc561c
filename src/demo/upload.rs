//! The `file` part of a multipart body (RFC 7578): its name and its size, nothing more.
//!
//! Holds the body whole, as the real services do; they sit behind the gateway's cap.

use axum::extract::Request;
use http::header::CONTENT_TYPE;

/// Largest body that the real services take.
const MAX_BODY: usize = 50 * 1024 * 1024;

/// An uploaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UploadedFile {
    /// File name given by the client.
    pub(super) name: String,
    /// Size in bytes.
    pub(super) size: usize,
}

/// The `file` part of the request, if it has one.
pub(super) async fn receive(request: Request) -> Option<UploadedFile> {
    let content_type = request.headers().get(CONTENT_TYPE)?.to_str().ok()?.to_owned();
    // The real services read the whole body before they look at it; so the connection is left in a known state.
    let body = axum::body::to_bytes(request.into_body(), MAX_BODY).await.ok()?;
    find(&content_type, &body)
}

fn find(content_type: &str, body: &[u8]) -> Option<UploadedFile> {
    let boundary = boundary(content_type)?;
    let delimiter = format!("--{boundary}");
    let mut rest = body.get(position(body, delimiter.as_bytes())?..)?;
    let next = format!("\r\n{delimiter}");
    loop {
        let part = rest.get(delimiter.len()..)?;
        let head_end = position(part, b"\r\n\r\n")?;
        let head = std::str::from_utf8(part.get(..head_end)?).ok()?;
        // From the blank line's first CRLF on, so that an empty part still ends with a delimiter.
        let content = part.get(head_end + 2..)?;
        let end = position(content, next.as_bytes())?;
        if parameter(head, "name").as_deref() == Some("file") {
            let size = end.saturating_sub(2);
            return parameter(head, "filename").map(|name| UploadedFile { name, size });
        }
        rest = content.get(end + 2..)?;
    }
}

fn boundary(content_type: &str) -> Option<&str> {
    let (media_type, parameters) = content_type.split_once(';')?;
    if !media_type.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parameters.split(';').find_map(|item| item.trim().strip_prefix("boundary="))?;
    Some(value.trim_matches('"')).filter(|value| !value.is_empty())
}

/// A parameter of the part's `Content-Disposition`.
fn parameter(head: &str, name: &str) -> Option<String> {
    let line = head.lines().find(|line| {
        line.split_once(':').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case("content-disposition"))
    })?;
    line.split(';').find_map(|item| {
        let (key, value) = item.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim_matches('"').to_owned())
    })
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    loop {
        let at = from + haystack.get(from..)?.iter().position(|byte| *byte == first)?;
        if haystack.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XyZ";

    #[test]
    fn the_file_part_is_found_among_others() {
        let body = b"--XyZ\r\nContent-Disposition: form-data; name=\"extract_skills\"\r\n\r\ntrue\r\n--XyZ\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"cv.txt\"\r\nContent-Type: text/plain\r\n\r\n\
            one\r\n--two\r\n--XyZ--\r\n";
        assert_eq!(find(TYPE, body), Some(UploadedFile { name: "cv.txt".into(), size: 10 }));
    }

    #[test]
    fn an_empty_file_has_size_zero() {
        let body = b"--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"e\"\r\n\r\n\r\n--XyZ--\r\n";
        assert_eq!(find(TYPE, body), Some(UploadedFile { name: "e".into(), size: 0 }));
    }

    #[test]
    fn what_is_no_upload_is_none() {
        for (content_type, body) in [
            ("application/json", &b"{}"[..]),
            ("multipart/form-data", b"--XyZ"),
            ("multipart/form-data; boundary=\"\"", b"--"),
            (TYPE, b""),
            (TYPE, b"--XyZ"),
            (TYPE, b"--XyZ--\r\n"),
            (TYPE, b"--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"e\"\r\n\r\nnever ends"),
            (TYPE, b"--XyZ\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n--XyZ--\r\n"),
        ] {
            assert_eq!(find(content_type, body), None, "{content_type}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_it_fall(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = find(TYPE, &body);
            let _ = find(TYPE, &[b"--XyZ\r\n", &body[..]].concat());
        }
    }
}
