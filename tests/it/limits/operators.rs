//! What operators see and do about single subjects' limits, with the real program; and limits over a restart.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use serde_json::{Value, json};

use super::spend;
use crate::harness::limits::{limits, operate};
use crate::harness::{Gateway, GatewayConfig, Got, Origin, PATIENCE, PrivateRedis, Session, send, table, until};

/// Eight hours per token: a slow machine does not earn one during a case.
const LIMITS: &str = "limits:
  few: { by: user, rate: 3/day, burst: 2 }
  other: { by: user, rate: 3/day, burst: 0 }
  address: { by: address, rate: 3/day, burst: 0 }";

const ROUTES: &str = "  - { name: a, match: { path: /a, methods: [GET] }, to: { pool: echo }, limits: [few] }
  - { name: b, match: { path: /b, methods: [GET] }, to: { pool: echo }, limits: [other] }
  - { name: open, match: { path: /open, methods: [GET] }, to: { pool: echo }, auth: public, limits: [address] }";

fn routes(origin: &Origin, top: &str) -> String {
    table::with_top(&table::table(&[&origin.url()], "", ROUTES), top)
}

fn config(origin: &Origin) -> GatewayConfig {
    let mut config = GatewayConfig::table(&routes(origin, LIMITS));
    config.settings["trusted_proxies"] = json!(["127.0.0.1/32"]);
    config
}

async fn started() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(config(&origin)).await;
    (origin, gateway)
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn from(gateway: &Gateway, address: &str) -> Got {
    send(gateway.client.request("GET", "/open").header("x-forwarded-for", address)).await
}

#[tokio::test]
async fn a_spent_bucket_is_shown_and_reset_by_email_and_by_number() {
    let (_origin, gateway) = started().await;
    let user = gateway.user("candidat").await;
    let me = gateway.client.me(&user).await.json();
    let (email, number) = (me["email"].as_str().unwrap().to_owned(), me["id"].to_string().replace('"', ""));
    let full = operate(&gateway, &["show", &email]);
    assert!(full.contains(&format!("user {number}: every bucket is full")), "{full}");
    assert_eq!((spend(&gateway, &user, "/a").await, spend(&gateway, &user, "/b").await), (5, 3));

    let shown = operate(&gateway, &["show", &email]);
    assert!(operate(&gateway, &["show", &number]).contains("few:route:a"));
    for scope in ["few:route:a", "other:route:b"] {
        let line = shown.lines().find(|line| line.starts_with(scope)).unwrap_or_else(|| panic!("{shown}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(words[1].starts_with("3/day+") && words[2] == "0" && words[4] == "memory", "{shown}");
    }

    let done = operate(&gateway, &["reset", &email, "--policy", "few"]);
    assert!(done.ends_with("made full: few:route:a\n"), "{done}");
    assert_eq!((spend(&gateway, &user, "/a").await, spend(&gateway, &user, "/b").await), (5, 0));
    let done = operate(&gateway, &["reset", &number]);
    assert!(done.contains("few:route:a") && done.contains("other:route:b"), "{done}");
    assert_eq!((spend(&gateway, &user, "/a").await, spend(&gateway, &user, "/b").await), (5, 3));

    let records = audited(&gateway, 2).await;
    assert!(records.iter().all(|record| record["actor"] == "command_line"), "{records:?}");
    assert!(records.iter().all(|record| record["subject"] == format!("user:{number}")), "{records:?}");
    assert_eq!(records[0]["details"], "buckets reset: 1, policy few");
    assert_eq!(records[1]["details"], "buckets reset: 2, policy all");
}

/// The records of resets, once there are so many.
async fn audited(gateway: &Gateway, count: usize) -> Vec<Value> {
    until("audit records", PATIENCE, || async {
        let lines = said(&gateway.run_verb(&["audit", "tail", "-n", "1000", "--json"]));
        let records = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let resets: Vec<Value> = records.filter(|record| record["event"] == "limits_changed").collect();
        (resets.len() == count).then_some(resets)
    })
    .await
}

#[tokio::test]
async fn addresses_are_shown_and_reset_as_they_are_counted() {
    let (_origin, gateway) = started().await;
    for (address, neighbour, stranger, named) in [
        ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "address 192.0.2.1:"),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1", "address 2001:db8:1:2::/64:"),
    ] {
        for _ in 0..3 {
            from(&gateway, address).await.expect(200);
        }
        assert_eq!(from(&gateway, neighbour).await.status, 429);
        let shown = operate(&gateway, &["show", neighbour]);
        assert!(shown.contains(named) && shown.contains("address:route:open"), "{shown}");
        assert!(operate(&gateway, &["show", stranger]).contains("every bucket is full"));
        operate(&gateway, &["reset", stranger]);
        assert_eq!(from(&gateway, address).await.status, 429, "another's reset");
        operate(&gateway, &["reset", neighbour, "--policy", "address"]);
        from(&gateway, address).await.expect(200);
    }
    let records = audited(&gateway, 4).await;
    let subjects: Vec<&str> = records.iter().filter_map(|record| record["subject"].as_str()).collect();
    let expected = ["192.0.2.2/32", "192.0.2.1/32", "2001:db8:1:3::/64", "2001:db8:1:2::/64"];
    assert_eq!(subjects, expected.map(|network| format!("network:{network}")));
}

#[tokio::test]
async fn an_address_that_the_flood_guard_refuses_is_shown_and_let_in_again() {
    let origin = Origin::start().await;
    let guarded = format!("{LIMITS}\nflood_guard: {{ rate: 8/day, burst: 0 }}");
    let mut config = GatewayConfig::table(&routes(&origin, &guarded));
    config.settings["trusted_proxies"] = json!(["127.0.0.1/32"]);
    let gateway = Gateway::start(config).await;
    until("a flood is cut", PATIENCE, || async {
        let got = from(&gateway, "192.0.2.1").await;
        (got.status == 429 && got.header("ratelimit").is_none()).then_some(())
    })
    .await;
    let shown = operate(&gateway, &["show", "192.0.2.1"]);
    assert!(shown.contains("flood_guard:all"), "{shown}");
    let done = operate(&gateway, &["reset", "192.0.2.1"]);
    assert!(done.contains("flood_guard:all") && done.contains("address:route:open"), "{done}");
    from(&gateway, "192.0.2.1").await.expect(200);
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let (_origin, mut gateway) = started().await;
    let shown = |whose: &str| refused(&limits(&gateway, &["show", whose]));
    assert!(shown("nobody@example.com").contains("no account has the address nobody@example.com"));
    assert!(shown("424242").contains("no account has the number 424242"));
    assert!(shown("somebody").contains("is none of"));
    assert!(refused(&limits(&gateway, &["reset", "192.0.2.1", "--policy", "fwe"])).contains("no policy has this name"));
    // What a killed process left does not answer.
    drop(std::os::unix::net::UnixListener::bind(gateway.data_dir().join("side-1.sock")).unwrap());
    assert!(operate(&gateway, &["show", "192.0.2.1"]).contains("every bucket is full"));
    gateway.terminate().await;
    let error = refused(&limits(&gateway, &["reset", "192.0.2.1"]));
    assert!(error.contains("no gateway runs on the data folder"), "{error}");
}

/// What the command line asks the Unix socket, and ways in which a client may try to get there.
const CONTROL_PATHS: [&str; 18] = [
    "/control/limits/show",
    "/control/limits/reset",
    "/control/limits/override",
    "/%63ontrol/limits/reset",
    "/control%2Flimits%2Freset",
    "//control/limits/reset",
    "/page/../control/limits/reset",
    "/page/%2e%2e/control/limits/reset",
    "/page/control/limits/reset",
    "/page?/control/limits/reset",
    "/builtin/../control/limits/reset",
    "/builtin/control/limits/reset",
    "/builtin/status",
    "/files/../control/limits/reset",
    "/files/%2e%2e%2fcontrol/limits/reset",
    "/page;/control/limits/reset",
    "/page#/control/limits/reset",
    "http://localhost/control/limits/reset",
];

/// Nothing but the Unix socket knows these paths: not the public port, not the admin listener, whatever they are called.
#[tokio::test]
async fn nobody_reaches_the_control_paths_over_the_network() {
    let origin = Origin::start().await;
    let pages =
        "  - { name: page, match: { path: /page, methods: [GET, POST] }, to: { builtin: status }, auth: public }
  - { name: files, match: { prefix: /files, methods: [GET, POST] }, to: { pool: echo }, auth: public }";
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&origin.url()], "", pages))).await;
    let ask = r#"{"whose":{"user":1}}"#;
    let mut raw = gateway.raw().await;
    for path in CONTROL_PATHS {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{ask}",
            ask.len()
        );
        if !raw.send(request.as_bytes()).await {
            raw = gateway.raw().await;
            raw.send(request.as_bytes()).await;
        }
        let answer = raw.response().await;
        let text = answer.as_ref().map(|answer| answer.body.text());
        assert!(text.as_ref().is_none_or(|text| !text.contains("\"buckets\"")), "{path}: {text:?}");
        raw = gateway.raw().await;
    }
    assert_ne!(send(gateway.admin.request("POST", "/control/limits/show").body(ask)).await.status, 200);
    let sockets = fs::read_dir(gateway.data_dir()).unwrap().map(|entry| entry.unwrap().path());
    let socket = sockets.filter(|path| path.extension().is_some_and(|extension| extension == "sock")).last().unwrap();
    assert_eq!(fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(operate(&gateway, &["show", "192.0.2.1"]).contains("every bucket is full"), "there it is answered");
    let resets = said(&gateway.run_verb(&["audit", "tail", "-n", "1000", "--json"]));
    assert!(!resets.contains("limits_changed"), "{resets}");
}

#[tokio::test]
async fn buckets_outlive_an_orderly_restart_where_that_is_asked_for() {
    let origin = Origin::start().await;
    let config = config(&origin).setting("limits", json!({ "persist": true }));
    let gateway = Gateway::start(config.clone()).await;
    let user = gateway.user("candidat").await;
    gateway.client.get_as(&user, "/a").await.expect(200);
    assert_eq!(spend(&gateway, &user, "/b").await, 3);
    let file = gateway.data_dir().join("limits.kept");
    assert!(!file.exists());

    let gateway = gateway.restart_after("TERM", &config).await;
    // Read, so that a crash does not bring it back.
    until("the file goes", PATIENCE, || async { (!file.exists()).then_some(()) }).await;
    assert_eq!((spend(&gateway, &user, "/a").await, spend(&gateway, &user, "/b").await), (4, 0));

    // A crash leaves nothing behind, and nothing old comes back.
    let gateway = gateway.restart_after("KILL", &config).await;
    assert_eq!(spend(&gateway, &user, "/a").await, 5);
}

/// A typing error in the table must not cost the buckets.
#[tokio::test]
async fn a_start_that_fails_leaves_the_kept_buckets() {
    let origin = Origin::start().await;
    let config = config(&origin).setting("limits", json!({ "persist": true }));
    let mut gateway = Gateway::start(config.clone()).await;
    let user = gateway.user("candidat").await;
    assert_eq!(spend(&gateway, &user, "/b").await, 3);
    assert!(gateway.terminate().await.success());
    gateway.write_routes(&config.routes.replace("limits: [other]", "limits: [othre]"));
    assert_eq!(gateway.beside(&[]).exit().await.code(), Some(1));
    gateway.write_routes(&config.routes);
    let next = gateway.beside(&[]);
    next.wait_said("gateway is up").await;
    drop(gateway.becomes(next));
    assert_eq!(spend(&gateway, &user, "/b").await, 0);
    assert!(!gateway.data_dir().join("limits.kept").exists());
}

#[tokio::test]
async fn buckets_begin_anew_where_nothing_else_is_asked_for() {
    let origin = Origin::start().await;
    let config = config(&origin);
    let gateway = Gateway::start(config.clone()).await;
    let user = gateway.user("candidat").await;
    assert_eq!(spend(&gateway, &user, "/a").await, 5);
    let mut gateway = gateway.restart(&config).await;
    assert_eq!(spend(&gateway, &user, "/a").await, 5);
    assert!(gateway.terminate().await.success());
    assert!(!gateway.data_dir().join("limits.kept").exists());
}

#[tokio::test]
async fn a_damaged_file_of_buckets_is_said_and_left_out() {
    let origin = Origin::start().await;
    let config = config(&origin).setting("limits", json!({ "persist": true }));
    let mut gateway = Gateway::start(config.clone()).await;
    let user = gateway.user("candidat").await;
    assert_eq!(spend(&gateway, &user, "/a").await, 5);
    assert!(gateway.terminate().await.success());
    let file = gateway.data_dir().join("limits.kept");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let gateway = Gateway::start(config.clone()).await;
    fs::write(gateway.data_dir().join("limits.kept"), bytes).unwrap();
    let user = gateway.user("candidat").await;
    let gateway = gateway.restart_after("KILL", &config).await;
    gateway.wait_said("the kept rate limits are left out").await;
    assert_eq!(spend(&gateway, &user, "/a").await, 5);
}

/// A gateway whose policies are counted in this Redis; `few` refuses what Redis does not decide.
async fn sharing(redis: &PrivateRedis) -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let denying = LIMITS.replace("burst: 2 }", "burst: 2, on_store_failure: deny }");
    let config = GatewayConfig::table(&routes(&origin, &denying)).env("REDIS_URL", &redis.url());
    let gateway = Gateway::start(config).await;
    (origin, gateway)
}

/// Asks until Redis refuses: "Redis did not answer" would come with a wait of one second.
async fn spend_in_redis(gateway: &Gateway, user: &Session) {
    until("a bucket is spent", PATIENCE, || async {
        let got = gateway.client.get_as(user, "/a").await;
        (got.status == 429 && got.number("retry-after") > 1).then_some(())
    })
    .await;
}

/// What a verb says once Redis answers it.
async fn once_redis_answers(gateway: &Gateway, verb: &[&str]) -> String {
    until("an answer of Redis", PATIENCE, || async {
        let output = limits(gateway, verb);
        output.status.success().then(|| said(&output))
    })
    .await
}

/// The bucket that replicas share, and what a process remembers of its refusals.
#[tokio::test]
async fn buckets_in_redis_are_shown_and_reset_too() {
    let redis = PrivateRedis::start().await;
    let (_origin, gateway) = sharing(&redis).await;
    let user = gateway.user("candidat").await;
    let number = user.id.to_string();
    spend_in_redis(&gateway, &user).await;
    let shown = once_redis_answers(&gateway, &["show", &number]).await;
    let line = shown.lines().find(|line| line.starts_with("few:route:a")).unwrap_or_else(|| panic!("{shown}"));
    assert!(line.contains("3/day+2") && line.ends_with("redis"), "{shown}");
    once_redis_answers(&gateway, &["reset", &number]).await;
    let shown = once_redis_answers(&gateway, &["show", &number]).await;
    assert!(!shown.contains("few:route:a"), "{shown}");
    until("it passes again", PATIENCE, || async {
        (gateway.client.get_as(&user, "/a").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn while_redis_is_away_it_is_said_that_its_buckets_are_not_known() {
    let mut redis = PrivateRedis::start().await;
    let (_origin, gateway) = sharing(&redis).await;
    once_redis_answers(&gateway, &["show", "192.0.2.1"]).await;
    redis.stop();
    for verb in ["show", "reset"] {
        let output = limits(&gateway, &[verb, "192.0.2.1"]);
        let error = refused(&output);
        assert!(output.status.code() == Some(1) && error.contains("what is counted in Redis"), "{verb}: {error}");
    }
}
