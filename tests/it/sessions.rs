//! What users do with their own sessions and password, through the shipped table.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::gateway::PASSWORD;
use crate::harness::tokens::claims;
use crate::harness::{Client, Gateway, GatewayConfig, Got, Origin, P, PATIENCE, Services, Session, send, table, until};

const OTHER: &str = "another long enough passphrase";

/// The pages about sessions without limits.
async fn unlimited() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let more = "  - { name: refresh, match: { path: /api/gateway/auth/refresh, methods: [POST] }, to: { builtin: auth_refresh }, auth: public }
  - { name: sessions, match: { path: /api/gateway/auth/sessions, methods: [GET] }, to: { builtin: auth_sessions } }
  - { name: logout-all, match: { path: /api/gateway/auth/logout-all, methods: [POST] }, to: { builtin: auth_logout_all } }
  - { name: password, match: { path: /api/gateway/auth/password, methods: [POST] }, to: { builtin: auth_password } }";
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&origin.url()], "", more))).await;
    (origin, gateway)
}

async fn list(client: &Client, session: &Session) -> Vec<Value> {
    let got = client.get_as(session, &format!("{P}/auth/sessions")).await.expect(200);
    assert_eq!(got.header("cache-control"), Some("no-store"));
    got.json()["sessions"].as_array().expect("a list").clone()
}

async fn end(client: &Client, session: &Session, sid: &str) -> Got {
    send(client.as_user(session, "DELETE", &format!("{P}/auth/sessions/{sid}"))).await
}

async fn logout_all(client: &Client, session: &Session) -> Got {
    send(client.as_user(session, "POST", &format!("{P}/auth/logout-all"))).await
}

async fn change(client: &Client, session: &Session, current: &str, new: &str) -> Got {
    let body = json!({"current_password": current, "new_password": new});
    client.post_as(session, &format!("{P}/auth/password"), &body).await
}

/// The number of a session, as its tokens have it.
fn sid(session: &Session) -> String {
    claims(&session.access)["sid"].as_str().expect("sid").to_owned()
}

async fn log_in(client: &Client, session: &Session) -> Session {
    Session::of(&client.login(&session.email, &session.password).await.expect(200), &session.password)
}

async fn assert_over(client: &Client, session: &Session) {
    assert_eq!(client.me(session).await.refusal(), (401, "TOKEN_REVOKED".to_owned()));
    assert_eq!(client.refresh(&session.refresh).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
}

#[tokio::test]
async fn sessions_are_listed_with_the_youngest_first() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let first = gateway.fresh_user("candidat").await;
    let body = json!({"email": first.email, "password": PASSWORD});
    let agent = format!("A browser {}", "x".repeat(400));
    let request = client.request("POST", &format!("{P}/auth/login")).header("user-agent", &agent);
    let second = Session::of(&send(request.json(&body)).await.expect(200), PASSWORD);
    let sessions = list(client, &second).await;
    let ids: Vec<&str> = sessions.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [sid(&second), sid(&first)]);
    assert_eq!((&sessions[0]["current"], &sessions[1]["current"]), (&json!(true), &json!(false)));
    assert_eq!((&sessions[0]["user_agent"], &sessions[1]["user_agent"]), (&json!(agent[..256]), &json!(null)));
    for one in &sessions {
        let at = |name: &str| one[name].as_str().unwrap().parse::<jiff::Timestamp>().expect("RFC 3339 with an offset");
        assert_eq!(one["address"], "127.0.0.1");
        assert_eq!(at("created_at"), at("last_used_at"));
        assert_eq!((at("expires_at") - at("created_at")).get_seconds(), 7 * 86_400, "{one}");
        assert_eq!(one.as_object().unwrap().len(), 7, "{one}");
    }
    // Another's list has none of them.
    let stranger = gateway.fresh_user("recruteur").await;
    let others = list(client, &stranger).await;
    assert_eq!(others.iter().map(|one| one["id"].as_str().unwrap()).collect::<Vec<_>>(), [sid(&stranger)]);
    // A refresh is a use, and goes on with the same session.
    let refreshed = Session::of(&client.refresh(&first.refresh).await.expect(200), PASSWORD);
    assert_eq!((sid(&refreshed), list(client, &refreshed).await.len()), (sid(&first), 2));
}

#[tokio::test]
async fn one_session_is_ended_and_the_others_go_on() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let stays = gateway.fresh_user("candidat").await;
    let goes = log_in(client, &stays).await;
    let request = client.as_user(&stays, "DELETE", &format!("{P}/auth/sessions/{}", sid(&goes)));
    let ended = send(request.header("accept-language", "en")).await.expect(200);
    assert_eq!(ended.json(), json!({"message": "Session ended"}));
    assert_over(client, &goes).await;
    client.me(&stays).await.expect(200);
    let stays = Session::of(&client.refresh(&stays.refresh).await.expect(200), PASSWORD);
    assert_eq!(list(client, &stays).await.len(), 1);
    assert_eq!(end(client, &stays, &sid(&goes)).await.refusal(), (404, "NOT_FOUND".to_owned()), "a second time");
    // One's own is the same as a log-out.
    let ended = end(client, &stays, &sid(&stays)).await.expect(200);
    assert_eq!(ended.json(), json!({"message": "Session terminée"}));
    assert_over(client, &stays).await;
}

#[tokio::test]
async fn another_s_session_is_as_unknown_as_one_that_never_was() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let (one, other) = (gateway.fresh_user("candidat").await, gateway.fresh_user("candidat").await);
    let foreign = end(client, &one, &sid(&other)).await;
    let upper = sid(&one).to_uppercase();
    for hostile in [
        "67e55044-10b1-426f-9247-bb680e5fe0c8",
        "00000000-0000-0000-0000-000000000000",
        "0",
        "-1",
        "null",
        "%C3%A9",
        "%E2%80%AE",
        "'%20OR%201=1",
        "99999999999999999999999999999999999999999999",
        &"f".repeat(2000),
        &upper,
    ] {
        let unknown = end(client, &one, hostile).await;
        assert_eq!(unknown.refusal(), (404, "NOT_FOUND".to_owned()), "{hostile:.60}");
        assert_eq!(unknown.json()["message"], foreign.json()["message"]);
    }
    assert_eq!(foreign.refusal(), (404, "NOT_FOUND".to_owned()));
    client.me(&other).await.expect(200);
    client.refresh(&other.refresh).await.expect(200);
    client.me(&one).await.expect(200);
}

#[tokio::test]
async fn log_out_everywhere_ends_every_session_of_one_account() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let first = gateway.fresh_user("candidat").await;
    let second = log_in(client, &first).await;
    let stranger = gateway.fresh_user("candidat").await;
    let got = logout_all(client, &second).await.expect(200);
    assert_eq!(got.json(), json!({"message": "Toutes les sessions sont terminées"}));
    for session in [&first, &second] {
        assert_over(client, session).await;
    }
    client.me(&stranger).await.expect(200);
    // In the very same second: a new log-in is good.
    let again = log_in(client, &first).await;
    client.me(&again).await.expect(200);
    assert_eq!(list(client, &again).await.len(), 1);
}

#[tokio::test]
async fn a_new_password_ends_every_session_and_opens_one() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let first = gateway.fresh_user("recruteur").await;
    let second = log_in(client, &first).await;
    let answered = change(client, &second, PASSWORD, OTHER).await.expect(200);
    assert_eq!(answered.header("cache-control"), Some("no-store"));
    let new = Session::of(&answered, OTHER);
    assert_eq!((new.id, &*new.role), (first.id, "recruteur"));
    for session in [&first, &second] {
        assert_over(client, session).await;
    }
    client.me(&new).await.expect(200);
    assert_eq!(list(client, &new).await.len(), 1);
    let new = Session::of(&client.refresh(&new.refresh).await.expect(200), OTHER);
    assert_eq!(client.login(&first.email, PASSWORD).await.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    client.login(&first.email, OTHER).await.expect(200);
    client.me(&new).await.expect(200);
    for (event, times) in [("authn_password_change", 1.0), ("authn_password_change_fail", 0.0)] {
        assert_eq!(gateway.metric("gateway_auth_events_total", &[("event", event)]).await, Some(times), "{event}");
    }
}

#[tokio::test]
async fn a_wrong_current_password_changes_nothing() {
    let (_origin, gateway) = unlimited().await;
    let client = &gateway.client;
    let user = gateway.fresh_user("candidat").await;
    for wrong in ["not the password", "", &"x".repeat(5000)] {
        let refused = change(client, &user, wrong, OTHER).await;
        assert_eq!(refused.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
        assert!(!refused.text().contains(OTHER));
    }
    client.me(&user).await.expect(200);
    client.login(&user.email, PASSWORD).await.expect(200);
    client.login(&user.email, OTHER).await.expect(401);
    let failed = gateway.metric("gateway_auth_events_total", &[("event", "authn_password_change_fail")]).await;
    assert_eq!(failed, Some(3.0));
    assert!(!gateway.said().contains("not the password") && !gateway.said().contains(OTHER));
}

#[tokio::test]
async fn bodies_of_a_password_change_are_checked_field_by_field() {
    let (_origin, gateway) = unlimited().await;
    let user = gateway.fresh_user("candidat").await;
    let local = user.email.split('@').next().unwrap().to_owned();
    let good = json!({"current_password": PASSWORD, "new_password": OTHER});
    let path = format!("{P}/auth/password");
    for (field, value) in [
        ("new_password", json!("short")),
        ("new_password", json!("x".repeat(129))),
        ("new_password", json!("azertyuiop")),
        ("new_password", json!(format!("xx{local}xx"))),
        ("new_password", json!(PASSWORD)),
        ("new_password", json!(7)),
        ("new_password", json!(null)),
        ("current_password", json!(["VALUE"])),
        ("email", json!("VALUE")),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let got = gateway.client.post_as(&user, &path, &body).await;
        assert_eq!(got.refusal(), (422, "VALIDATION_ERROR".to_owned()), "{body}");
        let fields: Vec<Value> =
            got.json()["details"].as_array().unwrap().iter().map(|one| one["field"].clone()).collect();
        assert_eq!(fields, [json!(field)], "{body}");
        assert!(!got.text().contains("VALUE") && !got.text().contains(PASSWORD), "{}", got.text());
    }
    let none = gateway.client.post_as(&user, &path, &json!({})).await.expect(422);
    assert_eq!(none.json()["details"].as_array().unwrap().len(), 2);
    let big = json!({"current_password": PASSWORD, "new_password": "x".repeat(16 * 1024)});
    assert_eq!(gateway.client.post_as(&user, &path, &big).await.refusal(), (413, "PAYLOAD_TOO_LARGE".to_owned()));
    let text = gateway.client.as_user(&user, "POST", &path).body("new_password=x");
    assert_eq!(send(text).await.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE".to_owned()));
    let broken = gateway.client.as_user(&user, "POST", &path).header("content-type", "application/json").body("{");
    assert_eq!(send(broken).await.refusal(), (400, "INVALID_JSON".to_owned()));
    gateway.client.me(&user).await.expect(200);
}

#[tokio::test]
async fn a_password_is_not_guessed_faster_by_changing_it() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let user = gateway.fresh_user("candidat").await;
    for _ in 0..5 {
        let guessed = change(client, &user, "not the password", OTHER).await;
        assert_eq!((guessed.status, guessed.number("x-ratelimit-limit")), (401, 10));
    }
    // The failures count as those of log-ins do, so both wait, whatever the password.
    for waits in [change(client, &user, PASSWORD, OTHER).await, client.login(&user.email, PASSWORD).await] {
        assert_eq!(waits.refusal(), (429, "RATE_LIMIT_EXCEEDED".to_owned()));
        assert!(waits.number("retry-after") <= 1);
    }
    client.me(&user).await.expect(200);
}

#[tokio::test]
async fn log_in_and_password_change_share_one_limit() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let mut user = gateway.fresh_user("candidat").await;
    let before = client.login(&user.email, PASSWORD).await.expect(200).number("x-ratelimit-remaining");
    for (current, new) in [(PASSWORD, OTHER), (OTHER, PASSWORD)].repeat(4) {
        user = Session::of(&change(client, &user, current, new).await.expect(200), new);
    }
    let after = client.login(&user.email, PASSWORD).await.expect(200).number("x-ratelimit-remaining");
    // Nine tokens of one bucket, less those that came back meanwhile, one every 6 s.
    assert!(after + 3 <= before, "{before} then {after}");
}

#[tokio::test]
async fn the_eleventh_log_in_ends_the_oldest_session() {
    let (_origin, gateway) = unlimited().await;
    let client = &gateway.client;
    let oldest = gateway.fresh_user("candidat").await;
    let mut others = Vec::new();
    for _ in 0..10 {
        others.push(log_in(client, &oldest).await);
    }
    assert_over(client, &oldest).await;
    let listed: HashSet<String> =
        list(client, &others[0]).await.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, others.iter().map(sid).collect());
}

#[tokio::test]
async fn these_pages_are_for_proven_users() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    for (method, path) in [
        ("GET", "sessions"),
        ("HEAD", "sessions"),
        ("DELETE", "sessions/x"),
        ("POST", "logout-all"),
        ("POST", "password"),
    ] {
        let request = gateway.client.request(method, &format!("{P}/auth/{path}"));
        // What only the proxy may say.
        let got =
            send(request.header("x-user-id", "1").header("x-ssm-session", "67e55044-10b1-426f-9247-bb680e5fe0c8"));
        assert_eq!(got.await.status, 401, "{method} {path}");
    }
    let user = gateway.fresh_user("candidat").await;
    let head = send(gateway.client.as_user(&user, "HEAD", &format!("{P}/auth/sessions"))).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn the_command_line_sets_a_password_and_signs_out() {
    let (_origin, gateway) = unlimited().await;
    let client = &gateway.client;
    let user = gateway.fresh_user("candidat").await;
    let set = ["set-password", "--email", &user.email, "--password-stdin"];
    let refused = gateway.users(&set, "short");
    assert!(!refused.status.success());
    client.refresh(&user.refresh).await.expect(200);
    let done = gateway.users(&set, OTHER);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!String::from_utf8_lossy(&done.stdout).contains(OTHER));
    // The store knows at once; access tokens are refused with the next pull.
    client.refresh(&user.refresh).await.expect(401);
    client.login(&user.email, PASSWORD).await.expect(401);
    let user = Session { password: OTHER.to_owned(), ..user };
    let user = log_in(client, &user).await;
    let done = gateway.users(&["sign-out", "--email", &user.email], "");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    client.refresh(&user.refresh).await.expect(401);
    until("the end of the access token", PATIENCE, || async { (client.me(&user).await.status == 401).then_some(()) })
        .await;
    log_in(client, &user).await;
}
