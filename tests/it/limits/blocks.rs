//! Blocked addresses: made and taken away on the command line, felt by clients within a pull.

use serde_json::json;

use crate::harness::gateway::{Folder, run_in};
use crate::harness::limits::{limits, operate};
use crate::harness::relay::Relay;
use crate::harness::table::{ECHO, table};
use crate::harness::{Gateway, GatewayConfig, Got, Origin, P, PATIENCE, PrivatePostgres, send, until};

/// Clients are who a proxy on this machine says they are.
fn config(origin: &Origin) -> GatewayConfig {
    GatewayConfig::table(&table(&[&origin.url()], "", ECHO)).setting("trusted_proxies", json!(["127.0.0.1/32"]))
}

/// A request of this client.
async fn ask(gateway: &Gateway, method: &str, path: &str, client: &str) -> Got {
    let request = gateway.client.request(method, path).header("x-forwarded-for", client);
    send(request.header("origin", "http://localhost:3000")).await
}

async fn status(gateway: &Gateway, client: &str) -> u16 {
    ask(gateway, "GET", "/echo", client).await.status
}

async fn becomes(gateway: &Gateway, client: &str, wanted: u16) {
    until(&format!("{client} to get {wanted}"), PATIENCE, || async {
        (status(gateway, client).await == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_block_is_felt_within_a_pull_and_ends_by_itself() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(config(&origin)).await;
    ask(&gateway, "GET", "/echo", "203.0.113.9").await.expect(200);
    let said = operate(&gateway, &["block", "203.0.113.9", "--for", "12s", "--reason", "guesses passwords"]);
    assert!(said.starts_with("203.0.113.9/32 is blocked until 20"), "{said}");
    becomes(&gateway, "203.0.113.9", 403).await;
    let got = ask(&gateway, "GET", "/echo", "203.0.113.9").await;
    assert_eq!(got.refusal(), (403, "FORBIDDEN_ADDRESS".to_owned()));
    assert!(got.header("x-request-id").is_some_and(|id| got.json()["request_id"] == *id), "{:?}", got.headers);
    assert_eq!(got.header("access-control-allow-origin"), Some("http://localhost:3000"));
    // Whatever it asks for, also as the mapped address, and whoever it says it is further left.
    for (method, path, client) in [
        ("GET", &*format!("{P}/health"), "203.0.113.9"),
        ("GET", &*format!("{P}/metrics"), "203.0.113.9"),
        ("GET", "/nothing", "203.0.113.9"),
        ("PUT", &*format!("{P}/health"), "203.0.113.9"),
        ("POST", &*format!("{P}/auth/login"), "203.0.113.9"),
        ("GET", "/echo", "::ffff:203.0.113.9"),
        ("GET", "/echo", "198.51.100.1, 203.0.113.9"),
    ] {
        let got = ask(&gateway, method, path, client).await;
        assert_eq!(got.refusal(), (403, "FORBIDDEN_ADDRESS".to_owned()), "{method} {path} {client}");
    }
    // Neighbours, the proxy itself, and who only says that it passed there.
    for client in ["203.0.113.8", "203.0.113.10", "127.0.0.1", "203.0.113.9, 198.51.100.1"] {
        ask(&gateway, "GET", "/echo", client).await.expect(200);
    }
    assert!(gateway.metric("gateway_blocked_requests_total", &[]).await >= Some(8.0));
    let line = gateway.access_line(|line| line["code"] == "FORBIDDEN_ADDRESS").await;
    assert_eq!(line["client"], "203.0.113.9", "{line}");
    becomes(&gateway, "203.0.113.9", 200).await;
    assert_eq!(operate(&gateway, &["blocks"]), "");
}

#[tokio::test]
async fn a_subscriber_of_ipv6_is_blocked_whole_across_a_restart_and_let_in_again() {
    let origin = Origin::start().await;
    let config = config(&origin);
    let gateway = Gateway::start(config.clone()).await;
    let said = operate(&gateway, &["block", "2001:db8:1:2::9", "--for", "1h"]);
    assert!(said.starts_with("2001:db8:1:2::/64 (a subscriber has all of a /64) is blocked"), "{said}");
    becomes(&gateway, "2001:db8:1:2:ffff:ffff::1", 403).await;
    assert_eq!(status(&gateway, "2001:db8:1:3::9").await, 200);
    // It is known before the first request after a start.
    let gateway = gateway.restart(&config).await;
    assert_eq!(status(&gateway, "2001:db8:1:2::9").await, 403);
    assert_eq!(gateway.metric("gateway_limit_rules", &[("kind", "block")]).await, Some(1.0));
    assert!(operate(&gateway, &["blocks"]).contains("\n2001:db8:1:2::/64  20"));
    operate(&gateway, &["unblock", "2001:db8:1:2::77"]);
    becomes(&gateway, "2001:db8:1:2::9", 200).await;
    let trail = gateway.run_verb(&["audit", "tail", "-n", "50"]);
    let trail = String::from_utf8_lossy(&trail.stdout).into_owned();
    let changes: Vec<&str> = trail.lines().filter(|line| line.contains(" limits_changed ")).collect();
    assert_eq!(changes.len(), 2, "{trail}");
    let subject = "by=command_line on=network:2001:db8:1:2::/64";
    assert!(changes.iter().all(|line| line.contains(subject)), "{changes:?}");
    assert!(changes[0].contains("blocked until 20") && changes[1].contains("not blocked any more"), "{changes:?}");
    let proven = gateway.run_verb(&["audit", "verify"]);
    assert!(proven.status.success(), "{}", String::from_utf8_lossy(&proven.stderr));
}

#[tokio::test]
async fn what_must_not_be_blocked_is_refused_with_words() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(config(&origin)).await;
    for (verb, words) in [
        (&["block", "127.0.0.1", "--for", "1h"][..], "127.0.0.1/32 cannot be blocked: it has loopback addresses"),
        (&["block", "::/0", "--for", "1h"], "that is everybody"),
        (&["block", "12.0.0.0/6", "--for", "1h"], "--wide"),
        (&["block", "203.0.113.9", "--for", "400d"], "365d"),
        (&["block", "203.0.113.9"], "--for"),
        (&["block", "example.com", "--for", "1h"], "expected an address"),
        (&["unblock", "203.0.113.9"], "203.0.113.9/32 is not blocked"),
    ] {
        let output = limits(&gateway, verb);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{verb:?}: {said}");
    }
    assert_eq!(operate(&gateway, &["blocks"]), "");
    operate(&gateway, &["block", "12.0.0.0/6", "--wide", "--for", "1h"]);
    becomes(&gateway, "13.1.2.3", 403).await;
}

#[tokio::test]
async fn a_store_that_is_away_lets_nobody_in() {
    let origin = Origin::start().await;
    let server = PrivatePostgres::start().await;
    let relay = Relay::to(server.address()).await;
    let database = |address| format!("postgres://postgres@{address}/postgres");
    let timeouts = json!({ "timeout": "1s", "connect_timeout": "1s" });
    let config = config(&origin).env("DATABASE_URL", &database(relay.address())).setting("database", timeouts);
    let gateway = Gateway::start(config.clone()).await;
    // The command has a way of its own to the database.
    let direct = config.clone().env("DATABASE_URL", &database(server.address()));
    let operate = |verb: &[&str]| {
        let output = run_in(&Folder::new(&direct), &[&["limits"], verb].concat(), &direct);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    operate(&["block", "203.0.113.9", "--for", "1h"]);
    becomes(&gateway, "203.0.113.9", 403).await;
    relay.freeze();
    gateway.wait_said("new overrides and blocks are not seen").await;
    operate(&["block", "203.0.113.0/24", "--for", "1h"]);
    assert_eq!((status(&gateway, "203.0.113.9").await, status(&gateway, "203.0.113.10").await), (403, 200));
    relay.thaw();
    becomes(&gateway, "203.0.113.10", 403).await;
    gateway.wait_said("new overrides and blocks are seen again").await;
}
