//! The choice among targets, as their origins see it.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::client::RawClient;
use crate::harness::{Answer, Gateway, GatewayConfig, Hold, Origin, P, PATIENCE, Reloaded, send, table, until};

async fn origins<const N: usize>() -> [Origin; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Origin::start().await);
    }
    all.try_into().unwrap_or_else(|_| unreachable!())
}

/// A table whose pool has these targets, as written in YAML.
fn over(targets: &[String], pool: &str) -> String {
    table::table(&["TARGETS"], pool, &format!("{}\n{ADMIN}", table::ECHO)).replace("\"TARGETS\"", &targets.join(", "))
}

const ADMIN: &str = "  - { name: detailed, match: { path: /api/gateway/health/detailed/all, methods: [GET] }, to: { builtin: health_detailed }, auth: { roles: [admin] } }";

fn plain(origin: &Origin) -> String {
    format!("{{ url: {:?} }}", origin.url())
}

fn with(origin: &Origin, key: &str) -> String {
    format!("{{ url: {:?}, {key} }}", origin.url())
}

async fn ask(gateway: &Gateway, times: usize) {
    for _ in 0..times {
        gateway.client.get("/echo").await.expect(200);
    }
}

fn counts(origins: &[&Origin]) -> Vec<usize> {
    origins.iter().map(|origin| origin.count()).collect()
}

#[tokio::test]
async fn weights_are_seen_at_the_origins_and_admins_are_told() {
    let [heavy, light] = &origins().await;
    let targets = [with(heavy, "weight: 3"), plain(light)];
    let gateway = Gateway::start(GatewayConfig::table(&over(&targets, ""))).await;
    ask(&gateway, 40).await;
    assert_eq!(counts(&[heavy, light]), [30, 10]);
    // The turn goes on after a reload with another weight: two to one.
    let targets = [with(heavy, "weight: 2"), plain(light)];
    assert_eq!(gateway.reload(&over(&targets, "    timeouts: { read: 9s }")).await, Reloaded::Published);
    ask(&gateway, 30).await;
    assert_eq!(counts(&[heavy, light]), [50, 20]);
    let admin = gateway.user("admin").await;
    let page = gateway.client.get_as(&admin, &format!("{P}/health/detailed/all")).await.expect(200).json();
    let first = &page["services"]["echo"]["targets"][0];
    assert_eq!(
        (first["weight"].as_u64(), first["backup"].as_bool(), first["draining"].as_bool()),
        (Some(2), Some(false), Some(false)),
        "{page}"
    );
}

/// Which origin gets the requests of each tenant; none may get some of another's.
async fn homes(gateway: &Gateway, origins: &[&Origin]) -> BTreeMap<String, usize> {
    let mut homes = BTreeMap::new();
    for tenant in (0..40).map(|n| format!("tenant-{n}")) {
        let before = counts(origins);
        for _ in 0..3 {
            send(gateway.client.request("GET", "/echo").header("X-Tenant", &tenant)).await.expect(200);
        }
        let after = counts(origins);
        let got: Vec<usize> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        let home = got.iter().position(|count| *count == 3);
        homes.insert(tenant, home.unwrap_or_else(|| panic!("spread: {got:?}")));
    }
    homes
}

#[tokio::test]
async fn a_tenant_keeps_its_target_over_reloads_and_restarts() {
    let all: [Origin; 3] = origins().await;
    let all = &all.each_ref();
    let hash = "    balance: { consistent_hash: { header: X-Tenant } }";
    let targets: Vec<String> = all.iter().map(|origin| plain(origin)).collect();
    let config = GatewayConfig::table(&over(&targets, hash));
    let gateway = Gateway::start(config.clone()).await;
    let before = homes(&gateway, all).await;
    assert_eq!(before.values().collect::<BTreeSet<_>>().len(), 3, "all three are used");
    let slower = format!("{hash}\n    timeouts: {{ read: 9s }}");
    assert_eq!(gateway.reload(&over(&targets, &slower)).await, Reloaded::Published);
    assert_eq!(homes(&gateway, all).await, before);

    // Without the last target only its own tenants move.
    assert_eq!(gateway.reload(&over(&targets[..2], hash)).await, Reloaded::Published);
    for (tenant, home) in homes(&gateway, all).await {
        assert!(home == before[&tenant] || before[&tenant] == 2, "{tenant} moved");
    }
    let gateway = gateway.restart(&config).await;
    assert_eq!(homes(&gateway, all).await, before);

    // Requests without the header go by the client's address: all of this one's to the same target.
    let start = counts(all);
    ask(&gateway, 9).await;
    let got: BTreeSet<usize> = counts(all).iter().zip(start).map(|(after, before)| after - before).collect();
    assert_eq!(got, BTreeSet::from([0, 9]));
}

#[tokio::test]
async fn a_backup_is_used_while_the_others_are_out() {
    let [one, two, backup] = &origins().await;
    let targets = [plain(one), plain(two), with(backup, "backup: true, weight: 100")];
    let pool = "    health: { path: /health, every: 100ms, timeout: 1s, rise: 1, fall: 1 }\n    slow_start: 0s";
    let gateway = Gateway::start(GatewayConfig::table(&over(&targets, pool))).await;
    let healthy = |count: f64| {
        let gateway = &gateway;
        until("so many healthy targets", PATIENCE, move || async move {
            (gateway.metric("gateway_target_healthy", &[("pool", "echo")]).await == Some(count)).then_some(())
        })
    };
    ask(&gateway, 10).await;
    assert_eq!(counts(&[one, two, backup]), [5, 5, 0]);
    one.set_healthy(false);
    two.set_healthy(false);
    healthy(1.0).await;
    ask(&gateway, 10).await;
    assert_eq!(counts(&[one, two, backup]), [5, 5, 10]);
    one.set_healthy(true);
    two.set_healthy(true);
    healthy(3.0).await;
    ask(&gateway, 10).await;
    assert_eq!(counts(&[one, two, backup]), [10, 10, 10]);
}

#[tokio::test]
async fn a_target_that_drains_or_goes_finishes_its_requests_and_gets_nothing_new() {
    for removed in [false, true] {
        let [stays, goes] = &origins().await;
        let hold = Hold::new();
        goes.on("/echo/held", Answer::json(200, serde_json::json!({"held": true})).held(&hold));
        stays.on("/echo/held", Answer::json(200, serde_json::json!({"held": false})));
        let targets = [plain(stays), plain(goes)];
        let gateway = Gateway::start(GatewayConfig::table(&over(&targets, ""))).await;
        let mut held = RawClient::connect(gateway.address).await;
        while goes.count() == 0 {
            let before = stays.count();
            held.send(b"GET /echo/held HTTP/1.1\r\nHost: g\r\n\r\n").await;
            until("it is at one of them", PATIENCE, || async {
                (stays.count() > before || goes.count() > 0).then_some(())
            })
            .await;
            if goes.count() == 0 {
                assert_eq!(held.response().await.expect("an answer").status(), 200);
            }
        }
        let after = if removed { vec![plain(stays)] } else { vec![plain(stays), with(goes, "drain: true")] };
        assert_eq!(gateway.reload(&over(&after, "")).await, Reloaded::Published);
        let before = stays.count();
        ask(&gateway, 20).await;
        assert_eq!((stays.count() - before, goes.count()), (20, 1));
        hold.release();
        let answer = held.response().await.expect("an answer");
        assert_eq!((answer.status(), answer.body.text().contains("true")), (200, true));
        assert_eq!((goes.count(), goes.received().len()), (1, 1), "once, and whole");
        // Back again, it takes its turns, if slowly.
        assert_eq!(gateway.reload(&over(&targets, "    slow_start: 1s")).await, Reloaded::Published);
        until("a turn", PATIENCE, || async {
            ask(&gateway, 1).await;
            (goes.count() > 1).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_share_of_a_target_that_comes_back_grows() {
    let [stays, returns] = &origins().await;
    let targets = [plain(stays), plain(returns)];
    let pool = "    health: { path: /health, every: 100ms, timeout: 1s, rise: 1, fall: 1 }\n    slow_start: 1h";
    let gateway = Gateway::start(GatewayConfig::table(&over(&targets, pool))).await;
    ask(&gateway, 40).await;
    assert_eq!(counts(&[stays, returns]), [20, 20], "not at the start");
    let healthy = |count: f64| {
        let gateway = &gateway;
        until("so many healthy targets", PATIENCE, move || async move {
            (gateway.metric("gateway_target_healthy", &[("pool", "echo")]).await == Some(count)).then_some(())
        })
    };
    returns.set_healthy(false);
    healthy(1.0).await;
    returns.set_healthy(true);
    healthy(2.0).await;
    ask(&gateway, 110).await;
    let slowly = returns.count() - 20;
    assert!((7..=14).contains(&slowly), "a tenth beside a whole one, 10 of 110: {slowly}");
    // The same moment under a slow start that is over already.
    assert_eq!(gateway.reload(&over(&targets, &pool.replace("1h", "1ms"))).await, Reloaded::Published);
    let before = returns.count();
    ask(&gateway, 40).await;
    assert_eq!(returns.count() - before, 20, "its whole share");
}

#[tokio::test]
async fn busy_and_slow_targets_are_avoided() {
    for balance in ["least_request", "peak_ewma"] {
        let [quick, busy] = &origins().await;
        let hold = Hold::new();
        busy.on("/echo/held", Answer::json(200, serde_json::json!({})).held(&hold));
        quick.on("/echo/held", Answer::json(200, serde_json::json!({})).held(&hold));
        let pool = format!("    balance: {balance}");
        let gateway = Gateway::start(GatewayConfig::table(&over(&[plain(quick), plain(busy)], &pool))).await;
        // Eight that wait: four at each, whichever comes first.
        let mut waiting = Vec::new();
        for count in 1..=8 {
            let mut raw = RawClient::connect(gateway.address).await;
            raw.send(b"GET /echo/held HTTP/1.1\r\nHost: g\r\n\r\n").await;
            until("it is there", PATIENCE, || async { (quick.count() + busy.count() == count).then_some(()) }).await;
            waiting.push(raw);
        }
        assert_eq!(counts(&[quick, busy]), [4, 4], "{balance}");
        hold.release();
        for mut raw in waiting {
            assert_eq!(raw.response().await.expect("an answer").status(), 200);
        }
    }
}
