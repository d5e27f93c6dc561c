//! PostgreSQL stopped, or silent, under load: what clients see, and that nothing is lost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::harness::gateway::PASSWORD;
use crate::harness::relay::Relay;
use crate::harness::table::{ECHO, table};
use crate::harness::{Client, Gateway, GatewayConfig, Got, Origin, PATIENCE, PrivatePostgres, Session, until};

/// How the database is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// Its server ends, and connections with it.
    Stopped,
    /// Its server ends as in a crash.
    Killed,
    /// Connections stay open and nothing comes back.
    Silent,
}

/// Longest that a refusal may take: a wait for a connection, and one for its answer, of two seconds each.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);

/// What the senders of one kind have seen.
#[derive(Default)]
struct Seen {
    good: AtomicUsize,
    refused: AtomicUsize,
    odd: Mutex<Vec<String>>,
}

impl Seen {
    /// Notes an answer: good, a 503 with all that belongs to it, or odd.
    fn note(&self, got: &Got) {
        let retry_after = got.header("retry-after").and_then(|text| text.parse::<u64>().ok());
        match (got.status, retry_after) {
            (200, _) => self.good.fetch_add(1, Ordering::SeqCst),
            (503, Some(1..)) if got.code() == "AUTH_UNAVAILABLE" => self.refused.fetch_add(1, Ordering::SeqCst),
            _ => {
                self.odd.lock().unwrap().push(format!("{} {}", got.status, got.text()));
                0
            }
        };
    }

    fn counts(&self) -> (usize, usize) {
        (self.good.load(Ordering::SeqCst), self.refused.load(Ordering::SeqCst))
    }

    /// Waits for so many more of both kinds.
    async fn more(&self, what: &str, good: usize, refused: usize) {
        let (good_before, refused_before) = self.counts();
        until(what, PATIENCE, || async {
            let (good_now, refused_now) = self.counts();
            (good_now >= good_before + good && refused_now >= refused_before + refused).then_some(())
        })
        .await;
    }
}

/// The load: authenticated requests, log-ins, refreshes of one session each.
struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<Seen>,
    log_ins: Arc<Seen>,
    refreshes: Arc<Seen>,
    senders: tokio::task::JoinSet<Option<Session>>,
}

impl Load {
    async fn start(gateway: &Gateway) -> Load {
        let mut load = Load {
            stop: Arc::default(),
            requests: Arc::default(),
            log_ins: Arc::default(),
            refreshes: Arc::default(),
            senders: tokio::task::JoinSet::new(),
        };
        for _ in 0..2 {
            let (requester, refresher) = (gateway.fresh_user("candidat").await, gateway.fresh_user("recruteur").await);
            // An account of its own: the eleventh log-in ends the oldest session.
            let visitor = gateway.fresh_user("candidat").await;
            let client = gateway.client.clone();
            load.senders.spawn(requests(client.clone(), requester, load.stop.clone(), load.requests.clone()));
            load.senders.spawn(log_ins(client.clone(), visitor, load.stop.clone(), load.log_ins.clone()));
            load.senders.spawn(refreshes(client, refresher, load.stop.clone(), load.refreshes.clone()));
        }
        load
    }

    /// Ends the load; answers the sessions that were refreshed, and fails on every odd answer.
    async fn end(self) -> Vec<Session> {
        self.stop.store(true, Ordering::SeqCst);
        let sessions = self.senders.join_all().await.into_iter().flatten().collect();
        for seen in [&self.requests, &self.log_ins, &self.refreshes] {
            let odd = seen.odd.lock().unwrap();
            assert!(odd.is_empty(), "{} odd answers: {odd:?}", odd.len());
        }
        assert_eq!(self.requests.counts().1, 0, "an authenticated request was refused");
        sessions
    }
}

async fn requests(client: Client, user: Session, stop: Arc<AtomicBool>, seen: Arc<Seen>) -> Option<Session> {
    while !stop.load(Ordering::SeqCst) {
        seen.note(&client.get_as(&user, "/private").await);
    }
    None
}

async fn log_ins(client: Client, user: Session, stop: Arc<AtomicBool>, seen: Arc<Seen>) -> Option<Session> {
    while !stop.load(Ordering::SeqCst) {
        let got = tokio::time::timeout(REFUSED_WITHIN, client.login(&user.email, PASSWORD)).await;
        seen.note(&got.expect("an answer to a log-in, in time"));
    }
    None
}

/// Goes on with the same token until it gets the next one, as a client does.
async fn refreshes(client: Client, mut user: Session, stop: Arc<AtomicBool>, seen: Arc<Seen>) -> Option<Session> {
    while !stop.load(Ordering::SeqCst) {
        let got = tokio::time::timeout(REFUSED_WITHIN, client.refresh(&user.refresh)).await;
        let got = got.expect("an answer to a refresh, in time");
        seen.note(&got);
        if got.status == 200 {
            user = Session::of(&got, PASSWORD);
        }
    }
    Some(user)
}

fn config(origin: &Origin, url: &str) -> GatewayConfig {
    let routes = format!(
        "{ECHO}
  - {{ name: private, match: {{ path: /private, methods: [GET] }}, to: {{ pool: echo }} }}
  - {{ name: refresh, match: {{ path: /api/gateway/auth/refresh, methods: [POST] }}, to: {{ builtin: auth_refresh }}, auth: public }}"
    );
    GatewayConfig::table(&table(&[&origin.url()], "", &routes))
        .env("DATABASE_URL", url)
        .setting("database", json!({"timeout": "2s", "connect_timeout": "2s"}))
}

async fn store_up(gateway: &Gateway) -> Option<f64> {
    gateway.metric("gateway_store_up", &[("store", "identity")]).await
}

async fn lose_and_find(loss: Loss) {
    let origin = Origin::start().await;
    let mut server = PrivatePostgres::start().await;
    let relay = Relay::to(server.address()).await;
    let gateway = Gateway::start(config(&origin, &format!("postgres://postgres@{}/postgres", relay.address()))).await;
    let load = Load::start(&gateway).await;
    load.log_ins.more("log-ins", 3, 0).await;
    load.refreshes.more("refreshes", 5, 0).await;
    match loss {
        Loss::Stopped => server.stop().await,
        Loss::Killed => server.kill().await,
        Loss::Silent => relay.freeze(),
    }
    load.log_ins.more("refused log-ins", 0, 2).await;
    load.refreshes.more("refused refreshes", 0, 2).await;
    load.requests.more("requests meanwhile", 100, 0).await;
    until("the metric to say so", PATIENCE, || async { (store_up(&gateway).await == Some(0.0)).then_some(()) }).await;
    let ready = gateway.admin.get("/readyz").await;
    assert!(ready.status == 503 && ready.text().contains("store identity does not answer"), "{}", ready.text());
    gateway.admin.get("/livez").await.expect(200);
    let registered = gateway.client.register("late@example.com", PASSWORD, "candidat").await;
    assert_eq!(registered.refusal(), (503, "AUTH_UNAVAILABLE".to_owned()));
    match loss {
        Loss::Stopped | Loss::Killed => server.start_again().await,
        Loss::Silent => relay.thaw(),
    }
    load.log_ins.more("log-ins again", 3, 0).await;
    load.refreshes.more("refreshes again", 5, 0).await;
    until("/readyz again", PATIENCE, || async { (gateway.admin.get("/readyz").await.status == 200).then_some(()) })
        .await;
    assert_eq!(store_up(&gateway).await, Some(1.0));
    let told = format!("{loss:?}: log-ins {:?}, refreshes {:?}", load.log_ins.counts(), load.refreshes.counts());
    println!("{told}, requests {:?} (good, refused)", load.requests.counts());
    for session in load.end().await {
        let next = Session::of(&gateway.client.refresh(&session.refresh).await.expect(200), PASSWORD);
        gateway.client.me(&next).await.expect(200);
        gateway.client.login(&session.email, PASSWORD).await.expect(200);
    }
}

#[tokio::test]
async fn a_stopped_database_refuses_log_ins_only_and_comes_back() {
    lose_and_find(Loss::Stopped).await;
}

#[tokio::test]
async fn a_crashed_database_refuses_log_ins_only_and_comes_back() {
    lose_and_find(Loss::Killed).await;
}

#[tokio::test]
async fn a_silent_database_refuses_log_ins_only_and_comes_back() {
    lose_and_find(Loss::Silent).await;
}
