//! What tests of accounts share: the service on a real store, with a clock moved by hand.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::audit::Audit;
use crate::clock::{Clock, Hand};
use crate::model::health::{HealthView, PoolReport, Transition};
use crate::model::identity::Identity;
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::store::AuditEntry;
use crate::store::embedded::EmbeddedStore;
use crate::telemetry::metrics::Metrics;

pub(super) const PASSWORD: &str = "correct horse battery";

pub(super) struct World {
    pub(super) folder: tempfile::TempDir,
    pub(super) store: Arc<EmbeddedStore>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) clock: Clock,
    pub(super) hand: Hand,
    pub(super) metrics: Arc<Metrics>,
    /// What was told to the audit trail.
    pub(super) told: Mutex<Receiver<AuditEntry>>,
}

/// A gateway without pools.
struct NoTargets;

impl HealthView for NoTargets {
    fn pools(&self) -> Vec<PoolReport> {
        Vec::new()
    }
    fn history(&self) -> Vec<Transition> {
        Vec::new()
    }
    fn probe_now(&self) {}
    fn first_round_done(&self) -> bool {
        true
    }
}

pub(super) fn config() -> AccountsConfig {
    AccountsConfig {
        access_ttl: Duration::from_secs(3600),
        hash_cost: HashCost { memory_kib: 8, passes: 1, lanes: 1 },
        ..AccountsConfig::default()
    }
}

type Opened = (Arc<EmbeddedStore>, Arc<Accounts>, Arc<Metrics>, Receiver<AuditEntry>);

pub(super) async fn open(path: &Path, clock: Clock) -> Opened {
    let store = Arc::new(EmbeddedStore::open(&path.join("identity.db")).unwrap());
    let ring = KeyRing::of_secret(&SecretString::from("a secret for tests, long enough for HS256"));
    let metrics = Metrics::new("9.9.9").unwrap();
    let (audit, told) = Audit::in_memory(clock.clone(), &metrics);
    let accounts = Accounts::open(store.clone(), ring, config(), clock, metrics.clone(), audit).await.unwrap();
    (store, accounts, metrics, told)
}

impl World {
    pub(super) async fn new() -> World {
        let (clock, hand) = Clock::manual();
        let folder = tempfile::tempdir().unwrap();
        let (store, accounts, metrics, told) = open(folder.path(), clock.clone()).await;
        World { folder, store, accounts, clock, hand, metrics, told: Mutex::new(told) }
    }

    pub(super) async fn register(&self, email: &str) -> Result<TokenPair, Rejection> {
        self.accounts.register(registration(email, Role::Candidat), &Origin::default()).await
    }

    pub(super) async fn login(&self, email: &str) -> Result<TokenPair, Rejection> {
        self.accounts.login(email, PASSWORD.into(), &Origin::default()).await
    }

    pub(super) async fn refresh(&self, pair: &TokenPair) -> Result<TokenPair, Rejection> {
        self.accounts.refresh(&pair.refresh, &Origin::default()).await
    }

    pub(super) async fn logout(&self, pair: &TokenPair) {
        let identity = self.check(pair).unwrap();
        self.accounts.logout(identity.user, identity.session().unwrap(), &Origin::default()).await.unwrap();
    }

    /// The value of a series, as a scrape would read it.
    pub(super) fn metric(&self, series: &str) -> Option<String> {
        let text = String::from_utf8(self.metrics.render(&NoTargets).unwrap()).unwrap();
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
    }

    pub(super) fn events(&self, event: &str) -> Option<String> {
        self.metric(&format!(r#"gateway_auth_events_total{{event="{event}"}}"#))
    }

    /// What was told to the audit trail since the last call, as `event actor subject`.
    pub(super) fn told(&self) -> Vec<String> {
        let mut told = self.told.lock();
        let mut entries = Vec::new();
        while let Ok(entry) = told.try_recv() {
            let or_none = |text: Option<String>| text.unwrap_or("-".to_owned());
            entries.push(format!("{} {} {}", entry.event, or_none(entry.actor), or_none(entry.subject)));
        }
        entries
    }

    pub(super) fn check(&self, pair: &TokenPair) -> Result<Identity, Rejection> {
        check(&self.accounts, pair, &self.clock)
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.hand.advance(Duration::from_secs(seconds));
    }
}

pub(super) fn check(accounts: &Accounts, pair: &TokenPair, clock: &Clock) -> Result<Identity, Rejection> {
    let mut headers = HeaderMap::new();
    let value = format!("Bearer {}", pair.access.expose_secret());
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
    accounts.authenticator().authenticate(&headers, clock.unix_seconds())
}

pub(super) fn registration(email: &str, role: Role) -> Registration {
    Registration {
        email: email.parse().unwrap(),
        full_name: "Anna Martin".parse().unwrap(),
        password: NewPassword::parse(PASSWORD.into(), None).unwrap(),
        role,
    }
}
