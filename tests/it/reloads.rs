//! What a reload keeps, and that it leaves nothing behind.

use serde_json::json;

use crate::harness::client::RawClient;
use crate::harness::{Answer, Gateway, GatewayConfig, Hold, Origin, PATIENCE, Reloaded, until};
use crate::websocket::Echo;

/// A tunnel that has carried something.
async fn tunnel(gateway: &Gateway) -> RawClient {
    let mut raw = gateway.raw().await;
    let head = "GET /tunnel HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    raw.send(head.as_bytes()).await;
    let answer = raw.response().await.expect("an answer");
    assert_eq!(answer.status(), 101, "{}", answer.body.text());
    assert!(says(&mut raw, b"hello").await);
    raw
}

async fn says(raw: &mut RawClient, words: &[u8]) -> bool {
    raw.send(words).await && raw.take(words.len()).await.as_deref() == Some(words)
}

const TUNNELS: usize = 50;

/// Everything that has a memory, each in a pool of its own: with two targets, so that half of them can be out.
struct World {
    healthy: Origin,
    sick: Origin,
    fine: Origin,
    failing: Origin,
    turns: [Origin; 3],
    held: Origin,
    echo: Echo,
}

impl World {
    async fn start() -> World {
        World {
            healthy: Origin::start().await,
            sick: Origin::start().await,
            fine: Origin::start().await,
            failing: Origin::start().await,
            turns: [Origin::start().await, Origin::start().await, Origin::start().await],
            held: Origin::start().await,
            echo: Echo::start().await,
        }
    }

    /// The table; `turned`: with targets, routes and keys in the reverse order. `more`: a route that has nothing to do
    /// with the others.
    fn table(&self, turned: bool, more: &str, timeout: u32) -> String {
        let list = |mut targets: Vec<String>| {
            if turned {
                targets.reverse();
            }
            targets.join(", ")
        };
        let origins = |all: &[&Origin]| list(all.iter().map(|origin| format!("{:?}", origin.url())).collect());
        let all: Vec<&Origin> = self.turns.iter().collect();
        let mut pools = [
            format!(
                "  checked: {{ targets: [{}], health: {{ path: /health, every: 300ms, timeout: {timeout}s, rise: 1, fall: 1 }} }}",
                origins(&[&self.healthy, &self.sick])
            ),
            format!(
                "  broken: {{ targets: [{}], breaker: {{ failures: 2, open_for: 5m }}, timeouts: {{ read: {timeout}s }} }}",
                origins(&[&self.fine, &self.failing])
            ),
            format!("  turns: {{ targets: [{}], timeouts: {{ read: {timeout}s }} }}", origins(&all)),
            format!("  held: {{ targets: [{:?}], timeouts: {{ read: {timeout}s }} }}", self.held.url()),
            format!("  echo: {{ targets: [\"http://{}\"], timeouts: {{ read: {timeout}s }} }}", self.echo.address),
        ];
        let mut routes = vec![
            "  - { name: metrics, match: { path: /api/gateway/metrics, methods: [GET] }, to: { builtin: metrics }, auth: public }".to_owned(),
        ];
        for (name, pool, limit) in [
            ("checked", "checked", ""),
            ("broken", "broken", ""),
            ("turns", "turns", ""),
            ("held", "held", ""),
            ("tunnel", "echo", ""),
            ("limited", "held", ", limits: [few]"),
        ] {
            routes.push(format!("  - {{ name: {name}, match: {{ path: /{name}, methods: [GET] }}, to: {{ pool: {pool} }}, auth: public{limit} }}"));
        }
        if turned {
            pools.reverse();
            routes.reverse();
        }
        format!(
            "version: 1\npools:\n{}\nlimits:\n  few: {{ by: address, rate: 4/h, burst: 0 }}\nroutes:\n{}\n{more}\n",
            pools.join("\n"),
            routes.join("\n")
        )
    }

    fn counts(&self) -> Vec<usize> {
        self.turns.iter().map(Origin::count).collect()
    }
}

const MORE: &str = "  - { name: more, match: { path: /more, methods: [GET] }, to: { pool: held }, auth: public }";

#[tokio::test]
async fn what_has_a_memory_keeps_it_over_reloads_of_every_kind() {
    let world = World::start().await;
    let gateway = Gateway::start(GatewayConfig::table(&world.table(false, "", 30))).await;

    world.sick.set_healthy(false);
    until("the sick target to be out", PATIENCE, || async {
        (gateway.metric("gateway_target_healthy", &[("pool", "checked")]).await == Some(1.0)).then_some(())
    })
    .await;
    let sick = world.sick.count();

    world.failing.on("/broken", Answer::bare(500));
    until("an open circuit", PATIENCE, || async {
        gateway.client.get("/broken").await;
        (gateway.metric("gateway_circuit_state", &[("pool", "broken")]).await == Some(2.0)).then_some(())
    })
    .await;
    let failing = world.failing.count();

    for _ in 0..2 {
        gateway.client.get("/limited").await.expect(200);
    }
    let hold = Hold::new();
    world.held.on("/held", Answer::json(200, json!({"late": true})).held(&hold));
    let before = world.held.count();
    let client = gateway.client.clone();
    let asked = tokio::spawn(async move { client.get("/held").await });
    world.held.wait_count(before + 1).await;
    let mut kept = gateway.raw().await;
    let mut tunnels = Vec::new();
    for _ in 0..TUNNELS {
        tunnels.push(tunnel(&gateway).await);
    }

    // Unrelated; every pool anew; everything in another order; and the first again.
    let tables = [
        world.table(false, MORE, 30),
        world.table(false, "", 29),
        world.table(true, MORE, 28),
        world.table(false, "", 30),
    ];
    for round in 0..9 {
        assert_eq!(gateway.reload(&tables[round % tables.len()]).await, Reloaded::Published);
        for _ in 0..2 {
            gateway.client.get("/checked").await.expect(200);
            gateway.client.get("/broken").await.expect(200);
        }
        // One request per reload: a position that began anew would favour one target.
        kept.send(b"GET /turns HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!(kept.response().await.expect("an answer on the same connection").status(), 200);
        for tunnel in &mut tunnels {
            assert!(says(tunnel, format!("round {round}").as_bytes()).await, "a tunnel ended in round {round}");
        }
    }
    assert_eq!(world.sick.count(), sick, "a reload forgot a verdict");
    assert_eq!(world.failing.count(), failing, "a reload forgot an open circuit");
    assert_eq!(world.counts(), [3, 3, 3], "a reload forgot whose turn it is");
    for status in [200, 200, 429] {
        gateway.client.get("/limited").await.expect(status);
    }
    hold.release();
    asked.await.expect("the request in flight").expect(200);
}

#[tokio::test]
async fn a_new_target_is_checked_before_it_gets_requests_and_a_removed_one_finishes() {
    let (old, new) = (Origin::start().await, Origin::start().await);
    let hold = Hold::new();
    old.on("/slow", Answer::json(200, json!({"late": true})).held(&hold));
    new.set_healthy(false);
    let table = |origins: &[&Origin]| {
        let urls: Vec<String> = origins.iter().map(|origin| format!("{:?}", origin.url())).collect();
        format!(
            "version: 1\npools:\n  p: {{ targets: [{}], health: {{ path: /health, every: 300ms, timeout: 2s, rise: 1, fall: 1 }}, panic: fail_fast }}\nroutes:
  - {{ name: metrics, match: {{ path: /api/gateway/metrics, methods: [GET] }}, to: {{ builtin: metrics }}, auth: public }}
  - {{ name: p, match: {{ prefix: /, methods: [GET] }}, to: {{ pool: p }}, auth: public }}\n",
            urls.join(", ")
        )
    };
    // Pools that know `panic` may send requests anywhere when too few targets are left; this one may not.
    let known =
        |table: String| if crate::reloads::knows_panic() { table } else { table.replace(", panic: fail_fast", "") };
    let gateway = Gateway::start(GatewayConfig::table(&known(table(&[&old])))).await;
    let client = gateway.client.clone();
    let asked = tokio::spawn(async move { client.get("/slow").await });
    old.wait_count(1).await;
    assert_eq!(gateway.reload(&known(table(&[&old, &new]))).await, Reloaded::Published);
    for _ in 0..20 {
        gateway.client.get("/x").await.expect(200);
    }
    assert_eq!(new.count(), 0, "it has not passed a check");
    new.set_healthy(true);
    until("the new target to join", PATIENCE, || async {
        gateway.client.get("/x").await.expect(200);
        (new.count() > 0).then_some(())
    })
    .await;
    assert_eq!(gateway.reload(&known(table(&[&new]))).await, Reloaded::Published);
    let served = old.count();
    for _ in 0..5 {
        gateway.client.get("/x").await.expect(200);
    }
    assert_eq!(old.count(), served, "it is no target any more");
    hold.release();
    asked.await.expect("the removed target's last request").expect(200);
}

/// Whether this version has the key `panic` of a pool.
fn knows_panic() -> bool {
    include_str!("../../conf/routes.schema.json").contains("fail_fast")
}

#[tokio::test]
async fn no_request_ever_meets_half_a_table() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    // Route and pool change together: a mixture would send /a to the pool of the other table.
    let table = |path: &str, origin: &Origin| {
        format!(
            "version: 1\npools:\n  p: {{ targets: [{:?}] }}\nroutes:
  - {{ name: metrics, match: {{ path: /api/gateway/metrics, methods: [GET] }}, to: {{ builtin: metrics }}, auth: public }}
  - {{ name: p, match: {{ path: /x, methods: [GET] }}, to: {{ pool: p, path: {path} }}, auth: public }}\n",
            origin.url()
        )
    };
    let tables = [table("/one", &one), table("/two", &two)];
    let gateway = Gateway::start(GatewayConfig::table(&tables[0])).await;
    for round in 1..60 {
        gateway.write_routes(&tables[round % 2]);
        gateway.signal("HUP");
        for _ in 0..5 {
            gateway.client.get("/x").await.expect(200);
        }
    }
    assert!(one.received().iter().all(|request| request.path() == "/one") && one.count() > 0);
    assert!(two.received().iter().all(|request| request.path() == "/two") && two.count() > 0);
}

#[tokio::test]
async fn a_storm_of_signals_becomes_few_reloads_and_the_last_table_wins() {
    let world = World::start().await;
    let gateway = Gateway::start(GatewayConfig::table(&world.table(false, "", 30))).await;
    let first = gateway.metric("gateway_config_generation", &[]).await.unwrap();
    let pid = gateway.pid();
    for round in 0..20 {
        gateway.write_routes(&world.table(round % 2 == 0, "", 10 + round));
        let storm = format!("for i in 1 2 3 4 5 6 7 8 9 10; do kill -HUP {pid}; done");
        assert!(std::process::Command::new("sh").args(["-c", &storm]).status().unwrap().success());
    }
    gateway.write_routes(&world.table(false, MORE, 30));
    gateway.signal("HUP");
    until("the last table", PATIENCE, || async { (gateway.client.get("/more").await.status == 200).then_some(()) })
        .await;
    let reloads = gateway.metric("gateway_config_generation", &[]).await.unwrap() - first;
    assert!((1.0..=21.0).contains(&reloads), "{reloads} reloads of 21 tables");
}

#[tokio::test]
async fn a_changed_setting_is_named_and_a_bad_settings_file_too() {
    let world = World::start().await;
    let gateway = Gateway::start(GatewayConfig::table(&world.table(false, "", 30))).await;
    let settings: serde_json::Value = serde_json::from_str(&gateway.read_file("gateway.yaml")).unwrap();
    gateway.signal("HUP");
    gateway.wait_said("routes unchanged").await;
    assert!(!gateway.said().contains("needs a restart"), "{}", gateway.said());
    let mut other = settings.clone();
    other["drain"] = json!({ "grace": "7s" });
    other["listen"]["max_connections"] = json!(77);
    gateway.write_file("gateway.yaml", &other.to_string());
    gateway.signal("HUP");
    for setting in ["drain.grace", "listen.max_connections"] {
        until(setting, PATIENCE, || async {
            let named =
                |line: &str| line.contains("needs a restart") && line.contains(setting) && line.contains("WARN");
            gateway.said().lines().any(named).then_some(())
        })
        .await;
    }
    assert!(!gateway.said().contains("listen.port"), "it has not changed");
    gateway.write_file("gateway.yaml", "listen: { prot: 1 }");
    gateway.signal("HUP");
    gateway.wait_said("the next start would be refused").await;
    gateway.client.get("/turns").await.expect(200);
}

/// Reloads, and those after which nothing is to grow any more.
const RELOADS: usize = 1_000;
const WARM: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_leave_nothing_behind() {
    let world = World::start().await;
    let tables: Vec<String> = (0..4).map(|n| world.table(n % 2 == 1, if n < 2 { MORE } else { "" }, 20 + n)).collect();
    let gateway = Gateway::start(GatewayConfig::table(&tables[0])).await;
    let first = gateway.metric("gateway_config_generation", &[]).await.unwrap();
    let measure = || (gateway.threads(), gateway.descriptors(), gateway.rss() >> 20);
    let mut warm = measure();
    for round in 1..=RELOADS {
        gateway.write_routes(&tables[round % tables.len()]);
        gateway.signal("HUP");
        gateway.client.get("/turns").await.expect(200);
        until("the next generation", PATIENCE, || async {
            (gateway.metric("gateway_config_generation", &[]).await >= Some(first + round as f64)).then_some(())
        })
        .await;
        if round == WARM {
            warm = measure();
        }
    }
    let after = measure();
    println!("threads, descriptors, RSS (MiB): {warm:?} after {WARM} reloads, {after:?} after {RELOADS}");
    assert!(after.0 <= warm.0 + 4, "threads: {} and {}", warm.0, after.0);
    assert!(after.1 <= warm.1 + 20, "file descriptors: {} and {}", warm.1, after.1);
    assert!(after.2 <= warm.2 + 32, "RSS: {} and {} MiB", warm.2, after.2);
    // Checks that a reload had left running would still be seen here: two targets, every 300 ms.
    let before = world.healthy.probes() + world.sick.probes();
    until("three more checks", PATIENCE, || async {
        (world.healthy.probes() + world.sick.probes() >= before + 6).then_some(())
    })
    .await;
    let seen = world.healthy.probes() + world.sick.probes() - before;
    assert!(seen < 50, "{seen} checks where a handful is due");
}
