//! Small texts with a form of their own: names, origins, media types.

use crate::model::endpoint::host_and_port;

/// Why a text is no origin that browsers would send (RFC 6454 §6.2).
pub(super) fn origin_problem(text: &str) -> Option<&'static str> {
    if text == "*" {
        return Some("`*` cannot be used, because answers allow credentials; name the origins");
    }
    if text == "null" {
        return Some("`null` is the origin of any sandboxed page; name the origins");
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return Some("expected an origin such as https://app.example.org or http://localhost:3000");
    };
    if !matches!(scheme, "http" | "https") {
        return Some("an origin begins with http:// or https://");
    }
    if authority.contains(['/', '?', '#', '@']) {
        return Some("an origin ends after the port: no path, not even a slash");
    }
    if authority.chars().any(|c| c.is_ascii_uppercase()) {
        return Some("browsers send origins in lower case; this one would never match");
    }
    match host_and_port(authority) {
        None => Some("expected an origin such as https://app.example.org or http://localhost:3000"),
        Some((_, Some(80))) if scheme == "http" => Some("browsers leave out port 80; this one would never match"),
        Some((_, Some(443))) if scheme == "https" => Some("browsers leave out port 443; this one would never match"),
        Some(_) => None,
    }
}

/// Whether `text` is a name: lower-case letters, digits and `extra`, at most 64 characters.
pub(super) fn is_name(text: &str, extra: char) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == extra;
    !text.is_empty() && text.len() <= 64 && text.chars().all(fits)
}

/// Whether `text` is `type/subtype` without parameters, in lower case (RFC 9110 §8.3.1).
pub(super) fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "!#$&^_.+-".contains(c))
    };
    text.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn origins_are_what_browsers_send() {
        for text in ["http://localhost:3000", "https://app.example.org", "http://[::1]:3000"] {
            assert_eq!(origin_problem(text), None, "{text}");
        }
        for text in
            ["*", "null", "localhost", "ftp://x", "http://x/", "http://X", "http://x:80", "https://x:443", "http://"]
        {
            assert!(origin_problem(text).is_some(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = (origin_problem(&text), is_media_type(&text), is_name(&text, '-'));
        }
    }
}
