//! Many callers at once, on several pools as replicas have them: facts and records in order, no call in another's way.

use std::sync::Arc;

use super::testing::{open, options};
use super::*;
use crate::model::identity::KeyId;
use crate::model::role::Role;
use crate::store::SessionKey;
use crate::testkit::servers::Database;
use crate::testkit::wait::{PATIENCE, until};

/// The test that fails without the lock: many writers, and a reader that only looks forward.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_that_looks_forward_misses_no_fact() {
    const WRITERS: usize = 8;
    const EACH: usize = 60;
    let database = Database::create().await;
    let wide = PostgresOptions { connections: WRITERS + 1, ..options(&database.url()) };
    let store = Arc::new(PostgresStore::open(&wide, Tables::Migrate, &Clock::system()).await.unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for n in 0..EACH {
                store.revoke(Revoked::Key(KeyId(format!("{writer}-{n}").into())), 9_000).await.unwrap();
            }
        });
    }
    let seen = tokio::sync::Mutex::new((0, 0));
    until("every fact", PATIENCE, || async {
        let mut seen = seen.lock().await;
        let found = store.revocations_since(seen.1, 1_000).await.unwrap();
        *seen = (seen.0 + found.len(), found.last().map_or(seen.1, |fact| fact.revision));
        (seen.0 == WRITERS * EACH).then_some(())
    })
    .await;
    writers.join_all().await;
}

fn session_of(user: &User, now_ms: i64) -> NewSession {
    NewSession {
        sid: SessionId(uuid::Uuid::new_v4()),
        user: user.clone(),
        mac_key: SessionKey([1; 32]),
        now_ms,
        ends_at_ms: now_ms + 1_000_000,
        idle_since_ms: 0,
        keep: 2,
        revoked_until_s: 9_000,
        address: None,
        user_agent: None,
    }
}

fn key_of(user: &User) -> NewApiKey {
    NewApiKey {
        name: "import".to_owned(),
        prefix: uuid::Uuid::new_v4().to_string(),
        hash: [1; 32],
        user: user.id,
        role: Role::Candidat,
        routes: Vec::new(),
        created_by: None,
        created_at_ms: 1,
        expires_at_ms: None,
    }
}

/// Everything that may lock rows of one account, in turns. A conflict is an answer; waiting for one another is not.
async fn one_replica(store: Arc<PostgresStore>, id: UserId) -> Result<(), StoreError> {
    for turn in 0..15_i64 {
        let user = store.user(id).await?.expect("the account");
        let session = session_of(&user, turn);
        let sid = session.sid;
        match store.insert_session(session).await {
            Ok(_) | Err(StoreError::Conflict) => {}
            Err(error) => return Err(error),
        }
        store.rotate_session(sid, 0, turn).await?;
        match store.insert_api_key(key_of(&user)).await {
            Ok(key) => store.touch_api_keys(&[(key.id, turn), (ApiKeyId(key.id.0 - 1), turn)]).await?,
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error),
        }
        let change = match turn % 4 {
            0 => UserChange::Active(false),
            1 => UserChange::Active(true),
            2 => UserChange::SignOut,
            _ => UserChange::Role(Role::Recruteur),
        };
        store.change_user(id, change, turn, 9_000).await?;
        store.end_session(sid, turn, 9_000).await?;
        store.purge(1).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_call_waits_for_another_that_waits_for_it() {
    let database = Database::create().await;
    let first = Arc::new(open(&database.url()).await);
    let second = Arc::new(open(&database.url()).await);
    let user = NewUser {
        email_key: "anna".to_owned(),
        email: "anna".to_owned(),
        full_name: "Anna".to_owned(),
        role: Role::Candidat,
        password_hash: "x".to_owned(),
        created_at_ms: 1,
    };
    let anna = first.insert_user(user).await.unwrap();
    let mut replicas = tokio::task::JoinSet::new();
    for store in [&first, &second, &first, &second, &first, &second] {
        replicas.spawn(one_replica(store.clone(), anna.id));
    }
    for outcome in replicas.join_all().await {
        outcome.unwrap();
    }
    // An account that was switched off last has no living session and no good key.
    first.change_user(anna.id, UserChange::Active(false), 100, 9_000).await.unwrap();
    assert!(first.sessions_of(anna.id, 0, -1).await.unwrap().is_empty());
    assert!(first.api_keys(ApiKeyId(0), 1_000).await.unwrap().iter().all(|key| key.revoked_at_ms.is_some()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_audit_trail_of_several_replicas_is_one_chain() {
    let database = Database::create().await;
    let mut replicas = tokio::task::JoinSet::new();
    for replica in 0..4 {
        let store = open(&database.url()).await;
        replicas.spawn(async move {
            for n in 0..20 {
                let entry = AuditEntry {
                    at_ms: n,
                    event: format!("event-{replica}-{n}"),
                    actor: None,
                    subject: None,
                    address: None,
                    request_id: None,
                    details: Some("a\0b".to_owned()),
                    id: format!("{replica}-{n}"),
                };
                store.append_audit(vec![entry; 3]).await.unwrap();
            }
        });
    }
    replicas.join_all().await;
    let store = open(&database.url()).await;
    let (mut seq, mut hash) = (0, [0; 32]);
    for record in store.audit_since(0, 1_000).await.unwrap() {
        assert!(record.follows(seq, &hash), "{}", record.seq);
        (seq, hash) = (record.seq, record.hash);
    }
    let head = store.audit_head().await.unwrap();
    assert_eq!((seq, head.last_seq, head.last_hash), (240, 240, hash));
}
