//! Rate limits that replicas count together in Redis, while it answers, while it does not, and when it comes back.
//!
//! A busy machine may answer later than the 25 ms that the gateway waits. Where a test counts exactly, its policy denies
//! such requests, and those are counted: a late answer may have taken a token that nobody got.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::harness::{
    Client, Database, Gateway, GatewayConfig, Origin, P, PATIENCE, PrivateRedis, Reloaded, Session, table, until,
};

const DEGRADED: &str = "gateway_rate_limit_degraded";
const ANSWERS: &str = "gateway_rate_limit_answers_total";

/// A token takes hours: no machine is slow enough to earn one during a case.
const LIMITS: &str = "limits:
  few: { by: user, rate: 20/day, burst: 20, on_store_failure: deny }
  scaled: { by: user, over: all_routes, rate: 20/day, burst: 0, on_store_failure: deny }
  share: { by: user, rate: 40/day, burst: 0 }
  guesses: { by: address, rate: 6/day, burst: 0 }
  open: { by: user, rate: 1/day, burst: 0, on_store_failure: allow }
  own: { by: user, rate: 3/day, burst: 0, sharing: none }";

const ROUTES: &str = "  - { name: few, match: { path: /few, methods: [GET] }, to: { pool: echo }, limits: [few] }
  - { name: scaled, match: { path: /scaled, methods: [GET] }, to: { pool: echo }, limits: [scaled] }
  - { name: share, match: { path: /share, methods: [GET] }, to: { pool: echo }, limits: [share] }
  - { name: open, match: { path: /open, methods: [GET] }, to: { pool: echo }, limits: [open] }
  - { name: own, match: { path: /own, methods: [GET] }, to: { pool: echo }, limits: [own] }
  - { name: mixed, match: { path: /mixed, methods: [GET] }, to: { pool: echo }, limits: [own, few] }";

fn routes(origin: &Origin) -> String {
    let login = "to: { builtin: auth_login }, auth: public";
    let text = table::table(&[&origin.url()], "", ROUTES).replace(login, &format!("{login}, limits: [guesses]"));
    table::with_top(&text, LIMITS)
}

/// Gateways that share a store and a Redis.
struct Cluster {
    replicas: Vec<Gateway>,
    prefix: String,
    origin: Origin,
    _database: Database,
}

impl Cluster {
    async fn start(count: usize, redis: &str) -> Cluster {
        let origin = Origin::start().await;
        let prefix = format!("it-{}:", Uuid::new_v4().simple());
        let database = Database::create().await;
        let config = GatewayConfig::table(&routes(&origin))
            .setting("redis", json!({ "prefix": prefix, "replicas": count }))
            .env("DATABASE_URL", &database.url())
            .env("REDIS_URL", redis);
        let mut starting = JoinSet::new();
        for _ in 0..count {
            starting.spawn(Gateway::start(config.clone()));
        }
        Cluster { replicas: starting.join_all().await, prefix, origin, _database: database }
    }

    /// One whose Redis is there.
    async fn with(count: usize, redis: &PrivateRedis) -> Cluster {
        let cluster = Cluster::start(count, &redis.url()).await;
        cluster.become_degraded(false).await;
        cluster
    }

    fn one(&self) -> &Gateway {
        &self.replicas[0]
    }

    /// Waits until every replica says so, and its Redis is connected or not.
    async fn become_degraded(&self, degraded: bool) {
        for gateway in &self.replicas {
            until("the gauge", PATIENCE, || async {
                let up = gateway.metric("gateway_store_up", &[("store", "redis")]).await == Some(1.0);
                let is = gateway.metric(DEGRADED, &[]).await == Some(1.0);
                (is == degraded && (up || degraded)).then_some(())
            })
            .await;
        }
    }

    /// Requests of all replicas that were answered so.
    async fn answers(&self, by: &str) -> u64 {
        let mut sum = 0.0;
        for gateway in &self.replicas {
            sum += gateway.metric(ANSWERS, &[("by", by)]).await.unwrap_or(0.0);
        }
        sum as u64
    }
}

/// How many of `tries` requests, one after the other, pass; the others must be refused by a limit.
async fn admitted(client: &Client, user: &Session, path: &str, tries: u64) -> u64 {
    let mut admitted = 0;
    for _ in 0..tries {
        let got = client.get_as(user, path).await;
        assert!(got.status == 200 || got.refusal() == (429, "RATE_LIMIT_EXCEEDED".to_owned()), "{got:?}");
        admitted += u64::from(got.status == 200);
    }
    admitted
}

#[tokio::test]
async fn one_user_has_one_bucket_on_all_replicas() {
    let redis = PrivateRedis::start().await;
    let cluster = Cluster::with(3, &redis).await;
    let user = cluster.one().user("candidat").await;
    let mut clients = JoinSet::new();
    for client in 0..12 {
        let (client, user) = (cluster.replicas[client % 3].client.clone(), user.clone());
        clients.spawn(async move { admitted(&client, &user, "/few", 10).await });
    }
    let passed: u64 = clients.join_all().await.iter().sum();
    let late = cluster.answers("fallback").await;
    assert!(passed <= 40 && passed + late >= 40, "{passed} of 40, {late} without an answer of Redis");
    assert!(cluster.answers("redis").await + late >= 40);
    // Everybody is told the same, and another user is another bucket.
    for gateway in &cluster.replicas {
        let got = gateway.client.get_as(&user, "/few").await;
        assert_eq!((got.status, got.number("x-ratelimit-limit"), got.number("x-ratelimit-remaining")), (429, 20, 0));
    }
    let other = cluster.one().fresh_user("candidat").await;
    assert!(admitted(&cluster.replicas[1].client, &other, "/few", 3).await + cluster.answers("fallback").await >= 3);
}

/// Asks until Redis answers; says what is left then.
async fn left(gateway: &Gateway, user: &Session) -> u64 {
    until("an answer of Redis", PATIENCE, || async {
        let got = gateway.client.get_as(user, "/scaled").await;
        (got.status == 200).then(|| got.number("x-ratelimit-remaining"))
    })
    .await
}

#[tokio::test]
async fn a_reload_keeps_what_is_left_and_another_limit_rescales_it() {
    let redis = PrivateRedis::start().await;
    let cluster = Cluster::with(1, &redis).await;
    let (gateway, user) = (cluster.one(), cluster.one().user("candidat").await);
    for _ in 0..9 {
        left(gateway, &user).await;
    }
    let more = "  - { name: more, match: { path: /more, methods: [GET] }, to: { pool: echo }, auth: public }\n";
    let unrelated = format!("{}{more}", routes(&cluster.origin));
    assert_eq!(gateway.reload(&unrelated).await, Reloaded::Published);
    let (kept, lost) = (left(gateway, &user).await, cluster.answers("fallback").await);
    assert!(kept <= 10 && kept + lost >= 10, "{kept} of 10, {lost} lost");
    let doubled = unrelated.replace("over: all_routes, rate: 20/day", "over: all_routes, rate: 40/day");
    assert_eq!(gateway.reload(&doubled).await, Reloaded::Published);
    let (scaled, lost) = (left(gateway, &user).await, cluster.answers("fallback").await);
    assert!(scaled <= 19 && scaled + 2 * lost >= 19, "{scaled} of 19, {lost} lost");
    assert!(admitted(&gateway.client, &user, "/scaled", 40).await <= 19);
}

/// What a load of one user saw, until it is told to end.
#[derive(Default)]
struct Load {
    ended: AtomicBool,
    asked: AtomicU64,
    passed: AtomicU64,
}

impl Load {
    /// Four clients on each replica.
    fn start(cluster: &Cluster, user: &Session) -> (Arc<Load>, JoinSet<()>) {
        let (load, mut clients) = (Arc::new(Load::default()), JoinSet::new());
        for gateway in cluster.replicas.iter().flat_map(|gateway| [gateway; 4]) {
            let (load, client, user) = (load.clone(), gateway.client.clone(), user.clone());
            clients.spawn(async move {
                while !load.ended.load(Ordering::Acquire) {
                    let passed = admitted(&client, &user, "/share", 1).await;
                    load.passed.fetch_add(passed, Ordering::AcqRel);
                    load.asked.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        (load, clients)
    }

    /// Waits until so many more requests were answered.
    async fn go_on(&self, requests: u64) {
        let enough = self.asked.load(Ordering::Acquire) + requests;
        until("requests", PATIENCE, || async { (self.asked.load(Ordering::Acquire) >= enough).then_some(()) }).await;
    }
}

fn said(gateway: &Gateway, what: &str) -> usize {
    gateway.said().matches(what).count()
}

#[tokio::test]
async fn redis_stops_under_load_and_comes_back_and_limits_hold() {
    let mut redis = PrivateRedis::start().await;
    let cluster = Cluster::with(2, &redis).await;
    let user = cluster.one().user("candidat").await;
    let (load, clients) = Load::start(&cluster, &user);
    load.go_on(100).await;
    redis.stop();
    cluster.become_degraded(true).await;
    load.go_on(200).await;
    // Passwords are still tried under a limit: each replica lets its half of 6 through, whoever is guessed.
    for gateway in &cluster.replicas {
        let mut tried = 0;
        for guess in 0..8 {
            let got = gateway.client.login(&format!("nobody-{guess}@example.com"), "wrong password").await;
            assert!(got.status == 401 || got.refusal() == (429, "RATE_LIMIT_EXCEEDED".to_owned()), "{got:?}");
            tried += u64::from(got.status == 401);
        }
        assert_eq!(tried, 3);
    }
    redis.start_again().await;
    cluster.become_degraded(false).await;
    load.go_on(200).await;
    load.ended.store(true, Ordering::Release);
    clients.join_all().await;
    // 40 in the first Redis, 20 in each replica, 40 in the new Redis, which remembers nothing.
    let passed = load.passed.load(Ordering::Acquire);
    println!("{} requests, {passed} passed", load.asked.load(Ordering::Acquire));
    assert!((40..=120).contains(&passed), "{passed}");
    for gateway in &cluster.replicas {
        until("one line for each change", PATIENCE, || async {
            let down = said(gateway, "rate limits go on without the store that replicas share");
            let up = said(gateway, "rate limits are counted together with other replicas again");
            (down >= 1 && down == up).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn without_redis_each_policy_does_as_it_says() {
    let mut redis = PrivateRedis::start().await;
    redis.stop();
    let cluster = Cluster::start(1, &redis.url()).await;
    cluster.become_degraded(true).await;
    let (gateway, user) = (cluster.one(), cluster.one().user("candidat").await);
    assert_eq!(admitted(&gateway.client, &user, "/share", 50).await, 40, "counted here");
    assert_eq!(admitted(&gateway.client, &user, "/open", 10).await, 10, "not counted");
    assert_eq!(gateway.client.get_as(&user, "/open").await.header("ratelimit"), None);
    let refused = gateway.client.get_as(&user, "/few").await;
    assert_eq!((refused.status, refused.number("retry-after")), (429, 1));
    // A request that one policy refuses takes nothing from the other.
    assert_eq!(admitted(&gateway.client, &user, "/mixed", 5).await, 0);
    assert_eq!(admitted(&gateway.client, &user, "/own", 5).await, 3);
    assert_eq!(gateway.metric(ANSWERS, &[("by", "memory")]).await, Some(5.0));
    gateway.admin.get("/readyz").await.expect(200);
    assert!(gateway.client.get(&format!("{P}/metrics")).await.text().contains(DEGRADED));
}

#[tokio::test]
async fn keys_that_hold_something_else_are_mended() {
    let redis = PrivateRedis::start().await;
    let cluster = Cluster::with(1, &redis).await;
    let (gateway, user) = (cluster.one(), cluster.one().user("candidat").await);
    let key = format!("{}{{limits}}:few:route:few:user:{}", cluster.prefix, user.id);
    for words in [vec!["RPUSH", &key, "x"], vec!["SET", &key, "garbage"], vec!["HSET", &key, "a", "b"]] {
        redis.command(&["DEL", &key]);
        redis.command(&words);
        until("an answer of Redis", PATIENCE, || async {
            (admitted(&gateway.client, &user, "/few", 1).await == 1).then_some(())
        })
        .await;
        redis.command(&["GET", &key]); // fails (WRONGTYPE) unless the key is a string again
    }
}

#[tokio::test]
async fn requests_pass_while_redis_hangs() {
    let redis = PrivateRedis::start().await;
    let cluster = Cluster::with(1, &redis).await;
    let (gateway, user) = (cluster.one(), cluster.one().user("candidat").await);
    redis.signal("STOP");
    let mut took = Vec::new();
    for _ in 0..30 {
        let asked = Instant::now();
        assert_eq!(admitted(&gateway.client, &user, "/share", 1).await, 1);
        took.push(asked.elapsed());
    }
    took.sort();
    println!("a hanging Redis: {} requests, median {:?}, longest {:?}", took.len(), took[took.len() / 2], took[29]);
    cluster.become_degraded(true).await;
    assert_eq!(cluster.answers("fallback").await, 30);
    redis.signal("CONT");
    cluster.become_degraded(false).await;
    let asked_redis = cluster.answers("redis").await;
    until("an answer of Redis", PATIENCE, || async {
        gateway.client.get_as(&user, "/share").await.expect(200);
        (cluster.answers("redis").await > asked_redis).then_some(())
    })
    .await;
}

/// Answers `OK` to whatever it is asked.
async fn nods(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let words: u32 = line.trim().trim_start_matches('*').parse().expect("a command");
        for _ in 0..words {
            line.clear();
            stream.read_line(&mut line).await?;
            let length: usize = line.trim().trim_start_matches('$').parse().expect("a length");
            stream.read_exact(&mut vec![0; length + 2]).await?;
        }
        stream.get_mut().write_all(b"+OK\r\n").await?;
        line.clear();
    }
    Ok(())
}

#[tokio::test]
async fn a_redis_that_answers_nonsense_is_none() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let url = format!("redis://{}", listener.local_addr().expect("its address"));
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(nods(stream));
        }
    });
    let cluster = Cluster::start(1, &url).await;
    let (gateway, user) = (cluster.one(), cluster.one().user("candidat").await);
    assert_eq!(admitted(&gateway.client, &user, "/share", 50).await, 40);
    assert_eq!(admitted(&gateway.client, &user, "/few", 5).await, 0);
    assert_eq!(cluster.answers("redis").await, 0);
    cluster.become_degraded(true).await;
    server.abort();
}
