//! The text of an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07 §2.1): a Structured-Field string, or, as
//! most clients send it, bare.

use http::HeaderMap;

use crate::model::rejection::Rejection;

/// Name of the header.
const NAME: &str = "idempotency-key";
/// Most characters of a key.
const LONGEST: usize = 255;

/// The key of a request, if it has one.
///
/// # Errors
/// When there are several, or one that is not 1 to 255 visible ASCII characters.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Rejection> {
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Rejection::InvalidIdempotencyKey);
    }
    let text = value.to_str().map_err(|_| Rejection::InvalidIdempotencyKey)?.trim_matches([' ', '\t']);
    let key = if text.starts_with('"') { unquoted(text) } else { bare(text) };
    let is_key = |key: &String| (1..=LONGEST).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    key.filter(is_key).map(Some).ok_or(Rejection::InvalidIdempotencyKey)
}

/// The content of a Structured-Field string (RFC 9651 §4.2.5) without parameters.
fn unquoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut key = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => key.push(characters.next().filter(|next| matches!(next, '"' | '\\'))?),
            _ => key.push(character),
        }
    }
    Some(key)
}

/// A comma or a quote in a bare key could be two keys that somebody on the way put on one line.
fn bare(text: &str) -> Option<String> {
    (!text.contains([',', '"'])).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[&str]) -> Result<Option<String>, Rejection> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(NAME, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        key(&headers)
    }

    #[test]
    fn quoted_and_bare_are_the_same_key() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["8e03978e-40d5"]), Ok(Some("8e03978e-40d5".into())));
        assert_eq!(of(&["\"8e03978e-40d5\""]), of(&["8e03978e-40d5"]));
        assert_eq!(of(&[r#""a\"b\\c,d""#]), Ok(Some(r#"a"b\c,d"#.into())));
        let longest = "k".repeat(LONGEST);
        assert_eq!(of(&[&longest]), Ok(Some(longest.clone())));
        assert_eq!(of(&[&format!("\"{longest}\"")]), Ok(Some(longest)));
    }

    #[test]
    fn what_is_no_single_key_is_refused() {
        let long = "k".repeat(LONGEST + 1);
        for wrong in [
            "",
            "\"\"",
            "a b",
            "\"a b\"",
            "a,b",
            "a, b",
            "\"a\", \"b\"",
            "\"a",
            "a\"",
            "\"a\";p=1",
            "\"a\\b\"",
            "\"a\\\"",
            "\"",
            "é",
            "a\tb",
            &long,
        ] {
            assert_eq!(of(&[wrong]), Err(Rejection::InvalidIdempotencyKey), "{wrong:?}");
        }
        assert_eq!(of(&["a", "a"]), Err(Rejection::InvalidIdempotencyKey));
    }

    proptest! {
        #[test]
        fn every_visible_key_can_be_quoted(key in "[!-~]{1,255}") {
            let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(of(&[&quoted]), Ok(Some(key)));
        }
    }
}
