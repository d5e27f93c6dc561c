//! Tests of the filter: policies, subjects, headers, reloads.

use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::config::spec::{OnStoreFailure, RoleRates, Sharing, SubjectSpec, SubjectWord};
use crate::filters::exchange::tests::Request;
use crate::model::identity::UserId;
use crate::model::units::Rate;
use crate::store::LimitOverride;
use crate::store::limits_model::{ModelBucketStore, Mood};
use crate::telemetry::metrics::Metrics;

pub(super) fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

pub(super) fn limit(by: SubjectWord, over: ScopeSpec, text: &str, burst: u32) -> LimitSpec {
    LimitSpec {
        by: SubjectSpec::Word(by),
        over,
        rate: Some(rate(text)),
        roles: None,
        burst,
        cost: 1,
        in_flight: None,
        shadow: false,
        sharing: Sharing::Exact,
        on_store_failure: OnStoreFailure::Local,
    }
}

pub(super) fn tier(burst: u32) -> LimitSpec {
    let roles =
        RoleRates { anonymous: None, candidat: rate("50/min"), recruteur: rate("200/min"), admin: rate("1000/min") };
    LimitSpec { rate: None, roles: Some(roles), ..limit(SubjectWord::User, ScopeSpec::AllRoutes, "1/s", burst) }
}

fn try_filter(
    limits: &Arc<Limits>,
    route: &str,
    policies: &[(&str, &LimitSpec)],
    metrics: &Metrics,
) -> Result<RateLimit, InvalidLimit> {
    let policies: Vec<_> = policies.iter().map(|(name, spec)| on_route(name, spec, metrics)).collect();
    let names = RouteNames { route, group: None };
    RateLimit::new(&policies, names, &LimitHeadersSpec::default(), limits.clone())
}

pub(super) fn on_route<'s>(name: &'s str, spec: &'s LimitSpec, metrics: &Metrics) -> LimitOnRoute<'s> {
    LimitOnRoute { name, spec, cost: spec.cost, metrics: metrics.limit(name) }
}

fn filter(limits: &Arc<Limits>, route: &str, policies: &[(&str, &LimitSpec)]) -> RateLimit {
    try_filter(limits, route, policies, &metrics()).unwrap()
}

pub(super) fn metrics() -> Arc<Metrics> {
    Metrics::new("test").unwrap()
}

/// How many requests a policy let pass, refused, and would have refused.
fn counted(metrics: &Metrics, policy: &str) -> [u64; 3] {
    let LimitMetrics { allowed, denied, would_deny } = metrics.limit(policy);
    [allowed.get(), denied.get(), would_deny.get()]
}

async fn count_admitted(filter: &RateLimit, request: &Request, clock: &Clock, tries: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..tries {
        admitted += usize::from(filter.on_request(&mut request.exchange_at(clock)).await.is_ok());
    }
    admitted
}

fn header(exchange: &Exchange<'_>, name: &str) -> String {
    let found = exchange.edits.response.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

fn all_headers(exchange: &Exchange<'_>) -> Vec<String> {
    [
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-ratelimit-window",
        "ratelimit-policy",
        "ratelimit",
    ]
    .map(|name| header(exchange, name))
    .to_vec()
}

#[tokio::test]
async fn headers_on_success_and_on_refusal() {
    let (clock, hand) = Clock::manual();
    let now = clock.unix_seconds();
    let limits = Arc::new(Limits::local(1_000));
    let own = limit(SubjectWord::User, ScopeSpec::Route, "20/min", 20);
    let filter = filter(&limits, "parse-cv", &[("parse-cv", &own), ("per-role", &tier(20))]);
    let request = Request::get("/").by(7, Role::Candidat);
    let policies = "\"parse-cv\";q=20;w=60, \"per-role\";q=50;w=60";

    let mut first = request.exchange_at(&clock);
    filter.on_request(&mut first).await.unwrap();
    let expected = ["20", "19", &(now + 3).to_string(), "60", policies, "\"parse-cv\";r=19;t=3"];
    assert_eq!(all_headers(&first), expected);
    assert_eq!(first.limit.map(|limit| (limit.policy, limit.remaining)), Some(("parse-cv".into(), 19)));

    assert_eq!(count_admitted(&filter, &request, &clock, 100).await, 39);
    let mut refused = request.exchange_at(&clock);
    let rejection = filter.on_request(&mut refused).await.unwrap_err();
    assert_eq!(rejection, Rejection::RateLimited(Duration::from_secs(3)));
    let expected = ["20", "0", &(now + 3).to_string(), "60", policies, "\"parse-cv\";r=0;t=3"];
    assert_eq!(all_headers(&refused), expected);

    hand.advance(Duration::from_secs(3));
    assert_eq!(count_admitted(&filter, &request, &clock, 10).await, 1);
}

#[tokio::test]
async fn a_refused_request_charges_no_policy() {
    let (clock, _) = Clock::manual();
    let limits = Arc::new(Limits::local(1_000));
    let (narrow, wide) = (
        limit(SubjectWord::User, ScopeSpec::Route, "2/min", 0),
        limit(SubjectWord::Address, ScopeSpec::AllRoutes, "10/min", 0),
    );
    let one = filter(&limits, "one", &[("wide", &wide), ("narrow", &narrow)]);
    let two = filter(&limits, "two", &[("wide", &wide)]);
    let request = Request::get("/").by(7, Role::Admin);
    assert_eq!(count_admitted(&one, &request, &clock, 50).await, 2);
    assert_eq!(count_admitted(&two, &request, &clock, 50).await, 8);
}

#[tokio::test]
async fn roles_routes_and_subjects_are_kept_apart() {
    let (clock, _) = Clock::manual();
    let limits = Arc::new(Limits::local(1_000));
    let tiers = filter(&limits, "a", &[("tier", &tier(0))]);
    for (user, role, expected) in [(1, Role::Candidat, 50), (2, Role::Recruteur, 200), (3, Role::Admin, 1000)] {
        assert_eq!(count_admitted(&tiers, &Request::get("/").by(user, role), &clock, 1100).await, expected);
    }
    assert_eq!(count_admitted(&tiers, &Request::get("/").from("192.0.2.1"), &clock, 1100).await, 50);
    assert_eq!(count_admitted(&tiers, &Request::get("/").from("::ffff:192.0.2.1"), &clock, 10).await, 0);
    assert_eq!(count_admitted(&tiers, &Request::get("/").from("2001:db8:0:1::1"), &clock, 49).await, 49);
    assert_eq!(count_admitted(&tiers, &Request::get("/").from("2001:db8:0:1:ffff::9"), &clock, 10).await, 1);
    assert_eq!(count_admitted(&tiers, &Request::get("/").from("2001:db8:0:2::1"), &clock, 10).await, 10);

    let spec = limit(SubjectWord::User, ScopeSpec::Route, "5/min", 0);
    let request = Request::get("/").by(9, Role::Admin);
    for route in ["x", "y"] {
        assert_eq!(count_admitted(&filter(&limits, route, &[("same", &spec)]), &request, &clock, 10).await, 5);
    }
}

#[tokio::test]
async fn jitter_is_added_to_every_time_of_a_refusal_alike_and_to_nothing_else() {
    let (clock, _) = Clock::manual();
    let now = u64::try_from(clock.unix_seconds()).unwrap();
    let limits = Arc::new(Limits::local(1_000));
    let spec = limit(SubjectWord::User, ScopeSpec::Route, "20/min", 0);
    let headers = LimitHeadersSpec { jitter: "30s".parse().unwrap(), ..LimitHeadersSpec::default() };
    let names = RouteNames { route: "r", group: None };
    let filter = RateLimit::new(&[on_route("p", &spec, &metrics())], names, &headers, limits).unwrap();
    let request = Request::get("/").by(7, Role::Admin);
    let mut passed = request.exchange_at(&clock);
    filter.on_request(&mut passed).await.unwrap();
    assert_eq!(header(&passed, "ratelimit"), "\"p\";r=19;t=3");
    assert_eq!(count_admitted(&filter, &request, &clock, 19).await, 19);
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let mut refused = request.exchange_at(&clock);
        let rejection = filter.on_request(&mut refused).await.unwrap_err();
        let wait = crate::model::reply::retry_after_seconds(rejection.retry_after().unwrap());
        assert_eq!(header(&refused, "x-ratelimit-reset"), (now + wait).to_string());
        assert_eq!(header(&refused, "ratelimit"), format!("\"p\";r=0;t={wait}"));
        waits.insert(wait);
    }
    assert!(waits.first() >= Some(&3) && waits.last() <= Some(&33), "{waits:?}");
    assert!(waits.len() > 20, "{waits:?}"); // of 31: far fewer would not be uniform
}

#[tokio::test]
async fn places_are_taken_before_tokens_and_held_by_the_exchange() {
    let (clock, _) = Clock::manual();
    let limits = Arc::new(Limits::local(1_000));
    let spec = LimitSpec { in_flight: Some(2), ..limit(SubjectWord::User, ScopeSpec::Route, "3/min", 0) };
    let only = LimitSpec { rate: None, in_flight: Some(1), shadow: true, ..spec.clone() };
    let metrics = metrics();
    let build = || try_filter(&limits, "r", &[("both", &spec), ("only", &only)], &metrics).unwrap();
    let (filter, reloaded) = (build(), build());
    let request = Request::get("/").by(7, Role::Admin);
    let mut held = [request.exchange_at(&clock), request.exchange_at(&clock)];
    for exchange in &mut held {
        filter.on_request(exchange).await.unwrap();
    }
    assert_eq!(held.each_ref().map(|exchange| exchange.permits.len()), [2, 1], "a shadow holds what it would let pass");
    for filter in [&filter, &reloaded] {
        let mut refused = request.exchange_at(&clock);
        assert_eq!(filter.on_request(&mut refused).await.unwrap_err(), Rejection::ConcurrencyLimited);
        assert_eq!((refused.permits.len(), refused.edits.response.len()), (0, 0));
    }
    drop(held);
    assert_eq!(count_admitted(&filter, &request, &clock, 5).await, 1, "the refusals took no token");
    assert_eq!((counted(&metrics, "both"), counted(&metrics, "only")), ([3, 6, 0], [2, 0, 1]));
}

#[tokio::test]
async fn headers_that_say_nothing_are_missing() {
    let (clock, _) = Clock::manual();
    let limits = Arc::new(Limits::local(1_000));
    let by = SubjectSpec::Header(crate::config::spec::SubjectHeaderSpec { header: "X-Tenant".into() });
    let spec = LimitSpec { by, ..limit(SubjectWord::User, ScopeSpec::Route, "2/min", 0) };
    let filter = filter(&limits, "r", &[("tenant", &spec)]);
    let tenant = |value: &str| Request::get("/").with("x-tenant", value);
    assert_eq!(count_admitted(&filter, &tenant("a"), &clock, 5).await, 2);
    assert_eq!(count_admitted(&filter, &tenant("a").with("x-tenant", ""), &clock, 5).await, 0);
    assert_eq!(count_admitted(&filter, &Request::get("/"), &clock, 5).await, 2, "by the address");
    assert_eq!(count_admitted(&filter, &tenant(""), &clock, 5).await, 0, "by the address, too");
    assert_eq!(count_admitted(&filter, &tenant("A"), &clock, 5).await, 2, "a header's value has a case");
    assert_eq!(count_admitted(&filter, &tenant("a").with("x-tenant", "b"), &clock, 5).await, 2);
}

#[tokio::test]
async fn a_reload_refills_nothing_and_a_changed_limit_rescales() {
    let (clock, _) = Clock::manual();
    let limits = Arc::new(Limits::local(1_000));
    let request = Request::get("/").by(7, Role::Admin);
    let old = limit(SubjectWord::User, ScopeSpec::Route, "10/min", 10);
    assert_eq!(count_admitted(&filter(&limits, "r", &[("p", &old)]), &request, &clock, 10).await, 10);
    let new = limit(SubjectWord::User, ScopeSpec::Route, "50/min", 50);
    assert_eq!(count_admitted(&filter(&limits, "r", &[("p", &new)]), &request, &clock, 200).await, 50);
    assert_eq!(count_admitted(&filter(&limits, "r", &[("p", &old)]), &request, &clock, 200).await, 0);
}

#[tokio::test]
async fn who_charged_and_who_refused_is_counted() {
    let (clock, _) = Clock::manual();
    let metrics = metrics();
    let (small, large) = (
        limit(SubjectWord::User, ScopeSpec::Route, "1/min", 0),
        limit(SubjectWord::User, ScopeSpec::Route, "9/min", 0),
    );
    let policies = [("large", &large), ("small", &small)];
    let filter = try_filter(&Arc::new(Limits::local(1_000)), "r", &policies, &metrics).unwrap();
    count_admitted(&filter, &Request::get("/"), &clock, 2).await;
    assert_eq!((counted(&metrics, "large"), counted(&metrics, "small")), ([1, 0, 0], [1, 1, 0]));
}

#[tokio::test]
async fn no_policy_is_no_limit_and_wrong_ones_are_refused() {
    let (clock, _) = Clock::manual();
    let limits = Arc::new(Limits::local(1_000));
    assert_eq!(count_admitted(&filter(&limits, "r", &[]), &Request::get("/"), &clock, 100).await, 100);
    let neither = LimitSpec { rate: None, ..limit(SubjectWord::User, ScopeSpec::Route, "1/s", 0) };
    let error = try_filter(&limits, "r", &[("p", &neither)], &metrics()).err();
    assert_eq!(error.map(|error| error.to_string()).as_deref(), Some("limits.p: give either `rate` or `roles`"));
}

#[tokio::test]
async fn an_override_changes_one_users_quota_and_its_headers_until_it_ends() {
    let (clock, hand) = Clock::manual();
    let limits = Arc::new(Limits::local(1_000));
    let own = limit(SubjectWord::User, ScopeSpec::Route, "20/min", 0);
    let by_address = limit(SubjectWord::Address, ScopeSpec::Route, "900/min", 0);
    let filter = filter(&limits, "parse-cv", &[("own", &own), ("per-role", &tier(0)), ("by-address", &by_address)]);
    let (one, other) = (Request::get("/").by(7, Role::Candidat), Request::get("/").by(8, Role::Candidat));
    let over = |policy: &str, text: &str, seconds| LimitOverride {
        user: UserId(7),
        policy: policy.into(),
        rate: rate(text),
        burst: None,
        until_s: clock.unix_seconds() + seconds,
        made_at_ms: 0,
    };
    limits.rules().overrides().set(vec![
        over("own", "500/min", 60),
        over("per-role", "600/min", 60),
        over("by-address", "1/day", 60),
    ]);
    let mut first = one.exchange_at(&clock);
    filter.on_request(&mut first).await.unwrap();
    let policies = "\"own\";q=500;w=60, \"per-role\";q=600;w=60, \"by-address\";q=900;w=60";
    assert_eq!(header(&first, "ratelimit-policy"), policies);
    assert_eq!(
        (header(&first, "x-ratelimit-limit"), header(&first, "ratelimit")),
        ("500".into(), "\"own\";r=499;t=1".into())
    );
    assert_eq!(count_admitted(&filter, &one, &clock, 600).await, 499);
    assert_eq!(count_admitted(&filter, &other, &clock, 50).await, 20, "others have what they had");
    let mut usual = other.exchange_at(&clock);
    filter.on_request(&mut usual).await.unwrap_err();
    assert_eq!(header(&usual, "x-ratelimit-limit"), "20");
    // It ends by itself: the bucket, full again by then, is the policy's.
    hand.advance(Duration::from_secs(60));
    let mut after = one.exchange_at(&clock);
    filter.on_request(&mut after).await.unwrap();
    assert_eq!(
        (header(&after, "x-ratelimit-limit"), header(&after, "x-ratelimit-remaining")),
        ("20".into(), "19".into())
    );
    assert_eq!(count_admitted(&filter, &one, &clock, 50).await, 19);
}

/// A replica that counts alone for a while tells how much of its share is left, not less.
#[tokio::test]
async fn without_the_shared_store_the_share_of_this_replica_is_told() {
    let (clock, hand) = Clock::manual();
    let store = Arc::new(ModelBucketStore::new(1_767_225_600_000_000));
    store.behave(Mood::Away);
    let limits = Limits::local(1_000).distributed(store, 2, metrics().shared_limits(), clock.clone());
    let own = limit(SubjectWord::User, ScopeSpec::Route, "10/min", 100);
    let filter = filter(&Arc::new(limits), "r", &[("own", &own)]);
    let request = Request::get("/").by(7, Role::Admin);
    let mut first = request.exchange_at(&clock);
    hand.advance(Duration::from_secs(3)); // the question took long
    filter.on_request(&mut first).await.unwrap();
    assert_eq!(
        (header(&first, "x-ratelimit-limit"), header(&first, "x-ratelimit-remaining")),
        ("10".into(), "4".into())
    );
    assert_eq!(
        header(&first, "x-ratelimit-reset"),
        (clock.unix_seconds() + 12).to_string(),
        "from when it was decided"
    );
    assert_eq!(header(&first, "ratelimit"), "\"own\";r=4;t=12");
    assert_eq!(count_admitted(&filter, &request, &clock, 100).await, 54);
}
