//! What bodies a route takes: checks of the head here, and the rules that the proxy applies to the stream.
//! It never reads a body itself.

use async_trait::async_trait;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use serde::de::IgnoredAny;

use super::{Decision, Exchange, Filter};
use crate::model::rejection::Rejection;

/// Deepest nesting of a JSON body: far above any real one, far below what overflows a parser's stack.
const MAX_JSON_DEPTH: usize = 128;

/// The rules of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyRules {
    /// Most bytes; one more is 413. The proxy counts bodies that announce no length against it.
    pub max: u64,
    /// Media types taken, `type/subtype` or `type/*`, in lower case; empty for all.
    pub content_types: Vec<String>,
    /// Whether bodies must be JSON, checked with [`is_json`] before an upstream is called; other media types pass
    /// unchecked only where `content_types` names them.
    pub json: bool,
    /// Most bytes of a body that is checked as JSON, for which it is held in memory.
    pub json_max: u64,
}

/// Checks the head of a request against [`BodyRules`].
#[derive(Debug)]
pub struct Body(BodyRules);

impl Body {
    /// With these rules.
    pub fn new(rules: BodyRules) -> Body {
        Body(rules)
    }
}

impl BodyRules {
    /// Rules with media types as ops write them.
    pub fn new(max: u64, content_types: &[String], json: bool, json_max: u64) -> BodyRules {
        let content_types = content_types.iter().map(|text| text.trim().to_ascii_lowercase()).collect();
        BodyRules { max, content_types, json, json_max: json_max.min(max) }
    }

    /// Whether the body of a request with these headers has to be JSON: always on such a route, whatever the client
    /// calls it, but for media types that the route names besides JSON.
    pub fn wants_json(&self, headers: &HeaderMap) -> bool {
        let named = |essence: &str| !self.content_types.is_empty() && self.takes(Some(essence));
        self.json && !media_type(headers).is_some_and(|essence| !is_json_type(essence) && named(essence))
    }

    /// Checks the announced length and media type of a request's body.
    pub fn check_head(&self, headers: &HeaderMap) -> Result<(), Rejection> {
        let length = announced_length(headers)?;
        if length.is_some_and(|length| length > self.max) {
            return Err(Rejection::PayloadTooLarge);
        }
        let has_body = length.is_some_and(|length| length > 0) || headers.contains_key(TRANSFER_ENCODING);
        if has_body && !self.takes(media_type(headers)) {
            return Err(Rejection::UnsupportedMediaType);
        }
        Ok(())
    }

    fn takes(&self, essence: Option<&str>) -> bool {
        let matches = |essence: &str, pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => essence.get(..start.len()).is_some_and(|own| own.eq_ignore_ascii_case(start)),
            None => essence.eq_ignore_ascii_case(pattern),
        };
        self.content_types.is_empty()
            || essence.is_some_and(|essence| self.content_types.iter().any(|pattern| matches(essence, pattern)))
    }
}

/// The media type without parameters (RFC 9110 §8.3.1); none when it is missing, doubled or not text.
fn media_type(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    value.to_str().ok()?.split(';').next().map(str::trim)
}

fn is_json_type(essence: &str) -> bool {
    let suffix = essence.len().checked_sub(5).and_then(|start| essence.get(start..));
    essence.eq_ignore_ascii_case("application/json") || suffix.is_some_and(|end| end.eq_ignore_ascii_case("+json"))
}

/// `Content-Length` (RFC 9110 §8.6): digits; repeated values must agree. One too large for us is too large a body.
fn announced_length(headers: &HeaderMap) -> Result<Option<u64>, Rejection> {
    const WRONG: Rejection = Rejection::BadRequest("invalid Content-Length");
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for text in value.to_str().map_err(|_| WRONG)?.split(',').map(str::trim) {
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(WRONG);
            }
            let number: u64 = text.parse().map_err(|_| Rejection::PayloadTooLarge)?;
            if length.is_some_and(|known| known != number) {
                return Err(WRONG);
            }
            length = Some(number);
        }
    }
    Ok(length)
}

/// Whether `body` is exactly one JSON text (RFC 8259) in UTF-8, nested at most 128 deep. Builds no tree.
pub fn is_json(body: &[u8]) -> bool {
    depth_is_bounded(body)
        && std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// Counts brackets outside strings. The parser that skips values has no depth limit of its own.
fn depth_is_bounded(body: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_JSON_DEPTH {
            return false;
        }
    }
    true
}

#[async_trait]
impl Filter for Body {
    async fn on_request(&self, exchange: &mut Exchange<'_>) -> Result<Decision, Rejection> {
        self.0.check_head(&exchange.head.headers).map(|()| Decision::Continue)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::filters::exchange::tests::Request;

    fn check(rules: &BodyRules, headers: &[(&str, &str)]) -> Result<(), Rejection> {
        let request = headers.iter().fold(Request::get("/"), |request, (name, value)| request.with(name, value));
        rules.check_head(&request.exchange().head.headers)
    }

    #[test]
    fn the_announced_length_is_capped() {
        let rules = BodyRules::new(100, &[], false, 1 << 20);
        assert_eq!(check(&rules, &[]), Ok(()));
        assert_eq!(check(&rules, &[("content-length", "100")]), Ok(()));
        assert_eq!(check(&rules, &[("content-length", "7, 7"), ("content-length", "7")]), Ok(()));
        for over in ["101", "9223372036854775808", "99999999999999999999999"] {
            assert_eq!(check(&rules, &[("content-length", over)]), Err(Rejection::PayloadTooLarge));
        }
        for wrong in ["", "+5", "-1", "7,8", "7,", "0x10", "1.0"] {
            assert!(matches!(check(&rules, &[("content-length", wrong)]), Err(Rejection::BadRequest(_))), "{wrong}");
        }
    }

    #[test]
    fn only_listed_media_types_pass() {
        let rules = BodyRules::new(100, &["Multipart/Form-Data".into(), "image/*".into()], false, 1 << 20);
        let with = |kind: &str| check(&rules, &[("content-length", "5"), ("content-type", kind)]);
        assert_eq!(with("multipart/form-data; boundary=x"), Ok(()));
        assert_eq!(with("IMAGE/png"), Ok(()));
        for other in ["text/plain", "", "image", "multipart/form-dataX"] {
            assert_eq!(with(other), Err(Rejection::UnsupportedMediaType), "{other}");
        }
        assert_eq!(check(&rules, &[("transfer-encoding", "chunked")]), Err(Rejection::UnsupportedMediaType));
        assert_eq!(check(&rules, &[("content-length", "0"), ("content-type", "text/plain")]), Ok(()));
    }

    #[test]
    fn json_is_wanted_of_everything_but_other_named_types() {
        let rules = BodyRules::new(100, &["multipart/form-data".into()], true, 1 << 20);
        let wants = |kind: Option<&str>| {
            let request = kind.into_iter().fold(Request::get("/"), |request, kind| request.with("content-type", kind));
            rules.wants_json(&request.exchange().head.headers)
        };
        for json in [None, Some("application/JSON; charset=utf-8"), Some("text/plain"), Some("\"application/json\"")] {
            assert!(wants(json), "{json:?}");
        }
        assert!(!wants(Some("multipart/form-data; boundary=x")));
    }

    #[test]
    fn exactly_one_json_text() {
        for good in ["{}", " [1, 2.5e999, \"\\u00e9\"] ", "null", "\"[[\"", "{\"a\":{\"b\":[true,false]}}"] {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in ["", " ", "{", "{}{}", "[1,]", "{'a':1}", "nul", "01", "\u{feff}{}", "{\"a\" 1}", "\"\n\""] {
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
        assert!(!is_json(b"\"\xff\""));
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_json(nested(MAX_JSON_DEPTH).as_bytes()));
        assert!(!is_json(nested(MAX_JSON_DEPTH + 1).as_bytes()));
        assert!(!is_json("[".repeat(1_000_000).as_bytes()));
    }

    proptest! {
        #[test]
        fn agrees_with_the_parser_that_builds_a_tree(text in r#"[\[\]{}",:0-9a\\ -]{0,24}"#) {
            let tree = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            prop_assert_eq!(is_json(text.as_bytes()), tree);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = is_json(&bytes);
        }
    }
}
