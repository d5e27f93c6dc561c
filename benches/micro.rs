//! Micro-benchmarks of the pure steps of one request: one function per step, one criterion group per function.
//!
//! `cargo bench --bench micro -- route_lookup` runs one group. It measures; what it found is in docs/performance.md.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a benchmark that cannot set up its input must stop

use std::hint::black_box;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, Request};
use secrecy::ExposeSecret as _;
use ssm_gateway::accounts::api_keys::X_API_KEY;
use ssm_gateway::accounts::keys::{KeyFolder, Signing};
use ssm_gateway::accounts::{
    Accounts, AccountsConfig, ApiKeyRequest, ApiKeys, Authenticator, KeyRing, KeySource, Origin, Registration,
};
use ssm_gateway::audit::Audit;
use ssm_gateway::clock::{Clock, Tick};
use ssm_gateway::config::spec::Sharing;
use ssm_gateway::config::{env::Env, routes};
use ssm_gateway::filters::Exchange;
use ssm_gateway::filters::body::BodyRules;
use ssm_gateway::filters::catalog::{self, FilterHandles};
use ssm_gateway::limits::flood_guard::{FloodGuard, FloodGuardState};
use ssm_gateway::limits::{Blocks, Buckets, Check, Limits, Policy, PolicyOptions, Scope, Subject};
use ssm_gateway::model::algorithm::TokenAlgorithm;
use ssm_gateway::model::balance::{Algorithm, Ask, Member, Order, Plan, Turns};
use ssm_gateway::model::gcra::Quota;
use ssm_gateway::model::identity::{Client, UserId};
use ssm_gateway::model::path::canonicalize;
use ssm_gateway::model::role::Role;
use ssm_gateway::model::route_table::{PathPattern, RouteTable};
use ssm_gateway::model::units::Rate;
use ssm_gateway::store::embedded::EmbeddedStore;
use ssm_gateway::store::{AddressBlock, IdempotencyBounds, LocalIdempotency};
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
    let options = PolicyOptions { sharing: Sharing::None, ..PolicyOptions::default() };
    let policies = [("match", Scope::Route("match")), ("per-role", Scope::AllRoutes)]
        .map(|(name, scope_of)| Policy::new(name, scope_of, options, &buckets));
    let quota = Quota::new(Rate { limit: 1_000_000_000, period: std::time::Duration::from_secs(1) }, 20);
    for users in [1_i64, 100_000] {
        let mut next = 0;
        group.bench_function(BenchmarkId::new("two_policies", users), |bencher| {
            bencher.iter(|| {
                next = (next + 1) % users;
                let subject = Subject::User(UserId(next));
                let [route, role] = &policies;
                let check = |index, policy| Check { index, ..Check::single(policy, subject, quota, 1) };
                black_box(buckets.decide_all(clock.now(), &[check(0, route), check(1, role)]))
            });
        });
    }
    group.finish();
}

/// A target that is as the benchmark says.
struct Seat {
    weight: u32,
    in_flight: u64,
    identity: u64,
}

impl Member for Seat {
    fn weight(&self) -> u32 {
        self.weight
    }
    fn permille(&self, _now: Tick) -> u32 {
        1_000
    }
    fn in_flight(&self) -> u64 {
        self.in_flight
    }
    fn latency(&self, _now: Tick) -> Option<f64> {
        Some(0.01)
    }
    fn identity(&self) -> u64 {
        self.identity
    }
}

/// The choice of one of so many targets, by each algorithm.
fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    let now = Clock::system().now();
    for count in [3_u32, 100] {
        for algorithm in [
            Algorithm::RoundRobin,
            Algorithm::LeastRequest,
            Algorithm::PeakEwma,
            Algorithm::Random,
            Algorithm::ConsistentHash,
        ] {
            let seat = |n: u32| Seat { weight: n % 5 + 1, in_flight: u64::from(n % 7), identity: u64::from(n) };
            let (plan, turns) = (Plan::new(algorithm, (0..count).map(seat).collect(), Vec::new()), Turns::default());
            let mut key = 0;
            group.bench_function(BenchmarkId::new(format!("{algorithm:?}"), count), |bencher| {
                bencher.iter(|| {
                    key += 1;
                    black_box(Order::new(Ask { key: Some(key), now }).next(&plan, &turns))
                });
            });
        }
    }
    group.finish();
}

/// The identity part of an authenticated request, per algorithm: from the header to who asks, revocation included.
fn identity(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("identity");
    for algorithm in TokenAlgorithm::ALL {
        let world = World::new(algorithm);
        let now = Clock::system().unix_seconds();
        let ask = |at: i64| world.authenticator.authenticate(&world.headers, at).expect("a good token");
        group.bench_function(BenchmarkId::new("cached", algorithm), |bencher| bencher.iter(|| black_box(ask(now))));
        // A verdict is remembered for a minute from when it was given: each of these two moments is outside of the
        // other's minute, so every call verifies the signature and remembers it.
        let mut at = now;
        group.bench_function(BenchmarkId::new("not_cached", algorithm), |bencher| {
            bencher.iter(|| {
                at = if at == now { now + 100 } else { now };
                black_box(ask(at))
            });
        });
    }
    group.finish();
}

/// The flood guard, and the whole chain around the identity: with two limits, and without. What they differ by is the whole
/// limit step: subjects, decision, headers.
fn chain(criterion: &mut Criterion) {
    let world = World::new(TokenAlgorithm::Hs256);
    let clock = Clock::system();
    let (known, unknown) = (key_headers(&world.api_key), key_headers(UNKNOWN_KEY));
    for (case, headers) in [("known", known), ("unknown", unknown)] {
        criterion.bench_function(&format!("api_key/{case}"), |bencher| {
            bencher.iter(|| black_box(world.api_keys.authenticate(black_box(&headers), clock.unix_seconds()).is_ok()));
        });
    }
    criterion.bench_function("flood_guard/charged", |bencher| {
        bencher.iter(|| black_box(world.guard.check(IpAddr::V4(Ipv4Addr::LOCALHOST), clock.now())));
    });
    for (case, chain) in ["jwt_role_two_limits", "jwt_role"].into_iter().zip(&world.chains) {
        criterion.bench_function(&format!("chain/{case}"), |bencher| {
            bencher.iter(|| {
                let mut exchange = Exchange {
                    head: &world.head,
                    client: Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), secure: false },
                    route: "match",
                    now: clock.now(),
                    started_at: clock.wall(),
                    identity: None,
                    edits: Default::default(),
                    limit: None,
                    keyed: None,
                    permits: Vec::new(),
                };
                black_box(chain.admit(&mut exchange).now_or_never())
            });
        });
    }
}

/// Of a store that nothing is kept in.
const BOUNDS: IdempotencyBounds = IdempotencyBounds { bytes: 0, entries: 0 };

/// A signed-in user and the chains of the table's routes.
struct World {
    authenticator: Arc<Authenticator>,
    headers: HeaderMap,
    head: http::request::Parts,
    chains: Vec<ssm_gateway::filters::chain::Chain>,
    api_keys: Arc<ApiKeys>,
    api_key: String,
    guard: FloodGuard,
    _folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

/// Well formed, with the right checksum, and never given out.
const UNKNOWN_KEY: &str = "ssm_AAAAAAAA_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1hgyYC";

fn key_headers(key: &str) -> HeaderMap {
    HeaderMap::from_iter([(X_API_KEY, HeaderValue::try_from(key).expect("a header"))])
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
  - name: unlimited
    match: { path: /unlimited, methods: [POST] }
    to: { builtin: status }
    auth: { roles: [candidat] }
";

/// Keys of one algorithm, those in files in `folder`.
fn ring(algorithm: TokenAlgorithm, folder: &Path) -> KeyRing {
    let signing = match algorithm {
        TokenAlgorithm::Hs256 => Signing::Secret("a secret of thirty-two bytes at least".into()),
        TokenAlgorithm::KeyFile(algorithm) => Signing::KeyFiles(algorithm),
    };
    let source = KeySource { signing, accepted: Vec::new(), folder: KeyFolder::new(folder.to_owned()) };
    source.generate_missing(Clock::system().wall()).expect("keys");
    source.load().expect("a ring")
}

/// The last of a hundred keys: look-ups happen in a table of some size.
async fn make_keys(accounts: &Accounts, user: UserId) -> String {
    let request = ApiKeyRequest {
        name: "bench".parse().expect("a name"),
        user,
        role: None,
        routes: vec!["match".to_owned()],
        expires_at_ms: None,
        created_by: None,
    };
    let mut issued = None;
    for _ in 0..100 {
        issued = accounts.create_api_key(request.clone(), &Origin::default()).await.ok();
    }
    issued.expect("a key").secret.expose_secret().to_owned()
}

impl World {
    fn new(algorithm: TokenAlgorithm) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = ring(algorithm, &folder.path().join("keys"));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let store = Arc::new(EmbeddedStore::open(&folder.path().join("identity.db")).expect("a store"));
        let metrics = Metrics::new("bench").expect("metrics");
        let (accounts, access, api_key) = runtime.block_on(async {
            let accounts =
                Accounts::open(store, ring, AccountsConfig::default(), Clock::system(), metrics.clone(), Audit::off())
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
            let pair = accounts.register(registration, &Origin::default()).await.expect("an account");
            let api_key = make_keys(&accounts, pair.user.id).await;
            (accounts, pair.access.expose_secret().to_owned(), api_key)
        });
        let value = HeaderValue::try_from(format!("Bearer {access}")).expect("a header");
        let head = Request::post("/match").header(AUTHORIZATION, value).header("host", "gateway");
        let (head, ()) = head.header("content-length", "0").body(()).expect("a request").into_parts();
        let table = routes::parse("bench", TABLE, &Env::default()).expect("a table").spec;
        let handles = FilterHandles {
            authenticator: accounts.authenticator(),
            api_keys: accounts.api_keys(),
            limits: Arc::new(Limits::local(1000)),
            idempotency: Arc::new(LocalIdempotency::new(Clock::system(), BOUNDS, |_| {}).expect("random bytes")),
            metrics,
        };
        let flood = table.flood_guard.as_ref().expect("a guard");
        let body = BodyRules::new(1 << 20, &[], false, 1 << 20);
        let chain = |route| catalog::chain(route, &table, &body, &handles).expect("a chain");
        World {
            authenticator: accounts.authenticator(),
            api_keys: accounts.api_keys(),
            api_key,
            headers: head.headers.clone(),
            head,
            chains: table.routes.iter().map(chain).collect(),
            guard: FloodGuard::new(flood, Arc::new(FloodGuardState::new(1000))),
            _folder: folder,
            _runtime: runtime,
        }
    }
}

/// What every request pays for the blocks of addresses, by how many there are.
fn blocked(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("blocked");
    for count in [0_u32, 1, 10_000] {
        let network = |n: u32| match n % 2 {
            0 => format!("10.{}.{}.{}/32", n >> 16, n >> 8 & 255, n & 255),
            _ => format!("2001:db8:{n:x}::/48"),
        };
        let block =
            |n| AddressBlock { network: network(n).parse().unwrap(), until_s: i64::MAX, reason: None, made_at_ms: 0 };
        let blocks = Blocks::default();
        blocks.set(&(0..count).map(block).collect::<Vec<_>>());
        let clients = ["10.0.19.136", "192.0.2.1", "2001:db8:1387::1"].map(|text| text.parse::<IpAddr>().unwrap());
        group.bench_with_input(BenchmarkId::new("look_up", count), &clients, |bencher, clients| {
            let mut turn = 0_usize;
            bencher.iter(|| {
                turn += 1;
                clients.get(turn % 3).map(|client| blocks.refuse(black_box(*client), 0))
            });
        });
    }
}

criterion_group!(benches, route_lookup, canonical_path, bucket, blocked, pick, identity, chain);
criterion_main!(benches);
