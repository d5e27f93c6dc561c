//! What commands tell, in which order, and that it is what the pages tell.

use super::*;
use crate::model::identity::{ApiKeyId, UserId};
use crate::model::role::Role;
use crate::store::embedded::{EmbeddedStore, FILE_NAME};
use crate::store::{ApiKeyStore as _, NewApiKey, NewUser, RevocationStore as _, UserStore as _};

const EMAIL: &str = "A@b.fr";

/// A store with a `recruteur` who has a key of that role and one of a lower one.
async fn world() -> (tempfile::TempDir, EmbeddedStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join(FILE_NAME)).unwrap();
    let user = NewUser {
        email_key: "a@b.fr".into(),
        email: EMAIL.into(),
        full_name: "A".into(),
        role: Role::Recruteur,
        password_hash: "x".into(),
        created_at_ms: 1,
    };
    let user = store.insert_user(user).await.unwrap().id;
    for (prefix, role) in [("one", Role::Recruteur), ("two", Role::Candidat)] {
        let key = NewApiKey {
            name: "import".to_owned(),
            prefix: prefix.to_owned(),
            hash: [1; 32],
            user,
            role,
            routes: Vec::new(),
            created_by: None,
            created_at_ms: 0,
            expires_at_ms: None,
        };
        store.insert_api_key(key).await.unwrap();
    }
    (folder, store)
}

fn lines(done: Done) -> Vec<String> {
    let entries = done.events.into_iter().map(|event| event.into_entry(1));
    let lines = entries.map(|entry| {
        assert_eq!(entry.actor.as_deref(), Some("command_line"));
        format!("{} {} {}", entry.event, entry.subject.unwrap(), entry.details.unwrap_or_default())
    });
    lines.collect()
}

#[tokio::test]
async fn a_change_tells_what_the_pages_tell() {
    let (_folder, store) = world().await;
    let mut out = Vec::new();
    let done = change(&store, "a@B.fr", UserChange::Role(Role::Candidat), &mut out).await.unwrap();
    let facts: Vec<Revoked> = done.facts.iter().map(|(fact, _)| fact.clone()).collect();
    assert!(matches!(facts[..], [Revoked::User(UserId(1), _), Revoked::ApiKey(ApiKeyId(1))]), "{facts:?}");
    let kept = store.revocations_since(0, 9).await.unwrap();
    assert_eq!(kept.into_iter().map(|fact| (fact.revoked, fact.until_s)).collect::<Vec<_>>(), done.facts);
    assert_eq!(
        lines(done),
        [
            "authn_token_revoked user:1 all sessions",
            "authn_api_key_revoked api_key:1 lost with the rights of user:1",
            "user_updated user:1 role recruteur to candidat",
            "authz_admin user:1 change of an account",
        ]
    );
    let said = "1 A@b.fr candidat active; its sessions are ended\nits API key 1 is revoked\n";
    assert_eq!(String::from_utf8(out).unwrap(), said);
    for (to, expected) in [
        (
            UserChange::Active(false),
            &[
                "authn_token_revoked user:1 all sessions",
                "authn_api_key_revoked api_key:2 lost with the rights of user:1",
                "user_updated user:1 deactivated",
                "authz_admin user:1 change of an account",
            ][..],
        ),
        (
            UserChange::Password { hash: "hash".into(), proven_at: None },
            &[
                "authn_token_revoked user:1 all sessions",
                "authn_password_change user:1 ",
                "authz_admin user:1 another password of an account",
            ],
        ),
        (UserChange::SignOut, &["authn_token_revoked user:1 all sessions", "authz_admin user:1 end of all sessions"]),
    ] {
        assert_eq!(lines(change(&store, EMAIL, to, &mut Vec::new()).await.unwrap()), expected);
    }
}
