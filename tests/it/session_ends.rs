//! How sessions end by themselves, in the real program: its store is aged from outside.

use rusqlite::Connection;

use crate::harness::tokens::claims;
use crate::harness::{Client, Gateway, GatewayConfig, P, PATIENCE, Services, Session, until};

const DAY_MS: i64 = 86_400_000;

fn store(gateway: &Gateway) -> Connection {
    let store = Connection::open(gateway.data_dir().join("identity.db")).expect("the store");
    store.busy_timeout(PATIENCE).expect("a time-out");
    store
}

fn sid(session: &Session) -> String {
    claims(&session.access)["sid"].as_str().expect("sid").to_owned()
}

/// Moves one time of a session back.
fn age(gateway: &Gateway, column: &str, session: &Session, by_ms: i64) {
    let sql = format!("UPDATE sessions SET {column} = {column} - ?1 WHERE sid = ?2");
    assert_eq!(store(gateway).execute(&sql, (by_ms, sid(session))).expect("a change"), 1);
}

async fn listed(client: &Client, session: &Session) -> Vec<String> {
    let body = client.get_as(session, &format!("{P}/auth/sessions")).await.expect(200).json();
    body["sessions"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

async fn log_in(client: &Client, session: &Session) -> Session {
    Session::of(&client.login(&session.email, &session.password).await.expect(200), &session.password)
}

#[tokio::test]
async fn idle_and_old_sessions_are_over() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let here = gateway.fresh_user("candidat").await;
    let (idle, old, used) = (log_in(client, &here).await, log_in(client, &here).await, log_in(client, &here).await);
    age(&gateway, "last_used_at_ms", &idle, 7 * DAY_MS);
    age(&gateway, "ends_at_ms", &old, 30 * DAY_MS);
    age(&gateway, "last_used_at_ms", &used, 7 * DAY_MS - 60_000);
    assert_eq!(listed(client, &here).await, [sid(&used), sid(&here)]);
    for session in [&idle, &old] {
        assert_eq!(client.refresh(&session.refresh).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
    }
    // A minute before its end it goes on, for seven days more.
    client.refresh(&used.refresh).await.expect(200);
    let body = client.get_as(&here, &format!("{P}/auth/sessions")).await.expect(200).json();
    let at = |name: &str| body["sessions"][0][name].as_str().unwrap().parse::<jiff::Timestamp>().expect("RFC 3339");
    assert_eq!(at("expires_at").as_millisecond() - at("last_used_at").as_millisecond(), 7 * DAY_MS);
    // Near its absolute end that one counts.
    age(&gateway, "ends_at_ms", &used, 25 * DAY_MS);
    let body = client.get_as(&here, &format!("{P}/auth/sessions")).await.expect(200).json();
    let at = |name: &str| body["sessions"][0][name].as_str().unwrap().parse::<jiff::Timestamp>().expect("RFC 3339");
    assert_eq!(at("expires_at").as_millisecond() - at("created_at").as_millisecond(), 5 * DAY_MS);
}

#[tokio::test]
async fn what_is_over_is_purged_and_the_rest_stays() {
    let services = Services::start().await;
    let config: GatewayConfig = services.config();
    let gateway = Gateway::start(config.clone()).await;
    let stays = gateway.fresh_user("candidat").await;
    let (old, ended) = (log_in(&gateway.client, &stays).await, log_in(&gateway.client, &stays).await);
    gateway.client.logout(&ended).await.expect(200);
    for session in [&old, &ended] {
        age(&gateway, "ends_at_ms", session, 31 * DAY_MS);
    }
    store(&gateway).execute("UPDATE revocations SET until_s = 1", ()).expect("a change");
    // The first purge is at the start.
    let gateway = gateway.restart(&config).await;
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        store(&gateway).query_row(&sql, (), |row| row.get(0)).expect("a count")
    };
    until("a purge", PATIENCE, || async { (count("sessions") == 1 && count("revocations") == 0).then_some(()) }).await;
    gateway.client.refresh(&stays.refresh).await.expect(200);
    assert_eq!(listed(&gateway.client, &stays).await, [sid(&stays)]);
    assert_eq!(gateway.client.refresh(&old.refresh).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
}
