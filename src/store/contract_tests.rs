//! What every store must do, whatever keeps it. Each store runs the same cases.

use std::collections::BTreeSet;

use super::embedded::EmbeddedStore;
use super::*;
use crate::model::identity::{ApiKeyId, KeyId, SessionId, TokenId, UserId};
use crate::model::role::Role;
use crate::testkit::servers::Database;
use uuid::Uuid;

pub(super) fn new_user(name: &str) -> NewUser {
    NewUser {
        email_key: format!("{name}@example.com"),
        email: format!("{name}@Example.com"),
        full_name: name.to_owned(),
        role: Role::Candidat,
        password_hash: "$argon2id$x".to_owned(),
        created_at_ms: 1_000,
    }
}

fn new_session(user: &User, now_ms: i64) -> NewSession {
    NewSession {
        sid: SessionId(Uuid::new_v4()),
        user: user.clone(),
        mac_key: SessionKey([3; 32]),
        now_ms,
        ends_at_ms: now_ms + 1_000_000,
        idle_since_ms: now_ms - 100_000,
        keep: 2,
        revoked_until_s: 9_000,
        address: Some("2001:db8::7".parse().unwrap()),
        user_agent: Some("a browser".to_owned()),
    }
}

fn new_api_key(user: &User, prefix: &str, expires_at_ms: Option<i64>) -> NewApiKey {
    NewApiKey {
        name: "nightly import".to_owned(),
        prefix: prefix.to_owned(),
        hash: [9; 32],
        user: user.id,
        role: Role::Recruteur,
        routes: vec!["match".to_owned(), "match-batch".to_owned()],
        created_by: None,
        created_at_ms: 1_000,
        expires_at_ms,
    }
}

fn new_entry(at_ms: i64) -> AuditEntry {
    AuditEntry {
        at_ms,
        event: "authn_login_success".to_owned(),
        actor: Some("user:7".to_owned()),
        subject: None,
        address: Some("192.0.2.1".to_owned()),
        request_id: None,
        details: Some("\"quoted\" é".to_owned()),
        id: format!("id-{at_ms}"),
    }
}

async fn facts_since(store: &dyn IdentityStore, revision: i64) -> Vec<Revoked> {
    store.revocations_since(revision, 100).await.unwrap().into_iter().map(|fact| fact.revoked).collect()
}

async fn last_revision(store: &dyn IdentityStore) -> i64 {
    store.revocations_since(0, 1_000).await.unwrap().last().map_or(0, |fact| fact.revision)
}

async fn accounts_have_one_address_each(store: &dyn IdentityStore) {
    let anna = store.insert_user(new_user("anna")).await.unwrap();
    assert!(matches!(store.insert_user(new_user("anna")).await, Err(StoreError::Conflict)));
    assert_eq!(store.user(anna.id).await.unwrap(), Some(anna.clone()));
    let found = store.credentials("anna@example.com").await.unwrap().unwrap();
    assert_eq!((found.user, found.password_hash.as_str()), (anna.clone(), "$argon2id$x"));
    assert!(store.credentials("Anna@Example.com").await.unwrap().is_none());
    assert!(store.credentials("' OR 1=1 --").await.unwrap().is_none());
    let bob = store.insert_user(new_user("bob")).await.unwrap();
    assert_eq!(store.users(UserId(0), 1).await.unwrap().len(), 1);
    assert_eq!(store.users(anna.id, 10).await.unwrap(), [bob]);
    assert_eq!(store.user(UserId(999)).await.unwrap(), None);
}

async fn a_hash_is_replaced_when_it_is_still_the_same(store: &dyn IdentityStore) {
    let user = store.insert_user(new_user("hugo")).await.unwrap();
    assert!(!store.upgrade_hash(user.id, "$2b$other", "$argon2id$y").await.unwrap());
    assert!(store.upgrade_hash(user.id, "$argon2id$x", "$argon2id$y").await.unwrap());
    let found = store.credentials_of(user.id).await.unwrap().unwrap();
    assert_eq!((found.user, found.password_hash.as_str()), (user, "$argon2id$y"));
    assert!(store.credentials_of(UserId(999)).await.unwrap().is_none());
}

async fn the_greatest_bcrypt_cost_of_active_accounts_is_known(store: &dyn IdentityStore) {
    let before = store.bcrypt_cost(14).await.unwrap();
    assert_eq!(before, None);
    for (name, hash) in [("u1", "$2b$06$x"), ("u2", "$2y$12$x"), ("u3", "$2b$31$x"), ("u4", "$2b$x"), ("u5", "$2a$")] {
        let user = NewUser { password_hash: hash.to_owned(), ..new_user(name) };
        store.insert_user(user).await.unwrap();
    }
    assert_eq!(store.bcrypt_cost(14).await.unwrap(), Some(12));
    assert_eq!(store.bcrypt_cost(11).await.unwrap(), Some(6));
    let id = store.credentials("u2@example.com").await.unwrap().unwrap().user.id;
    store.change_user(id, UserChange::Active(false), 1_000, 9_000).await.unwrap();
    assert_eq!(store.bcrypt_cost(14).await.unwrap(), Some(6));
}

async fn sessions_are_listed_with_what_is_known_of_them(store: &dyn IdentityStore) {
    let user = store.insert_user(new_user("gina")).await.unwrap();
    let (old, young) = (new_session(&user, 1_000), new_session(&user, 2_000));
    store.insert_session(old.clone()).await.unwrap();
    store.insert_session(young.clone()).await.unwrap();
    let listed = store.sessions_of(user.id, 3_000, 0).await.unwrap();
    assert_eq!(listed.iter().map(|session| session.sid).collect::<Vec<_>>(), [young.sid, old.sid]);
    let read = listed.last().unwrap();
    assert_eq!((read.created_at_ms, read.last_used_at_ms, read.ends_at_ms), (1_000, 1_000, 1_001_000));
    assert_eq!((read.mac_key.clone(), read.address), (SessionKey([3; 32]), old.address));
    assert_eq!(read.user_agent.as_deref(), Some("a browser"));
    assert_eq!(store.session(old.sid).await.unwrap().as_ref(), Some(read));
    // Idle, past the absolute end, ended: none of these is listed.
    assert_eq!(store.sessions_of(user.id, 3_000, 1_000).await.unwrap().len(), 1);
    assert!(store.sessions_of(user.id, 1_002_000, 0).await.unwrap().is_empty());
    store.end_session(young.sid, 4_000, 9_000).await.unwrap();
    assert_eq!(store.sessions_of(user.id, 4_000, 0).await.unwrap().len(), 1);
    store.end_session(old.sid, 4_000, 9_000).await.unwrap();
}

async fn every_kind_of_fact_comes_back(store: &dyn IdentityStore) {
    let before = last_revision(store).await;
    let facts = [
        Revoked::Token(TokenId(Uuid::new_v4())),
        Revoked::Session(SessionId(Uuid::new_v4())),
        Revoked::User(UserId(7), 55),
        Revoked::Key(KeyId("a-kid".into())),
        Revoked::ApiKey(ApiKeyId(3)),
    ];
    let mut revisions = Vec::new();
    for fact in &facts {
        revisions.push(store.revoke(fact.clone(), 9_000).await.unwrap());
    }
    assert!(revisions.is_sorted() && revisions[0] > before);
    assert_eq!(facts_since(store, before).await, facts);
    let page = store.revocations_since(before, 2).await.unwrap();
    assert_eq!(
        page.iter().map(|fact| (fact.revision, fact.until_s)).collect::<Vec<_>>(),
        [(revisions[0], 9_000), (revisions[1], 9_000)]
    );
}

async fn a_password_or_a_sign_out_ends_sessions_too(store: &dyn IdentityStore) {
    let user = store.insert_user(new_user("ines")).await.unwrap();
    let first = new_session(&user, 5_000);
    store.insert_session(first.clone()).await.unwrap();
    let password =
        |hash: &str, proven_at: Option<i64>| UserChange::Password { hash: hash.to_owned().into(), proven_at };
    let changed = store.change_user(user.id, password("$argon2id$z", Some(0)), 6_000, 9_000).await.unwrap().unwrap();
    // Each session by name: a token of it may be in the making.
    assert_eq!(changed.facts().collect::<Vec<_>>(), [Revoked::User(user.id, 6), Revoked::Session(first.sid)]);
    assert_eq!(store.credentials_of(user.id).await.unwrap().unwrap().password_hash, "$argon2id$z");
    assert_eq!(store.session(first.sid).await.unwrap().unwrap().ended_at_ms, Some(6_000));
    // Somebody proved to be the owner before that change: the newer password stays. An operator goes before all.
    let late = store.change_user(user.id, password("$argon2id$late", Some(0)), 6_500, 9_000).await;
    assert!(matches!(late, Err(StoreError::Conflict)));
    assert_eq!(store.credentials_of(user.id).await.unwrap().unwrap().password_hash, "$argon2id$z");
    let by_operator = store.change_user(user.id, password("$argon2id$op", None), 6_500, 9_000).await.unwrap().unwrap();
    assert_eq!(store.credentials_of(user.id).await.unwrap().unwrap().password_hash, "$argon2id$op");
    let (second, third) = (new_session(&by_operator.user, 7_000), new_session(&by_operator.user, 7_001));
    store.insert_session(second.clone()).await.unwrap();
    store.insert_session(third.clone()).await.unwrap();
    let before = last_revision(store).await;
    let out = store.change_user(user.id, UserChange::SignOut, 8_000, 9_000).await.unwrap().unwrap();
    assert_eq!((out.user.role, out.user.is_active, out.user.tokens_not_before_s), (Role::Candidat, true, 8));
    assert_eq!(store.session(second.sid).await.unwrap().unwrap().ended_at_ms, Some(8_000));
    assert!(out.sessions.len() == 2 && out.sessions.contains(&second.sid) && out.sessions.contains(&third.sid));
    assert_eq!(facts_since(store, before).await, out.facts().collect::<Vec<_>>());
    // Inactive accounts change no password.
    store.change_user(user.id, UserChange::Active(false), 9_000, 9_000).await.unwrap();
    let off = store.change_user(user.id, password("$argon2id$off", Some(9)), 9_500, 9_000).await;
    assert!(matches!(off, Err(StoreError::Conflict)));
}

async fn api_keys_live_until_revoked_expired_or_orphaned(store: &dyn IdentityStore) {
    let user = store.insert_user(NewUser { role: Role::Recruteur, ..new_user("jean") }).await.unwrap();
    let good = store.insert_api_key(new_api_key(&user, "aaaaaaaa", None)).await.unwrap();
    assert_eq!((good.routes.len(), good.role, good.user, good.created_by), (2, Role::Recruteur, user.id, None));
    assert!(matches!(store.insert_api_key(new_api_key(&user, "aaaaaaaa", None)).await, Err(StoreError::Conflict)));
    let nobody = User { id: UserId(999), ..user.clone() };
    assert!(matches!(store.insert_api_key(new_api_key(&nobody, "x", None)).await, Err(StoreError::Conflict)));
    let brief = store.insert_api_key(new_api_key(&user, "bbbbbbbb", Some(5_000))).await.unwrap();
    let from = ApiKeyId(good.id.0 - 1);
    let usable = async |now_ms| {
        let found = store.usable_api_keys_since(from, now_ms, 10).await.unwrap();
        found.into_iter().map(|usable| usable.key.id).collect::<Vec<_>>()
    };
    assert_eq!(usable(4_999).await, [good.id, brief.id]);
    assert_eq!(usable(5_000).await, [good.id]);
    let first = store.usable_api_keys_since(from, 0, 1).await.unwrap().remove(0);
    assert_eq!((first.hash, first.email.as_str(), first.key), ([9; 32], "jean@Example.com", good.clone()));
    store.touch_api_keys(&[(good.id, 7_000), (brief.id, 3_000), (ApiKeyId(999), 1)]).await.unwrap();
    store.touch_api_keys(&[(good.id, 6_000)]).await.unwrap();
    let listed = store.api_keys(from, 10).await.unwrap();
    assert_eq!(listed.iter().map(|key| key.last_used_at_ms).collect::<Vec<_>>(), [Some(7_000), Some(3_000)]);
    let before = last_revision(store).await;
    assert!(store.revoke_api_key(brief.id, 8_000, 9_000).await.unwrap());
    assert!(!store.revoke_api_key(brief.id, 8_500, 9_000).await.unwrap());
    assert_eq!(facts_since(store, before).await, [Revoked::ApiKey(brief.id)]);
    // Other changes leave an account's keys alone; a deactivated account loses them for good.
    let kept = store.change_user(user.id, UserChange::SignOut, 8_000, 9_000).await.unwrap().unwrap();
    assert_eq!(kept.api_keys, []);
    assert_eq!(usable(0).await, [good.id]);
    let before = last_revision(store).await;
    let lost = store.change_user(user.id, UserChange::Active(false), 9_000, 9_000).await.unwrap().unwrap();
    assert_eq!(lost.api_keys, [good.id]);
    assert_eq!(facts_since(store, before).await, lost.facts().collect::<Vec<_>>());
    store.change_user(user.id, UserChange::Active(true), 10_000, 9_000).await.unwrap();
    assert!(usable(0).await.is_empty());
    assert_eq!(store.api_keys(from, 1).await.unwrap()[0].revoked_at_ms, Some(9_000));
}

async fn no_api_key_has_a_role_above_its_account(store: &dyn IdentityStore) {
    let user = store.insert_user(NewUser { role: Role::Recruteur, ..new_user("odile") }).await.unwrap();
    let key = |prefix: &str, role| NewApiKey { role, ..new_api_key(&user, prefix, None) };
    assert!(matches!(store.insert_api_key(key("cccccccc", Role::Admin)).await, Err(StoreError::Conflict)));
    let equal = store.insert_api_key(key("dddddddd", Role::Recruteur)).await.unwrap();
    let lower = store.insert_api_key(key("eeeeeeee", Role::Candidat)).await.unwrap();
    let from = ApiKeyId(equal.id.0 - 1);
    store.change_user(user.id, UserChange::Role(Role::Admin), 2_000, 9_000).await.unwrap();
    let highest = store.insert_api_key(key("ffffffff", Role::Admin)).await.unwrap();
    assert_eq!(store.usable_api_keys_since(from, 0, 10).await.unwrap().len(), 3);
    let before = last_revision(store).await;
    let lost = store.change_user(user.id, UserChange::Role(Role::Candidat), 3_000, 9_000).await.unwrap().unwrap();
    assert_eq!((lost.role_before, lost.api_keys), (Role::Admin, vec![equal.id, highest.id]));
    let facts = facts_since(store, before).await;
    let ended = facts.into_iter().filter_map(|fact| if let Revoked::ApiKey(id) = fact { Some(id) } else { None });
    assert_eq!(ended.collect::<BTreeSet<_>>(), BTreeSet::from([equal.id, highest.id]));
    let usable = store.usable_api_keys_since(from, 0, 10).await.unwrap();
    assert_eq!(usable.into_iter().map(|usable| usable.key.id).collect::<Vec<_>>(), [lower.id]);
}

async fn the_audit_trail_is_one_chain(store: &dyn IdentityStore) {
    let start = store.audit_head().await.unwrap();
    assert_eq!((start.anchor_seq, start.last_seq, start.last_hash), (0, 0, [0; 32]));
    let first = store.append_audit(vec![new_entry(1_000), new_entry(2_000)]).await.unwrap();
    let second = store.append_audit(vec![new_entry(3_000)]).await.unwrap();
    let all = store.audit_since(0, 10).await.unwrap();
    assert_eq!(all, [first, second].concat());
    let (mut seq, mut hash) = (0, [0; 32]);
    for record in &all {
        assert!(record.follows(seq, &hash));
        (seq, hash) = (record.seq, record.hash);
    }
    assert_eq!(store.audit_since(1, 1).await.unwrap(), [all[1].clone()]);
    assert_eq!(store.trim_audit(2_500).await.unwrap(), 2);
    assert_eq!(store.trim_audit(2_500).await.unwrap(), 0);
    let head = store.audit_head().await.unwrap();
    assert_eq!((head.anchor_seq, head.anchor_hash, head.last_seq, head.last_hash), (2, all[1].hash, 3, hash));
    assert_eq!(store.trim_audit(9_000).await.unwrap(), 1);
    let next = store.append_audit(vec![new_entry(4_000)]).await.unwrap().remove(0);
    assert!(next.follows(3, &hash));
    assert_eq!(next.id().as_deref(), Some("id-4000"));
    let text: serde_json::Value = serde_json::from_str(&next.entry).unwrap();
    assert_eq!((text["seq"].as_i64(), text["event"].as_str()), (Some(4), Some("authn_login_success")));
}

async fn a_counter_moves_once(store: &dyn IdentityStore) {
    let user = store.insert_user(new_user("carl")).await.unwrap();
    let session = new_session(&user, 5_000);
    let sid = session.sid;
    assert!(store.insert_session(session).await.unwrap().is_empty());
    assert!(store.rotate_session(sid, 0, 6_000).await.unwrap());
    assert!(!store.rotate_session(sid, 0, 6_000).await.unwrap());
    let now = store.session(sid).await.unwrap().unwrap();
    assert_eq!((now.counter, now.last_used_at_ms, now.ended_at_ms), (1, 6_000, None));
    assert!(store.end_session(sid, 7_000, 9_000).await.unwrap());
    assert!(!store.end_session(sid, 8_000, 9_000).await.unwrap());
    assert!(!store.rotate_session(sid, 1, 8_000).await.unwrap());
    assert_eq!(store.session(sid).await.unwrap().unwrap().ended_at_ms, Some(7_000));
}

async fn room_is_made_by_age_and_idle_sessions_take_none(store: &dyn IdentityStore) {
    let user = store.insert_user(new_user("dora")).await.unwrap();
    let (first, second, third) = (new_session(&user, 1_000), new_session(&user, 2_000), new_session(&user, 3_000));
    let (first_sid, third_sid) = (first.sid, third.sid);
    assert!(store.insert_session(first).await.unwrap().is_empty());
    assert!(store.insert_session(second).await.unwrap().is_empty());
    assert_eq!(store.insert_session(third).await.unwrap(), [first_sid]);
    assert!(store.rotate_session(third_sid, 0, 150_000).await.unwrap());
    // The second is idle by now, so the fourth fits beside the third.
    assert!(store.insert_session(new_session(&user, 150_000)).await.unwrap().is_empty());
    assert_eq!(store.session(third_sid).await.unwrap().unwrap().ended_at_ms, None);
}

async fn a_changed_account_loses_its_sessions(store: &dyn IdentityStore) {
    let user = store.insert_user(new_user("emil")).await.unwrap();
    let session = new_session(&user, 5_000);
    let sid = session.sid;
    store.insert_session(session).await.unwrap();
    let before = store.revocations_since(0, 100).await.unwrap().last().map_or(0, |fact| fact.revision);
    let changed = store.change_user(user.id, UserChange::Role(Role::Admin), 6_500, 9_000).await.unwrap().unwrap();
    assert_eq!((changed.role_before, changed.api_keys), (Role::Candidat, vec![]));
    let changed = changed.user;
    assert_eq!((changed.role, changed.tokens_not_before_s, changed.is_active), (Role::Admin, 6, true));
    assert_eq!(store.session(sid).await.unwrap().unwrap().ended_at_ms, Some(6_500));
    let off = store.change_user(user.id, UserChange::Active(false), 6_900, 9_000).await.unwrap().unwrap();
    assert_eq!(off.role_before, Role::Admin);
    let off = off.user;
    assert_eq!((off.role, off.tokens_not_before_s, off.is_active), (Role::Admin, 7, false));
    assert_eq!(
        facts_since(store, before).await,
        [Revoked::User(user.id, 6), Revoked::Session(sid), Revoked::User(user.id, 7)]
    );
    // A log-in that read the account before either change opens nothing.
    for stale in [&user, &changed, &off] {
        assert!(matches!(store.insert_session(new_session(stale, 7_000)).await, Err(StoreError::Conflict)));
    }
    assert_eq!(store.change_user(UserId(999), UserChange::Active(true), 1, 1).await.unwrap(), None);
}

async fn a_purge_takes_what_is_over_and_revisions_go_on(store: &dyn IdentityStore) {
    let user = store.insert_user(new_user("fred")).await.unwrap();
    let session = new_session(&user, 5_000);
    let sid = session.sid;
    store.insert_session(session).await.unwrap();
    store.end_session(sid, 6_000, 9_000).await.unwrap();
    let last = store.revocations_since(0, 100).await.unwrap().last().unwrap().revision;
    store.purge(9_000_000).await.unwrap();
    assert_eq!(store.session(sid).await.unwrap(), None);
    assert_eq!(store.revocations_since(last - 1, 100).await.unwrap().len(), 1);
    store.purge(9_001_000).await.unwrap();
    assert!(store.revocations_since(0, 100).await.unwrap().is_empty());
    store.end_session(sid, 9_002_000, 99_000).await.unwrap();
    let fresh = store.revocations_since(last, 100).await.unwrap();
    assert_eq!((fresh.len(), fresh[0].until_s), (1, 99_000));
}

async fn keeps_the_contract(store: &dyn IdentityStore) {
    accounts_have_one_address_each(store).await;
    a_hash_is_replaced_when_it_is_still_the_same(store).await;
    the_greatest_bcrypt_cost_of_active_accounts_is_known(store).await;
    a_counter_moves_once(store).await;
    sessions_are_listed_with_what_is_known_of_them(store).await;
    room_is_made_by_age_and_idle_sessions_take_none(store).await;
    a_changed_account_loses_its_sessions(store).await;
    a_password_or_a_sign_out_ends_sessions_too(store).await;
    every_kind_of_fact_comes_back(store).await;
    api_keys_live_until_revoked_expired_or_orphaned(store).await;
    no_api_key_has_a_role_above_its_account(store).await;
    the_audit_trail_is_one_chain(store).await;
    a_purge_takes_what_is_over_and_revisions_go_on(store).await;
}

#[tokio::test]
async fn the_embedded_store_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("identity.db")).unwrap();
    keeps_the_contract(&store).await;
}

#[tokio::test]
async fn the_postgres_store_keeps_the_contract() {
    let database = Database::create().await;
    keeps_the_contract(&postgres::testing::open(&database.url()).await).await;
}
