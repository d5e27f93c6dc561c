//! What ends sessions and revokes tokens, on the service itself.

use super::testing::{PASSWORD, World};
use super::*;
use crate::model::identity::{Credential, Identity, UserId};
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::store::{ApiKeyStore, NewApiKey, RevocationStore, Revoked, UserChange, UserStore};

const ANNA: UserId = UserId(1);
const ADMIN: UserId = UserId(2);
const NEW: &str = "another long enough one";

fn here() -> Origin {
    Origin::default()
}

fn only(role: Option<Role>, is_active: Option<bool>) -> AccessChange {
    AccessChange { role, is_active }
}

async fn world() -> (World, TokenPair) {
    let world = World::new().await;
    let pair = world.register("anna@example.com").await.unwrap();
    world.register("root@example.com").await.unwrap();
    (world, pair)
}

async fn change_password(world: &World, current: &str) -> Result<TokenPair, Rejection> {
    let new = NewPassword::parse(NEW.into(), None).unwrap();
    world.accounts.change_password(ANNA, current.into(), new, &here()).await
}

#[tokio::test]
async fn a_deactivated_account_s_keys_are_refused_at_once() {
    let (world, _) = world().await;
    let new_key = |prefix: &str, user| NewApiKey {
        name: "import".to_owned(),
        prefix: prefix.to_owned(),
        hash: [1; 32],
        user,
        role: Role::Candidat,
        routes: Vec::new(),
        created_by: None,
        created_at_ms: 0,
        expires_at_ms: None,
    };
    let hers = world.store.insert_api_key(new_key("one", ANNA)).await.unwrap();
    let other = world.store.insert_api_key(new_key("two", ADMIN)).await.unwrap();
    world.accounts.change_access(ADMIN, ANNA, only(Some(Role::Recruteur), None), &here()).await.unwrap();
    let covered = |key: &crate::store::ApiKey| {
        world.accounts.revocations().covers(&Identity {
            user: key.user,
            email: "a@b.fr".into(),
            role: key.role,
            credential: Credential::ApiKey(key.id),
            issued_at: 0,
            expires_at: i64::MAX,
        })
    };
    assert!(!covered(&hers), "a higher role takes no keys");
    world.told();
    world.accounts.change_access(ADMIN, ANNA, only(None, Some(false)), &here()).await.unwrap();
    assert!(covered(&hers) && !covered(&other));
    assert_eq!(
        world.told(),
        [
            "authn_token_revoked user:2 user:1".to_owned(),
            format!("authn_api_key_revoked user:2 api_key:{}", hers.id),
            "user_updated user:2 user:1".to_owned(),
            "authz_admin user:2 user:1".to_owned(),
        ]
    );
    assert_eq!(world.events("authn_api_key_revoked").as_deref(), Some("1"));
    // Every fact that is felt here is one that others will pull.
    let facts = world.store.revocations_since(0, 100).await.unwrap();
    assert!(facts.iter().any(|fact| fact.revoked == Revoked::ApiKey(hers.id)), "{facts:?}");
}

#[tokio::test]
async fn a_password_change_costs_one_check_right_or_wrong() {
    let (world, old) = world().await;
    let checks = || world.accounts.hashes().checks();
    let before = checks();
    assert_eq!(change_password(&world, "wrong").await.map(|_| ()), Err(Rejection::InvalidCredentials));
    assert_eq!(checks() - before, 1);
    assert!(world.check(&old).is_ok());
    let pair = change_password(&world, PASSWORD).await.unwrap();
    assert_eq!(checks() - before, 2);
    assert_eq!(world.check(&old).map(|_| ()), Err(Rejection::TokenRevoked));
    // In the very same second: the tokens that it gives are good.
    assert!(world.check(&pair).is_ok() && world.refresh(&pair).await.is_ok());
    assert_eq!(world.login("anna@example.com").await.map(|_| ()), Err(Rejection::InvalidCredentials));
    for (event, times) in [
        ("authn_password_change", "1"),
        ("authn_password_change_fail", "1"),
        ("authn_login_fail", "1"),
        ("authn_login_success", "0"),
    ] {
        assert_eq!(world.events(event).as_deref(), Some(times), "{event}");
    }
}

#[tokio::test]
async fn an_account_that_may_not_log_in_changes_no_password() {
    let (world, _) = world().await;
    world.accounts.change_access(ADMIN, ANNA, only(None, Some(false)), &here()).await.unwrap();
    // A token of before, not yet known to be revoked elsewhere.
    assert_eq!(change_password(&world, PASSWORD).await.map(|_| ()), Err(Rejection::TokenRevoked));
    assert_eq!(world.accounts.logout_all(UserId(99), &here()).await, Err(Rejection::TokenRevoked));
}

#[tokio::test]
async fn changes_one_after_the_other_in_one_second_all_count() {
    let (world, first) = world().await;
    let mut pairs = vec![first];
    for role in [Role::Recruteur, Role::Candidat, Role::Admin] {
        world.accounts.change_access(ADMIN, ANNA, only(Some(role), None), &here()).await.unwrap();
        for pair in &pairs {
            assert_eq!(world.check(pair).map(|_| ()), Err(Rejection::TokenRevoked), "{role}");
        }
        let pair = world.login("anna@example.com").await.unwrap();
        assert_eq!(world.check(&pair).unwrap().role, role);
        pairs.push(pair);
    }
}

#[tokio::test]
async fn sessions_are_told_with_their_ends() {
    let (world, first) = world().await;
    let day_ms = 86_400_000;
    let sid = world.check(&first).unwrap().session().unwrap();
    let only = |sessions: Vec<LivingSession>| sessions.into_iter().find(|one| one.sid == sid).unwrap();
    let one = only(world.accounts.own_sessions(ANNA).await.unwrap());
    assert_eq!(one.expires_at_ms - one.created_at_ms, 7 * day_ms);
    let mut pair = first;
    for _ in 0..4 {
        world.pass(6 * 86_400);
        pair = world.refresh(&pair).await.unwrap();
    }
    let one = only(world.accounts.own_sessions(ANNA).await.unwrap());
    assert_eq!(one.last_used_at_ms - one.created_at_ms, 24 * day_ms);
    assert_eq!(one.expires_at_ms - one.created_at_ms, 30 * day_ms, "the absolute end");
    world.pass(6 * 86_400);
    assert!(world.accounts.own_sessions(ANNA).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_ends_of_one_session_one_counts() {
    let (world, pair) = world().await;
    let sid = world.check(&pair).unwrap().session().unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let accounts = world.accounts.clone();
            tokio::spawn(async move { accounts.end_own_session(ANNA, sid, &Origin::default()).await })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => done += 1,
            Err(rejection) => assert_eq!(rejection, Rejection::NotFound),
        }
    }
    assert_eq!((done, world.events("authn_token_revoked").as_deref()), (1, Some("1")));
}

#[tokio::test]
async fn a_broken_store_is_503_and_tokens_keep_working() {
    let (world, pair) = world().await;
    let sid = world.check(&pair).unwrap().session().unwrap();
    let path = world.folder.path().join("identity.db");
    let break_it = "DROP TABLE revocations; DROP TABLE sessions; DROP TABLE api_keys; DROP TABLE users";
    rusqlite::Connection::open(&path).unwrap().execute_batch(break_it).unwrap();
    let accounts = &world.accounts;
    let answers = [
        accounts.own_sessions(ANNA).await.map(|_| ()),
        accounts.end_own_session(ANNA, sid, &here()).await,
        accounts.logout_all(ANNA, &here()).await,
        change_password(&world, PASSWORD).await.map(|_| ()),
        accounts.users(ADMIN, UserId(0), 10, &here()).await.map(|_| ()),
        accounts.user(ADMIN, ANNA, &here()).await.map(|_| ()),
        accounts.change_access(ADMIN, ANNA, only(Some(Role::Admin), None), &here()).await.map(|_| ()),
        accounts.sessions_of(ADMIN, ANNA, &here()).await.map(|_| ()),
        accounts.sign_out(ADMIN, ANNA, &here()).await,
        accounts.end_session_as_admin(ADMIN, ANNA, sid, &here()).await,
    ];
    for answer in answers {
        assert!(matches!(answer, Err(Rejection::AuthUnavailable(_))), "{answer:?}");
    }
    // What was not kept is not half done.
    assert!(world.check(&pair).is_ok());
    assert_eq!(world.events("authz_admin").as_deref(), Some("0"));
}

#[tokio::test]
async fn what_is_done_is_told_with_who_did_it_and_to_whom() {
    let (world, pair) = world().await;
    let sid = world.check(&pair).unwrap().session().unwrap();
    let accounts = &world.accounts;
    world.told();
    accounts.change_access(ADMIN, ANNA, only(Some(Role::Recruteur), Some(true)), &here()).await.unwrap();
    let expected = ["authn_token_revoked", "user_updated", "authz_admin"].map(|name| format!("{name} user:2 user:1"));
    assert_eq!(world.told(), expected);
    assert_eq!(
        accounts.change_access(ADMIN, ADMIN, only(None, Some(false)), &here()).await,
        Err(Rejection::OwnAccount)
    );
    assert_eq!(world.told(), ["authz_fail user:2 user:2"]);
    accounts.users(ADMIN, UserId(0), 10, &here()).await.unwrap();
    accounts.sessions_of(ADMIN, ANNA, &here()).await.unwrap();
    assert_eq!(world.told(), ["authz_admin user:2 -", "authz_admin user:2 user:1"]);
    assert_eq!(
        accounts.end_session_as_admin(ADMIN, ANNA, sid, &here()).await,
        Err(Rejection::NotFound),
        "ended with the role"
    );
    assert!(world.told().is_empty());
    let next = world.login("anna@example.com").await.unwrap();
    let sid = world.check(&next).unwrap().session().unwrap();
    world.told();
    accounts.end_session_as_admin(ADMIN, ANNA, sid, &here()).await.unwrap();
    assert_eq!(
        world.told(),
        [format!("authn_token_revoked user:2 session:{sid}"), "authz_admin user:2 user:1".to_owned()]
    );
    assert!(change_password(&world, "wrong").await.is_err());
    assert_eq!(world.told(), ["authn_password_change_fail user:1 user:1"]);
    change_password(&world, PASSWORD).await.unwrap();
    let told = world.told();
    assert_eq!(told[..2], ["authn_token_revoked user:1 user:1", "authn_password_change user:1 user:1"]);
    assert!(told.len() == 3 && told[2].starts_with("authn_token_created user:1 session:"), "{told:?}");
    accounts.logout_all(ANNA, &here()).await.unwrap();
    assert_eq!(world.told(), ["authn_token_revoked user:1 user:1"]);
}

/// Two replicas of one store; the clock of the other is five seconds ahead, and the account was made there.
#[tokio::test]
async fn a_clock_that_runs_ahead_keeps_no_token_alive() {
    for change in [UserChange::SignOut, UserChange::Role(Role::Recruteur), UserChange::Active(false)] {
        let world = World::new().await;
        let (ahead, hand) = crate::clock::Clock::manual();
        hand.advance(std::time::Duration::from_secs(5));
        let (_store, other, ..) = super::testing::open(world.folder.path(), ahead.clone()).await;
        let registration = super::testing::registration("anna@example.com", Role::Candidat);
        let pair = other.register(registration, &here()).await.unwrap();
        assert!(world.check(&pair).is_ok());
        world.accounts.change(ADMIN, ANNA, &change, &here()).await.unwrap();
        assert_eq!(world.check(&pair), Err(Rejection::TokenRevoked));
        other.pull().await.unwrap();
        assert_eq!(super::testing::check(&other, &pair, &ahead), Err(Rejection::TokenRevoked));
    }
}

#[tokio::test]
async fn a_newer_password_is_not_overwritten() {
    let (world, _) = world().await;
    let proven = world.store.user(ANNA).await.unwrap().unwrap();
    change_password(&world, PASSWORD).await.unwrap();
    // Somebody who proved the old password before that, and whose hash was ready only now.
    let late = UserChange::Password { hash: "$argon2id$late".into(), proven_at: Some(proven.tokens_not_before_s) };
    assert_eq!(world.accounts.change(ANNA, ANNA, &late, &here()).await, Err(Rejection::InvalidCredentials));
    assert!(world.accounts.login("anna@example.com", NEW.into(), &here()).await.is_ok());
}
