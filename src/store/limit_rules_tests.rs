//! What every store must do about overrides and blocks.

use super::contract_tests::new_user;
use super::embedded::{EmbeddedStore, FILE_NAME};
use super::*;
use crate::model::identity::UserId;
use crate::testkit::servers::Database;

fn new_override(user: UserId, policy: &str, rate: &str, until_s: i64) -> LimitOverride {
    LimitOverride {
        user,
        policy: policy.to_owned(),
        rate: rate.parse().unwrap(),
        burst: None,
        until_s,
        made_at_ms: 1_000,
    }
}

fn new_block(network: &str, until_s: i64, made_at_ms: i64) -> AddressBlock {
    AddressBlock {
        network: network.parse().unwrap(),
        until_s,
        reason: Some("guesses \"passwords\" é".to_owned()),
        made_at_ms,
    }
}

async fn all(store: &dyn IdentityStore, now_s: i64) -> LimitRules {
    store.limit_rules(None).await.unwrap().unwrap().in_force(now_s)
}

async fn overrides_are_kept_replaced_and_taken_away(store: &dyn IdentityStore, user: UserId) {
    let first = new_override(user, "per-role", "500/min", 100);
    store.put_override(first.clone()).await.unwrap();
    let other = LimitOverride { burst: Some(u32::MAX), ..new_override(user, "match", "5/day", 200) };
    store.put_override(other.clone()).await.unwrap();
    assert_eq!(all(store, 99).await.overrides, [other.clone(), first.clone()]);
    assert_eq!(all(store, 100).await.overrides, vec![other.clone()]);
    let slower = LimitOverride { burst: Some(0), ..new_override(user, "per-role", "1/h", 300) };
    store.put_override(slower.clone()).await.unwrap();
    assert_eq!(all(store, 100).await.overrides, [other.clone(), slower.clone()]);
    let nobody = store.put_override(new_override(UserId(999), "per-role", "1/s", 100)).await;
    assert!(matches!(nobody, Err(StoreError::Conflict)), "{nobody:?}");
    assert!(!store.remove_override(user, "another", 100).await.unwrap());
    assert!(!store.remove_override(UserId(999), "match", 100).await.unwrap());
    assert!(store.remove_override(user, "match", 100).await.unwrap());
    assert!(!store.remove_override(user, "match", 100).await.unwrap());
    assert!(!store.remove_override(user, "per-role", 300).await.unwrap(), "it ended by itself");
    assert!(all(store, 0).await.overrides.is_empty());
}

async fn blocks_are_kept_replaced_and_taken_away(store: &dyn IdentityStore) {
    let (one, wide) = (new_block("192.0.2.7/32", 100, 1_000), new_block("2001:db8::/64", 200, 500));
    store.put_block(one.clone()).await.unwrap();
    store.put_block(wide.clone()).await.unwrap();
    assert_eq!(all(store, 99).await.blocks, [wide.clone(), one.clone()]);
    assert_eq!(all(store, 100).await.blocks, vec![wide.clone()]);
    let longer = AddressBlock { reason: None, ..new_block("192.0.2.7/32", 900, 2_000) };
    store.put_block(longer.clone()).await.unwrap();
    assert_eq!(all(store, 100).await.blocks, [wide.clone(), longer.clone()]);
    assert!(!store.remove_block("192.0.2.0/24".parse().unwrap(), 100).await.unwrap());
    assert!(store.remove_block(longer.network, 100).await.unwrap());
    assert!(!store.remove_block(longer.network, 100).await.unwrap());
    assert!(!store.remove_block(wide.network, 200).await.unwrap(), "it ended by itself");
    assert!(all(store, 0).await.blocks.is_empty());
}

async fn every_change_has_another_stamp(store: &dyn IdentityStore, user: UserId) {
    let mut stamp = all(store, 0).await.stamp;
    assert_eq!(store.limit_rules(Some(stamp)).await.unwrap(), None);
    for change in 0..4 {
        match change {
            0 => store.put_override(new_override(user, "p", "1/s", 100)).await.unwrap(),
            1 => assert!(store.remove_override(user, "p", 50).await.unwrap()),
            2 => store.put_block(new_block("192.0.2.7/32", 100, 1_000)).await.unwrap(),
            _ => assert!(store.remove_block("192.0.2.7/32".parse().unwrap(), 50).await.unwrap()),
        }
        let rules = store.limit_rules(Some(stamp)).await.unwrap().unwrap();
        assert_ne!(rules.stamp, stamp);
        stamp = rules.stamp;
    }
    assert_eq!(store.limit_rules(Some(stamp)).await.unwrap(), None);
}

async fn a_purge_takes_what_ended(store: &dyn IdentityStore, user: UserId) {
    for until_s in [100, 101] {
        store.put_override(new_override(user, &format!("until-{until_s}"), "1/s", until_s)).await.unwrap();
        store.put_block(new_block(&format!("192.0.2.{until_s}/32"), until_s, 1_000)).await.unwrap();
    }
    let stamp = all(store, 0).await.stamp;
    store.purge(100_999).await.unwrap();
    let left = all(store, 0).await;
    assert_eq!((left.overrides.len(), left.blocks.len(), left.stamp), (1, 1, stamp));
    assert_eq!((left.overrides[0].until_s, left.blocks[0].until_s), (101, 101));
}

/// With as many in force as may be; all of them end at 1 000.
async fn no_more_than_the_most(store: &dyn IdentityStore, user: UserId) {
    let refused = store.put_override(new_override(user, "one-more", "1/s", 100)).await.unwrap_err();
    assert!(refused.to_string().contains("10000 overrides of limits in force"), "{refused}");
    let refused = store.put_block(new_block("192.0.2.7/32", 100, 1_000)).await.unwrap_err();
    assert!(refused.to_string().contains("10000 blocked networks in force"), "{refused}");
    let rules = all(store, 0).await;
    assert_eq!((rules.overrides.len(), rules.blocks.len()), (10_000, 10_000));
    // One in the place of another fits, and what ended makes room.
    let kept = rules.overrides[0].clone();
    store.put_override(LimitOverride { until_s: 2_000, ..kept }).await.unwrap();
    store.put_block(AddressBlock { until_s: 2_000, ..rules.blocks[0].clone() }).await.unwrap();
    let late = |block: AddressBlock| AddressBlock { made_at_ms: 1_000_000, ..block };
    store.put_block(late(new_block("192.0.2.7/32", 2_000, 0))).await.unwrap();
    let rules = all(store, 0).await;
    assert_eq!((rules.overrides.len(), rules.blocks.len()), (1, 2));
}

async fn keeps_the_contract(store: &dyn IdentityStore) -> UserId {
    let user = store.insert_user(new_user("anna")).await.unwrap().id;
    overrides_are_kept_replaced_and_taken_away(store, user).await;
    blocks_are_kept_replaced_and_taken_away(store).await;
    every_change_has_another_stamp(store, user).await;
    a_purge_takes_what_ended(store, user).await;
    user
}

/// Statements that leave as many in force as may be, with these numbers from 0 to 9 999.
fn full(numbers: &str) -> String {
    format!(
        "DELETE FROM limit_overrides; DELETE FROM address_blocks;
         INSERT INTO limit_overrides SELECT 1, 'p' || n, '1/s', NULL, 1000, 0 FROM {numbers};
         INSERT INTO address_blocks SELECT '10.0.' || (n / 250) || '.' || (n % 250) || '/32', 1000, NULL, n
             FROM {numbers}"
    )
}

#[tokio::test]
async fn the_embedded_store_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let store = EmbeddedStore::open(&path).unwrap();
    let user = keeps_the_contract(&store).await;
    let file = rusqlite::Connection::open(&path).unwrap();
    let numbers = "(WITH RECURSIVE all_of(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM all_of WHERE n < 9999)
         SELECT n FROM all_of)";
    file.execute_batch(&full(numbers)).unwrap();
    no_more_than_the_most(&store, user).await;
    file.execute_batch("PRAGMA foreign_keys = ON; DELETE FROM users").unwrap();
    assert!(all(&store, 0).await.overrides.is_empty(), "an account takes its overrides along");
}

#[tokio::test]
async fn the_postgres_store_keeps_the_contract() {
    let database = Database::create().await;
    let store = postgres::testing::open(&database.url()).await;
    let user = keeps_the_contract(&store).await;
    database.execute(&full("generate_series(0, 9999) AS all_of (n)")).await;
    no_more_than_the_most(&store, user).await;
    database.execute("DELETE FROM users").await;
    assert!(all(&store, 0).await.overrides.is_empty(), "an account takes its overrides along");
}

#[tokio::test]
async fn replicas_that_change_rules_at_once_wait_for_each_other() {
    let database = Database::create().await;
    let store = std::sync::Arc::new(postgres::testing::open(&database.url()).await);
    let user = store.insert_user(new_user("anna")).await.unwrap().id;
    let mut tasks = tokio::task::JoinSet::new();
    for turn in 0..24_i64 {
        let store = store.clone();
        tasks.spawn(async move {
            match turn % 3 {
                0 => store.put_override(new_override(user, &format!("p{turn}"), "1/s", turn)).await.unwrap(),
                1 => store.put_block(new_block(&format!("192.0.2.{turn}/32"), turn, turn * 1_000)).await.unwrap(),
                _ => store.purge(turn * 1_000).await.unwrap(),
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
