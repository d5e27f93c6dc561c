//! A new process takes the sockets over from the running one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::client::RawClient;
use crate::harness::gateway::PASSWORD;
use crate::harness::{Beside, Client, Gateway, GatewayConfig, Hold, Origin, PATIENCE, Reloaded, soon, table, until};

fn config(origin: &Origin) -> GatewayConfig {
    let settings = json!({ "delay": "0s", "grace": "20s", "upgrade_wait": "60s" });
    table::unlimited(origin).setting("drain", settings)
}

fn table_with_echo(origin: &Origin) -> GatewayConfig {
    let mut config = config(origin);
    config.routes.push_str(table::ECHO);
    config.routes.push('\n');
    config
}

/// What the clients of a load have seen.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    served: AtomicUsize,
    failed: std::sync::Mutex<Vec<String>>,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    fn note(&self, what: &str, answer: Option<(u16, String)>) {
        match answer {
            Some((200, _)) => drop(self.served.fetch_add(1, Ordering::SeqCst)),
            other => self.failed.lock().unwrap().push(format!("{what}: {other:?}")),
        }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// A client that keeps its connection until the gateway says `close`, or it was unused for longer than clients trust.
async fn keeps(address: SocketAddr, load: Arc<Load>) {
    let mut connection: Option<(RawClient, Instant)> = None;
    while load.goes_on() {
        let trusted = connection.take().filter(|(_, used)| used.elapsed() < Duration::from_millis(500));
        let mut raw = match trusted {
            Some((raw, _)) => raw,
            None => RawClient::connect(address).await,
        };
        raw.send(b"GET /echo HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let answer = raw.response().await;
        let close = answer.as_ref().is_none_or(|answer| answer.head.header("connection") == Some("close"));
        load.note("kept", answer.map(|answer| (answer.status(), answer.body.text())));
        connection = (!close).then(|| (raw, Instant::now()));
    }
}

/// A client that makes a connection for each request, here an upload in pieces.
async fn uploads(address: SocketAddr, load: Arc<Load>) {
    let piece = vec![b'x'; 16 << 10];
    while load.goes_on() {
        let mut raw = RawClient::connect(address).await;
        let head = format!("POST /echo HTTP/1.1\r\nHost: g\r\nContent-Length: {}\r\n\r\n", piece.len() * 8);
        raw.send(head.as_bytes()).await;
        for _ in 0..8 {
            raw.send(&piece).await;
            tokio::task::yield_now().await;
        }
        load.note("upload", raw.response().await.map(|answer| (answer.status(), answer.body.text())));
    }
}

/// A client that logs in, again and again, and uses what it gets.
async fn logs_in(client: Client, email: String, load: Arc<Load>) {
    while load.goes_on() {
        let body = json!({ "email": email, "password": PASSWORD });
        // Connections of their own: what a library's pool keeps is its own affair.
        let request = client.request("POST", "/api/gateway/auth/login").json(&body).header("Connection", "close");
        let Ok(login) = crate::harness::try_send(request).await else {
            load.note("log-in", None);
            continue;
        };
        let (status, text) = (login.status, login.text());
        load.note("log-in", Some((status, text.clone())));
        let token = serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default()["access_token"].clone();
        let bearer = format!("Bearer {}", token.as_str().unwrap_or_default());
        let me = client.request("GET", "/api/gateway/auth/me").header("Authorization", bearer);
        let me = crate::harness::try_send(me.header("Connection", "close")).await.ok();
        load.note("me", me.map(|me| (me.status, me.text())));
    }
}

const UPGRADES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_upgrades_under_load_fail_no_request() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::start(table_with_echo(&origin)).await;
    // Two accounts: one that logs in this often loses its first sessions.
    let (user, quiet) = (gateway.fresh_user("candidat").await, gateway.fresh_user("candidat").await);
    let load = Arc::new(Load::default());
    let mut clients = JoinSet::new();
    for _ in 0..12 {
        clients.spawn(keeps(gateway.address, load.clone()));
    }
    for _ in 0..3 {
        clients.spawn(uploads(gateway.address, load.clone()));
    }
    clients.spawn(logs_in(gateway.client.clone(), user.email.clone(), load.clone()));
    let mut olds: Vec<Beside> = Vec::new();
    for round in 0..UPGRADES {
        olds.push(gateway.upgrade(round % 2 == 0).await);
        let before = load.served();
        until("more answers", PATIENCE, || async { (load.served() > before + 20).then_some(()) }).await;
        assert_eq!(load.failed.lock().unwrap().clone(), Vec::<String>::new(), "after {} upgrades", round + 1);
    }
    load.over.store(true, Ordering::SeqCst);
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client");
    }
    println!("{} requests over {UPGRADES} upgrades", load.served());
    for old in &mut olds {
        assert_eq!(old.exit().await.code(), Some(0), "{}", old.said());
        until("its last words", PATIENCE, || async { old.said().contains("\"requests_cut_off\":0").then_some(()) })
            .await;
    }
    assert_eq!(load.failed.lock().unwrap().clone(), Vec::<String>::new());
    gateway.client.me(&quiet).await.expect(200);
    gateway.admin.get("/readyz").await.expect(200);
    let proved = gateway.run_verb(&["audit", "verify"]);
    assert!(proved.status.success(), "{}", String::from_utf8_lossy(&proved.stderr));
    let trail = gateway.run_verb(&["audit", "tail", "-n", "5000", "--json"]);
    let trail = String::from_utf8_lossy(&trail.stdout).into_owned();
    assert_eq!(trail.matches("\"sys_startup\"").count(), UPGRADES + 1);
    assert_eq!(trail.matches("\"sys_shutdown\"").count(), UPGRADES);
    let left: Vec<String> = std::fs::read_dir(gateway.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".sock") || name.ends_with(".tmp"))
        .collect();
    assert_eq!(left.len(), 2, "the socket of the side-listener and that of the next upgrade: {left:?}");
}

#[tokio::test]
async fn a_request_in_flight_ends_in_the_old_process_and_the_address_stays_ready() {
    let origin = Origin::start().await;
    let hold = Hold::new();
    origin.on("/echo", crate::harness::Answer::json(200, json!({"late": true})).held(&hold));
    let mut gateway = Gateway::start(table_with_echo(&origin)).await;
    let client = gateway.client.clone();
    let asked = tokio::spawn(async move { client.get("/echo").await });
    origin.wait_count(1).await;
    let mut old = gateway.upgrade(true).await;
    old.wait_said("a new process has taken over").await;
    for _ in 0..10 {
        gateway.admin.request("GET", "/readyz").send().await.unwrap().error_for_status().unwrap();
    }
    hold.release();
    assert_eq!(soon("the answer", asked).await.unwrap().expect(200).json(), json!({"late": true}));
    assert_eq!(old.exit().await.code(), Some(0), "{}", old.said());
    gateway.client.get("/echo").await.expect(200);
}

#[tokio::test]
async fn a_new_process_that_cannot_start_leaves_the_old_one_serving() {
    let origin = Origin::start().await;
    let config = table_with_echo(&origin);
    let good = config.routes.clone();
    let mut gateway = Gateway::start(config).await;
    gateway.write_routes("version: 1\nroutes: [");
    gateway.signal("QUIT");
    let mut broken = gateway.beside(&["--upgrade"]);
    assert_eq!(broken.exit().await.code(), Some(1));
    gateway.wait_said("the upgrade failed; this process goes on").await;
    gateway.client.get("/echo").await.expect(200);

    // One that is killed when it is ready but for the sockets.
    gateway.write_routes(&good);
    let mut killed = gateway.beside(&["--upgrade"]);
    killed.wait_said("taking over from the running gateway").await;
    killed.signal("KILL");
    killed.exit().await;
    if !killed.said().contains("gateway is up") {
        gateway.client.get("/echo").await.expect(200);
        assert!(gateway.alive());
        // SIGQUIT still holds: the next one is let in.
        let next = gateway.beside(&["--upgrade"]);
        next.wait_said("gateway is up").await;
        let mut old = gateway.becomes(next);
        assert_eq!(old.exit().await.code(), Some(0), "{}", old.said());
    }
    gateway.client.get("/echo").await.expect(200);
    assert_eq!(gateway.reload(&format!("{good}# more\n")).await, Reloaded::Published);
}

#[tokio::test]
async fn a_new_process_that_is_not_ready_in_time_gives_up() {
    let origin = Origin::start().await;
    origin.on("/silent", crate::harness::Answer::silence());
    let config = table_with_echo(&origin).setting("drain", json!({ "upgrade_wait": "2s" }));
    let good = config.routes.clone();
    let mut gateway = Gateway::start(config).await;
    let slow = "    health: { path: /silent, every: 60s, timeout: 50s }\nroutes:\n";
    gateway.write_routes(&good.replacen("routes:\n", slow, 1));
    gateway.signal("QUIT");
    let mut next = gateway.beside(&["--upgrade"]);
    assert_eq!(next.exit().await.code(), Some(1));
    gateway.wait_said("this one goes on").await;
    gateway.client.get("/echo").await.expect(200);
    assert!(gateway.alive());
}

#[tokio::test]
async fn sigquit_without_a_new_process_changes_nothing() {
    let origin = Origin::start().await;
    let config = table_with_echo(&origin).setting("drain", json!({ "upgrade_wait": "1s" }));
    let mut gateway = Gateway::start(config).await;
    gateway.signal("QUIT");
    gateway.wait_said("no new process was ready in time; this one goes on").await;
    gateway.client.get("/echo").await.expect(200);
    gateway.admin.get("/readyz").await.expect(200);
    // Nor does a new process without SIGQUIT.
    let mut next = gateway.beside(&["--upgrade"]);
    assert_eq!(next.exit().await.code(), Some(1));
    until("why", PATIENCE, || async { next.said().contains("was not sent SIGQUIT within 1 s").then_some(()) }).await;
    gateway.client.get("/echo").await.expect(200);
    assert_eq!(gateway.terminate().await.code(), Some(0));
    assert!(!gateway.data_dir().join("upgrade.sock").exists());
}

#[tokio::test]
async fn what_is_in_the_way_of_an_upgrade_is_named() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::start(table_with_echo(&origin)).await;
    let settings = gateway.read_file("gateway.yaml");
    let other = settings.replace(&format!("\"port\":{}", gateway.address.port()), "\"port\":1");
    assert_ne!(settings, other);
    gateway.write_file("gateway.yaml", &other);
    let mut next = gateway.beside(&["--upgrade"]);
    assert_eq!(next.exit().await.code(), Some(1));
    let words = ["listen is 127.0.0.1:1", &gateway.address.to_string(), "restart instead"];
    until("why", PATIENCE, || async {
        let said = next.said();
        words.iter().all(|word| said.contains(word)).then_some(())
    })
    .await;
    gateway.client.get("/echo").await.expect(200);

    gateway.write_file("gateway.yaml", &settings);
    gateway.terminate().await;
    let mut alone = gateway.beside(&["--upgrade"]);
    assert_eq!(alone.exit().await.code(), Some(1));
    until("why", PATIENCE, || async { alone.said().contains("no gateway runs with the data folder").then_some(()) })
        .await;
    assert!(alone.written().is_empty());
}

#[tokio::test]
async fn the_socket_of_upgrades_is_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let origin = Origin::start().await;
    let gateway = Gateway::start(table_with_echo(&origin)).await;
    let socket = gateway.data_dir().join("upgrade.sock");
    let made = until("the socket", PATIENCE, || async { std::fs::metadata(&socket).ok() }).await;
    let mode = made.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
