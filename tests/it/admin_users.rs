//! What administrators do with the accounts of others, through the shipped table.

use serde_json::{Value, json};

use crate::harness::gateway::PASSWORD;
use crate::harness::tokens::claims;
use crate::harness::{Client, Got, P, Services, Session, send};

const USERS: &str = "/api/gateway/admin/users";

async fn patch(client: &Client, admin: &Session, id: impl std::fmt::Display, body: &Value) -> Got {
    send(client.as_user(admin, "PATCH", &format!("{USERS}/{id}")).json(body)).await
}

async fn delete(client: &Client, admin: &Session, path: &str) -> Got {
    send(client.as_user(admin, "DELETE", &format!("{USERS}/{path}"))).await
}

async fn log_in(client: &Client, email: &str) -> Session {
    Session::of(&client.login(email, PASSWORD).await.expect(200), PASSWORD)
}

async fn assert_over(client: &Client, session: &Session) {
    assert_eq!(client.me(session).await.refusal(), (401, "TOKEN_REVOKED".to_owned()));
    assert_eq!(client.refresh(&session.refresh).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
}

fn ids(page: &Value) -> Vec<i64> {
    page["users"].as_array().expect("a list").iter().map(|user| user["id"].as_i64().expect("a number")).collect()
}

#[tokio::test]
async fn accounts_are_listed_page_by_page() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let admin = gateway.user("admin").await;
    for _ in 0..4 {
        gateway.fresh_user("candidat").await;
    }
    let get = |query: &str| {
        let (client, admin, path) = (gateway.client.clone(), admin.clone(), format!("{USERS}{query}"));
        async move { client.get_as(&admin, &path).await }
    };
    let all = get("").await.expect(200);
    assert_eq!(all.header("cache-control"), Some("no-store"));
    assert_eq!((ids(&all.json()), &all.json()["next_after"]), (vec![1, 2, 3, 4, 5], &json!(null)));
    let me = gateway.client.me(&admin).await.expect(200).json();
    assert_eq!(all.json()["users"][0], me, "an account looks the same everywhere");
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    let mut pages = 0;
    loop {
        let page = get(&query).await.expect(200).json();
        seen.extend(ids(&page));
        pages += 1;
        match page["next_after"].as_i64() {
            Some(after) => query = format!("?after={after}&limit=2"),
            None => break,
        }
    }
    assert_eq!((seen, pages), (vec![1, 2, 3, 4, 5], 3));
    // A page that ends with the last account is the last one.
    assert_eq!(get("?limit=5").await.expect(200).json()["next_after"], json!(null));
    for (query, count) in [("?after=5", 0), ("?after=9223372036854775807", 0), ("?limit=500", 5), ("?&limit=5&&", 5)] {
        assert_eq!(ids(&get(query).await.expect(200).json()).len(), count, "{query}");
    }
    for (query, field) in [
        ("?limit=0", "limit"),
        ("?limit=501", "limit"),
        ("?limit=", "limit"),
        ("?limit", "limit"),
        ("?limit=-1", "limit"),
        ("?limit=%2B5", "limit"),
        ("?limit=1&limit=2", "limit"),
        ("?limit=99999999999999999999", "limit"),
        ("?page=2", "query"),
        ("?after=-1", "after"),
        ("?after=x", "after"),
        ("?after=%C3%A9", "after"),
        ("?after=9223372036854775808", "after"),
    ] {
        let got = get(query).await;
        assert_eq!(got.refusal(), (422, "VALIDATION_ERROR".to_owned()), "{query}");
        assert_eq!(got.json()["details"][0]["field"], field, "{query}");
    }
}

#[tokio::test]
async fn the_pages_are_for_administrators() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let victim = gateway.fresh_user("candidat").await;
    let sid = claims(&victim.access)["sid"].as_str().unwrap().to_owned();
    for (method, rest) in [
        ("GET", String::new()),
        ("GET", format!("/{}", victim.id)),
        ("PATCH", format!("/{}", victim.id)),
        ("GET", format!("/{}/sessions", victim.id)),
        ("DELETE", format!("/{}/sessions", victim.id)),
        ("DELETE", format!("/{}/sessions/{sid}", victim.id)),
    ] {
        let path = format!("{USERS}{rest}");
        let anonymous = send(gateway.client.request(method, &path).header("x-user-role", "admin")).await;
        assert_eq!(anonymous.refusal(), (401, "MISSING_TOKEN".to_owned()), "{method} {path}");
        for role in ["candidat", "recruteur"] {
            let user = gateway.user(role).await;
            let request = gateway.client.as_user(&user, method, &path).json(&json!({"role": "admin"}));
            assert_eq!(send(request).await.refusal(), (403, "FORBIDDEN_ROLE".to_owned()), "{role} {method} {path}");
        }
        if method == "GET" {
            let admin = gateway.user("admin").await;
            let head = send(gateway.client.as_user(&admin, "HEAD", &path)).await;
            assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
            let got = gateway.client.get_as(&admin, &path).await.expect(200);
            assert_eq!(got.number("x-ratelimit-limit"), 1000, "{path}");
        }
    }
    assert_eq!(gateway.client.me(&victim).await.expect(200).json()["role"], "candidat");
    let admin = gateway.user("admin").await;
    let wrong = send(gateway.client.as_user(&admin, "PUT", &format!("{USERS}/1"))).await;
    assert_eq!(wrong.refusal(), (405, "METHOD_NOT_ALLOWED".to_owned()));
    let allow = wrong.header("allow").unwrap_or_default();
    assert!(["GET", "HEAD", "PATCH"].iter().all(|method| allow.split(", ").any(|one| one == *method)), "{allow}");
}

#[tokio::test]
async fn another_role_takes_effect_at_once() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let (admin, user) = (gateway.user("admin").await, gateway.fresh_user("candidat").await);
    let changed = patch(client, &admin, user.id, &json!({"role": "recruteur"})).await.expect(200).json();
    assert_eq!(
        (&changed["id"], &changed["role"], &changed["is_active"]),
        (&json!(user.id), &json!("recruteur"), &json!(true))
    );
    assert_eq!(changed.as_object().unwrap().len(), 6, "{changed}");
    assert_over(client, &user).await;
    let again = log_in(client, &user.email).await;
    assert_eq!(again.role, "recruteur");
    client.get_as(&again, &format!("{P}/match/analytics")).await.expect(200);
    // What it is already is no change: nobody is logged out.
    let same = json!({"role": "recruteur", "is_active": true});
    assert_eq!(patch(client, &admin, user.id, &same).await.expect(200).json(), changed);
    client.me(&again).await.expect(200);
    for (event, times) in [("user_updated", 1.0), ("authz_admin", 2.0)] {
        assert_eq!(gateway.metric("gateway_auth_events_total", &[("event", event)]).await, Some(times), "{event}");
    }
}

#[tokio::test]
async fn a_deactivated_account_is_out_until_it_is_activated() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let (admin, user) = (gateway.user("admin").await, gateway.fresh_user("candidat").await);
    let changed = patch(client, &admin, user.id, &json!({"is_active": false, "role": "recruteur"})).await.expect(200);
    assert_eq!((&changed.json()["role"], &changed.json()["is_active"]), (&json!("recruteur"), &json!(false)));
    assert_over(client, &user).await;
    assert_eq!(client.login(&user.email, PASSWORD).await.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    patch(client, &admin, user.id, &json!({"is_active": true})).await.expect(200);
    assert_over(client, &user).await;
    assert_eq!(log_in(client, &user.email).await.role, "recruteur");
    let path = format!("{USERS}/{}", user.id);
    assert_eq!(client.get_as(&admin, &path).await.expect(200).json()["is_active"], true);
}

#[tokio::test]
async fn nobody_changes_their_own_account() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let admin = gateway.user("admin").await;
    for (body, language, message) in [
        (json!({"role": "candidat"}), "fr", "Un administrateur ne modifie pas son propre compte"),
        (json!({"is_active": false}), "en", "Administrators cannot change their own account"),
    ] {
        let request = client.as_user(&admin, "PATCH", &format!("{USERS}/{}", admin.id)).json(&body);
        let got = send(request.header("accept-language", language)).await;
        assert_eq!(got.refusal(), (403, "OWN_ACCOUNT".to_owned()));
        assert_eq!((got.json()["message"].as_str(), got.header("content-language")), (Some(message), Some(language)));
    }
    assert_eq!(client.me(&admin).await.expect(200).json()["role"], "admin");
    // Another administrator may.
    let other = gateway.fresh_user("admin").await;
    patch(client, &other, admin.id, &json!({"role": "candidat"})).await.expect(200);
    assert_over(client, &admin).await;
    assert_eq!(log_in(client, &admin.email).await.role, "candidat");
}

#[tokio::test]
async fn sessions_of_an_account_are_shown_and_ended() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let (admin, first) = (gateway.user("admin").await, gateway.fresh_user("candidat").await);
    let (second, third) = (log_in(client, &first.email).await, log_in(client, &first.email).await);
    let sid = |session: &Session| claims(&session.access)["sid"].as_str().unwrap().to_owned();
    let path = format!("{USERS}/{}/sessions", first.id);
    let shown = client.get_as(&admin, &path).await.expect(200).json();
    let shown: Vec<(&str, bool)> = shown["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["id"].as_str().unwrap(), one["current"].as_bool().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [&third, &second, &first].map(|one| (sid(one), false)).each_ref().map(|(id, no)| (id.as_str(), *no))
    );
    let ended = delete(client, &admin, &format!("{}/sessions/{}", first.id, sid(&second))).await.expect(200);
    assert_eq!(ended.json(), json!({"message": "Session terminée"}));
    assert_over(client, &second).await;
    client.me(&third).await.expect(200);
    // The session must be of the account in the path.
    let crossed = delete(client, &admin, &format!("{}/sessions/{}", admin.id, sid(&third))).await;
    assert_eq!(crossed.refusal(), (404, "NOT_FOUND".to_owned()));
    let request = client.as_user(&admin, "DELETE", &path).header("accept-language", "en");
    assert_eq!(send(request).await.expect(200).json(), json!({"message": "All sessions are ended"}));
    assert_over(client, &first).await;
    assert_over(client, &third).await;
    client.me(&admin).await.expect(200);
    client.me(&log_in(client, &first.email).await).await.expect(200);
    // An administrator's own are shown with the one that asks.
    let own = client.get_as(&admin, &format!("{USERS}/{}/sessions", admin.id)).await.expect(200).json();
    assert_eq!((own["sessions"].as_array().unwrap().len(), &own["sessions"][0]["current"]), (1, &json!(true)));
}

#[tokio::test]
async fn accounts_that_are_not_there_are_not_found() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let admin = gateway.user("admin").await;
    let sid = claims(&admin.access)["sid"].as_str().unwrap().to_owned();
    let body = json!({"role": "candidat"});
    for id in
        ["0", "-1", "999", "01", "+1", "1.0", "1e0", "9223372036854775808", "-9223372036854775808", "%C3%A9", "null"]
    {
        let answers = [
            client.get_as(&admin, &format!("{USERS}/{id}")).await,
            patch(client, &admin, id, &body).await,
            client.get_as(&admin, &format!("{USERS}/{id}/sessions")).await,
            delete(client, &admin, &format!("{id}/sessions")).await,
            delete(client, &admin, &format!("{id}/sessions/{sid}")).await,
        ];
        for got in answers {
            assert_eq!(got.refusal(), (404, "NOT_FOUND".to_owned()), "{id}");
        }
    }
    client.me(&admin).await.expect(200);
}

#[tokio::test]
async fn bodies_of_a_change_are_checked() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let (admin, user) = (gateway.user("admin").await, gateway.fresh_user("candidat").await);
    for (body, field) in [
        (json!({}), "body"),
        (json!([]), "body"),
        (json!({"role": "VALUE"}), "role"),
        (json!({"role": 1}), "role"),
        (json!({"role": null}), "role"),
        (json!({"is_active": "VALUE"}), "is_active"),
        (json!({"is_active": 0}), "is_active"),
        (json!({"is_active": null}), "is_active"),
        (json!({"role": "admin", "email": "VALUE"}), "email"),
        (json!({"is_active": false, "password": "VALUE"}), "password"),
    ] {
        let got = patch(&gateway.client, &admin, user.id, &body).await;
        assert_eq!(got.refusal(), (422, "VALIDATION_ERROR".to_owned()), "{body}");
        assert_eq!(got.json()["details"][0]["field"], field, "{body}");
        assert!(!got.text().contains("VALUE"), "{}", got.text());
    }
    let big = json!({"role": "x".repeat(16 * 1024)});
    assert_eq!(patch(&gateway.client, &admin, user.id, &big).await.refusal(), (413, "PAYLOAD_TOO_LARGE".to_owned()));
    let form = gateway.client.as_user(&admin, "PATCH", &format!("{USERS}/{}", user.id)).body("role=admin");
    assert_eq!(send(form).await.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE".to_owned()));
    assert_eq!(gateway.client.me(&user).await.expect(200).json()["role"], "candidat");
}

#[tokio::test]
async fn a_busy_store_is_503_and_nothing_is_half_done() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let client = &gateway.client;
    let (admin, user) = (gateway.user("admin").await, gateway.fresh_user("candidat").await);
    let lock = rusqlite::Connection::open(gateway.data_dir().join("identity.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = patch(client, &admin, user.id, &json!({"role": "recruteur"})).await;
    assert_eq!(refused.refusal(), (503, "AUTH_UNAVAILABLE".to_owned()));
    refused.number("retry-after");
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(client.me(&user).await.expect(200).json()["role"], "candidat");
    patch(client, &admin, user.id, &json!({"role": "recruteur"})).await.expect(200);
    assert_over(client, &user).await;
}
