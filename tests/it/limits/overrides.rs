//! Overrides of limits: set and taken away on the command line, felt by one user within a pull.

use crate::harness::gateway::{Folder, run_in};
use crate::harness::limits::{limits, operate};
use crate::harness::{Database, Gateway, GatewayConfig, Origin, PATIENCE, Reloaded, Session, table, until};

/// Twelve seconds per token: a slow machine does not earn one during a case.
const LIMITS: &str = "limits:
  few: { by: user, rate: 5/min, burst: 2 }
  tier: { by: user, over: all_routes, roles: { candidat: 6/min, recruteur: 7/min, admin: 8/min } }";

const ROUTES: &str = "  - { name: a, match: { path: /a, methods: [GET] }, to: { pool: echo }, limits: [few] }
  - { name: b, match: { path: /b, methods: [GET] }, to: { pool: echo }, limits: [tier] }";

fn config(origin: &Origin) -> GatewayConfig {
    GatewayConfig::table(&table::with_top(&table::table(&[&origin.url()], "", ROUTES), LIMITS))
}

/// The limit that a user is told on a path, passed or refused.
async fn told(gateway: &Gateway, user: &Session, path: &str) -> u64 {
    gateway.client.get_as(user, path).await.number("x-ratelimit-limit")
}

async fn becomes(gateway: &Gateway, user: &Session, path: &str, limit: u64) {
    until(&format!("a limit of {limit} on {path}"), PATIENCE, || async {
        (told(gateway, user, path).await == limit).then_some(())
    })
    .await;
}

/// Waits until so many overrides are known.
async fn known(gateway: &Gateway, count: f64) {
    until("the pull", PATIENCE, || async {
        (gateway.metric("gateway_limit_rules", &[("kind", "override")]).await == Some(count)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_override_is_one_users_own_survives_a_reload_and_is_taken_away() {
    let origin = Origin::start().await;
    let config = config(&origin);
    let gateway = Gateway::start(config.clone()).await;
    let (user, other) = (gateway.user("candidat").await, gateway.fresh_user("candidat").await);
    let said = operate(&gateway, &["override", &user.email, "--policy", "few", "--rate", "500/min", "--for", "2h"]);
    assert!(said.starts_with(&format!("{} has few: 500/min until 20", user.email)), "{said}");
    assert!(!said.contains("warning"), "{said}");
    operate(&gateway, &["override", &user.email, "--policy", "tier", "--rate", "900/h", "--burst", "9", "--for", "2h"]);
    known(&gateway, 2.0).await;
    for _ in 0..30 {
        let got = gateway.client.get_as(&user, "/a").await.expect(200);
        assert_eq!(got.number("x-ratelimit-limit"), 500);
        assert_eq!(got.header("ratelimit-policy"), Some("\"few\";q=500;w=60"));
    }
    assert_eq!((told(&gateway, &other, "/a").await, told(&gateway, &other, "/b").await), (5, 6));
    let got = gateway.client.get_as(&user, "/b").await.expect(200);
    assert_eq!((got.number("x-ratelimit-limit"), got.number("x-ratelimit-window")), (900, 3_600));
    // A reload leaves it alone.
    let routes = config.routes.replace("rate: 5/min", "rate: 4/min");
    assert_eq!(gateway.reload(&routes).await, Reloaded::Published);
    assert_eq!((told(&gateway, &user, "/a").await, told(&gateway, &other, "/a").await), (500, 4));
    let listed = operate(&gateway, &["overrides", &user.email]);
    assert!(listed.lines().count() == 3 && listed.contains("  tier    900/h burst 9  20"), "{listed}");
    let number = gateway.client.me(&user).await.json()["id"].to_string();
    assert_eq!(operate(&gateway, &["overrides", &number]), listed);
    operate(&gateway, &["override", &number, "--policy", "few", "--remove"]);
    becomes(&gateway, &user, "/a", 4).await;
    assert_eq!(told(&gateway, &user, "/b").await, 900);
    audited(&gateway, &["override of few: 500/min until 20", "override of tier: 900/h burst 9", "few taken away"]);
}

/// The trail has exactly these changes, of an account, and is whole.
fn audited(gateway: &Gateway, wanted: &[&str]) {
    let trail = gateway.run_verb(&["audit", "tail", "-n", "50"]);
    let trail = String::from_utf8_lossy(&trail.stdout).into_owned();
    let changes: Vec<&str> = trail.lines().filter(|line| line.contains(" limits_changed ")).collect();
    assert_eq!(changes.len(), wanted.len(), "{trail}");
    for (line, words) in changes.iter().zip(wanted) {
        assert!(line.contains("by=command_line on=user:") && line.contains(words), "{line}");
    }
    let proven = gateway.run_verb(&["audit", "verify"]);
    assert!(proven.status.success(), "{}", String::from_utf8_lossy(&proven.stderr));
}

#[tokio::test]
async fn an_override_ends_by_itself() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(config(&origin)).await;
    let user = gateway.user("recruteur").await;
    operate(&gateway, &["override", &user.email, "--policy", "tier", "--rate", "2/min", "--for", "12s"]);
    becomes(&gateway, &user, "/b", 2).await;
    becomes(&gateway, &user, "/b", 7).await;
    assert_eq!(operate(&gateway, &["overrides"]), "");
}

#[tokio::test]
async fn an_override_without_effect_is_warned_of() {
    let origin = Origin::start().await;
    let config = config(&origin);
    let gateway = Gateway::start(config.clone()).await;
    let user = gateway.user("candidat").await;
    let over = |policy: &str| {
        operate(&gateway, &["override", &user.email, "--policy", policy, "--rate", "2/min", "--for", "1h"])
    };
    assert!(!over("few").contains("warning"));
    let others = "limits:
  few: { by: address, rate: 5/min }
  tier: { by: user, in_flight: 5 }";
    let routes = config.routes.replace(LIMITS, others);
    assert_eq!(gateway.reload(&routes).await, Reloaded::Published);
    for (policy, why) in [
        ("few", "this policy does not count users"),
        ("tier", "this policy has no rate"),
        ("teir", "no policy has this name"),
    ] {
        let said = over(policy);
        assert!(said.contains(&format!("{why}: the override does nothing there")), "{said}");
    }
}

#[tokio::test]
async fn what_is_no_override_is_refused_with_words() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(config(&origin)).await;
    let email = gateway.user("candidat").await.email;
    for (verb, words) in [
        (&["override", "nobody@example.com", "--policy", "few", "--rate", "9/s", "--for", "1h"][..], "no account has"),
        (&["override", &email, "--policy", "Few!", "--rate", "9/s", "--for", "1h"], "--policy"),
        (&["override", &email, "--policy", "few", "--rate", "fast", "--for", "1h"], "expected a rate"),
        (&["override", &email, "--policy", "few", "--rate", "9/s"], "--for"),
        (&["override", &email, "--policy", "few", "--for", "1h"], "--rate"),
        (&["override", &email, "--policy", "few"], "--rate"),
        (&["override", &email, "--policy", "few", "--rate", "9/s", "--for", "366d"], "365d"),
        (&["override", &email, "--policy", "few", "--rate", "9/s", "--for", "1h", "--remove"], "--remove"),
        (&["override", &email, "--policy", "few", "--remove"], "has no override of few"),
        (&["overrides", "nobody@example.com"], "no account has"),
    ] {
        let output = limits(&gateway, verb);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{verb:?}: {said}");
    }
    assert_eq!(operate(&gateway, &["overrides"]), "");
}

#[tokio::test]
async fn every_replica_on_one_database_knows() {
    let (origin, database) = (Origin::start().await, Database::create().await);
    let config = config(&origin).env("DATABASE_URL", &database.url());
    let (a, b) = tokio::join!(Gateway::start(config.clone()), Gateway::start(config.clone()));
    let user = a.fresh_user("candidat").await;
    let verb = ["limits", "override", &user.email, "--policy", "few", "--rate", "300/min", "--for", "2h"];
    let output = run_in(&Folder::new(&config), &verb, &config);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for gateway in [&a, &b] {
        known(gateway, 1.0).await;
        for _ in 0..20 {
            assert_eq!(gateway.client.get_as(&user, "/a").await.expect(200).number("x-ratelimit-limit"), 300);
        }
    }
}
