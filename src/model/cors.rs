//! Cross-origin requests (Fetch standard, CORS protocol): which headers tell a browser that a page may read an
//! answer. Pure: it reads a request's method and headers, and gives headers back as data.

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-Request-ID, X-Process-Time, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-RateLimit-Window, \
     RateLimit-Policy, RateLimit, Retry-After, Idempotency-Replayed",
);
const TRUE: HeaderValue = HeaderValue::from_static("true");
const MAX_REQUESTED_HEADERS: usize = 4096;

/// An entry of the configuration that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no origin; expected scheme://host or scheme://host:port, without a path")]
pub struct InvalidOrigin(pub String);

/// The origins that pages may call from, with credentials.
#[derive(Debug, Clone)]
pub struct CorsPolicy {
    origins: Box<[Box<str>]>,
    max_age: HeaderValue,
}

/// What a request is in the eyes of CORS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsVerdict {
    /// No `Origin`: not from a page, or from a page of the same origin.
    NotCors,
    /// From a known origin; its answer, refusals included, gets these headers.
    Allowed(Vec<(HeaderName, HeaderValue)>),
    /// A preflight from a known origin: to be answered with 204 and these headers, and nothing else.
    Preflight(Vec<(HeaderName, HeaderValue)>),
    /// From an unknown origin: its answer gets no CORS headers, so the browser keeps it from the page.
    Foreign {
        /// Whether it is a preflight, to be answered with 204.
        preflight: bool,
    },
}

impl CorsVerdict {
    /// What to add to (never to put in place of) the answer's `Vary` (RFC 9110 §12.5.5). Every answer needs it, as
    /// every answer would have been another one for another origin.
    pub fn vary(&self) -> HeaderValue {
        HeaderValue::from_static(match self {
            CorsVerdict::Preflight(_) | CorsVerdict::Foreign { preflight: true } => {
                "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
            }
            CorsVerdict::NotCors | CorsVerdict::Allowed(_) | CorsVerdict::Foreign { preflight: false } => "Origin",
        })
    }
}

impl CorsPolicy {
    /// A policy for these origins. An entry may hold several, separated by commas. `*` and `null` are no origins:
    /// credentials are allowed, so each origin has to be named.
    pub fn new(origins: &[String], max_age: Duration) -> Result<CorsPolicy, InvalidOrigin> {
        let entries = origins.iter().flat_map(|entry| entry.split(',')).map(str::trim).filter(|text| !text.is_empty());
        let origins = entries.map(parse_origin).collect::<Result<_, _>>()?;
        Ok(CorsPolicy { origins, max_age: max_age.as_secs().into() })
    }

    /// What this request is, and which headers its answer gets.
    pub fn evaluate(&self, method: &Method, headers: &HeaderMap) -> CorsVerdict {
        let mut sent = headers.get_all(ORIGIN).iter();
        let Some(origin) = sent.next() else { return CorsVerdict::NotCors };
        let preflight = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if sent.next().is_some() || !self.knows(origin) {
            return CorsVerdict::Foreign { preflight };
        }
        let mut reply = Vec::with_capacity(5);
        reply.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
        reply.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE));
        if !preflight {
            reply.push((ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED));
            return CorsVerdict::Allowed(reply);
        }
        reply.push((ACCESS_CONTROL_ALLOW_METHODS, METHODS));
        reply.push((ACCESS_CONTROL_MAX_AGE, self.max_age.clone()));
        reply.extend(requested_headers(headers).map(|names| (ACCESS_CONTROL_ALLOW_HEADERS, names.clone())));
        CorsVerdict::Preflight(reply)
    }

    fn knows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|known| origin.as_bytes().eq_ignore_ascii_case(known.as_bytes()))
    }
}

/// The origin as browsers send it (RFC 6454 §6.2): lower case, without a default port.
fn parse_origin(text: &str) -> Result<Box<str>, InvalidOrigin> {
    let invalid = || InvalidOrigin(text.to_owned());
    let lower = text.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").ok_or_else(invalid)?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let parsed: http::uri::Authority = authority.parse().map_err(|_| invalid())?;
    let named = matches!(scheme, "http" | "https") && !parsed.host().is_empty() && !authority.contains(['@', '*']);
    let default_port = if scheme == "https" { 443 } else { 80 };
    let (port, colon) = (parsed.port_u16(), parsed.as_str().len() > parsed.host().len());
    if !named || (colon && port.is_none()) {
        return Err(invalid());
    }
    Ok(match port.filter(|port| *port != default_port) {
        Some(port) => format!("{scheme}://{}:{port}", parsed.host()).into(),
        None => format!("{scheme}://{}", parsed.host()).into(),
    })
}

/// The list of `Access-Control-Request-Headers`, to be mirrored: one line of tokens (RFC 9110 §5.6.2), or none.
fn requested_headers(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let text = line.to_str().ok().filter(|text| text.len() <= MAX_REQUESTED_HEADERS)?;
    text.split(',').map(|name| name.trim_matches([' ', '\t'])).all(is_token).then_some(line)
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> CorsPolicy {
        let origins = ["http://localhost:3000, https://App.example:443/".to_owned(), "http://[::1]:8080".to_owned()];
        CorsPolicy::new(&origins, Duration::from_secs(600)).unwrap()
    }

    fn verdict(method: Method, headers: &[(HeaderName, &str)]) -> CorsVerdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        policy().evaluate(&method, &map)
    }

    fn find<'h>(headers: &'h [(HeaderName, HeaderValue)], name: &str) -> Option<&'h str> {
        headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap())
    }

    #[test]
    fn known_origins_read_answers_with_credentials() {
        for origin in ["http://localhost:3000", "https://app.example", "HTTPS://APP.EXAMPLE", "http://[::1]:8080"] {
            let CorsVerdict::Allowed(headers) = verdict(Method::POST, &[(ORIGIN, origin)]) else { panic!("{origin}") };
            assert_eq!(find(&headers, "access-control-allow-origin"), Some(origin));
            assert_eq!(find(&headers, "access-control-allow-credentials"), Some("true"));
            let exposed = find(&headers, "access-control-expose-headers").unwrap();
            for name in ["X-Request-ID", "X-Process-Time", "X-RateLimit-Reset", "RateLimit-Policy", "Retry-After"] {
                assert!(exposed.split(", ").any(|known| known == name), "{name}");
            }
        }
    }

    #[test]
    fn foreign_origins_get_nothing() {
        let foreign = CorsVerdict::Foreign { preflight: false };
        for origin in [
            "null",
            "http://localhost",
            "https://localhost:3000",
            "http://localhost:3000.evil.example",
            "*",
            "",
            "é",
            "http://localhost:3000/",
            "http://localhost:3000, http://x",
        ] {
            assert_eq!(verdict(Method::GET, &[(ORIGIN, origin)]), foreign, "{origin}");
        }
        let twice = [(ORIGIN, "http://localhost:3000"), (ORIGIN, "http://localhost:3000")];
        assert_eq!(verdict(Method::GET, &twice), foreign);
        assert_eq!(foreign.vary(), "Origin");
        assert_eq!(verdict(Method::GET, &[]), CorsVerdict::NotCors);
    }

    #[test]
    fn a_preflight_mirrors_the_requested_headers() {
        let base = [(ORIGIN, "http://localhost:3000"), (ACCESS_CONTROL_REQUEST_METHOD, "PUT")];
        let with = |names: &'static str| {
            verdict(Method::OPTIONS, &[base[0].clone(), base[1].clone(), (ACCESS_CONTROL_REQUEST_HEADERS, names)])
        };
        let asked = with("authorization, x-Custom");
        let CorsVerdict::Preflight(headers) = &asked else { panic!("no preflight") };
        assert_eq!(find(headers, "access-control-allow-headers"), Some("authorization, x-Custom"));
        assert_eq!(find(headers, "access-control-allow-methods"), METHODS.to_str().ok());
        assert_eq!(find(headers, "access-control-max-age"), Some("600"));
        assert!(asked.vary().to_str().unwrap().contains("Access-Control-Request-Headers"));
        for wrong in ["a b", "a,,b", "", "a:b", "é"] {
            let CorsVerdict::Preflight(headers) = with(wrong) else { panic!("no preflight") };
            assert_eq!(find(&headers, "access-control-allow-headers"), None, "{wrong}");
        }
        let (origin, method) = ((ORIGIN, "http://x"), (ACCESS_CONTROL_REQUEST_METHOD, "PUT"));
        assert_eq!(verdict(Method::OPTIONS, &[origin, method]), CorsVerdict::Foreign { preflight: true });
        assert!(matches!(verdict(Method::OPTIONS, &base[..1]), CorsVerdict::Allowed(_)));
    }

    #[test]
    fn what_is_no_origin_is_refused_in_the_configuration() {
        for wrong in [
            "*",
            "null",
            "localhost:3000",
            "http://",
            "http://a/b",
            "ftp://a",
            "http://u@a",
            "http://*.a",
            "http://a:",
            "http://a:99999",
        ] {
            assert!(CorsPolicy::new(&[wrong.to_owned()], Duration::ZERO).is_err(), "{wrong}");
        }
        assert!(CorsPolicy::new(&["".to_owned(), " , ".to_owned()], Duration::ZERO).is_ok());
    }

    proptest! {
        #[test]
        fn only_listed_origins_are_ever_echoed(bytes in prop::collection::vec(0x20_u8..0x7f, 0..40)) {
            let text = String::from_utf8(bytes).unwrap();
            let known = ["http://localhost:3000", "https://app.example", "http://[::1]:8080"];
            let listed = known.iter().any(|known| known.eq_ignore_ascii_case(&text));
            prop_assert_eq!(matches!(verdict(Method::GET, &[(ORIGIN, &text)]), CorsVerdict::Allowed(_)), listed);
        }
    }
}
