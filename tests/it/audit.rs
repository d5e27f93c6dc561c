//! The audit trail: what is recorded, what tampering does to it, and that nothing is lost on the way.

use std::fs;
use std::path::Path;
use std::process::Output;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::gateway::{Folder, PASSWORD, run_in};
use crate::harness::{Gateway, GatewayConfig, Origin, PATIENCE, Reloaded, send, table, until};

const ADMINS: &str =
    "  - { name: admins, match: { path: /admins, methods: [GET] }, to: { pool: echo }, auth: { roles: [admin] } }";
const LOGOUT: &str =
    "  - { name: logout, match: { path: /api/gateway/auth/logout, methods: [POST] }, to: { builtin: auth_logout } }";

fn routes(origin: &Origin) -> String {
    table::table(&[&origin.url()], "", &format!("{ADMINS}\n{LOGOUT}"))
}

async fn gateway() -> (Origin, GatewayConfig, Gateway) {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&routes(&origin));
    let gateway = Gateway::start(config.clone()).await;
    (origin, config, gateway)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// All records of the store, as `audit tail --json` prints them.
fn records(gateway: &Gateway) -> Vec<Value> {
    let output = gateway.run_verb(&["audit", "tail", "-n", "100000", "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Waits for a record that `matches`; the writer is behind the answer by a moment.
async fn record(gateway: &Gateway, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
    until(what, PATIENCE, || async { records(gateway).into_iter().find(&matches) }).await
}

fn verify(gateway: &Gateway) -> String {
    let output = gateway.run_verb(&["audit", "verify"]);
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

fn named<'r>(records: &'r [Value], event: &str) -> Vec<&'r Value> {
    records.iter().filter(|record| record["event"] == event).collect()
}

#[tokio::test]
async fn who_did_what_is_in_the_trail_and_in_the_lines() {
    let (origin, _config, gateway) = gateway().await;
    let user = gateway.fresh_user("candidat").await;
    let login = json!({"email": user.email, "password": "wrong wrong wrong"});
    let path = "/api/gateway/auth/login";
    send(gateway.client.request("POST", path).header("x-request-id", "bad-login-1").json(&login)).await.expect(401);
    send(gateway.client.as_user(&user, "GET", "/admins").header("x-request-id", "no-admin-1")).await.expect(403);
    gateway.client.logout(&user).await.expect(200);
    send(gateway.client.as_user(&user, "GET", "/admins")).await.expect(401);
    gateway.client.get("/admins").await.expect(401);
    send(gateway.client.request("GET", "/admins").header("authorization", "Bearer a.b.c")).await.expect(401);
    assert!(gateway.users_add("root@example.com", "admin", PASSWORD).status.success());
    assert_eq!(gateway.reload("version: 1\nroutes: [").await, Reloaded::Refused);
    assert_eq!(gateway.reload(&format!("{}\n{}", routes(&origin), table::ECHO)).await, Reloaded::Published);
    record(&gateway, "the reload", |record| record["details"] == "generation 2 is in force").await;

    let all = records(&gateway);
    let (actor, sid) =
        (json!(format!("user:{}", user.id)), crate::harness::tokens::claims(&user.access)["sid"].clone());
    let session = json!(format!("session:{}", sid.as_str().unwrap()));
    assert_eq!(named(&all, "sys_startup").len(), 1);
    assert_eq!(named(&all, "user_created")[0]["subject"], actor);
    let failed = named(&all, "authn_login_fail")[0];
    assert_eq!((&failed["subject"], failed.get("actor"), &failed["request_id"]), (&actor, None, &json!("bad-login-1")));
    assert_eq!(failed["address"], "127.0.0.1");
    let denied = named(&all, "authz_fail");
    assert_eq!(denied.len(), 2, "missing and bad tokens are not recorded: {denied:?}");
    assert_eq!((&denied[0]["actor"], &denied[0]["request_id"]), (&actor, &json!("no-admin-1")));
    assert_eq!(denied[0]["details"], "FORBIDDEN_ROLE on route admins");
    assert_eq!((denied[1].get("actor"), &denied[1]["details"]), (None, &json!("TOKEN_REVOKED on route admins")));
    let ended = named(&all, "authn_token_revoked")[0];
    assert_eq!((&ended["actor"], &ended["subject"]), (&actor, &session));
    assert!(named(&all, "user_created").iter().any(|record| record["actor"] == "command_line"), "{all:?}");
    let reloads = named(&all, "config_reload");
    assert!(reloads.len() == 2 && reloads[0]["details"].as_str().unwrap().starts_with("refused, generation 1 stays"));
    assert!(all.iter().map(|record| record["seq"].as_u64().unwrap()).eq(1..=all.len() as u64), "{all:?}");

    // The lines are those of the store, but for what another process did.
    let lines = || gateway.written().lines().filter(|line| line.starts_with("{\"seq\":")).count();
    until("the lines", PATIENCE, || async { (lines() == all.len() - 1).then_some(()) }).await;
    let kept = gateway.data_dir().join("elsewhere.log");
    fs::write(&kept, gateway.written()).unwrap();
    let output = gateway.run_verb(&["audit", "verify", "--lines", kept.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains(&format!("ok: {} records, 1 to {}", all.len(), all.len())), "{said}");
    assert!(said.contains(&format!("ok: {} lines", all.len() - 1)), "{said}");
    assert_eq!(gateway.metric("gateway_audit_records_total", &[]).await, Some(all.len() as f64 - 1.0));
    assert!(!gateway.said().contains("account event"), "the event is told twice");
    let tail = text(&gateway.run_verb(&["audit", "tail", "-n", "1"]));
    assert!(tail.contains("config_reload by=command_line details=\"generation 2 is in force\""), "{tail}");
    for secret in [&user.access, &user.refresh, &user.password, &user.email, &gateway.secret] {
        assert!(!format!("{all:?}{}", gateway.written()).contains(secret.as_str()), "{secret} was recorded");
    }
}

/// What somebody with access to the file does, and what `audit verify` says of it.
const TAMPERING: &[(&str, &str, &str)] = &[
    ("UPDATE audit SET entry = replace(entry, 'user_created', 'user_deleted') WHERE seq = 4", "record 4", "changed"),
    ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 6", "record 6", "changed"),
    ("UPDATE audit SET at_ms = at_ms + 1 WHERE seq = 5", "record 5", "time"),
    ("DELETE FROM audit WHERE seq = 3", "record 3", "missing"),
    ("DELETE FROM audit WHERE seq = 1", "record 1", "missing"),
    ("DELETE FROM audit WHERE seq >= 8", "record 8", "missing"),
    (
        "UPDATE audit SET seq = 100 WHERE seq = 4; UPDATE audit SET seq = 4 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = 100",
        "record 4",
        "changed",
    ),
    ("DELETE FROM audit", "record 1", "missing"),
    (
        "UPDATE audit_head SET last_seq = 7, last_hash = (SELECT hash FROM audit WHERE seq = 7)",
        "record 8",
        "behind the head",
    ),
    (
        "UPDATE audit_head SET anchor_seq = 2, anchor_hash = (SELECT hash FROM audit WHERE seq = 2)",
        "record 1",
        "before the anchor",
    ),
];

#[tokio::test]
async fn tampering_is_found_and_its_record_is_named() {
    let (_origin, config, mut gateway) = gateway().await;
    let (nobody, anna) = ("nobody@example.com", "anna@example.com");
    for _ in 0..2 {
        gateway.client.login(nobody, PASSWORD).await.expect(401);
    }
    assert!(gateway.users_add(anna, "recruteur", PASSWORD).status.success());
    for _ in 0..2 {
        gateway.client.login(anna, PASSWORD).await.expect(200); // two records
    }
    gateway.terminate().await;
    let all = records(&gateway);
    assert_eq!((all.len(), &all[8]["event"]), (9, &json!("sys_shutdown")), "{all:?}");
    verify(&gateway);
    let store = gateway.data_dir().join("identity.db");
    let checkpoint = Connection::open(&store).unwrap();
    checkpoint.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(checkpoint);
    for (sql, record, words) in TAMPERING {
        let (found, said) = verify_after(&store, sql, &config, None);
        assert!(found == Some(1) && said.contains(record) && said.contains(words), "{sql}: {found:?} {said}");
    }
    assert_eq!(verify_after(&store, "VACUUM", &config, None).0, Some(0));

    // A tail cut together with the head is a shorter chain without fault; lines kept elsewhere tell.
    let cut = "DELETE FROM audit WHERE seq > 5; UPDATE audit_head SET last_seq = 5, last_hash = (SELECT hash FROM audit WHERE seq = 5)";
    assert_eq!(verify_after(&store, cut, &config, None).0, Some(0));
    let (found, said) = verify_after(&store, cut, &config, Some(&gateway.written()));
    assert!(found == Some(1) && said.contains("record 6"), "{said}");
    assert_eq!(verify_after(&store, "VACUUM", &config, Some(&gateway.written())).0, Some(0));
}

/// Exit code and words of `audit verify` on a copy of the store that `sql` changed.
fn verify_after(store: &Path, sql: &str, config: &GatewayConfig, lines: Option<&str>) -> (Option<i32>, String) {
    let folder = Folder::new(config);
    fs::create_dir(folder.path("data")).unwrap();
    let copy = folder.path("data").join("identity.db");
    fs::copy(store, &copy).unwrap();
    Connection::open(&copy).unwrap().execute_batch(sql).unwrap();
    let mut verb = vec!["audit", "verify", "--data-dir", "data"];
    if let Some(lines) = lines {
        fs::write(folder.path("lines"), lines).unwrap();
        verb.extend(["--lines", "lines"]);
    }
    let output = run_in(&folder, &verb, config);
    (output.status.code(), text(&output))
}

#[tokio::test]
async fn a_drain_keeps_every_record() {
    let (_origin, _config, mut gateway) = gateway().await;
    let user = gateway.fresh_user("candidat").await;
    for _ in 0..5 {
        gateway.client.login(&user.email, PASSWORD).await.expect(200);
    }
    gateway.signal("TERM");
    assert!(gateway.exit().await.success());
    let all = records(&gateway);
    assert_eq!((named(&all, "authn_login_success").len(), named(&all, "authn_token_created").len()), (5, 6), "{all:?}");
    assert_eq!(all.last().unwrap()["event"], "sys_shutdown");
    verify(&gateway);
}

/// The store does not take records, and the process is killed: what was told is on disk, and is in the store after
/// the next start, once and in order.
#[tokio::test]
async fn a_killed_gateway_loses_nothing_that_waits_for_the_store() {
    let (_origin, config, gateway) = gateway().await;
    record(&gateway, "the start", |record| record["event"] == "sys_startup").await;
    let lock = Connection::open(gateway.data_dir().join("identity.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    // A failed log-in only reads, so it is answered as ever.
    for id in ["spooled-1", "spooled-2", "spooled-3"] {
        let login = json!({"email": "nobody@example.com", "password": PASSWORD});
        let login = gateway.client.request("POST", "/api/gateway/auth/login").header("x-request-id", id).json(&login);
        send(login).await.expect(401);
    }
    until("the spool", PATIENCE, || async {
        (gateway.metric("gateway_audit_spooled", &[]).await == Some(3.0)).then_some(())
    })
    .await;
    gateway.signal("KILL");
    let spool = gateway.data_dir().join("audit.spool");
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    assert_eq!(fs::read_to_string(&spool).unwrap().lines().count(), 3);
    let mut torn = fs::read(&spool).unwrap();
    torn.extend_from_slice(b"{\"event\":\"authn_lo");
    fs::write(&spool, torn).unwrap();

    let gateway = gateway.restart_after("KILL", &config).await;
    until("an empty spool", PATIENCE, || async {
        (gateway.metric("gateway_audit_spooled", &[]).await == Some(0.0)).then_some(())
    })
    .await;
    record(&gateway, "the second start", |record| record["seq"] == 5).await;
    let all = records(&gateway);
    let ids: Vec<_> = all.iter().filter_map(|record| record["request_id"].as_str()).collect();
    assert_eq!(ids, ["spooled-1", "spooled-2", "spooled-3"]);
    assert_eq!((all.len(), named(&all, "sys_startup").len()), (5, 2), "{all:?}");
    assert_eq!(fs::metadata(&spool).unwrap().len(), 0);
    gateway.wait_said("were set aside").await;
    assert_eq!(gateway.metric("gateway_audit_dropped_total", &[]).await, Some(1.0));
    verify(&gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_add_at_once_make_one_chain() {
    let (_origin, _config, gateway) = gateway().await;
    assert!(gateway.users_add("anna@example.com", "recruteur", PASSWORD).status.success());
    let add = |number: usize| {
        let add = gateway.users_add(&format!("user{number}@example.com"), "recruteur", PASSWORD);
        assert!(add.status.success(), "{}", text(&add));
    };
    std::thread::scope(|scope| {
        for worker in 0..3 {
            scope.spawn(move || (0..3).for_each(|turn| add(10 * worker + turn)));
        }
        let deadline = PATIENCE;
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for _ in 0..9 {
                    let got = tokio::time::timeout(deadline, gateway.client.login("anna@example.com", PASSWORD)).await;
                    got.unwrap().expect(200);
                }
            });
        });
    });
    until("all records", PATIENCE, || async { (records(&gateway).len() == 29).then_some(()) }).await;
    let all = records(&gateway);
    assert_eq!((named(&all, "user_created").len(), named(&all, "authn_login_success").len()), (10, 9), "{all:?}");
    let said = verify(&gateway);
    assert!(said.contains("ok: 29 records, 1 to 29"), "{said}");
}

#[tokio::test]
async fn the_lines_go_to_a_file_that_can_be_rotated() {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&routes(&origin)).setting("audit", json!({ "lines": "./audit.log" }));
    let mut gateway = Gateway::start(config).await;
    let folder = gateway.data_dir().parent().unwrap().to_owned();
    let (file, moved) = (folder.join("audit.log"), folder.join("audit.log.1"));
    let count = |path: &Path| fs::read_to_string(path).map_or(0, |text| text.lines().count());
    until("the first line", PATIENCE, || async { (count(&file) == 1).then_some(()) }).await;
    fs::rename(&file, &moved).unwrap();
    gateway.signal("HUP");
    until("a new file", PATIENCE, || async { file.exists().then_some(()) }).await;
    gateway.client.login("nobody@example.com", PASSWORD).await.expect(401);
    until("the second line", PATIENCE, || async { (count(&file) == 1).then_some(()) }).await;
    gateway.terminate().await;
    assert_eq!((count(&moved), count(&file)), (1, 2));
    for path in [&moved, &file] {
        let output = gateway.run_verb(&["audit", "verify", "--lines", path.to_str().unwrap()]);
        assert!(output.status.success(), "{}", text(&output));
        let forged = fs::read_to_string(path).unwrap().replacen("\"seq\":", "\"seq\": ", 1);
        fs::write(path, forged).unwrap();
        let output = gateway.run_verb(&["audit", "verify", "--lines", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    }
    assert!(!gateway.written().contains("\"seq\":"), "the lines are in the file");
}

#[tokio::test]
async fn a_folder_without_a_store_is_no_empty_trail() {
    let origin = Origin::start().await;
    let config = GatewayConfig::table(&routes(&origin));
    let folder = Folder::new(&config);
    for verb in ["tail", "verify"] {
        let output = run_in(&folder, &["audit", verb, "--data-dir", "elsewhere"], &config);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("no identity store at elsewhere"), "{}", text(&output));
    }
}
