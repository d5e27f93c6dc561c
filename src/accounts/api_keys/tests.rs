//! API keys through the service, on a real store, with a clock moved by hand; and what attackers send.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;

use super::*;
use crate::accounts::testing::{World, open};
use crate::accounts::{Accounts, Origin};
use crate::model::identity::{ApiKeyId, Credential, UserId};
use crate::model::role::Role;
use crate::store::{ApiKeyStore, IdentityStore, RevocationStore, UserChange, UserStore};

struct Keys {
    world: World,
    user: UserId,
}

impl Keys {
    async fn new() -> Keys {
        let world = World::new().await;
        let user = world.register("bot@example.com").await.unwrap().user.id;
        let until_s = world.clock.unix_seconds() + 10_000;
        let to = UserChange::Role(Role::Recruteur);
        world.store.change_user(user, to, world.accounts.now_ms(), until_s).await.unwrap();
        Keys { world, user }
    }

    fn request(&self) -> ApiKeyRequest {
        ApiKeyRequest {
            name: "import".parse().unwrap(),
            user: self.user,
            role: None,
            routes: Vec::new(),
            expires_at_ms: None,
            created_by: Some(UserId(9)),
        }
    }

    async fn create(&self, request: ApiKeyRequest) -> Result<IssuedApiKey, Rejection> {
        self.world.accounts.create_api_key(request, &Origin::default()).await
    }

    async fn made(&self) -> IssuedApiKey {
        self.create(self.request()).await.unwrap()
    }

    fn ask(&self, issued: &IssuedApiKey) -> Result<Option<KeyHolder>, Rejection> {
        self.ask_at(&self.world.accounts, issued)
    }

    fn ask_at(&self, accounts: &Accounts, issued: &IssuedApiKey) -> Result<Option<KeyHolder>, Rejection> {
        let headers = sent(&[("x-api-key", issued.secret.expose_secret().as_bytes())]);
        accounts.api_keys().authenticate(&headers, self.world.clock.unix_seconds())
    }

    fn is_good(&self, issued: &IssuedApiKey) -> bool {
        match self.ask(issued) {
            Ok(holder) => holder.is_some(),
            Err(rejection) => {
                assert_eq!(rejection, Rejection::InvalidApiKey);
                false
            }
        }
    }

    async fn another_process(&self) -> Arc<Accounts> {
        open(self.world.folder.path(), self.world.clock.clone()).await.1
    }
}

fn sent(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

fn fault_of(result: Result<IssuedApiKey, Rejection>) -> String {
    match result.unwrap_err() {
        Rejection::Validation(fields) => fields[0].field.clone().into_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_key_proves_its_account_with_its_own_role() {
    let keys = Keys::new().await;
    let scoped = ApiKeyRequest { role: Some(Role::Candidat), routes: vec!["match".into()], ..keys.request() };
    let issued = keys.create(scoped).await.unwrap();
    let holder = keys.ask(&issued).unwrap().unwrap();
    let identity = holder.identity();
    assert_eq!((identity.user, &*identity.email, identity.role), (keys.user, "bot@example.com", Role::Candidat));
    assert_eq!((&identity.credential, identity.session()), (&Credential::ApiKey(issued.key.id), None));
    assert!(holder.may_call("match") && !holder.may_call("match-batch"));
    let open = keys.made().await;
    assert_eq!((open.key.role, open.key.created_by), (Role::Recruteur, Some(UserId(9))));
    assert!(keys.ask(&open).unwrap().unwrap().may_call("anything"));
    assert_eq!(keys.world.events("authn_api_key_created").as_deref(), Some("2"));
    assert!(!format!("{issued:?}").contains(issued.secret.expose_secret()));
    assert!(keys.world.accounts.api_keys().authenticate(&HeaderMap::new(), 0).unwrap().is_none());
}

#[tokio::test]
async fn what_cannot_be_a_key_is_not_made() {
    let keys = Keys::new().await;
    let now_ms = keys.world.accounts.now_ms();
    let cases = [
        (ApiKeyRequest { role: Some(Role::Admin), ..keys.request() }, "role"),
        (ApiKeyRequest { user: UserId(999), ..keys.request() }, "user_id"),
        (ApiKeyRequest { expires_at_ms: Some(now_ms), ..keys.request() }, "expires_at"),
        (ApiKeyRequest { expires_at_ms: Some(i64::MIN), ..keys.request() }, "expires_at"),
    ];
    for (request, field) in cases {
        assert_eq!(fault_of(keys.create(request).await), field);
    }
    keys.world.store.change_user(keys.user, UserChange::Active(false), now_ms, now_ms).await.unwrap();
    assert_eq!(fault_of(keys.create(keys.request()).await), "user_id");
    let (longest, long) = ("é".repeat(100), "é".repeat(101));
    for name in ["", "  ", "a\u{7}b", "a\nb", long.as_str()] {
        assert!(name.parse::<ApiKeyName>().is_err(), "{name:?}");
    }
    assert!(longest.parse::<ApiKeyName>().is_ok());
}

#[tokio::test]
async fn a_key_ends_on_time() {
    let keys = Keys::new().await;
    let end = keys.world.accounts.now_ms() + 60_000;
    let issued = keys.create(ApiKeyRequest { expires_at_ms: Some(end), ..keys.request() }).await.unwrap();
    keys.world.pass(59);
    assert!(keys.is_good(&issued));
    keys.world.pass(1);
    assert!(!keys.is_good(&issued));
    keys.world.accounts.pull().await.unwrap();
    assert_eq!(keys.world.accounts.api_keys.table.len(), 0);
}

#[tokio::test]
async fn a_revoked_key_is_refused_here_at_once_and_elsewhere_with_the_pull() {
    let keys = Keys::new().await;
    let (issued, other) = (keys.made().await, keys.made().await);
    let replica = keys.another_process().await;
    assert!(keys.ask_at(&replica, &issued).is_ok());
    let revoke = async |id| keys.world.accounts.revoke_api_key(id, UserId(9), &Origin::default()).await;
    assert_eq!(revoke(issued.key.id).await, Ok(()));
    assert!(!keys.is_good(&issued) && keys.is_good(&other));
    replica.pull().await.unwrap();
    assert!(keys.ask_at(&replica, &issued).is_err() && keys.ask_at(&replica, &other).is_ok());
    assert_eq!(revoke(issued.key.id).await, Err(Rejection::NotFound));
    assert_eq!(revoke(ApiKeyId(999)).await, Err(Rejection::NotFound));
    assert_eq!(keys.world.events("authn_api_key_revoked").as_deref(), Some("1"));
    // When the fact has left the memory, so has the key.
    keys.world.pass(40 * 86_400);
    replica.pull().await.unwrap();
    assert!(replica.revocations().is_empty() && keys.ask_at(&replica, &issued).is_err());
    assert!(keys.ask_at(&*keys.another_process().await, &issued).is_err());
}

#[tokio::test]
async fn a_key_made_elsewhere_works_with_the_pull() {
    let keys = Keys::new().await;
    let replica = keys.another_process().await;
    let issued = keys.made().await;
    assert!(keys.is_good(&issued) && keys.ask_at(&replica, &issued).is_err());
    replica.pull().await.unwrap();
    assert!(keys.ask_at(&replica, &issued).is_ok());
}

#[tokio::test]
async fn keys_go_with_the_rights_of_their_account() {
    let keys = Keys::new().await;
    let lower = ApiKeyRequest { role: Some(Role::Candidat), ..keys.request() };
    let (equal, lower) = (keys.made().await, keys.create(lower).await.unwrap());
    let change = async |change| {
        let (now_ms, until_s) = (keys.world.accounts.now_ms(), keys.world.clock.unix_seconds() + 10_000);
        keys.world.store.change_user(keys.user, change, now_ms, until_s).await.unwrap();
        keys.world.accounts.pull().await.unwrap();
    };
    change(UserChange::Role(Role::Candidat)).await;
    assert!(!keys.is_good(&equal) && keys.is_good(&lower));
    change(UserChange::Active(false)).await;
    assert!(!keys.is_good(&lower));
    change(UserChange::Active(true)).await;
    assert!(!keys.is_good(&lower) && !keys.is_good(&equal));
}

/// The fact of a revocation that came and went while the store could not be asked is not needed: after a pull that broke
/// off, all keys are read anew.
#[tokio::test]
async fn after_a_gap_all_keys_are_read_anew() {
    let keys = Keys::new().await;
    let (gone, stays) = (keys.made().await, keys.made().await);
    let replica = keys.another_process().await;
    let now_ms = keys.world.accounts.now_ms();
    keys.world.store.revoke_api_key(gone.key.id, now_ms, 1).await.unwrap();
    keys.world.store.purge(now_ms).await.unwrap();
    assert!(keys.world.store.revocations_since(0, 10).await.unwrap().iter().all(|fact| fact.until_s > 1));
    replica.pull().await.unwrap();
    assert!(keys.ask_at(&replica, &gone).is_ok(), "without a gap nothing is read anew");
    let _ = replica.api_keys.pull_begins(); // a pull that breaks off
    replica.pull().await.unwrap();
    assert!(keys.ask_at(&replica, &gone).is_err() && keys.ask_at(&replica, &stays).is_ok());
}

#[tokio::test]
async fn keys_are_listed_page_by_page_and_the_look_is_told() {
    let keys = Keys::new().await;
    let list = async |after: i64, limit: u32| {
        let page =
            keys.world.accounts.list_api_keys(UserId(9), ApiKeyId(after), limit, &Origin::default()).await.unwrap();
        (page.items.into_iter().map(|key| key.id.0).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(list(0, 1).await, (vec![], None));
    keys.made().await;
    assert_eq!(list(0, 1).await, (vec![1], None), "a full last page is the last one");
    keys.made().await;
    keys.made().await;
    keys.world.told();
    assert_eq!(list(0, 2).await, (vec![1, 2], Some(2)));
    assert_eq!(list(2, 2).await, (vec![3], None));
    assert_eq!(list(0, 3).await, (vec![1, 2, 3], None));
    assert_eq!(keys.world.told(), ["authz_admin user:9 -"; 3]);
}

#[tokio::test]
async fn uses_are_told_with_the_pull() {
    let keys = Keys::new().await;
    let (used, unused) = (keys.made().await, keys.made().await);
    keys.world.pass(100);
    let at = keys.world.accounts.now_ms();
    assert!(keys.is_good(&used));
    let last_used = async || {
        keys.world.accounts.pull().await.unwrap();
        let all = keys.world.store.api_keys(ApiKeyId(0), 10).await.unwrap();
        all.into_iter().map(|key| key.last_used_at_ms).collect::<Vec<_>>()
    };
    assert_eq!(last_used().await, [Some(at), None]);
    keys.world.pass(59);
    assert!(keys.is_good(&used));
    assert_eq!(last_used().await, [Some(at), None]);
    keys.world.pass(1);
    assert!(keys.is_good(&used) && keys.is_good(&unused));
    assert_eq!(last_used().await, [Some(at + 60_000), Some(at + 60_000)]);
}

#[tokio::test]
async fn no_forgery_is_accepted() {
    let keys = Keys::new().await;
    let (own, other) = (keys.made().await, keys.made().await);
    let (own, other) = (own.secret.expose_secret().to_owned(), other.secret.expose_secret().to_owned());
    // Another's prefix with one's own secret, and a checksum that fits.
    let body = format!("{}{}", &other[..13], &own[13..56]);
    let patched = format!("{body}{}", format::checksum(body.as_bytes()));
    let swapped: String =
        own.chars().map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c }).collect();
    let never_issued = format::make().unwrap().key.expose_secret().to_owned();
    let cases: Vec<Vec<u8>> = [
        "",
        " ",
        "ssm_",
        "ssm__",
        "null",
        "*",
        "%",
        "' OR 1=1 --",
        &patched,
        &swapped,
        &never_issued,
        &own[..61],
        &own[1..],
        &own[4..],
        &own[..12],
        &own[..56],
        &format!("{own}a"),
        &format!("{own} "),
        &format!(" {own}"),
        &format!("{own}\t"),
        &format!("{own},{own}"),
        &format!("{own};"),
        &format!("\"{own}\""),
        &format!("Bearer {own}"),
        &format!("ApiKey {own}"),
        &format!("{}-{}", &own[..12], &own[13..]),
        &format!("SSM{}", &own[3..]),
        &own.chars().rev().collect::<String>(),
        &"a".repeat(62),
        &"ssm_".repeat(2_000),
        &own.repeat(1_000),
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([vec![0xFF; 62], own.bytes().map(|byte| byte | 0x80).collect(), format!("{}é", &own[..60]).into_bytes()])
    .collect();
    for case in &cases {
        let got = keys.world.accounts.api_keys().authenticate(&sent(&[("x-api-key", case)]), 0).map(|_| ());
        assert_eq!(got, Err(Rejection::InvalidApiKey), "{:?}", String::from_utf8_lossy(case));
    }
}

#[tokio::test]
async fn a_key_comes_alone_and_in_its_header() {
    let keys = Keys::new().await;
    let own = keys.made().await.secret.expose_secret().to_owned();
    let refused = |headers: &[(&'static str, &[u8])]| {
        keys.world.accounts.api_keys().authenticate(&sent(headers), 0).map(|_| ()).unwrap_err()
    };
    let own = own.as_bytes();
    assert_eq!(refused(&[("x-api-key", own), ("x-api-key", own)]), Rejection::InvalidApiKey);
    for beside in [&b""[..], b"Bearer a.b.c", b"ApiKey x"] {
        let both = refused(&[("x-api-key", own), (AUTHORIZATION.as_str(), beside)]);
        assert_eq!(both.code(), "BAD_REQUEST");
    }
    let authorization = sent(&[("authorization", own)]);
    assert!(keys.world.accounts.api_keys().authenticate(&authorization, 0).unwrap().is_none());
    let good = sent(&[("x-api-key", own)]);
    assert!(keys.world.accounts.api_keys().authenticate(&good, 0).unwrap().is_some());
}
