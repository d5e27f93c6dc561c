//! What is told of accounts, and what is known of the store.

use super::Origin;
use super::testing::{PASSWORD, World};

#[tokio::test]
async fn what_happens_is_counted() {
    let world = World::new().await;
    assert_eq!(world.events("authn_token_reuse").as_deref(), Some("0"));
    let pair = world.register("anna@example.com").await.unwrap();
    world.login("anna@example.com").await.unwrap();
    for (email, password) in [("anna@example.com", "wrong"), ("nobody@example.com", PASSWORD)] {
        assert!(world.accounts.login(email, password.into(), &Origin::default()).await.is_err());
    }
    let next = world.refresh(&pair).await.unwrap();
    world.refresh(&next).await.unwrap();
    assert!(world.refresh(&pair).await.is_err());
    let pair = world.login("anna@example.com").await.unwrap();
    world.logout(&pair).await;
    for (event, times) in [
        ("user_created", "1"),
        ("authn_login_success", "2"),
        ("authn_login_fail", "2"),
        ("authn_token_created", "5"),
        ("authn_token_reuse", "1"),
        ("authn_token_revoked", "2"),
    ] {
        assert_eq!(world.events(event).as_deref(), Some(times), "{event}");
    }
}

#[tokio::test]
async fn what_happens_is_told_to_the_audit_trail() {
    let world = World::new().await;
    let pair = world.register("anna@example.com").await.unwrap();
    let session = world.check(&pair).unwrap().session().unwrap();
    assert_eq!(world.told(), ["user_created user:1 user:1", &format!("authn_token_created user:1 session:{session}")]);
    for (email, password) in [("anna@example.com", "wrong"), ("nobody@example.com", PASSWORD)] {
        assert!(world.accounts.login(email, password.into(), &Origin::default()).await.is_err());
    }
    // Whoever fails to log in as somebody is not that somebody.
    assert_eq!(world.told(), ["authn_login_fail - user:1", "authn_login_fail - -"]);
    let next = world.refresh(&pair).await.unwrap();
    world.refresh(&next).await.unwrap();
    world.told();
    assert!(world.refresh(&pair).await.is_err());
    let expected =
        ["authn_token_reuse - ", "authn_token_revoked gateway "].map(|start| format!("{start}session:{session}"));
    assert_eq!(world.told(), expected);
    let admin = super::testing::registration("eve@example.com", crate::model::role::Role::Admin);
    assert!(world.accounts.register(admin, &Origin::default()).await.is_err());
    assert_eq!((world.told(), world.events("authz_fail").as_deref()), (vec!["authz_fail - -".to_owned()], Some("1")));
}

#[tokio::test]
async fn the_store_is_up_again_with_its_first_answer() {
    let world = World::new().await;
    assert!(world.accounts.store_is_up());
    let path = world.folder.path().join("identity.db");
    let change = |sql| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    change("ALTER TABLE revocations RENAME TO away");
    assert!(world.accounts.pull().await.is_err());
    assert!(!world.accounts.store_is_up());
    change("ALTER TABLE away RENAME TO revocations");
    world.accounts.pull().await.unwrap();
    assert!(world.accounts.store_is_up());
    assert_eq!(world.metric(r#"gateway_store_up{store="identity"}"#).as_deref(), Some("1"));
    // A conflict is an answer.
    world.register("anna@example.com").await.unwrap();
    assert!(world.register("anna@example.com").await.is_err());
    assert!(world.accounts.store_is_up());
}
