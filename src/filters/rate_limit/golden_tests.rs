//! What clients are told, byte for byte, in each form: `golden/*.txt`.

use std::fmt::Write as _;
use std::time::Duration;

use http::Method;
use http::header::ORIGIN;

use super::tests::{limit, metrics, on_route, tier};
use super::*;
use crate::clock::Clock;
use crate::config::spec::{IetfForm, SubjectWord};
use crate::filters::exchange::tests::Request;
use crate::model::cors::{CorsPolicy, CorsVerdict};
use crate::model::reply::ErrorContext;
use crate::model::units::Span;

/// A title, the policies, and how many requests they let pass.
type Scene<'s> = (&'s str, &'s [(&'s str, &'s LimitSpec)], usize);

const FORMS: [(IetfForm, bool, &str, &str); 6] = [
    (IetfForm::Draft10, true, "draft_10", include_str!("golden/draft_10.txt")),
    (IetfForm::Draft10, false, "draft_10_alone", include_str!("golden/draft_10_alone.txt")),
    (IetfForm::Draft11, true, "draft_11", include_str!("golden/draft_11.txt")),
    (IetfForm::Draft11, false, "draft_11_alone", include_str!("golden/draft_11_alone.txt")),
    (IetfForm::Off, true, "x_ratelimit_alone", include_str!("golden/x_ratelimit_alone.txt")),
    (IetfForm::Off, false, "nothing", include_str!("golden/nothing.txt")),
];

fn spec(ietf: IetfForm, x_ratelimit: bool) -> LimitHeadersSpec {
    LimitHeadersSpec { ietf, x_ratelimit, jitter: Span(Duration::ZERO) }
}

/// One request: what was decided, and the lines about limits of its answer in the order they are written.
async fn told(filter: &RateLimit, request: &Request, clock: &Clock) -> String {
    let mut exchange = request.exchange_at(clock);
    let refused = filter.on_request(&mut exchange).await.err();
    let mut text = String::from(if refused.is_some() { "429\n" } else { "passed\n" });
    let mut lines = exchange.edits.response;
    if let Some(rejection) = refused {
        let context = ErrorContext::new("/", "id", &exchange.head.headers);
        let headers = rejection.reply(&context).headers;
        lines.extend(headers.into_iter().filter(|(name, _)| name == "retry-after"));
    }
    for (name, value) in lines {
        writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
    }
    text
}

/// The same requests in each form, at 1.25 s past 2026-01-01T00:00:00Z.
async fn scenes(headers: &LimitHeadersSpec) -> String {
    let (clock, hand) = Clock::manual();
    hand.advance(Duration::from_millis(1_250));
    let own = limit(SubjectWord::User, ScopeSpec::Route, "20/min", 20);
    let shadow = LimitSpec { shadow: true, ..limit(SubjectWord::Everyone, ScopeSpec::AllRoutes, "1/day", 0) };
    let (role, dear) = (tier(20), LimitSpec { cost: 5, ..limit(SubjectWord::Address, ScopeSpec::Route, "12/h", 0) });
    let cases: [Scene<'_>; 4] = [
        ("one policy", &[("parse-cv", &own)], 40),
        ("several policies, one of them a shadow", &[("parse-cv", &own), ("dark", &shadow), ("per-role", &role)], 40),
        ("a cost of 5", &[("dear", &dear)], 2),
        ("only a shadow", &[("dark", &shadow)], 2),
    ];
    let mut text = String::new();
    for (title, policies, capacity) in cases {
        let limits = Arc::new(Limits::local(1_000));
        let policies: Vec<_> = policies.iter().map(|(name, spec)| on_route(name, spec, &metrics())).collect();
        let names = RouteNames { route: "r", group: None };
        let filter = RateLimit::new(&policies, names, headers, limits).unwrap();
        let request = Request::get("/").by(7, Role::Recruteur);
        write!(text, "# {title}\n\n{}\n", told(&filter, &request, &clock).await).unwrap();
        for _ in 1..capacity {
            filter.on_request(&mut request.exchange_at(&clock)).await.unwrap();
        }
        writeln!(text, "{}", told(&filter, &request, &clock).await).unwrap();
    }
    text
}

#[tokio::test]
async fn each_form_is_what_its_file_says() {
    for (ietf, x_ratelimit, name, golden) in FORMS {
        let text = scenes(&spec(ietf, x_ratelimit)).await;
        assert!(text == golden, "golden/{name}.txt should be:\n{text}");
    }
}

#[tokio::test]
async fn pages_may_read_whatever_is_told() {
    let policy = CorsPolicy::new(&["https://a.example".to_owned()], Duration::from_secs(1)).unwrap();
    let headers = http::HeaderMap::from_iter([(ORIGIN, http::HeaderValue::from_static("https://a.example"))]);
    let CorsVerdict::Allowed(allowed) = policy.evaluate(&Method::GET, &headers) else { panic!("a known origin") };
    let exposed = allowed.iter().find(|(name, _)| name == "access-control-expose-headers").unwrap();
    let exposed: Vec<_> = exposed.1.to_str().unwrap().split(", ").map(str::to_ascii_lowercase).collect();
    for (.., golden) in FORMS {
        for name in golden.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name) {
            assert!(exposed.iter().any(|known| known == name), "{name}");
        }
    }
}
