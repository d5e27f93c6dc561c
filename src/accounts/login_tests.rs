//! Log-in under attack, and with hashes of the earlier gateway.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::testing::{PASSWORD, World};
use super::*;
use crate::model::identity::UserId;
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::store::{Admission, Claim, LocalThrottle, NewUser, Place, StoreError, ThrottleStore, UserChange, UserStore};
use crate::testkit::wait::{PATIENCE, until};

fn from(address: &str) -> Origin {
    Origin::new(address.parse().ok(), None, None)
}

async fn attempt(world: &World, email: &str, password: &str, address: &str) -> Result<(), Rejection> {
    world.accounts.login(email, password.into(), &from(address)).await.map(|_| ())
}

/// An account as adopted from the earlier gateway.
async fn adopt(world: &World, email: &str, password_hash: &str) -> UserId {
    let user = NewUser {
        email_key: email.into(),
        email: email.into(),
        full_name: "Anna Martin".into(),
        role: Role::Candidat,
        password_hash: password_hash.into(),
        created_at_ms: 0,
    };
    world.store.insert_user(user).await.unwrap().id
}

async fn hash_of(world: &World, email: &str) -> String {
    world.store.credentials(email).await.unwrap().unwrap().password_hash
}

#[tokio::test]
async fn bcrypt_accounts_log_in_and_get_an_argon2_hash() {
    let world = World::new().await;
    for (kind, email) in [("$2a$", "a@example.com"), ("$2b$", "b@example.com"), ("$2y$", "c@example.com")] {
        let hash = bcrypt::hash_with_salt(PASSWORD, 4, [5; 16]).unwrap().to_string().replace("$2b$", kind);
        adopt(&world, email, &hash).await;
        assert_eq!(attempt(&world, email, "wrong", "192.0.2.1").await, Err(Rejection::InvalidCredentials));
        assert_eq!(hash_of(&world, email).await, hash);
        world.login(email).await.unwrap();
        let upgraded = until("an Argon2id hash", PATIENCE, || async {
            Some(hash_of(&world, email).await).filter(|hash| hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"))
        });
        let upgraded = upgraded.await;
        world.login(email).await.unwrap();
        assert_eq!(hash_of(&world, email).await, upgraded);
        assert_eq!(attempt(&world, email, "wrong", "192.0.2.1").await, Err(Rejection::InvalidCredentials));
    }
}

#[tokio::test]
async fn a_long_password_of_the_earlier_gateway_works_before_and_after() {
    let world = World::new().await;
    let long = "mot de passe très long ".repeat(5);
    adopt(&world, "a@example.com", &bcrypt::hash_with_salt(&long.as_bytes()[..72], 4, [5; 16]).unwrap().to_string())
        .await;
    assert_eq!(attempt(&world, "a@example.com", &long, "192.0.2.1").await, Ok(()));
    until("an Argon2id hash", PATIENCE, || async {
        hash_of(&world, "a@example.com").await.starts_with("$argon2").then_some(())
    })
    .await;
    assert_eq!(attempt(&world, "a@example.com", &long, "192.0.2.1").await, Ok(()));
    let cut: String = long.chars().take(70).collect();
    assert_eq!(attempt(&world, "a@example.com", &cut, "192.0.2.1").await, Err(Rejection::InvalidCredentials));
}

#[tokio::test]
async fn the_greatest_bcrypt_cost_that_is_left_is_known() {
    let world = World::new().await;
    assert_eq!(world.store.bcrypt_cost(14).await.unwrap(), None);
    let hash = |cost| bcrypt::hash_with_salt("x", cost, [5; 16]).unwrap().to_string();
    adopt(&world, "a@example.com", &hash(4)).await;
    let last = adopt(&world, "b@example.com", &hash(6)).await;
    adopt(&world, "c@example.com", &hash(4).replace("$04$", "$31$")).await;
    assert_eq!(world.store.bcrypt_cost(14).await.unwrap(), Some(6));
    world.store.change_user(last, UserChange::Active(false), 0, i64::MAX).await.unwrap();
    assert_eq!(world.store.bcrypt_cost(14).await.unwrap(), Some(4));
}

#[tokio::test]
async fn waits_are_the_same_whether_or_not_there_is_an_account_and_cost_no_hash() {
    let world = World::new().await;
    world.register("anna@example.com").await.unwrap();
    world.register("bob@example.com").await.unwrap();
    world.store.change_user(UserId(2), UserChange::Active(false), 0, i64::MAX).await.unwrap();
    for (n, email) in
        ["anna@example.com", "bob@example.com", "nobody@example.com", "no address"].into_iter().enumerate()
    {
        let address = format!("192.0.2.{n}");
        for _ in 0..5 {
            assert_eq!(attempt(&world, email, "wrong", &address).await, Err(Rejection::InvalidCredentials), "{email}");
        }
        let checks = world.accounts.hashes().checks();
        for password in ["wrong", PASSWORD] {
            let refused = attempt(&world, email, password, "198.51.100.1").await;
            assert_eq!(refused, Err(Rejection::RateLimited(Duration::from_secs(1))), "{email}");
        }
        assert_eq!(world.accounts.hashes().checks(), checks);
    }
    assert_eq!(world.events("authn_login_lock").as_deref(), Some("8"));
    world.pass(1);
    assert_eq!(attempt(&world, "ANNA@example.com", PASSWORD, "198.51.100.1").await, Ok(()));
    assert_eq!(attempt(&world, "anna@example.com", "wrong", "198.51.100.1").await, Err(Rejection::InvalidCredentials));
}

#[tokio::test]
async fn the_owner_is_not_locked_out_where_the_account_was_made() {
    let world = World::new().await;
    let home = from("2001:db8:1:2::1");
    let registered = testing::registration("anna@example.com", Role::Candidat);
    world.accounts.register(registered, &home).await.unwrap();
    for n in 0..5 {
        let _ = attempt(&world, "anna@example.com", "wrong", &format!("192.0.2.{n}")).await;
    }
    assert!(matches!(attempt(&world, "anna@example.com", PASSWORD, "192.0.2.9").await, Err(Rejection::RateLimited(_))));
    assert_eq!(attempt(&world, "anna@example.com", PASSWORD, "2001:db8:1:2:ffff::2").await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_guesses_at_once_five_are_checked() {
    let world = World::new().await;
    world.register("anna@example.com").await.unwrap();
    let before = world.accounts.hashes().checks();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..60 {
        let accounts = world.accounts.clone();
        let origin = from(&format!("192.0.2.{n}"));
        tasks.spawn(async move { accounts.login("anna@example.com", "wrong".into(), &origin).await.map(|_| ()) });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| **answer == Err(Rejection::InvalidCredentials)).count(), 5);
    assert_eq!(world.accounts.hashes().checks() - before, 5);
}

#[tokio::test]
async fn a_store_that_does_not_answer_costs_nobody_an_attempt() {
    let world = World::new().await;
    let path = world.folder.path().join("identity.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("ALTER TABLE users RENAME TO away").unwrap();
    for _ in 0..30 {
        let refused = attempt(&world, "anna@example.com", PASSWORD, "192.0.2.1").await;
        assert!(matches!(refused, Err(Rejection::AuthUnavailable(_))), "{refused:?}");
    }
    connection.execute_batch("ALTER TABLE away RENAME TO users").unwrap();
    assert_eq!(attempt(&world, "anna@example.com", PASSWORD, "192.0.2.1").await, Err(Rejection::InvalidCredentials));
}

/// A shared throttle that can be away.
struct Shared {
    counts: LocalThrottle,
    away: Mutex<bool>,
}

impl Shared {
    fn answer<T>(&self, answer: impl FnOnce(&LocalThrottle) -> T) -> Result<T, StoreError> {
        if *self.away.lock() { Err(StoreError::Unavailable("away".into())) } else { Ok(answer(&self.counts)) }
    }
}

#[async_trait]
impl ThrottleStore for Shared {
    async fn reserve(&self, claim: &Claim) -> Result<Admission, StoreError> {
        self.answer(|counts| counts.try_reserve(claim))
    }
    async fn proven(&self, claim: &Claim, place: Option<Place>) -> Result<(), StoreError> {
        self.answer(|counts| counts.note_proven(claim, place))
    }
    async fn undecided(&self, claim: &Claim, place: Place) -> Result<(), StoreError> {
        self.answer(|counts| counts.note_undecided(claim, place))
    }
}

#[tokio::test]
async fn the_shared_counts_decide_and_without_them_the_own_ones() {
    let world = World::new().await;
    world.register("anna@example.com").await.unwrap();
    let counts = LocalThrottle::new(world.clock.clone()).unwrap();
    let shared = Arc::new(Shared { counts, away: Mutex::new(false) });
    world.accounts.share_throttle(shared.clone());
    // Three here, two at another replica.
    let elsewhere = Claim { email_key: "anna@example.com".into(), address: "198.51.100.1".parse().ok() };
    for _ in 0..2 {
        shared.counts.try_reserve(&elsewhere);
    }
    for _ in 0..3 {
        assert_eq!(attempt(&world, "anna@example.com", "wrong", "192.0.2.1").await, Err(Rejection::InvalidCredentials));
    }
    let refused = |answer: Result<(), Rejection>| matches!(answer, Err(Rejection::RateLimited(_)));
    assert!(refused(attempt(&world, "anna@example.com", PASSWORD, "192.0.2.1").await));
    // Alone, this process knows of its own three, and of no more: two are left.
    *shared.away.lock() = true;
    for _ in 0..2 {
        assert_eq!(attempt(&world, "anna@example.com", "wrong", "192.0.2.1").await, Err(Rejection::InvalidCredentials));
    }
    assert!(refused(attempt(&world, "anna@example.com", PASSWORD, "192.0.2.1").await));
    // What was counted alone does not bind the shared ones.
    *shared.away.lock() = false;
    world.pass(1);
    assert_eq!(attempt(&world, "anna@example.com", PASSWORD, "192.0.2.1").await, Ok(()));
}
