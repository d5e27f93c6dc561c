//! What every store must do, whatever keeps it. Each store runs the same cases.

use super::embedded::EmbeddedStore;
use super::*;
use uuid::Uuid;

fn new_user(name: &str) -> NewUser {
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
        now_ms,
        ends_at_ms: now_ms + 1_000_000,
        idle_since_ms: now_ms - 100_000,
        keep: 2,
        revoked_until_s: 9_000,
    }
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
    let before = store.revocations_since(0).await.unwrap().last().map_or(0, |fact| fact.revision);
    let changed = store.change_user(user.id, UserChange::Role(Role::Admin), 6_500, 9_000).await.unwrap().unwrap();
    assert_eq!((changed.role, changed.tokens_not_before_s, changed.is_active), (Role::Admin, 6, true));
    assert_eq!(store.session(sid).await.unwrap().unwrap().ended_at_ms, Some(6_500));
    let off = store.change_user(user.id, UserChange::Active(false), 6_900, 9_000).await.unwrap().unwrap();
    assert_eq!((off.role, off.tokens_not_before_s, off.is_active), (Role::Admin, 7, false));
    let facts: Vec<Revoked> =
        store.revocations_since(before).await.unwrap().into_iter().map(|fact| fact.revoked).collect();
    assert_eq!(facts, [Revoked::User(user.id, 6), Revoked::User(user.id, 7)]);
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
    let last = store.revocations_since(0).await.unwrap().last().unwrap().revision;
    store.purge(9_000_000).await.unwrap();
    assert_eq!(store.session(sid).await.unwrap(), None);
    assert_eq!(store.revocations_since(last - 1).await.unwrap().len(), 1);
    store.purge(9_001_000).await.unwrap();
    assert!(store.revocations_since(0).await.unwrap().is_empty());
    store.end_session(sid, 9_002_000, 99_000).await.unwrap();
    let fresh = store.revocations_since(last).await.unwrap();
    assert_eq!((fresh.len(), fresh[0].until_s), (1, 99_000));
}

#[tokio::test]
async fn the_embedded_store_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("identity.db")).unwrap();
    accounts_have_one_address_each(&store).await;
    a_counter_moves_once(&store).await;
    room_is_made_by_age_and_idle_sessions_take_none(&store).await;
    a_changed_account_loses_its_sessions(&store).await;
    a_purge_takes_what_is_over_and_revisions_go_on(&store).await;
}
