//! How targets are reached: over TLS that is always verified, over Unix sockets, by HTTP/2.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::harness::gateway::{Reloaded, run_to_end};
use crate::harness::http2::H2Origin;
use crate::harness::pki::{Authority, Door, Identity};
use crate::harness::table::ECHO;
use crate::harness::{Gateway, GatewayConfig, Origin, P, PATIENCE, table, until};

const ATTEMPTS: &str = "gateway_upstream_attempts_total";

/// A file in a test's folder.
fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path
}

/// `tls` of a pool that trusts `ca`.
fn trust(ca: &Path, more: &str) -> String {
    format!("    tls: {{ ca: {}{more} }}", ca.display())
}

fn config(target: &str, pool: &str) -> GatewayConfig {
    GatewayConfig::table(&table::table(&[target], pool, ECHO))
}

/// A request whose TLS failed: 503, counted as a failed connection.
async fn cannot_connect(gateway: &Gateway) {
    let got = gateway.client.get("/echo").await;
    assert_eq!(got.refusal(), (503, "SERVICE_UNAVAILABLE".to_owned()), "{}", got.text());
    assert!(!got.text().contains("127.0.0.1"), "{}", got.text());
}

#[tokio::test]
async fn targets_over_tls_are_verified_by_name_or_address_and_their_connections_are_kept() {
    let (origin, authority, folder) = (Origin::start().await, Authority::new(), tempfile::tempdir().unwrap());
    let ca = file(&folder, "ca.pem", &authority.pem());
    for (names, more) in [(&["127.0.0.1"][..], ""), (&["Origin.Test"], ", server_name: origin.test")] {
        let door = Door::tls(origin.address(), authority.issue(names).server(None, &[])).await;
        let before = origin.connections();
        let gateway = Gateway::start(config(&door.url("127.0.0.1"), &trust(&ca, more))).await;
        for _ in 0..3 {
            gateway.client.get("/echo/x").await.expect(200);
        }
        assert_eq!(origin.connections() - before, 1, "{names:?}");
        let last = origin.last();
        assert_eq!(last.header("host"), Some(&*format!("127.0.0.1:{}", door.address.port())));
        assert_eq!(last.header("x-forwarded-proto"), Some("http"));
    }
}

#[tokio::test]
async fn probes_go_over_tls_too_and_say_without_addresses_what_is_wrong() {
    let (origin, authority, folder) = (Origin::start().await, Authority::new(), tempfile::tempdir().unwrap());
    let ca = file(&folder, "ca.pem", &authority.pem());
    let good = Door::tls(origin.address(), authority.issue(&["127.0.0.1"]).server(None, &[])).await;
    let expired = Door::tls(origin.address(), authority.issue_expired(&["127.0.0.1"]).server(None, &[])).await;
    let other = Door::tls(origin.address(), authority.issue(&["other.test"]).server(None, &[])).await;
    let stranger = Door::tls(origin.address(), Authority::new().issue(&["127.0.0.1"]).server(None, &[])).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let targets = [&good, &expired, &other, &stranger].map(|door| door.url("127.0.0.1"));
    let targets: Vec<&str> = targets.iter().map(String::as_str).chain([plain.as_str()]).collect();
    let pool = format!("{}\n    health: {{ path: /health, every: 60s, timeout: 10s }}", trust(&ca, ""));
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&targets, &pool, ECHO))).await;
    let admin = gateway.user("admin").await;
    let page = "  - { name: all, match: { path: /all, methods: [GET] }, to: { builtin: health_detailed }, auth: { roles: [admin] } }";
    let routes = format!("{ECHO}\n{page}");
    assert_eq!(gateway.reload(&table::table(&targets, &pool, &routes)).await, Reloaded::Published);
    let said = until("five probes", PATIENCE, || async {
        let page = gateway.client.get_as(&admin, "/all").await.expect(200).json();
        let targets = page["services"]["echo"]["targets"].as_array().cloned().expect("targets");
        let probed = targets.iter().all(|one| one["last_probe"].is_object());
        probed.then(|| targets.iter().map(|one| one["last_probe"]["error"].to_string()).collect::<Vec<_>>().join(", "))
    })
    .await;
    for words in ["has expired", "for another name", "of an unknown authority", "does not speak TLS"] {
        assert!(said.contains(words), "{words} in {said}");
    }
    assert!(!said.contains("127.0.0.1"), "{said}");
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_is_never_spoken_to() {
    let (origin, authority, folder) = (Origin::start().await, Authority::new(), tempfile::tempdir().unwrap());
    let ca = file(&folder, "ca.pem", &authority.pem());
    let named = ", server_name: origin.test";
    for (identity, pool) in [
        (authority.issue(&["127.0.0.1"]), String::new()), // the system's authorities do not know this one
        (Authority::new().issue(&["127.0.0.1"]), trust(&ca, "")),
        (authority.issue(&["127.0.0.2"]), trust(&ca, "")),
        (authority.issue(&["127.0.0.1"]), trust(&ca, named)),
        (authority.issue_expired(&["127.0.0.1"]), trust(&ca, "")),
    ] {
        let door = Door::tls(origin.address(), identity.server(None, &[])).await;
        let gateway = Gateway::start(config(&door.url("127.0.0.1"), &pool)).await;
        cannot_connect(&gateway).await;
        // One for each try: a handshake that fails is sent again like any connection.
        let failed = gateway.metric(ATTEMPTS, &[("result", "connect_error")]).await;
        assert!(failed.is_some_and(|tries| tries >= 1.0), "{failed:?} {pool}");
    }
    assert_eq!(origin.count(), 0);
}

fn with_identity(folder: &TempDir, ca: &Path, identity: &Identity) -> String {
    let (cert, key) = (file(folder, "me.pem", &identity.cert), file(folder, "me.key", &identity.key));
    trust(ca, &format!(", cert: {}, key: {}", cert.display(), key.display()))
}

#[tokio::test]
async fn a_target_may_ask_who_the_gateway_is() {
    let (origin, authority, folder) = (Origin::start().await, Authority::new(), tempfile::tempdir().unwrap());
    let clients = Authority::new();
    let ca = file(&folder, "ca.pem", &authority.pem());
    let door = Door::tls(origin.address(), authority.issue(&["127.0.0.1"]).server(Some(&clients), &[])).await;
    let gateway = Gateway::start(config(&door.url("127.0.0.1"), &trust(&ca, ""))).await;
    // TLS 1.3 says so after the handshake: sometimes when the connection is used, sometimes before.
    assert!(matches!(gateway.client.get("/echo").await.status, 502 | 503));
    assert_eq!(origin.count(), 0);
    let pool = with_identity(&folder, &ca, &clients.issue(&["gateway"]));
    assert_eq!(gateway.reload(&table::table(&[&door.url("127.0.0.1")], &pool, ECHO)).await, Reloaded::Published);
    gateway.client.get("/echo").await.expect(200);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_reload_takes_changed_files_and_keeps_no_connection_of_the_old_trust() {
    let (origin, old, folder) = (Origin::start().await, Authority::new(), tempfile::tempdir().unwrap());
    let ca = file(&folder, "ca.pem", &old.pem());
    let door = Door::tls(origin.address(), old.issue(&["127.0.0.1"]).server(None, &[])).await;
    let text = table::table(&[&door.url("127.0.0.1")], &trust(&ca, ""), ECHO);
    let gateway = Gateway::start(GatewayConfig::table(&text)).await;
    gateway.client.get("/echo").await.expect(200);

    file(&folder, "ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_eq!(gateway.reload(&text).await, Reloaded::Refused);
    gateway.client.get("/echo").await.expect(200);
    assert!(gateway.said().contains("pools.echo.tls.ca"), "{}", gateway.said());

    file(&folder, "ca.pem", &Authority::new().pem());
    assert_eq!(gateway.reload(&text).await, Reloaded::Published, "the text is the same, the file is not");
    cannot_connect(&gateway).await; // over the kept connection it would have worked
    file(&folder, "ca.pem", &old.pem());
    assert_eq!(gateway.reload(&text).await, Reloaded::Published);
    gateway.client.get("/echo").await.expect(200);
}

#[tokio::test]
async fn files_that_are_no_good_end_the_start_with_their_key() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let (one, two) = (authority.issue(&["a"]), authority.issue(&["b"]));
    let ca = file(&folder, "ca.pem", &authority.pem());
    let (cert, key) = (file(&folder, "a.pem", &one.cert), file(&folder, "b.key", &two.key));
    let missing = folder.path().join("missing.pem");
    for (tls, expected) in [
        (format!("{{ ca: {} }}", missing.display()), "pools.echo.tls.ca"),
        (format!("{{ ca: {} }}", key.display()), "pools.echo.tls.ca"),
        (format!("{{ cert: {}, key: {} }}", cert.display(), key.display()), "pools.echo.tls.key"),
        (format!("{{ cert: {}, key: {} }}", cert.display(), ca.display()), "pools.echo.tls.key"),
    ] {
        let config = config("https://a", &format!("    tls: {tls}"));
        let output = run_to_end(&["check", "routes.yaml"], &config);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success() && said.contains(expected), "{tls}: {said}");
        let secret = two.key.lines().nth(1).expect("a line of the key");
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn a_target_on_a_unix_socket_is_proxied_probed_and_its_connections_are_kept() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("app.sock");
    let pool = "    health: { path: /health, every: 50ms, timeout: 2s, rise: 1, fall: 1 }";
    let door = Door::unix(&path, origin.address());
    let gateway = Gateway::start(config(&format!("unix:{}", path.display()), pool)).await;
    let probes = origin.probes();
    assert!(probes > 0);
    let before = origin.connections() - origin.probes();
    for _ in 0..3 {
        gateway.client.get("/echo/x").await.expect(200);
    }
    assert_eq!(origin.last().header("host"), Some("localhost"));
    until("more probes", PATIENCE, || async { (origin.probes() > probes).then_some(()) }).await;
    assert!(origin.connections() - origin.probes() <= before + 2, "a connection per request");
    drop(door);
    until("unhealthy", PATIENCE, || async { (gateway.client.get("/echo").await.status == 503).then_some(()) }).await;
    std::fs::remove_file(&path).unwrap();
    let _door = Door::unix(&path, origin.address());
    until("healthy again", PATIENCE, || async { (gateway.client.get("/echo").await.status == 200).then_some(()) })
        .await;
    let page = gateway.client.get(&format!("{P}/health")).await.text();
    assert!(!page.contains("app.sock"), "{page}");
}

#[tokio::test]
async fn a_connection_is_probe_enough_where_tcp_is_asked_for_and_statuses_may_be_chosen() {
    let origin = Origin::start().await;
    origin.set_healthy(false);
    for (health, probed) in [("tcp: true", false), ("path: /health, statuses: [\"200-299\", 500]", true)] {
        let pool = format!("    health: {{ {health}, every: 50ms, fall: 1 }}");
        let gateway = Gateway::start(config(&origin.url(), &pool)).await;
        gateway.client.get("/echo").await.expect(200);
        assert_eq!(origin.probes() > 0, probed, "{health}");
    }
    let port = origin.kill().await;
    let pool = "    health: { tcp: true, every: 50ms, rise: 1, fall: 1 }";
    let gateway = Gateway::start(config(&format!("http://127.0.0.1:{port}"), pool)).await;
    cannot_connect(&gateway).await;
    assert_eq!(gateway.metric(ATTEMPTS, &[]).await, None, "nobody was to be tried");
    let _origin = Origin::start_at(port).await;
    until("healthy", PATIENCE, || async { (gateway.client.get("/echo").await.status == 200).then_some(()) }).await;
}

#[tokio::test]
async fn http2_targets_share_connections_by_prior_knowledge_and_by_alpn() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let ca = file(&folder, "ca.pem", &authority.pem());
    let origin = H2Origin::start().await;
    let door = Door::tls(origin.address, authority.issue(&["127.0.0.1"]).server(None, &[b"h2"])).await;
    let health = "    http2: true\n    health: { path: /health, every: 60s, timeout: 5s }";
    for (target, scheme, pool) in [
        (origin.url(), "http", health.to_owned()),
        (door.url("127.0.0.1"), "https", format!("{health}\n{}", trust(&ca, ""))),
    ] {
        let before = origin.connections();
        let gateway = Gateway::start(config(&target, &pool)).await;
        for _ in 0..3 {
            gateway.client.get("/echo/x").await.expect(200);
        }
        let sent = "x".repeat(200_000);
        let got =
            crate::harness::send(gateway.client.request("POST", "/echo/body").body(sent.clone())).await.expect(200);
        assert_eq!(got.text(), sent);
        let asked = origin.asked("/echo/body").pop().unwrap();
        assert!(asked.uri.starts_with(&target.replace("https", scheme)), "{} {target}", asked.uri);
        assert_eq!((asked.method.as_str(), asked.body.len()), ("POST", sent.len()));
        assert!(asked.headers.contains_key("x-forwarded-host") && !asked.headers.contains_key("host"));
        assert_eq!(origin.connections() - before, 2, "one for the probe, one for the requests");
        assert!(!origin.asked("/health").is_empty());
    }
}

#[tokio::test]
async fn streams_that_an_http2_target_breaks_and_connections_that_it_ends_cost_one_request_at_most() {
    let origin = H2Origin::start().await;
    let route = "  - { name: all, match: { prefix: /, methods: [GET] }, to: { pool: echo }, auth: public }";
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&origin.url()], "    http2: true", route))).await;
    gateway.client.get("/one").await.expect(200);
    assert_eq!(gateway.client.get("/reset").await.refusal(), (502, "BAD_GATEWAY".to_owned()));
    gateway.client.get("/two").await.expect(200);
    assert_eq!(origin.connections(), 1, "a stream is not a connection");
    gateway.client.get("/goaway").await.expect(200);
    until("a new connection", PATIENCE, || async {
        (gateway.client.get("/three").await.status == 200 && origin.connections() == 2).then_some(())
    })
    .await;
}

/// `REFUSED_STREAM` says that nothing was done (RFC 9113 §8.7); but of a long body only the rest is there to be sent.
#[tokio::test]
async fn a_stream_that_is_refused_in_the_middle_of_a_body_never_becomes_half_a_request() {
    let origin = H2Origin::start().await;
    let route = "  - { name: all, match: { prefix: /, methods: [POST] }, to: { pool: echo }, auth: public }";
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&origin.url()], "    http2: true", route))).await;
    let mut raw = gateway.raw().await;
    raw.send(b"POST /refuse-late HTTP/1.1\r\nHost: g\r\nContent-Length: 400000\r\n\r\n").await;
    raw.send(&[b'x'; 200_000]).await;
    let answer = raw.response().await.expect("an answer");
    assert_eq!(answer.status(), 502, "{}", answer.body.text());
    assert!(origin.asked("/refuse-late").is_empty(), "a part was taken for the whole");
}
