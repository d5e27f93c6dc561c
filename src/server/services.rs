//! Everything that lives as long as the process.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use pingora_proxy::http_proxy;
use tokio::runtime::Handle;

use super::Start;
use super::connection_guard::Guarded;
use super::reload::Reloader;
use super::shutdown::Drain;
use crate::accounts::{Accounts, AccountsConfig, HashCost, Secrets};
use crate::api::{GatewayInfo, Pages, Readiness, StoreCheck};
use crate::clock::Clock;
use crate::config::settings::{AccessLog as AccessLogSetting, Settings, TokenSecret};
use crate::filters::catalog::FilterHandles;
use crate::filters::rate_limit::buckets::Buckets;
use crate::proxy::connections::{ConnectionLimits, Connections};
use crate::proxy::{Gateway, HeadLimits, JsonBudget};
use crate::snapshot::flood_guard::FloodGuardState;
use crate::snapshot::{Handles, Live};
use crate::store::IdentityStore;
use crate::store::embedded::{self, EmbeddedStore};
use crate::telemetry::access_log::{AccessLog, Sink};
use crate::telemetry::metrics::{Metrics, UNMATCHED};
use crate::upstream::Registry;

/// Most subjects whose buckets are remembered at once; the idle ones go first.
const MAX_BUCKETS: usize = 1_000_000;
/// Most addresses the flood guard remembers exactly.
const MAX_FLOOD_ADDRESSES: usize = 100_000;
/// Unused upstream connections kept per proxy thread.
const KEPT_CONNECTIONS_PER_THREAD: usize = 128;
const NAME: &str = "supersmartmatch-gateway";

/// The process's state.
pub struct Services {
    /// The table in force.
    pub live: Arc<Live>,
    /// Loads tables.
    pub reloader: Reloader,
    /// Accounts and sessions.
    pub accounts: Arc<Accounts>,
    /// The gateway's own pages.
    pub pages: Arc<Pages>,
    /// What `/readyz` says.
    pub readiness: Arc<Readiness>,
    /// Client connections.
    pub connections: Arc<Connections>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The access log.
    pub access_log: Arc<AccessLog>,
    /// How to drain.
    pub drain: Drain,
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
        let accounts = open_accounts(&settings, &start.data_dir, clock.clone(), metrics.clone()).await?;
        accounts.spawn_background(&runtime);
        let registry = Registry::new(clock.clone(), runtime);
        let reloader = reloader(start, &accounts, &registry, &metrics, &clock);
        let live = Arc::new(reloader.start()?);
        let pages = Pages::new(live.clone(), registry.clone(), metrics.clone(), clock.clone(), info(&settings));
        let access_log = AccessLog::start(&sink(&settings.log.access), metrics.log_lines_dropped())?;
        Ok(Services {
            live,
            reloader,
            readiness: Readiness::new(registry, vec![("identity", store_check(accounts.clone()))]),
            accounts,
            pages,
            connections: Connections::new(clock.clone(), limits(&settings), metrics.connections()),
            metrics,
            access_log: Arc::new(access_log),
            drain: Drain { delay: settings.drain.delay, grace: settings.drain.grace },
            clock,
            settings,
            side_socket: side_socket.to_str().context("the data folder's path must be UTF-8")?.to_owned(),
        })
    }

    /// The proxy, as Pingora hosts it.
    pub fn proxy_service(&self) -> Service<Guarded> {
        let conf = Arc::new(ServerConf {
            threads: self.settings.threads,
            upstream_keepalive_pool_size: KEPT_CONNECTIONS_PER_THREAD,
            max_retries: 1, // total tries: this version makes one
            ..ServerConf::default()
        });
        let gateway = Gateway {
            clock: self.clock.clone(),
            live: self.live.clone(),
            connections: self.connections.clone(),
            metrics: self.metrics.clone(),
            unmatched: self.metrics.route(UNMATCHED),
            access_log: self.access_log.clone(),
            trusted_proxies: self.settings.trusted_proxies.clone(),
            head_limits: HeadLimits {
                bytes: self.settings.listen.max_header_bytes,
                headers: self.settings.listen.max_headers,
            },
            json_budget: JsonBudget::default(),
            side_socket: self.side_socket.clone(),
            tls: self.settings.listen.tls.is_some(),
        };
        let proxy = http_proxy(&conf, gateway);
        Service::new(NAME.to_owned(), Guarded::new(proxy, self.connections.clone(), self.metrics.clone()))
    }
}

/// What loads tables, with the handles that outlive them.
fn reloader(
    start: &Start,
    accounts: &Accounts,
    registry: &Arc<Registry>,
    metrics: &Arc<Metrics>,
    clock: &Clock,
) -> Reloader {
    let handles = Handles {
        filters: FilterHandles {
            authenticator: accounts.authenticator(),
            buckets: Arc::new(Buckets::new(MAX_BUCKETS)),
            metrics: metrics.clone(),
        },
        flood: Arc::new(FloodGuardState::new(MAX_FLOOD_ADDRESSES)),
        registry: registry.clone(),
        metrics: metrics.clone(),
    };
    let last_good = start.data_dir.join("routes.last-good.yaml");
    Reloader::new(start.routes.clone(), last_good, start.env.clone(), handles, clock.clone())
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

fn limits(settings: &Settings) -> ConnectionLimits {
    let listen = &settings.listen;
    ConnectionLimits {
        total: listen.max_connections,
        per_address: listen.max_connections_per_address,
        header_timeout: listen.header_timeout,
        keepalive: listen.keepalive,
    }
}

fn store_check(accounts: Arc<Accounts>) -> StoreCheck {
    Box::new(move || accounts.store_is_up())
}

async fn open_accounts(
    settings: &Settings,
    data_dir: &Path,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Arc<Accounts>> {
    let store: Arc<dyn IdentityStore> = Arc::new(EmbeddedStore::open(&data_dir.join(embedded::FILE_NAME))?);
    let secret = match &settings.tokens.secret {
        TokenSecret::Given(secret) => secret.clone(),
        TokenSecret::Generate => {
            let secrets = Secrets::load_or_generate(data_dir)?;
            if secrets.generated {
                tracing::warn!(file = %secrets.path.display(), "JWT_SECRET is not set: a random secret was made and is kept here");
            }
            secrets.jwt
        }
    };
    let config = AccountsConfig {
        issuer: settings.tokens.issuer.clone(),
        access_ttl: settings.tokens.access_ttl,
        refresh_ttl: settings.tokens.refresh_ttl,
        session_ttl: settings.tokens.session_ttl,
        parallel_hashes: settings.passwords.parallel_hashes,
        hash_queue: settings.passwords.queue,
        hash_cost: HashCost::default(),
    };
    Ok(Accounts::open(store, secret, config, clock, metrics).await?)
}

fn sink(setting: &AccessLogSetting) -> Sink {
    match setting {
        AccessLogSetting::Stdout => Sink::Stdout,
        AccessLogSetting::Off => Sink::Off,
        AccessLogSetting::File(path) => Sink::File(path.clone()),
    }
}
