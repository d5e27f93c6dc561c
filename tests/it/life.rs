//! Start, reload, end.

use std::net::TcpListener;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::sync::Semaphore;

use crate::harness::gateway::{Folder, run_in, run_to_end};
use crate::harness::{
    Answer, Gateway, GatewayConfig, Hold, Origin, P, PATIENCE, Reloaded, Services, soon, table, until,
};

fn routes(origin: &Origin, more: &str) -> String {
    table::table(&[&origin.url()], "", &format!("{}\n{more}", table::ECHO))
}

const MORE: &str = "  - { name: more, match: { path: /more, methods: [GET] }, to: { pool: echo }, auth: public }";

#[tokio::test]
async fn a_broken_table_changes_nothing_and_is_named() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(GatewayConfig::table(&routes(&origin, ""))).await;
    assert_eq!(gateway.metric("gateway_config_last_reload_successful", &[]).await, Some(1.0));
    let broken =
        routes(&origin, "  - { name: more, match: { path: /more, methods: [GET] }, to: { pool: ecko }, auth: public }");
    let line = broken.lines().position(|line| line.contains("ecko")).unwrap() + 1;
    assert_eq!(gateway.reload(&broken).await, Reloaded::Refused);
    gateway.wait_said("ecko").await;
    let said = gateway.said();
    assert!(said.contains(&format!("routes.yaml:{line}")), "{said}");
    assert!(said.contains("echo"), "no suggestion: {said}");
    gateway.client.get("/echo").await.expect(200);
    gateway.client.get("/more").await.expect(404);

    assert_eq!(gateway.reload(&routes(&origin, MORE)).await, Reloaded::Published);
    assert_eq!(gateway.metric("gateway_config_last_reload_successful", &[]).await, Some(1.0));
    gateway.client.get("/more").await.expect(200);
    assert_eq!(gateway.reload("version: 1\nroutes: [").await, Reloaded::Refused);
    gateway.client.get("/more").await.expect(200);
}

/// Reloads of the stress case, and connections that send meanwhile.
const RELOADS: usize = 1000;
const CONNECTIONS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_fail_no_request() {
    let origin = Origin::start().await;
    let tables = [routes(&origin, ""), routes(&origin, MORE)];
    let gateway = Gateway::start(GatewayConfig::table(&tables[0])).await;
    let first = gateway.metric("gateway_config_generation", &[]).await.expect("a generation");
    let turns = Arc::new(Semaphore::new(0));
    let served = Arc::new(AtomicUsize::new(0));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (turns, served) = (turns.clone(), served.clone());
        let mut raw = gateway.raw().await;
        senders.spawn(async move {
            // One request per turn, on one connection for the whole case: each reload meets requests in flight.
            while let Ok(turn) = turns.acquire().await {
                turn.forget();
                raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\n\r\n").await;
                let response = raw.response().await.expect("an answer on the same connection");
                assert_eq!(response.status(), 200, "{}", response.body.text());
                served.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    for round in 1..=RELOADS {
        gateway.write_routes(&tables[round % 2]);
        turns.add_permits(CONNECTIONS);
        gateway.signal("HUP");
        until("the next generation", PATIENCE, || async {
            (gateway.metric("gateway_config_generation", &[]).await >= Some(first + round as f64)).then_some(())
        })
        .await;
    }
    until("the last answers", PATIENCE, || async {
        (served.load(Ordering::SeqCst) == RELOADS * CONNECTIONS || senders.is_empty()).then_some(())
    })
    .await;
    turns.close();
    while let Some(ended) = senders.join_next().await {
        ended.expect("a sender without failures");
    }
    assert_eq!(origin.count(), RELOADS * CONNECTIONS);
    gateway.client.get("/echo").await.expect(200);
}

#[tokio::test]
async fn the_same_bytes_are_no_new_generation() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(GatewayConfig::table(&routes(&origin, ""))).await;
    let before = gateway.metric("gateway_config_generation", &[]).await;
    gateway.signal("HUP");
    assert_eq!(gateway.reload(&routes(&origin, MORE)).await, Reloaded::Published);
    let after = gateway.metric("gateway_config_generation", &[]).await;
    assert_eq!(after, before.map(|generation| generation + 1.0));
}

#[tokio::test]
async fn health_survives_a_reload() {
    let (good, bad) = (Origin::start().await, Origin::start().await);
    let pool = "    health: { path: /health, every: 200ms, timeout: 1s, rise: 1, fall: 1 }";
    let table = |more: &str| table::table(&[&good.url(), &bad.url()], pool, &format!("{}\n{more}", table::ECHO));
    let gateway = Gateway::start(GatewayConfig::table(&table(""))).await;
    bad.set_healthy(false);
    until("the bad target to be out", PATIENCE, || async {
        (gateway.metric("gateway_target_healthy", &[]).await == Some(1.0)).then_some(())
    })
    .await;
    let before = bad.count();
    assert_eq!(gateway.reload(&table(MORE)).await, Reloaded::Published);
    for _ in 0..10 {
        gateway.client.get("/echo").await.expect(200);
    }
    assert_eq!(bad.count(), before, "a reload forgot that the target is unhealthy");
}

#[tokio::test]
async fn a_request_in_flight_keeps_its_table() {
    let origin = Origin::start().await;
    let hold = Hold::new();
    origin.on("/more", Answer::json(200, json!({"late": true})).held(&hold));
    let gateway = Gateway::start(GatewayConfig::table(&routes(&origin, MORE))).await;
    let client = gateway.client.clone();
    let asked = tokio::spawn(async move { client.get("/more").await });
    origin.wait_count(1).await;
    assert_eq!(gateway.reload(&routes(&origin, "")).await, Reloaded::Published);
    gateway.client.get("/more").await.expect(404);
    hold.release();
    assert_eq!(asked.await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_table_that_is_a_pipe_is_refused_and_holds_nothing_up() {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&routes(&origin, ""));
    let mut gateway = Gateway::start(config).await;
    gateway.replace_routes_by_a_pipe();
    gateway.signal("HUP");
    gateway.wait_said("is not a regular file").await;
    gateway.client.get("/echo").await.expect(200);
    assert_eq!(gateway.terminate().await.code(), Some(0), "{}", gateway.said());
}

fn drained(origin: &Origin) -> GatewayConfig {
    GatewayConfig::table(&routes(origin, "")).setting("drain", json!({"delay": "0s", "grace": "20s"}))
}

#[tokio::test]
async fn sigterm_lets_requests_end() {
    let origin = Origin::start().await;
    let hold = Hold::new();
    origin.on("/echo", Answer::json(200, json!({"late": true})).held(&hold));
    let mut gateway = Gateway::start(drained(&origin)).await;
    let client = gateway.client.clone();
    let asked = tokio::spawn(async move { client.get("/echo").await });
    origin.wait_count(1).await;
    gateway.signal("TERM");
    until("readiness to end", PATIENCE, || async {
        let got = crate::harness::try_send(gateway.admin.request("GET", "/readyz")).await;
        got.map_or(true, |got| got.status == 503).then_some(())
    })
    .await;
    assert!(gateway.alive(), "it must wait for the request");
    hold.release();
    assert_eq!(soon("the answer", asked).await.expect("an answer").expect(200).json(), json!({"late": true}));
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once() {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&routes(&origin, "")).setting("drain", json!({"delay": "0s", "grace": "300s"}));
    let mut gateway = Gateway::start(config).await;
    gateway.client.get("/echo").await.expect(200);
    // Far below the grace: waiting for its end would fail by the harness's deadline.
    assert_eq!(gateway.terminate().await.code(), Some(0), "{}", gateway.said());
}

fn refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.status.code().is_some(), "{:?}: {said}", output.status);
    assert!(!said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[tokio::test]
async fn a_taken_port_is_a_clear_error() {
    let origin = Origin::start().await;
    for (section, key) in [("listen", "port"), ("admin", "address")] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let value = if key == "port" { json!(address.port()) } else { json!(address.to_string()) };
        let config = GatewayConfig::table(&routes(&origin, "")).setting(section, json!({ key: value }));
        refused(&run_to_end(&["run"], &config), &[&address.port().to_string()]);
    }
}

#[tokio::test]
async fn what_is_missing_or_wrong_at_the_start_is_named() {
    let services = Services::start().await;
    let config = services.config();
    let folder = Folder::new(&config);
    std::fs::remove_file(folder.path("routes.yaml")).unwrap();
    refused(&run_in(&folder, &["run"], &config), &["routes.yaml"]);

    let folder = Folder::new(&config);
    std::fs::write(folder.path("gateway.yaml"), "listen: { prot: 1 }").unwrap();
    refused(&run_in(&folder, &["run"], &config), &["gateway.yaml", "prot", "port"]);

    // What is named: the variable itself, or the key of the table that it is part of.
    for (name, value, named) in [
        ("PORT", "abc", "PORT"),
        ("PORT", "70000", "PORT"),
        ("WORKERS", "-1", "WORKERS"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL"),
        ("ENVIRONMENT", "moon", "ENVIRONMENT"),
        ("JWT_ALGORITHM", "none", "JWT_ALGORITHM"),
        ("RATE_LIMIT_PER_MINUTE", "many", "limits.anonymous"),
        ("CV_PARSER_URL", "not a url", "pools.cv-parser.targets"),
        ("ALLOWED_ORIGINS", "localhost:3000/path", "cors.origins"),
    ] {
        refused(&run_to_end(&["run"], &config.clone().env(name, value)), &[named]);
    }
}

#[tokio::test]
async fn production_needs_a_secret_of_its_own() {
    let services = Services::start().await;
    let config = services.config().env("ENVIRONMENT", "production");
    for secret in ["short", "your-secret-key-change-in-production", "0123456789012345678901234567890"] {
        let output = run_to_end(&["run"], &config.clone().env("JWT_SECRET", secret));
        refused(&output, &["JWT_SECRET"]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains(secret), "the secret is shown");
    }
    refused(&run_to_end(&["run"], &config.clone().without_env("JWT_SECRET")), &["JWT_SECRET", "openssl rand"]);
    let gateway = Gateway::start(config).await;
    gateway.client.get(&format!("{P}/status")).await.expect(200);
}

#[tokio::test]
async fn in_development_a_secret_is_made_and_kept() {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&routes(&origin, "")).without_env("JWT_SECRET").env("ENVIRONMENT", "development");
    let gateway = Gateway::start(config.clone()).await;
    gateway.wait_said("JWT_SECRET").await;
    let user = gateway.user("candidat").await;
    let gateway = gateway.restart(&config).await;
    gateway.client.me(&user).await.expect(200);
}

#[test]
fn check_says_what_is_wrong_and_exits_so() {
    let config = GatewayConfig::shipped();
    let folder = Folder::new(&config);
    let check = |file: &str| run_in(&folder, &["check", folder.path(file).to_str().unwrap()], &config);
    let good = check("routes.yaml");
    let shown = String::from_utf8_lossy(&good.stdout).into_owned();
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
    assert!(shown.contains("/api/gateway/match/batch"), "{shown}");
    std::fs::write(folder.path("bad.yaml"), "version: 1\npools: {}\nruotes: []\nroutes:\n  - { name: A b }\n").unwrap();
    let bad = check("bad.yaml");
    let said = format!("{}{}", String::from_utf8_lossy(&bad.stdout), String::from_utf8_lossy(&bad.stderr));
    assert_eq!(bad.status.code(), Some(1), "{said}");
    assert!(said.contains("bad.yaml:3") && said.contains("ruotes") && said.contains("routes"), "{said}");
    assert_eq!(check("none.yaml").status.code(), Some(1));
}

#[tokio::test]
async fn the_first_round_of_probes_comes_before_readiness() {
    let origin = Origin::start().await;
    let pool = "    health: { path: /health, every: 60s, timeout: 2s }";
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&origin.url()], pool, table::ECHO))).await;
    assert_eq!(origin.probes(), 1);
    gateway.client.get("/echo").await.expect(200);
    gateway.admin.get("/livez").await.expect(200);
}
