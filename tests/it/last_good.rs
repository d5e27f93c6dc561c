//! `--last-good`: a start with a bad table takes the one that was in force last, and says so.

use std::os::unix::fs::PermissionsExt;

use crate::harness::gateway::Folder;
use crate::harness::{Gateway, GatewayConfig, Origin, PATIENCE, Reloaded, table, until};

const MORE: &str = "  - { name: more, match: { path: /more, methods: [GET] }, to: { pool: echo }, auth: public }";
const BROKEN: &str = "version: 1\npools: {}\nroutes:\n  - { name: a, match: { path: /a, methods: [GET] }, to: { pool: none } }\n  - { name: A b }\n";

#[tokio::test]
async fn a_bad_table_stops_the_start_unless_the_last_good_one_is_asked_for() {
    let origin = Origin::start().await;
    let good = table::table(&[&origin.url()], "", &format!("{}\n{MORE}", table::ECHO));
    let mut gateway = Gateway::start(GatewayConfig::table(&good)).await;
    let kept = gateway.data_dir().join("routes.last-good.yaml");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    gateway.terminate().await;
    gateway.write_routes(BROKEN);

    let mut refused = gateway.beside(&[]);
    assert_eq!(refused.exit().await.code(), Some(1));
    until("all problems", PATIENCE, || async {
        let said = refused.said();
        ["routes.yaml:4", "routes.yaml:5", "none"].iter().all(|word| said.contains(word)).then_some(())
    })
    .await;

    let next = gateway.beside(&["--last-good"]);
    next.wait_said("gateway is up").await;
    let old = gateway.becomes(next);
    drop(old);
    gateway.client.get("/more").await.expect(200);
    let said = gateway.said();
    assert!(
        said.contains("THE TABLE IS BAD") && said.contains("routes.yaml:4") && said.contains("routes.yaml:5"),
        "{said}"
    );
    assert_eq!(gateway.metric("gateway_config_last_reload_successful", &[]).await, Some(0.0));
    let ready = until("readiness", PATIENCE, || async {
        let got = gateway.admin.get("/readyz").await;
        (got.status == 200).then_some(got)
    })
    .await;
    assert!(ready.json()["degraded"].to_string().contains("the table was refused"), "{}", ready.text());

    // Still broken: still refused. Mended: in force, and nothing is degraded any more.
    gateway.signal("HUP");
    gateway.wait_said("routes refused, the table in force stays").await;
    gateway.client.get("/more").await.expect(200);
    let mended = table::table(&[&origin.url()], "", table::ECHO);
    assert_eq!(gateway.reload(&mended).await, Reloaded::Published);
    assert_eq!(gateway.metric("gateway_config_last_reload_successful", &[]).await, Some(1.0));
    gateway.client.get("/more").await.expect(404);
    assert_eq!(gateway.admin.get("/readyz").await.json()["degraded"], serde_json::json!([]));
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), mended);
}

#[tokio::test]
async fn without_a_good_one_there_is_nothing_to_start_with() {
    let config = GatewayConfig::table(BROKEN);
    let folder = Folder::new(&config);
    let output = crate::harness::gateway::run_in(&folder, &["run", "--last-good"], &config);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("routes.yaml:4") && said.contains("routes.last-good.yaml"), "{said}");
}
