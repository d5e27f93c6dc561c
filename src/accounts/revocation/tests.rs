//! What is covered, by which fact, and for how long.

use super::*;
use crate::clock::Clock;
use crate::model::identity::{ApiKeyId, Credential, KeyId, SessionId, TokenId, UserId};
use crate::model::role::Role;
use uuid::Uuid;

/// A token of `user` in session `sid`, with number 9, signed by `k`.
fn identity(user: i64, sid: u128, issued_at: i64) -> Identity {
    let (session, token) = (SessionId(Uuid::from_u128(sid)), TokenId(Uuid::from_u128(9)));
    with(user, issued_at, Credential::Token { session, token, key: KeyId("k".into()) })
}

fn with(user: i64, issued_at: i64, credential: Credential) -> Identity {
    let (user, email, role) = (UserId(user), "a@b.fr".into(), Role::Candidat);
    Identity { user, email, role, credential, issued_at, expires_at: issued_at + 100 }
}

fn session(sid: u128) -> Revoked {
    Revoked::Session(SessionId(Uuid::from_u128(sid)))
}

#[test]
fn a_session_or_an_older_token_of_a_user_is_covered() {
    let revocations = Revocations::new();
    assert!(!revocations.covers(&identity(1, 1, 50)));
    revocations.apply(&session(1), 200);
    assert!(revocations.covers(&identity(1, 1, 50)));
    assert!(!revocations.covers(&identity(1, 2, 50)));
    revocations.apply(&Revoked::User(UserId(1), 60), 200);
    assert!(revocations.covers(&identity(1, 2, 60)));
    assert!(!revocations.covers(&identity(1, 2, 61)));
    assert!(!revocations.covers(&identity(2, 2, 50)));
}

#[test]
fn every_kind_covers_its_own_and_nothing_else() {
    let credentials = [
        Credential::Token {
            session: SessionId(Uuid::from_u128(1)),
            token: TokenId(Uuid::from_u128(2)),
            key: KeyId("a".into()),
        },
        Credential::ApiKey(ApiKeyId(1)),
    ];
    for (revoked, covered) in [
        (session(1), [true, false]),
        (session(2), [false, false]),
        (Revoked::Token(TokenId(Uuid::from_u128(2))), [true, false]),
        (Revoked::Token(TokenId(Uuid::from_u128(1))), [false, false]),
        (Revoked::Key(KeyId("a".into())), [true, false]),
        (Revoked::Key(KeyId("b".into())), [false, false]),
        (Revoked::User(UserId(7), 50), [true, false]),
        (Revoked::User(UserId(1), 50), [false, false]),
        (Revoked::ApiKey(ApiKeyId(1)), [false, true]),
        (Revoked::ApiKey(ApiKeyId(7)), [false, false]),
    ] {
        let (made, heard) = (Revocations::new(), Revocations::new());
        made.apply(&revoked, 200);
        assert_eq!(heard.hear(&revoked, 200), Hearing::Applied);
        for revocations in [made, heard] {
            let found = credentials.clone().map(|credential| revocations.covers(&with(7, 50, credential)));
            assert_eq!((found, revocations.len()), (covered, 1), "{revoked:?}");
            assert_eq!(revocations.hear(&revoked, 200), Hearing::Known);
        }
    }
}

#[test]
fn the_later_fact_wins_in_any_order() {
    let revocations = Revocations::new();
    revocations.apply(&Revoked::User(UserId(1), 60), 300);
    revocations.apply(&Revoked::User(UserId(1), 50), 200);
    assert!(revocations.covers(&identity(1, 2, 60)));
    revocations.sweep(300 + LEEWAY_S);
    assert!(revocations.covers(&identity(1, 2, 60)));
}

#[test]
fn facts_leave_when_they_no_longer_matter() {
    let revocations = Revocations::new();
    for n in 0..1000 {
        revocations.apply(&Revoked::Session(SessionId(Uuid::new_v4())), n);
        revocations.apply(&Revoked::User(UserId(n), n), n);
        assert_eq!(revocations.hear(&Revoked::ApiKey(ApiKeyId(n)), n), Hearing::Applied);
    }
    assert_eq!(revocations.len(), 3000);
    revocations.sweep(500 + LEEWAY_S);
    assert_eq!(revocations.len(), 1500);
    revocations.sweep(2000);
    assert!(revocations.is_empty());
}

#[test]
fn what_is_only_told_lasts_until_a_pull_that_began_later() {
    let revocations = Revocations::new();
    let kept = Revocation { revision: 7, revoked: session(2), until_s: 200 };
    let running = revocations.pull_begins();
    assert_eq!(revocations.hear(&session(1), 200), Hearing::Applied);
    assert_eq!(revocations.hear(&session(2), 200), Hearing::Applied);
    // That pull may have asked the store before the facts were in it.
    revocations.pulled(running, Tick(1));
    assert!(revocations.covers(&identity(1, 1, 50)) && revocations.covers(&identity(1, 2, 50)));
    // One that fails tells nothing.
    revocations.pull_begins();
    assert!(revocations.covers(&identity(1, 1, 50)));
    let next = revocations.pull_begins();
    assert_eq!(revocations.apply_all(&[kept], 0), 7);
    revocations.pulled(next, Tick(2));
    assert!(!revocations.covers(&identity(1, 1, 50)), "the store does not know it");
    assert!(revocations.covers(&identity(1, 2, 50)), "the store knows it");
}

#[test]
fn a_lie_about_a_user_does_not_outlast_the_truth() {
    let revocations = Revocations::new();
    assert_eq!(revocations.hear(&Revoked::User(UserId(1), 99), 300), Hearing::Applied);
    assert!(revocations.covers(&identity(1, 2, 99)));
    let pull = revocations.pull_begins();
    revocations.apply_all(&[Revocation { revision: 1, revoked: Revoked::User(UserId(1), 60), until_s: 300 }], 0);
    revocations.pulled(pull, Tick(1));
    assert!(revocations.covers(&identity(1, 2, 60)));
    assert!(!revocations.covers(&identity(1, 2, 61)));
}

#[test]
fn what_is_only_told_is_bounded() {
    let revocations = Revocations::new();
    let told: usize =
        (0..200_000).filter(|n| revocations.hear(&Revoked::ApiKey(ApiKeyId(*n)), 200) == Hearing::Applied).count();
    assert_eq!((told, revocations.len()), (MOST_HEARD, MOST_HEARD));
    revocations.apply(&session(1), 200);
    assert!(revocations.covers(&identity(1, 1, 50)), "one's own facts and the store's always have room");
    assert_eq!(revocations.hear(&session(1), 200), Hearing::Known);
    assert_eq!(revocations.hear(&session(2), 200), Hearing::Surplus);
    let pull = revocations.pull_begins();
    revocations.pulled(pull, Tick(1));
    assert_eq!(revocations.hear(&session(2), 200), Hearing::Applied);
}

#[test]
fn the_age_is_that_of_the_last_pull_that_succeeded() {
    let (clock, hand) = Clock::manual();
    let revocations = Revocations::new();
    assert!(revocations.age(clock.now()) >= Duration::from_secs(86_400), "never pulled");
    let (began, pull) = (clock.now(), revocations.pull_begins());
    hand.advance(Duration::from_secs(2));
    revocations.pulled(pull, began);
    assert_eq!(revocations.age(clock.now()), Duration::from_secs(2));
    revocations.pull_begins();
    hand.advance(Duration::from_secs(5));
    assert_eq!(revocations.age(clock.now()), Duration::from_secs(7));
}
