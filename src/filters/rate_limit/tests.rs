//! Tests of the filter: policies, subjects, headers, reloads.

use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::clock::Clock;
use crate::config::spec::RoleRates;
use crate::filters::exchange::tests::Request;
use crate::model::units::Rate;

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

fn limit(by: Subject, over: Scope, text: &str, burst: u32) -> LimitSpec {
    LimitSpec { by, over, rate: Some(rate(text)), roles: None, burst }
}

fn tier(burst: u32) -> LimitSpec {
    let roles = RoleRates { candidat: rate("50/min"), recruteur: rate("200/min"), admin: rate("1000/min") };
    LimitSpec { by: Subject::User, over: Scope::AllRoutes, rate: None, roles: Some(roles), burst }
}

fn filter(buckets: &Arc<Buckets>, route: &str, policies: &[(&str, &LimitSpec)]) -> RateLimit {
    RateLimit::new(policies, route, buckets.clone(), None).unwrap()
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
    let buckets = Arc::new(Buckets::new(1_000));
    let own = limit(Subject::User, Scope::Route, "20/min", 20);
    let filter = filter(&buckets, "parse-cv", &[("parse-cv", &own), ("per-role", &tier(20))]);
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
    let buckets = Arc::new(Buckets::new(1_000));
    let (narrow, wide) =
        (limit(Subject::User, Scope::Route, "2/min", 0), limit(Subject::Address, Scope::AllRoutes, "10/min", 0));
    let one = filter(&buckets, "one", &[("wide", &wide), ("narrow", &narrow)]);
    let two = filter(&buckets, "two", &[("wide", &wide)]);
    let request = Request::get("/").by(7, Role::Admin);
    assert_eq!(count_admitted(&one, &request, &clock, 50).await, 2);
    assert_eq!(count_admitted(&two, &request, &clock, 50).await, 8);
}

#[tokio::test]
async fn roles_routes_and_subjects_are_kept_apart() {
    let (clock, _) = Clock::manual();
    let buckets = Arc::new(Buckets::new(1_000));
    let tiers = filter(&buckets, "a", &[("tier", &tier(0))]);
    for (user, role, expected) in [(1, Role::Candidat, 50), (2, Role::Recruteur, 200), (3, Role::Admin, 1000)] {
        assert_eq!(count_admitted(&tiers, &Request::get("/").by(user, role), &clock, 1100).await, expected);
    }
    assert_eq!(count_admitted(&tiers, &Request::get("/").from("192.0.2.1"), &clock, 1100).await, 50);
    assert_eq!(count_admitted(&tiers, &Request::get("/").from("::ffff:192.0.2.1"), &clock, 10).await, 0);
    assert_eq!(count_admitted(&tiers, &Request::get("/").from("2001:db8:0:1::1"), &clock, 49).await, 49);
    assert_eq!(count_admitted(&tiers, &Request::get("/").from("2001:db8:0:1:ffff::9"), &clock, 10).await, 1);
    assert_eq!(count_admitted(&tiers, &Request::get("/").from("2001:db8:0:2::1"), &clock, 10).await, 10);

    let spec = limit(Subject::User, Scope::Route, "5/min", 0);
    let request = Request::get("/").by(9, Role::Admin);
    for route in ["x", "y"] {
        assert_eq!(count_admitted(&filter(&buckets, route, &[("same", &spec)]), &request, &clock, 10).await, 5);
    }
}

#[tokio::test]
async fn a_reload_refills_nothing_and_a_changed_limit_rescales() {
    let (clock, _) = Clock::manual();
    let buckets = Arc::new(Buckets::new(1_000));
    let request = Request::get("/").by(7, Role::Admin);
    let old = limit(Subject::User, Scope::Route, "10/min", 10);
    assert_eq!(count_admitted(&filter(&buckets, "r", &[("p", &old)]), &request, &clock, 10).await, 10);
    let new = limit(Subject::User, Scope::Route, "50/min", 50);
    assert_eq!(count_admitted(&filter(&buckets, "r", &[("p", &new)]), &request, &clock, 200).await, 50);
    assert_eq!(count_admitted(&filter(&buckets, "r", &[("p", &old)]), &request, &clock, 200).await, 0);
}

struct Counts(Mutex<Vec<(usize, bool)>>);

impl LimitObserver for Counts {
    fn decided(&self, policy: usize, allowed: bool) {
        self.0.lock().push((policy, allowed));
    }
}

#[tokio::test]
async fn the_observer_sees_who_charged_and_who_refused() {
    let (clock, _) = Clock::manual();
    let counts = Arc::new(Counts(Mutex::default()));
    let (small, large) =
        (limit(Subject::User, Scope::Route, "1/min", 0), limit(Subject::User, Scope::Route, "9/min", 0));
    let policies = [("large", &large), ("large", &large), ("small", &small)];
    let filter = RateLimit::new(&policies, "r", Arc::new(Buckets::new(1_000)), Some(counts.clone())).unwrap();
    count_admitted(&filter, &Request::get("/"), &clock, 2).await;
    assert_eq!(*counts.0.lock(), [(0, true), (2, true), (2, false)]);
}

#[tokio::test]
async fn no_policy_is_no_limit_and_wrong_ones_are_refused() {
    let (clock, _) = Clock::manual();
    let buckets = Arc::new(Buckets::new(1_000));
    assert_eq!(count_admitted(&filter(&buckets, "r", &[]), &Request::get("/"), &clock, 100).await, 100);
    let neither = LimitSpec { rate: None, ..limit(Subject::User, Scope::Route, "1/s", 0) };
    let error = RateLimit::new(&[("p", &neither)], "r", buckets.clone(), None).err();
    assert_eq!(error.map(|error| error.to_string()).as_deref(), Some("limits.p: give either `rate` or `roles`"));
    let fine = limit(Subject::User, Scope::Route, "1/s", 0);
    assert!(RateLimit::new(&[("é", &fine)], "r", buckets, None).is_err());
}
