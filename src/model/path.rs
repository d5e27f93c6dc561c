//! The canonical form of a request path. What is matched against the route table is exactly what is forwarded,
//! so every spelling of a path is brought to one form, and spellings that two parsers could read differently
//! are refused. It does no I/O and knows no routes.

use std::borrow::Cow;

/// Longest path taken, in bytes.
const MAX_LENGTH: usize = 8 * 1024;

/// The canonical form (RFC 3986 §6.2.2): percent-encoded unreserved characters decoded, everything else that
/// needs it encoded in upper-case hex. Idempotent. A path that is canonical already is borrowed; without a
/// `%` in it nothing is allocated.
///
/// Refused, with the reason: dot segments and empty segments, slashes, backslashes and control characters also
/// when encoded (once or twice), malformed or non-UTF-8 encodings, dot segments with path parameters (`/..;/`),
/// a path that does not start with `/`, and one of more than 8 KiB.
pub fn canonicalize(raw_path: &str) -> Result<Cow<'_, str>, &'static str> {
    if raw_path.len() > MAX_LENGTH {
        return Err("path too long");
    }
    if !raw_path.starts_with('/') {
        return Err("path must start with a slash");
    }
    if is_obviously_canonical(raw_path.as_bytes()) {
        return Ok(Cow::Borrowed(raw_path));
    }
    if raw_path.bytes().all(|byte| byte == b'/' || is_plain(byte)) {
        check_segments(raw_path)?;
        return Ok(Cow::Borrowed(raw_path));
    }
    check_text(&decode(raw_path)?)?;
    let canonical = reencode(raw_path);
    check_double_encoding(&canonical)?;
    check_segments(&canonical)?;
    Ok(if canonical == raw_path { Cow::Borrowed(raw_path) } else { Cow::Owned(canonical) })
}

/// Letters, digits, `-`, `_` and single slashes only: nearly every path, in one pass.
fn is_obviously_canonical(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let fine = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'/' && before != b'/');
        before = byte;
        fine
    })
}

/// `pchar` of RFC 3986 §3.3 without the percent sign: what may stand in a segment as it is.
fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The bytes of `text` with each `%XX` as one byte and whether it was written that way.
fn octets(text: &str) -> impl Iterator<Item = Result<(u8, bool), &'static str>> {
    let mut bytes = text.bytes();
    std::iter::from_fn(move || match bytes.next()? {
        b'%' => {
            let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
            let (high, low) = (digit(bytes.next()), digit(bytes.next()));
            let value = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
            Some(value.map(|value| (value, true)).ok_or("malformed percent-encoding in path"))
        }
        byte => Some(Ok((byte, false))),
    })
}

fn decode(raw: &str) -> Result<String, &'static str> {
    let mut decoded = Vec::with_capacity(raw.len());
    for octet in octets(raw) {
        let (byte, encoded) = octet?;
        match byte {
            b'/' if encoded => return Err("encoded slash in path"),
            b'\\' => return Err("backslash in path"),
            _ => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).map_err(|_| "path is not UTF-8")
}

fn check_text(decoded: &str) -> Result<(), &'static str> {
    if decoded.chars().any(char::is_control) { Err("control character in path") } else { Ok(()) }
}

fn reencode(raw: &str) -> String {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let mut canonical = String::with_capacity(raw.len() + 16);
    for (byte, encoded) in octets(raw).flatten() {
        let keep = if encoded { is_unreserved(byte) } else { byte == b'/' || is_plain(byte) };
        if keep {
            canonical.push(char::from(byte));
        } else {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or('0');
            canonical.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    canonical
}

/// An encoded percent sign whose next two characters would, decoded once more upstream, become a dot, slash,
/// backslash or control character.
fn check_double_encoding(canonical: &str) -> Result<(), &'static str> {
    let hidden = |rest: &str| {
        let code = rest.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        code.is_some_and(|byte| matches!(byte, b'.' | b'/' | b'\\') || byte.is_ascii_control())
    };
    if canonical.split("%25").skip(1).any(hidden) { Err("double-encoded path") } else { Ok(()) }
}

fn check_segments(path: &str) -> Result<(), &'static str> {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err("empty segment in path");
        }
        // `;` starts path parameters (RFC 3986 §3.3); some servers cut them off before they resolve dots.
        let dots = segment.trim_start_matches('.');
        let ends = dots.is_empty() || dots.starts_with(';') || dots.starts_with("%3B") || is_hidden_semicolon(dots);
        if ends && matches!(segment.len() - dots.len(), 1 | 2) {
            return Err("dot segment in path");
        }
    }
    Ok(())
}

fn is_hidden_semicolon(rest: &str) -> bool {
    rest.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("%253B"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_form_for_every_spelling() {
        for (raw, canonical) in [
            ("/", "/"),
            ("/api/gateway/", "/api/gateway/"),
            ("/a%2Db%7e/%41", "/a-b~/A"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/café", "/caf%C3%A9"),
            ("/a b\"<>", "/a%20b%22%3C%3E"),
            ("/a%3ab:c", "/a%3Ab:c"),
            ("/100%25", "/100%25"),
            ("/100%25x2e", "/100%25x2e"),
            ("/.../..a/.well-known", "/.../..a/.well-known"),
            ("/a;v=1/b", "/a;v=1/b"),
        ] {
            assert_eq!(canonicalize(raw).as_deref(), Ok(canonical), "{raw}");
        }
    }

    #[test]
    fn canonical_paths_are_borrowed() {
        for path in ["/", "/api/gateway/parse-cv", "/a:b@c;d=e/", "/caf%C3%A9"] {
            assert!(matches!(canonicalize(path), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for path in [
            "",
            "a",
            "*",
            "http://x/",
            "/a/../b",
            "/.",
            "/..",
            "/./a",
            "/%2e%2e/a",
            "/%2E/a",
            "/.%2e",
            "/a//b",
            "//",
            "//a",
            "/a%2fb",
            "/a%2Fb",
            "/a\\b",
            "/a%5cb",
            "/a%00",
            "/a\0",
            "/a%0d%0a",
            "/a\n",
            "/a%7f",
            "/a%C2%85",
            "/%",
            "/%4",
            "/%zz",
            "/%+1",
            "/a%",
            "/%ff",
            "/%c0%ae",
            "/%ed%a0%80",
            "/%252e%252e/",
            "/%252E",
            "/%252f",
            "/%255C",
            "/%2500",
            "/%250a",
            "/%25%32%65",
            "/%25%32e",
            "/..;/a",
            "/.;x",
            "/%2e%2e;x/",
            "/..%3b/",
            "/..%253b/",
            "/a/..",
        ] {
            assert!(canonicalize(path).is_err(), "{path:?}");
        }
        assert!(canonicalize(&format!("/{}", "a".repeat(MAX_LENGTH))).is_err());
        assert!(canonicalize(&format!("/{}", "a".repeat(MAX_LENGTH - 1))).is_ok());
    }

    fn unescape(text: &str) -> Vec<u8> {
        let bytes = text.as_bytes();
        let mut out = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let code = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
            match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(byte) if bytes[at] == b'%' => (out.push(byte), at += 3).1,
                _ => (out.push(bytes[at]), at += 1).1,
            }
        }
        out
    }

    fn has_dot_segment(path: &[u8]) -> bool {
        path.split(|byte| matches!(byte, b'/' | b'\\'))
            .any(|segment| matches!(segment.split(|byte| *byte == b';').next(), Some(b"." | b"..")))
    }

    fn tricky() -> impl Strategy<Value = String> {
        let parts = vec![
            "/", ".", "..", "%2e", "%2E", "%25", "2e", "2F", "%2f", "%5c", ";", "%3b", "a", "é", "%c3%a9", "%", "\\",
            " ", "%32", "%65", "3b",
        ];
        prop::collection::vec(prop::sample::select(parts), 0..12).prop_map(|parts| format!("/{}", parts.concat()))
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = canonicalize(&text);
            let _ = canonicalize(&format!("/{text}"));
        }

        #[test]
        fn idempotent_and_free_of_dot_segments_however_often_decoded(raw in tricky()) {
            if let Ok(canonical) = canonicalize(&raw) {
                let again = canonicalize(&canonical);
                prop_assert_eq!(again.as_deref(), Ok(&*canonical));
                prop_assert_eq!(matches!(canonical, Cow::Borrowed(_)), *canonical == *raw);
                prop_assert!(canonical.is_ascii());
                let once = unescape(&canonical);
                let twice = unescape(&String::from_utf8_lossy(&once));
                for text in [canonical.as_bytes(), &once, &twice] {
                    prop_assert!(!has_dot_segment(text), "{}", canonical);
                }
            }
        }
    }
}
