//! Everything that lives as long as the process.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use pingora_proxy::http_proxy;
use secrecy::SecretString;
use tokio::runtime::Handle;

use super::Start;
use super::connection_guard::{self, Guarded};
use super::keys::{self, Keys};
use super::persist_limits;
use super::reload::Reloader;
use super::shutdown::Drain;
use super::store;
use crate::accounts::{Accounts, AccountsConfig, HashCost, KeyRing};
use crate::api::limits_control::LimitsControl;
use crate::api::{GatewayInfo, Pages, Readiness, Store};
use crate::audit::{Audit, AuditConfig, SPOOL_NAME};
use crate::clock::Clock;
use crate::config::settings::{LogSink, Settings, TokenSecret};
use crate::filters::catalog::FilterHandles;
use crate::limits::flood_guard::FloodGuardState;
use crate::limits::{Buckets, Limits, OperatorRules};
use crate::model::retry::MAX_RETRIES;
use crate::proxy::connections::{ConnectionLimits, Connections};
use crate::proxy::{BodyBudget, Gateway, HeadLimits};
use crate::snapshot::{Handles, Live};
use crate::store::redis::{NAME as REDIS, RedisBucketStore, RedisIdempotency, RedisThrottle, SharedRedis};
use crate::store::{IdempotencyBounds, IdempotencyStore, IdentityStore, LocalIdempotency};
use crate::telemetry::access_log::{AccessLog, Sink};
use crate::telemetry::metrics::{BucketState, Metrics, UNMATCHED};
use crate::upstream::Registry;

/// Most buckets that are kept at once; the idle ones go first. For a million, since they do not spread evenly over shards.
const MAX_BUCKETS: usize = 1 << 20;
/// Most addresses the flood guard remembers exactly.
const MAX_FLOOD_ADDRESSES: usize = 100_000;
/// Memory for answers to requests with an `Idempotency-Key`, where no Redis keeps them; those that end first go first.
const KEPT_ANSWERS: IdempotencyBounds = IdempotencyBounds { bytes: 64 << 20, entries: 100_000 };
/// Unused upstream connections kept per proxy thread.
const KEPT_CONNECTIONS_PER_THREAD: usize = 128;
/// Most tries of one request.
const TRIES: usize = 1 + MAX_RETRIES as usize;
const NAME: &str = "supersmartmatch-gateway";

/// The process's state.
pub struct Services {
    /// The table in force.
    pub live: Arc<Live>,
    /// Loads tables.
    pub reloader: Reloader,
    /// Takes changed key files over.
    pub keys: Keys,
    /// Accounts and sessions.
    pub accounts: Arc<Accounts>,
    /// The gateway's own pages.
    pub pages: Arc<Pages>,
    /// What operators see and change of the limits.
    pub limits_control: Arc<LimitsControl>,
    /// Whether the last run left buckets that were taken in.
    limits_restored: bool,
    /// What `/readyz` says.
    pub readiness: Arc<Readiness>,
    /// Client connections.
    pub connections: Arc<Connections>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The audit trail.
    pub audit: Audit,
    /// The access log.
    pub access_log: Arc<AccessLog>,
    /// How to drain.
    pub drain: Drain,
    rules: Arc<OperatorRules>,
    clock: Clock,
    settings: Settings,
    side_socket: String,
}

impl Services {
    /// Builds everything, or says what is in the way.
    pub async fn build(start: &Start, side_socket: &Path, runtime: Handle) -> anyhow::Result<Services> {
        let settings = start.settings.clone();
        let clock = Clock::system();
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"))?;
        let keys = keys::source(&settings.tokens, &start.data_dir)?;
        let ring = keys::open(&keys, &settings.tokens, clock.wall())?;
        let database = settings.database.as_ref();
        let store = store::open(&start.data_dir, database, store::tables(database), &clock).await?;
        let trail = audit_config(&settings, &start.data_dir);
        let audit = Audit::start(store.clone(), &trail, clock.clone(), &metrics, &runtime)?;
        let accounts =
            open_accounts(store.clone(), &settings, ring, clock.clone(), metrics.clone(), audit.clone()).await?;
        accounts.spawn_background(&runtime);
        let shared = open_redis(&settings, &runtime, &metrics)?;
        if let Some(shared) = &shared {
            accounts.share_revocations(shared, &runtime);
            accounts.share_throttle(Arc::new(RedisThrottle::new(shared.clone(), common_secret(&settings))));
        }
        let idempotency = idempotency_store(shared.as_ref(), &settings, &runtime, &clock, &metrics)?;
        let limits = Arc::new(rate_limits(shared.as_ref(), settings.redis.replicas, &runtime, (&metrics, &clock)));
        limits.rules().follow(store, clock.clone(), metrics.limit_rules(), &runtime).await;
        let filters = filter_handles(&accounts, limits.clone(), idempotency, &metrics);
        let flood = Arc::new(FloodGuardState::new(MAX_FLOOD_ADDRESSES));
        watch_buckets(&limits, &flood, &metrics);
        let registry = Registry::new(clock.clone(), runtime, metrics.clone());
        let reloader = reloader(start, (filters, flood.clone()), &registry, &metrics, &clock, &audit);
        let live = Arc::new(reloader.start(start.last_good)?);
        let limits_control =
            LimitsControl { limits, flood, audit: audit.clone(), clock: clock.clone(), live: live.clone() };
        let pages = Pages::new(live.clone(), registry.clone(), metrics.clone(), clock.clone(), info(&settings));
        let access_log = AccessLog::start(&sink(&settings.log.access), metrics.log_lines_dropped())?;
        Ok(Services {
            limits_restored: restore_limits(start, &limits_control),
            live,
            rules: limits_control.limits.rules().clone(),
            reloader,
            keys: Keys::new(keys, accounts.authenticator(), audit.clone()),
            readiness: Readiness::new(registry, stores(accounts.clone(), shared)),
            accounts,
            pages,
            limits_control: Arc::new(limits_control),
            connections: Connections::new(
                clock.clone(),
                connection_limits(&settings),
                &settings.trusted_proxies,
                metrics.connections(),
            ),
            metrics,
            audit,
            access_log: Arc::new(access_log),
            drain: Drain {
                delay: settings.drain.delay,
                grace: settings.drain.grace,
                tls: settings.listen.tls.is_some(),
            },
            clock,
            settings,
            side_socket: side_socket.to_str().context("the data folder's path must be UTF-8")?.to_owned(),
        })
    }

    /// The gateway is up: what the last run left is its own now.
    pub fn own_limits(&self, data_dir: &Path) {
        if self.limits_restored {
            persist_limits::discard(data_dir);
        }
    }

    /// Writes the buckets down for the next start, where that is asked for.
    pub fn keep_limits(&self, data_dir: &Path) {
        if self.settings.limits.persist {
            persist_limits::save(data_dir, &self.limits_control.limits, &self.clock);
        }
    }

    /// The proxy, as Pingora hosts it.
    pub fn proxy_service(&self) -> Service<Guarded> {
        let conf = Arc::new(ServerConf {
            threads: self.settings.threads,
            upstream_keepalive_pool_size: KEPT_CONNECTIONS_PER_THREAD,
            max_retries: TRIES, // of one request; its route says how many of them are made
            ..ServerConf::default()
        });
        let gateway = Gateway {
            clock: self.clock.clone(),
            live: self.live.clone(),
            connections: self.connections.clone(),
            metrics: self.metrics.clone(),
            rules: self.rules.clone(),
            blocked: self.metrics.blocked_requests(),
            unmatched: self.metrics.route(UNMATCHED),
            access_log: self.access_log.clone(),
            audit: self.audit.clone(),
            trusted_proxies: self.settings.trusted_proxies.clone(),
            head_limits: HeadLimits {
                bytes: self.settings.listen.max_header_bytes,
                headers: self.settings.listen.max_headers,
            },
            json_budget: BodyBudget::json(),
            kept_budget: BodyBudget::kept(),
            side_socket: self.side_socket.clone(),
            tls: self.settings.listen.tls.is_some(),
        };
        let http2 = self.settings.listen.http2;
        let limits = gateway.head_limits;
        let mut proxy = http_proxy(&conf, gateway);
        proxy.h2_options = Some(connection_guard::http2_options(limits));
        Service::new(NAME.to_owned(), Guarded::new(proxy, self.connections.clone(), self.metrics.clone(), http2))
    }
}

/// Process state of the filters.
fn filter_handles(
    accounts: &Accounts,
    limits: Arc<Limits>,
    idempotency: Arc<dyn IdempotencyStore>,
    metrics: &Arc<Metrics>,
) -> FilterHandles {
    FilterHandles {
        authenticator: accounts.authenticator(),
        api_keys: accounts.api_keys(),
        limits,
        idempotency,
        metrics: metrics.clone(),
    }
}

/// Who counts: all replicas together in the Redis that they share, else this process alone.
fn rate_limits(
    shared: Option<&Arc<SharedRedis>>,
    replicas: u32,
    runtime: &Handle,
    (metrics, clock): (&Metrics, &Clock),
) -> Limits {
    let limits = Limits::local(MAX_BUCKETS);
    let Some(shared) = shared else { return limits };
    let store = Arc::new(RedisBucketStore::new(shared.clone()));
    let limits = limits.distributed(store, replicas, metrics.shared_limits(), clock.clone());
    limits.watch_store(runtime);
    limits
}

/// Where keys and answers are: in the Redis that replicas share, else in this process.
fn idempotency_store(
    shared: Option<&Arc<SharedRedis>>,
    settings: &Settings,
    runtime: &Handle,
    clock: &Clock,
    metrics: &Metrics,
) -> anyhow::Result<Arc<dyn IdempotencyStore>> {
    if let Some(shared) = shared {
        let secret = common_secret(settings);
        return Ok(Arc::new(RedisIdempotency::new(shared.clone(), secret, runtime.clone())));
    }
    let evicted = metrics.idempotency_evicted();
    let told = move |count| evicted.inc_by(count);
    Ok(Arc::new(LocalIdempotency::new(clock.clone(), KEPT_ANSWERS, told)?))
}

/// Whether buckets of the last run were taken in, where that is asked for.
fn restore_limits(start: &Start, control: &LimitsControl) -> bool {
    start.settings.limits.persist && persist_limits::restore(&start.data_dir, &control.limits, &control.clock)
}

fn watch_buckets(limits: &Arc<Limits>, flood: &Arc<FloodGuardState>, metrics: &Metrics) {
    let (limits, flood) = (limits.clone(), flood.clone());
    let state = |table, buckets: &Buckets| {
        let (held, evicted) = (buckets.len(), buckets.evicted_early());
        BucketState { table, buckets: held, evicted }
    };
    metrics.watch_buckets(move || vec![state("policies", limits.buckets()), state("flood_guard", flood.buckets())]);
}

/// What loads tables, with the handles that outlive them.
fn reloader(
    start: &Start,
    (filters, flood): (FilterHandles, Arc<FloodGuardState>),
    registry: &Arc<Registry>,
    metrics: &Arc<Metrics>,
    clock: &Clock,
    audit: &Audit,
) -> Reloader {
    let handles = Handles { filters, flood, registry: registry.clone(), metrics: metrics.clone() };
    let last_good = start.data_dir.join("routes.last-good.yaml");
    Reloader::new(start.routes.clone(), last_good, start.env.clone(), handles, clock.clone(), audit.clone())
}

fn info(settings: &Settings) -> GatewayInfo {
    GatewayInfo {
        name: NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        environment: settings.environment.as_str().to_owned(),
        debug: settings.debug,
        metrics_enabled: settings.metrics_enabled,
    }
}

fn connection_limits(settings: &Settings) -> ConnectionLimits {
    let listen = &settings.listen;
    ConnectionLimits {
        total: listen.max_connections,
        per_address: listen.max_connections_per_address,
        header_timeout: listen.header_timeout,
        keepalive: listen.keepalive,
    }
}

/// Without Redis every answer is the same, only some come from this process alone: it is not needed.
fn stores(accounts: Arc<Accounts>, shared: Option<Arc<SharedRedis>>) -> Vec<Store> {
    let identity = Store { name: "identity", needed: true, check: Box::new(move || accounts.store_is_up()) };
    let shared = shared.map(|shared| Store { name: REDIS, needed: false, check: Box::new(move || shared.is_up()) });
    [identity].into_iter().chain(shared).collect()
}

/// The Redis of `REDIS_URL`, if there is one. Whether it answers does not matter at the start.
fn open_redis(
    settings: &Settings,
    runtime: &Handle,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Option<Arc<SharedRedis>>> {
    let Some(url) = &settings.redis.url else { return Ok(None) };
    let shared = SharedRedis::new(url, &settings.redis.prefix).context("REDIS_URL")?;
    let metrics = metrics.clone();
    shared.keep(runtime, move |up| metrics.store_up(REDIS, up));
    Ok(Some(shared))
}

/// A secret that all replicas have. One that the program made is in the folder of this one alone.
fn common_secret(settings: &Settings) -> Option<&SecretString> {
    match &settings.tokens.secret {
        TokenSecret::Given(secret) => Some(secret),
        TokenSecret::None | TokenSecret::Generate => None,
    }
}

fn audit_config(settings: &Settings, data_dir: &Path) -> AuditConfig {
    AuditConfig {
        spool: data_dir.join(SPOOL_NAME),
        spool_max: settings.audit.spool_max,
        lines: sink(&settings.audit.lines),
        retention: settings.audit.retention,
    }
}

async fn open_accounts(
    store: Arc<dyn IdentityStore>,
    settings: &Settings,
    ring: KeyRing,
    clock: Clock,
    metrics: Arc<Metrics>,
    audit: Audit,
) -> anyhow::Result<Arc<Accounts>> {
    let config = AccountsConfig {
        issuer: settings.tokens.issuer.clone(),
        access_ttl: settings.tokens.access_ttl,
        refresh_ttl: settings.tokens.refresh_ttl,
        session_ttl: settings.tokens.session_ttl,
        parallel_hashes: settings.passwords.parallel_hashes,
        hash_queue: settings.passwords.queue,
        hash_cost: HashCost::default(),
    };
    Ok(Accounts::open(store, ring, config, clock, metrics, audit).await?)
}

fn sink(setting: &LogSink) -> Sink {
    match setting {
        LogSink::Stdout => Sink::Stdout,
        LogSink::Off => Sink::Off,
        LogSink::File(path) => Sink::File(path.clone()),
    }
}
