//! Two gateways on one store: what one revokes, the other refuses, with Redis, without it, and when it comes and goes.

#![allow(
    clippy::disallowed_methods,
    reason = "what it reports was measured, and how often is asked of the environment"
)]

use std::collections::VecDeque;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use crate::harness::gateway::{Folder, PASSWORD, run_in};
use crate::harness::tokens::claims;
use crate::harness::{
    Database, Gateway, GatewayConfig, Origin, P, PATIENCE, PrivateRedis, Session, send, table, until,
};

/// Everything that a log-out on one replica needs, without limits.
const ROUTES: &str =
    "  - { name: logout, match: { path: /api/gateway/auth/logout, methods: [POST] }, to: { builtin: auth_logout } }
  - { name: strict, match: { path: /strict, methods: [GET] }, to: { pool: echo }, revocation: { bounded: 6s } }
  - { name: loose, match: { path: /loose, methods: [GET] }, to: { pool: echo }, revocation: eventual }";

/// Two gateways that share a store, and maybe a Redis.
struct Replicas {
    a: Gateway,
    b: Gateway,
    config: GatewayConfig,
    channel: String,
    database: Database,
    _origin: Origin,
}

impl Replicas {
    async fn start(redis: Option<&PrivateRedis>) -> Replicas {
        let origin = Origin::start().await;
        let prefix = format!("it-{}:", Uuid::new_v4().simple());
        let database = Database::create().await;
        let mut config = GatewayConfig::table(&table::table(&[&origin.url()], "", ROUTES))
            .setting("redis", json!({ "prefix": prefix }))
            .env("DATABASE_URL", &database.url());
        if let Some(redis) = redis {
            config = config.env("REDIS_URL", &redis.url());
        }
        let (a, b) = tokio::join!(Gateway::start(config.clone()), Gateway::start(config.clone()));
        let channel = format!("{prefix}revocations");
        let replicas = Replicas { a, b, config, channel, database, _origin: origin };
        if redis.is_some() {
            replicas.connected().await;
        }
        replicas
    }

    /// Waits until both hear each other.
    async fn connected(&self) {
        for gateway in [&self.a, &self.b] {
            until("both connections to Redis", PATIENCE, || async {
                let up = gateway.metric("gateway_store_up", &[("store", "redis")]).await == Some(1.0);
                (up && gateway.metric("gateway_revocation_subscribed", &[]).await == Some(1.0)).then_some(())
            })
            .await;
        }
    }

    /// A new account and its session, made on A and known on B.
    async fn session(&self) -> Session {
        let session = self.a.fresh_user("candidat").await;
        self.b.client.me(&session).await.expect(200);
        session
    }

    async fn again(&self, session: &Session) -> Session {
        Session::of(&self.a.client.login(&session.email, PASSWORD).await.expect(200), PASSWORD)
    }

    /// Logs out on A, which refuses at once; answers how long B took to refuse.
    async fn logout(&self, session: &Session) -> Duration {
        self.b.client.me(session).await.expect(200);
        self.a.client.logout(session).await.expect(200);
        let since = Instant::now();
        assert_eq!(self.a.client.me(session).await.refusal(), (401, "TOKEN_REVOKED".to_owned()));
        refused(&self.b, session).await;
        since.elapsed()
    }

    /// Runs a verb on the store and with the settings of both.
    fn operate(&self, verb: &[&str]) -> Output {
        let folder = Folder::new(&self.config);
        let settings = folder.path("gateway.yaml");
        run_in(&folder, &[verb, &["--config", settings.to_str().expect("UTF-8")]].concat(), &self.config)
    }

    /// Messages that B heard, by what became of them.
    async fn heard(&self, result: &str) -> f64 {
        self.b.metric("gateway_revocation_messages_total", &[("result", result)]).await.unwrap_or(0.0)
    }
}

/// Waits until `gateway` refuses the session.
async fn refused(gateway: &Gateway, session: &Session) {
    until("the other replica to refuse", PATIENCE, || async {
        let got = gateway.client.me(session).await;
        (got.status != 200).then(|| assert_eq!(got.refusal(), (401, "TOKEN_REVOKED".to_owned())))
    })
    .await;
}

fn succeeded(output: &Output) -> String {
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

/// `REPLICA_TRIES=200 cargo nextest run --no-capture logout_on_one` measures; docs/performance.md has the figures.
fn tries() -> usize {
    std::env::var("REPLICA_TRIES").ok().and_then(|tries| tries.parse().ok()).unwrap_or(10)
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |percent: usize| took[(took.len() * percent).div_ceil(100).max(1) - 1];
    println!("{what}: {} tries, p50 {:?}, p99 {:?}, longest {:?}", took.len(), at(50), at(99), at(100));
}

#[tokio::test]
async fn logout_on_one_replica_is_felt_on_the_other_over_redis() {
    let redis = PrivateRedis::start().await;
    let replicas = Replicas::start(Some(&redis)).await;
    let first = replicas.session().await;
    let (before, mut took) = (replicas.heard("applied").await, Vec::new());
    for _ in 0..tries() {
        let session = replicas.again(&first).await;
        took.push(replicas.logout(&session).await);
    }
    assert!(replicas.heard("applied").await > before, "nothing was pushed");
    // Sessions that nobody ended go on.
    replicas.b.client.me(&first).await.expect(200);
    report("refused on the other replica, with Redis", took);
}

#[tokio::test]
async fn logout_on_one_replica_is_felt_on_the_other_without_redis() {
    let replicas = Replicas::start(None).await;
    let first = replicas.session().await;
    let (mut waiting, mut took) = (VecDeque::new(), Vec::new());
    // Log-outs come at any time between two pulls; the log-ins set their pace.
    for _ in 0..tries() {
        let session = replicas.again(&first).await;
        replicas.a.client.logout(&session).await.expect(200);
        waiting.push_back((session, Instant::now()));
        while let Some((session, since)) = waiting.front()
            && replicas.b.client.me(session).await.status != 200
        {
            took.push(since.elapsed());
            waiting.pop_front();
        }
    }
    for (session, since) in &waiting {
        refused(&replicas.b, session).await;
        took.push(since.elapsed());
    }
    assert_eq!(replicas.b.metric("gateway_revocation_subscribed", &[]).await, None);
    assert!(replicas.b.metric("gateway_revocations", &[]).await.is_some_and(|facts| facts >= took.len() as f64));
    report("refused on the other replica, without Redis", took);
}

#[tokio::test]
async fn nothing_that_happens_to_redis_or_a_gateway_brings_a_token_back() {
    let mut redis = PrivateRedis::start().await;
    let mut replicas = Replicas::start(Some(&redis)).await;
    let session = replicas.session().await;
    replicas.logout(&session).await;
    let still_refused = async |replicas: &Replicas, after: &str| {
        for gateway in [&replicas.a, &replicas.b] {
            assert_eq!(gateway.client.me(&session).await.refusal(), (401, "TOKEN_REVOKED".to_owned()), "after {after}");
        }
    };
    redis.command(&["FLUSHALL"]);
    still_refused(&replicas, "FLUSHALL").await;
    redis.stop();
    still_refused(&replicas, "the end of Redis").await;
    redis.start_again().await;
    replicas.connected().await;
    still_refused(&replicas, "a restart of Redis").await;
    replicas.b = replicas.b.restart(&replicas.config).await;
    replicas.connected().await;
    still_refused(&replicas, "a restart of the other replica").await;
}

#[tokio::test]
async fn without_redis_for_a_while_nothing_is_lost() {
    let mut redis = PrivateRedis::start().await;
    let replicas = Replicas::start(Some(&redis)).await;
    let session = replicas.session().await;
    redis.stop();
    until("Redis to be missed", PATIENCE, || async {
        (replicas.a.metric("gateway_store_up", &[("store", "redis")]).await == Some(0.0)).then_some(())
    })
    .await;
    let ready = replicas.a.admin.get("/readyz").await.expect(200).json();
    assert_eq!(ready["degraded"], json!(["store redis does not answer"]));
    let applied = replicas.heard("applied").await;
    let (one, two) = (replicas.again(&session).await, replicas.again(&session).await);
    replicas.logout(&one).await;
    assert!(replicas.a.metric("gateway_revocation_messages_total", &[("result", "failed")]).await >= Some(1.0));
    assert_eq!(replicas.heard("applied").await, applied);
    redis.start_again().await;
    replicas.connected().await;
    replicas.logout(&two).await;
    until("a push", PATIENCE, || async { (replicas.heard("applied").await > applied).then_some(()) }).await;
    replicas.b.client.me(&session).await.expect(200);
}

#[tokio::test]
async fn a_gateway_starts_without_its_redis_and_finds_it_later() {
    let mut redis = PrivateRedis::start().await;
    redis.stop();
    let origin = Origin::start().await;
    let url = redis.url().replace("redis://", "redis://:hunter2@");
    let config = GatewayConfig::table(&table::table(&[&origin.url()], "", "")).env("REDIS_URL", &url);
    let gateway = Gateway::start(config).await;
    assert_eq!(gateway.metric("gateway_store_up", &[("store", "redis")]).await, Some(0.0));
    gateway.wait_said("Redis is away; going on without it").await;
    let session = gateway.fresh_user("candidat").await;
    gateway.client.me(&session).await.expect(200);
    redis.start_again().await;
    redis.command(&["CONFIG", "SET", "requirepass", "hunter2"]);
    gateway.wait_said("Redis is connected").await;
    gateway.wait_said("revocations of other replicas are heard at once").await;
    assert!(!gateway.said().contains("hunter2") && !gateway.metrics().await.contains("hunter2"));
}

#[tokio::test]
async fn tls_to_redis_is_verified_by_the_system_s_roots() {
    let redis = PrivateRedis::start_tls().await;
    let origin = Origin::start().await;
    let (port, roots) = (redis.address().port(), redis.authority().display().to_string());
    for (host, trusted, connects) in
        [("localhost", true, true), ("127.0.0.1", true, false), ("localhost", false, false)]
    {
        let url = format!("rediss://{host}:{port}");
        let mut config = GatewayConfig::table(&table::table(&[&origin.url()], "", "")).env("REDIS_URL", &url);
        if trusted {
            config = config.env("SSL_CERT_FILE", &roots);
        }
        let gateway = Gateway::start(config).await;
        if connects {
            gateway.wait_said("Redis is connected").await;
        } else {
            gateway.wait_said("Redis is away; going on without it").await;
            assert!(gateway.said().contains("invalid peer certificate"), "{}", gateway.said());
        }
    }
}

#[tokio::test]
async fn what_strangers_publish_revokes_for_a_moment_at_most_and_never_brings_back() {
    let redis = PrivateRedis::start().await;
    let replicas = Replicas::start(Some(&redis)).await;
    let (living, ended) = (replicas.session().await, replicas.session().await);
    replicas.logout(&ended).await;
    let sid = |session: &Session| claims(&session.access)["sid"].as_str().expect("sid").to_owned();
    let far = 9_000_000_000_i64;
    let garbage = [
        "".to_owned(),
        "\u{1}\u{2}nonsense".to_owned(),
        "x".repeat(100_000),
        json!({"v": 2, "kind": "session", "id": sid(&living), "until_s": far}).to_string(),
        json!({"v": 1, "kind": "session", "id": sid(&ended), "until_s": 1}).to_string(),
        json!({"v": 1, "kind": "forget", "id": sid(&ended), "until_s": far}).to_string(),
    ];
    let before = replicas.heard("ignored").await;
    for message in &garbage {
        redis.command(&["PUBLISH", &replicas.channel, message]);
    }
    until("all of it to be ignored", PATIENCE, || async {
        (replicas.heard("ignored").await == before + garbage.len() as f64).then_some(())
    })
    .await;
    replicas.b.client.me(&living).await.expect(200);
    assert_eq!(replicas.b.client.me(&ended).await.refusal(), (401, "TOKEN_REVOKED".to_owned()));
    replicas.b.wait_said("none of this version").await;

    // A well-formed lie denies, until the store has been asked.
    let lie = json!({"v": 1, "kind": "user", "id": living.id.to_string(), "not_before_s": far, "until_s": far});
    redis.command(&["PUBLISH", &replicas.channel, &lie.to_string()]);
    refused(&replicas.b, &living).await;
    until("the lie to be forgotten", PATIENCE, || async {
        (replicas.b.client.me(&living).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_operator_revokes_every_kind_for_all_replicas() {
    let redis = PrivateRedis::start().await;
    let replicas = Replicas::start(Some(&redis)).await;
    let claim = |session: &Session, name: &str| claims(&session.access)[name].as_str().expect("a text").to_owned();
    let first = replicas.session().await;
    let (by_session, by_token, by_user) =
        (replicas.again(&first).await, replicas.again(&first).await, replicas.session().await);
    let by_role = replicas.session().await;
    for (session, verb) in [
        (&by_session, vec!["revoke", "--session", &claim(&by_session, "sid")]),
        (&by_token, vec!["revoke", "--token", &claim(&by_token, "jti")]),
        (&by_user, vec!["revoke", "--user", &by_user.email]),
        (&by_role, vec!["users", "set-role", "--email", &by_role.email, "--role", "recruteur"]),
    ] {
        for gateway in [&replicas.a, &replicas.b] {
            gateway.client.me(session).await.expect(200);
        }
        let applied = replicas.heard("applied").await;
        let said = succeeded(&replicas.operate(&verb));
        assert!(!said.contains("not at once"), "{said}");
        refused(&replicas.a, session).await;
        refused(&replicas.b, session).await;
        until("a push", PATIENCE, || async { (replicas.heard("applied").await > applied).then_some(()) }).await;
    }
    replicas.b.client.me(&first).await.expect(200);
    let wrong = replicas.operate(&["revoke", "--session", "x", "--user", "y"]);
    assert_eq!(wrong.status.code(), Some(2), "one thing at a time");
}

#[tokio::test]
async fn a_bounded_route_stops_while_the_store_cannot_be_read() {
    let replicas = Replicas::start(None).await;
    let session = replicas.session().await;
    let ask = async |path: &str| send(replicas.b.client.as_user(&session, "GET", path)).await;
    ask("/strict").await.expect(200);
    replicas.database.execute("ALTER TABLE revocations RENAME TO away").await;
    let refusal = until("a refusal", PATIENCE, || async {
        let got = ask("/strict").await;
        (got.status != 200).then_some(got)
    })
    .await;
    assert_eq!(refusal.refusal(), (503, "AUTH_UNAVAILABLE".to_owned()));
    assert_eq!(refusal.number("retry-after"), 5);
    assert!(replicas.b.metric("gateway_revocation_staleness_seconds", &[]).await > Some(6.0));
    ask("/loose").await.expect(200);
    replicas.b.client.get(&format!("{P}/auth/me")).await.expect(401);
    replicas.database.execute("ALTER TABLE away RENAME TO revocations").await;
    until("it to go on", PATIENCE, || async { (ask("/strict").await.status == 200).then_some(()) }).await;
}
