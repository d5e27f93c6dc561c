//! The life of accounts, sessions and tokens.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::testing::{PASSWORD, World, config, open, registration};
use super::*;
use crate::audit::Audit;
use crate::model::identity::UserId;
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::store::embedded::EmbeddedStore;
use crate::store::{IdentityStore, RevocationStore, UserChange, UserStore};
#[tokio::test]
async fn registration_gives_a_session_and_never_an_admin() {
    let world = World::new().await;
    let pair = world.register("Anna@example.com").await.unwrap();
    let identity = world.check(&pair).unwrap();
    assert_eq!((identity.user, &*identity.email, identity.role), (UserId(1), "Anna@example.com", Role::Candidat));
    assert_eq!(pair.expires_in, 3600);
    let again = world.register("ANNA@EXAMPLE.com").await.map(|_| ());
    assert_eq!(again, Err(Rejection::EmailAlreadyUsed));
    let admin =
        world.accounts.register(registration("root@example.com", Role::Admin), &Origin::default()).await.map(|_| ());
    assert_eq!(admin, Err(Rejection::RoleNotAllowed));
    assert_eq!(world.store.users(UserId(0), 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_50_registrations_at_once_one_wins() {
    let world = World::new().await;
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let accounts = world.accounts.clone();
            let email = if n % 2 == 0 { "anna@example.com" } else { "ANNA@example.com" };
            tokio::spawn(async move {
                accounts.register(registration(email, Role::Candidat), &Origin::default()).await.map(|_| ())
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => won += 1,
            Err(rejection) => assert_eq!(rejection, Rejection::EmailAlreadyUsed),
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn every_failed_log_in_costs_one_check_and_looks_the_same() {
    let world = World::new().await;
    world.register("anna@example.com").await.unwrap();
    world.register("bob@example.com").await.unwrap();
    world.store.change_user(UserId(2), UserChange::Active(false), 0, i64::MAX).await.unwrap();
    for (email, password) in [
        ("nobody@example.com", PASSWORD),
        ("not an address", PASSWORD),
        ("anna@example.com", "wrong"),
        ("anna@example.com", ""),
        ("bob@example.com", PASSWORD),
    ] {
        let before = world.accounts.hashes().checks();
        let refused = world.accounts.login(email, password.into(), &Origin::default()).await.map(|_| ());
        assert_eq!(refused, Err(Rejection::InvalidCredentials), "{email}");
        assert_eq!(world.accounts.hashes().checks() - before, 1, "{email}");
    }
    let before = world.accounts.hashes().checks();
    assert!(world.login("ＡNNA@Example.COM").await.is_ok());
    assert_eq!(world.accounts.hashes().checks() - before, 1);
}

#[tokio::test]
async fn two_log_ins_in_one_moment_differ_in_everything() {
    let world = World::new().await;
    world.register("anna@example.com").await.unwrap();
    let (one, two) = (world.login("anna@example.com").await.unwrap(), world.login("anna@example.com").await.unwrap());
    let (first, second) = (world.check(&one).unwrap(), world.check(&two).unwrap());
    assert_ne!(one.access.expose_secret(), two.access.expose_secret());
    assert_ne!(one.refresh.expose_secret(), two.refresh.expose_secret());
    assert!(first.session() != second.session() && first.credential != second.credential);
}

#[tokio::test]
async fn refresh_rotates_and_forgives_for_ten_seconds() {
    let world = World::new().await;
    let first = world.register("anna@example.com").await.unwrap();
    world.pass(60);
    let second = world.refresh(&first).await.unwrap();
    assert_ne!(first.refresh.expose_secret(), second.refresh.expose_secret());
    world.pass(10);
    let repeated = world.refresh(&first).await.unwrap();
    assert_eq!(repeated.refresh.expose_secret(), second.refresh.expose_secret());
    assert_ne!(repeated.access.expose_secret(), second.access.expose_secret());
    let third = world.refresh(&second).await.unwrap();
    for pair in [&first, &second, &third] {
        assert!(world.check(pair).is_ok());
    }
}

#[tokio::test]
async fn a_spent_refresh_token_ends_the_session() {
    let world = World::new().await;
    let other = world.register("anna@example.com").await.unwrap();
    let first = world.login("anna@example.com").await.unwrap();
    let second = world.refresh(&first).await.unwrap();
    world.pass(11);
    assert_eq!(world.refresh(&first).await.map(|_| ()), Err(Rejection::InvalidRefreshToken));
    assert_eq!(world.refresh(&second).await.map(|_| ()), Err(Rejection::InvalidRefreshToken));
    for pair in [&first, &second] {
        assert_eq!(world.check(pair).map(|_| ()), Err(Rejection::TokenRevoked));
    }
    assert!(world.check(&other).is_ok());
    assert!(world.refresh(&other).await.is_ok());
}

#[tokio::test]
async fn two_rotations_back_is_theft_even_within_the_window() {
    let world = World::new().await;
    let first = world.register("anna@example.com").await.unwrap();
    let second = world.refresh(&first).await.unwrap();
    let third = world.refresh(&second).await.unwrap();
    assert_eq!(world.refresh(&first).await.map(|_| ()), Err(Rejection::InvalidRefreshToken));
    assert_eq!(world.refresh(&third).await.map(|_| ()), Err(Rejection::InvalidRefreshToken));
    assert_eq!(world.check(&third).map(|_| ()), Err(Rejection::TokenRevoked));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn refreshes_at_once_all_get_the_same_next_token() {
    let world = World::new().await;
    let first = world.register("anna@example.com").await.unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (accounts, token) = (world.accounts.clone(), first.refresh.clone());
            tokio::spawn(async move {
                accounts.refresh(&token, &Origin::default()).await.unwrap().refresh.expose_secret().to_owned()
            })
        })
        .collect();
    let mut next = Vec::new();
    for task in tasks {
        next.push(task.await.unwrap());
    }
    assert!(next.iter().all(|token| *token == next[0] && token != first.refresh.expose_secret()));
}

#[tokio::test]
async fn other_tokens_do_not_refresh() {
    let world = World::new().await;
    let pair = world.register("anna@example.com").await.unwrap();
    assert_eq!(
        world.accounts.refresh(&pair.access, &Origin::default()).await.map(|_| ()),
        Err(Rejection::WrongTokenType)
    );
    let damaged = format!("{}x", pair.access.expose_secret());
    for token in ["", "garbage", damaged.as_str()] {
        let refused = world.accounts.refresh(&token.into(), &Origin::default()).await.map(|_| ());
        assert_eq!(refused, Err(Rejection::InvalidRefreshToken), "{token:.20}");
    }
}

#[tokio::test]
async fn sessions_end_when_idle_and_in_the_end() {
    let world = World::new().await;
    let day = 86_400;
    let pair = world.register("anna@example.com").await.unwrap();
    world.pass(7 * day);
    assert_eq!(world.refresh(&pair).await.map(|_| ()), Err(Rejection::InvalidRefreshToken));
    let mut pair = world.login("anna@example.com").await.unwrap();
    for _ in 0..4 {
        world.pass(6 * day);
        pair = world.refresh(&pair).await.unwrap();
    }
    world.pass(6 * day - 60);
    let last = world.refresh(&pair).await.unwrap();
    assert_eq!(last.expires_in, 60);
    world.pass(60);
    assert_eq!(world.refresh(&last).await.map(|_| ()), Err(Rejection::InvalidRefreshToken));
}

#[tokio::test]
async fn the_eleventh_session_ends_the_oldest() {
    let world = World::new().await;
    let mut pairs = vec![world.register("anna@example.com").await.unwrap()];
    for _ in 0..MAX_SESSIONS {
        world.pass(1);
        pairs.push(world.login("anna@example.com").await.unwrap());
    }
    assert_eq!(world.check(&pairs[0]).map(|_| ()), Err(Rejection::TokenRevoked));
    assert_eq!(world.refresh(&pairs[0]).await.map(|_| ()), Err(Rejection::InvalidRefreshToken));
    for pair in &pairs[1..] {
        assert!(world.check(pair).is_ok());
    }
}

#[tokio::test]
async fn log_out_is_felt_at_once_and_survives_a_restart() {
    let world = World::new().await;
    let (gone, stays) =
        (world.register("anna@example.com").await.unwrap(), world.login("anna@example.com").await.unwrap());
    world.logout(&gone).await;
    assert_eq!(world.check(&gone).map(|_| ()), Err(Rejection::TokenRevoked));
    let World { folder, store, accounts, clock, hand, .. } = world;
    drop((store, accounts));
    let (store, accounts, metrics, told) = open(folder.path(), clock.clone()).await;
    let told = parking_lot::Mutex::new(told);
    let world = World { folder, store, accounts, clock, hand, metrics, told };
    assert_eq!(world.check(&gone).map(|_| ()), Err(Rejection::TokenRevoked));
    assert_eq!(world.refresh(&gone).await.map(|_| ()), Err(Rejection::InvalidRefreshToken));
    assert!(world.check(&stays).is_ok());
    assert!(world.refresh(&stays).await.is_ok());
    assert!(world.login("anna@example.com").await.is_ok());
}

#[tokio::test]
async fn a_change_by_another_process_is_pulled() {
    let world = World::new().await;
    let before = world.register("anna@example.com").await.unwrap();
    let other_process = EmbeddedStore::open(&world.folder.path().join("identity.db")).unwrap();
    let now_ms = world.clock.wall().as_millisecond();
    other_process.change_user(UserId(1), UserChange::Role(Role::Recruteur), now_ms, i64::MAX).await.unwrap();
    world.accounts.pull().await.unwrap();
    assert_eq!(world.check(&before).map(|_| ()), Err(Rejection::TokenRevoked));
    assert_eq!(world.refresh(&before).await.map(|_| ()), Err(Rejection::InvalidRefreshToken));
    // In the very same second: the new token is good, with the new role.
    let after = world.login("anna@example.com").await.unwrap();
    assert_eq!(world.check(&after).unwrap().role, Role::Recruteur);
    other_process.change_user(UserId(1), UserChange::Active(false), now_ms, i64::MAX).await.unwrap();
    world.accounts.pull().await.unwrap();
    assert_eq!(world.check(&after).map(|_| ()), Err(Rejection::TokenRevoked));
    assert_eq!(world.login("anna@example.com").await.map(|_| ()), Err(Rejection::InvalidCredentials));
    assert_eq!(world.accounts.me(UserId(1)).await.map(|_| ()), Err(Rejection::TokenRevoked));
}

#[tokio::test]
async fn the_background_task_pulls() {
    let world = World::new().await;
    let pair = world.register("anna@example.com").await.unwrap();
    let now_ms = world.clock.wall().as_millisecond();
    world.store.change_user(UserId(1), UserChange::Active(false), now_ms, i64::MAX).await.unwrap();
    assert!(world.check(&pair).is_ok());
    world.accounts.spawn_background(&tokio::runtime::Handle::current());
    let seen = tokio::time::timeout(Duration::from_secs(30), async {
        while world.check(&pair).is_ok() {
            tokio::task::yield_now().await;
        }
    });
    assert!(seen.await.is_ok());
}

#[tokio::test]
async fn revocations_leave_memory_and_store_in_time() {
    let world = World::new().await;
    let pair = world.register("anna@example.com").await.unwrap();
    world.logout(&pair).await;
    assert_eq!(world.accounts.revocations().len(), 1);
    world.pass(3600 + 30);
    world.accounts.pull().await.unwrap();
    assert_eq!(world.accounts.revocations().len(), 1);
    assert_eq!(world.check(&pair).map(|_| ()), Err(Rejection::TokenExpired));
    // The fact outlives the token: another gateway, or this one before a restart, may have made longer ones.
    world.pass(MAX_ACCESS_TTL.as_secs());
    world.accounts.pull().await.unwrap();
    assert!(world.accounts.revocations().is_empty());
    world.store.purge(world.clock.wall().as_millisecond()).await.unwrap();
    assert!(world.store.revocations_since(0, 100).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_broken_store_is_503_and_tokens_keep_working() {
    let world = World::new().await;
    let pair = world.register("anna@example.com").await.unwrap();
    let break_it = "DROP TABLE revocations; DROP TABLE sessions; DROP TABLE users";
    let path = world.folder.path().join("identity.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(break_it).unwrap();
    let identity = world.check(&pair).unwrap();
    let answers = [
        world.register("bob@example.com").await.map(|_| ()),
        world.login("anna@example.com").await.map(|_| ()),
        world.refresh(&pair).await.map(|_| ()),
        world.accounts.me(identity.user).await.map(|_| ()),
        world.accounts.logout(identity.user, identity.session().unwrap(), &Origin::default()).await,
    ];
    for answer in answers {
        assert!(matches!(answer, Err(Rejection::AuthUnavailable(_))), "{answer:?}");
    }
    assert!(world.accounts.pull().await.is_err());
    assert!(!world.accounts.store_is_up());
    assert_eq!(world.metric(r#"gateway_store_up{store="identity"}"#).as_deref(), Some("0"));
    // A log-out that was not kept is not half done: the client can try again.
    assert!(world.check(&pair).is_ok());
}

#[tokio::test]
async fn an_impossible_setting_is_said() {
    let world = World::new().await;
    let refused = |config| {
        let (store, clock) = (world.store.clone(), world.clock.clone());
        Accounts::open(store, "secret".into(), config, clock, world.metrics.clone(), Audit::off())
    };
    let long = AccountsConfig { access_ttl: Duration::from_secs(31 * 86_400), ..config() };
    assert!(refused(long).await.err().unwrap().to_string().contains("access tokens"));
    let cheap = AccountsConfig { hash_cost: HashCost { memory_kib: 1, passes: 1, lanes: 1 }, ..config() };
    assert!(refused(cheap).await.err().unwrap().to_string().contains("cost"));
}
