//! Micro-benchmarks of the pure steps of one request: one function per step, one criterion group per function.
//!
//! `cargo bench --bench micro -- route_lookup` runs one group. It measures; what it found is in docs/performance.md.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a benchmark that cannot set up its input must stop

use std::hint::black_box;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, Request};
use secrecy::ExposeSecret as _;
use ssm_gateway::accounts::{Accounts, AccountsConfig, Authenticator, Registration};
use ssm_gateway::clock::Clock;
use ssm_gateway::config::{env::Env, routes};
use ssm_gateway::filters::Exchange;
use ssm_gateway::filters::body::BodyRules;
use ssm_gateway::filters::catalog::{self, FilterHandles};
use ssm_gateway::filters::rate_limit::buckets::{Buckets, Check, Key, Subject};
use ssm_gateway::model::gcra::Quota;
use ssm_gateway::model::identity::{Client, UserId};
use ssm_gateway::model::path::canonicalize;
use ssm_gateway::model::role::Role;
use ssm_gateway::model::route_table::{PathPattern, RouteTable};
use ssm_gateway::model::units::Rate;
use ssm_gateway::snapshot::flood_guard::{FloodGuard, FloodGuardState};
use ssm_gateway::store::embedded::EmbeddedStore;
use ssm_gateway::telemetry::metrics::Metrics;

/// Look-up cost must not grow with the number of routes.
fn route_lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route_lookup");
    for count in [1_usize, 100, 10_000] {
        let table = table(count);
        let last = count - 1;
        let cases = [
            ("exact", format!("/api/gateway/service-{last}/items")),
            ("parameter", format!("/api/gateway/service-{last}/items/42")),
            ("prefix", format!("/files/service-{last}/a/b/c")),
            ("unknown", format!("/api/gateway/service-{last}/other")),
        ];
        for (case, path) in &cases {
            group.bench_with_input(BenchmarkId::new(*case, count), path, |bencher, path| {
                bencher.iter(|| black_box(table.lookup(black_box(&Method::GET), black_box(path))));
            });
        }
    }
    group.finish();
}

/// A table with `count` services, each with an exact, a parameter and a prefix pattern.
fn table(count: usize) -> RouteTable<usize> {
    let mut table = RouteTable::default();
    for index in 0..count {
        let patterns = [
            PathPattern::Path(format!("/api/gateway/service-{index}/items")),
            PathPattern::Path(format!("/api/gateway/service-{index}/items/{{id}}")),
            PathPattern::Prefix(format!("/files/service-{index}")),
        ];
        for pattern in &patterns {
            table.insert(pattern, &[Method::GET, Method::POST], &index).expect("distinct patterns");
        }
    }
    table
}

/// Canonical paths must cost next to nothing.
fn canonical_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("canonical_path");
    for (case, path) in [("plain", "/api/gateway/match/batch"), ("encoded", "/api/gateway/caf%c3%a9/%7euser")] {
        group.bench_function(case, |bencher| bencher.iter(|| black_box(canonicalize(black_box(path)))));
    }
    group.finish();
}

/// One request's charge against two policies, on one key and spread over 100,000.
fn bucket(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bucket");
    let buckets = Buckets::new(1_000_000);
    let clock = Clock::system();
    let (policy, tier, route) = (buckets.intern("match"), buckets.intern("per-role"), buckets.intern("match-route"));
    let quota = Quota::new(Rate { limit: 1_000_000_000, period: std::time::Duration::from_secs(1) }, 20);
    for users in [1_i64, 100_000] {
        let mut next = 0;
        group.bench_function(BenchmarkId::new("two_policies", users), |bencher| {
            bencher.iter(|| {
                next = (next + 1) % users;
                let subject = Subject::User(UserId(next));
                let keys = [Key { policy, route: Some(route), subject }, Key { policy: tier, route: None, subject }];
                black_box(buckets.decide_all(clock.now(), keys.into_iter().map(|key| Check { key, quota, cost: 1 })))
            });
        });
    }
    group.finish();
}

/// The identity part of an authenticated request, the flood guard before it, and the whole chain around it.
fn identity_and_chain(criterion: &mut Criterion) {
    let world = World::new();
    let clock = Clock::system();
    criterion.bench_function("token/cached", |bencher| {
        bencher.iter(|| black_box(world.authenticator.authenticate(&world.headers, clock.unix_seconds())));
    });
    criterion.bench_function("flood_guard/charged", |bencher| {
        bencher.iter(|| black_box(world.guard.check(IpAddr::V4(Ipv4Addr::LOCALHOST), clock.now())));
    });
    criterion.bench_function("chain/jwt_role_two_limits", |bencher| {
        bencher.iter(|| {
            let mut exchange = Exchange {
                head: &world.head,
                client: Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), secure: false },
                route: "match",
                now: clock.now(),
                unix_seconds: clock.unix_seconds(),
                identity: None,
                edits: Default::default(),
                limit: None,
            };
            black_box(world.chain.admit(&mut exchange).now_or_never())
        });
    });
}

/// A signed-in user and the chain of one route.
struct World {
    authenticator: Arc<Authenticator>,
    headers: HeaderMap,
    head: http::request::Parts,
    chain: ssm_gateway::filters::chain::Chain,
    guard: FloodGuard,
    _folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

const TABLE: &str = "
version: 1
limits:
  per-role: { by: user, over: all_routes, roles: { candidat: 1000000000/s, recruteur: 1000000000/s, admin: 1000000000/s } }
  match: { by: user, rate: 1000000000/s }
flood_guard: { rate: 1000000000/s }
routes:
  - name: match
    match: { path: /match, methods: [POST] }
    to: { builtin: status }
    auth: { roles: [candidat] }
    limits: [match, per-role]
";

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let store = Arc::new(EmbeddedStore::open(&folder.path().join("identity.db")).expect("a store"));
        let metrics = Metrics::new("bench").expect("metrics");
        let (accounts, access) = runtime.block_on(async {
            let secret = "a secret of thirty-two bytes at least".into();
            let accounts = Accounts::open(store, secret, AccountsConfig::default(), Clock::system(), metrics.clone())
                .await
                .expect("accounts");
            let email: ssm_gateway::accounts::Email = "bench@example.com".parse().expect("an address");
            let password = ssm_gateway::accounts::NewPassword::parse("a good long one".into(), Some(&email));
            let registration = Registration {
                email,
                full_name: "Bench".parse().expect("a name"),
                password: password.expect("a password"),
                role: Role::Candidat,
            };
            let pair = accounts.register(registration).await.expect("an account");
            (accounts, pair.access.expose_secret().to_owned())
        });
        let value = HeaderValue::try_from(format!("Bearer {access}")).expect("a header");
        let head = Request::post("/match").header(AUTHORIZATION, value).header("host", "gateway");
        let (head, ()) = head.header("content-length", "0").body(()).expect("a request").into_parts();
        let table = routes::parse("bench", TABLE, &Env::default()).expect("a table").spec;
        let handles =
            FilterHandles { authenticator: accounts.authenticator(), buckets: Arc::new(Buckets::new(1000)), metrics };
        let flood = table.flood_guard.as_ref().expect("a guard");
        let route = table.routes.first().expect("a route");
        let chain =
            catalog::chain(route, &table, &BodyRules::new(1 << 20, &[], false, 1 << 20), &handles).expect("a chain");
        World {
            authenticator: accounts.authenticator(),
            headers: head.headers.clone(),
            head,
            chain,
            guard: FloodGuard::new(flood, Arc::new(FloodGuardState::new(1000))),
            _folder: folder,
            _runtime: runtime,
        }
    }
}

criterion_group!(benches, route_lookup, canonical_path, bucket, identity_and_chain);
criterion_main!(benches);
