//! What an attacker may put into `Authorization`: one table of cases (RFC 8725 and beyond), each with the code that must
//! be answered. And what must hold beside them: what is good, what is remembered, what ends it.

mod claim_tests;
mod form_tests;
mod header_tests;
mod signature_tests;
mod testing;

use std::collections::HashSet;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use uuid::Uuid;

use super::KeyRing;
use super::keys::KeyChange;
use crate::model::algorithm::KeyAlgorithm;
use crate::model::identity::{Credential, Identity, KeyId, SessionId, UserId};
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::store::Revoked;
use testing::*;

#[test]
fn every_attack_is_refused_with_its_code() {
    let groups = [form_tests::cases(), header_tests::cases(), signature_tests::cases(), claim_tests::cases()];
    let (mut names, mut values, mut wrong) = (HashSet::new(), HashSet::new(), Vec::new());
    for case in groups.into_iter().flatten() {
        assert!(names.insert(case.name.clone()), "two cases are named {}", case.name);
        values.insert(case.value.clone());
        // Twice: a refusal must not be forgotten on the way through the cache.
        for _ in 0..2 {
            let answered = WORLD.ask(&[&case.value]);
            if answered.as_ref() != Err(&case.expected) {
                wrong.push(format!("{}: {answered:?} instead of {:?}", case.name, case.expected));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(values.len() >= 450, "{} distinct attacks", values.len());
    WORLD.judge(&good()).expect("a good token is good after all that");
}

#[test]
fn no_header_and_two_headers_are_refused() {
    let bearer = format!("Bearer {}", good());
    let bearer = bearer.as_bytes();
    assert_eq!(WORLD.ask(&[]), Err(Rejection::MissingToken));
    for second in [bearer, b"", b"Basic dXNlcjpwYXNz", b"Bearer a.b.c"] {
        assert_eq!(WORLD.ask(&[bearer, second]), Err(Rejection::InvalidTokenFormat));
        assert_eq!(WORLD.ask(&[second, bearer]), Err(Rejection::InvalidTokenFormat));
    }
}

fn expected(key: &str) -> Identity {
    Identity {
        user: UserId(7),
        email: "a@b.fr".into(),
        role: Role::Recruteur,
        credential: Credential::Token {
            session: SID.parse().unwrap(),
            token: JTI.parse().unwrap(),
            key: KeyId(key.into()),
        },
        issued_at: NOW - 100,
        expires_at: NOW + 100,
    }
}

#[test]
fn a_good_token_of_each_key_proves_its_owner() {
    let (current, previous) = (secret_kid(), KeyRing::from(PREVIOUS).active().to_string());
    let named = |kid: &str| format!(r#"{{"typ":"JWT","alg":"HS256","kid":"{kid}"}}"#);
    for (token, key) in [
        (good(), &current),
        (signed(r#"{"alg":"HS256"}"#, &text()), &current),
        (signed(r#"{"alg":"HS256","typ":"at+jwt"}"#, &text()), &current),
        (signed(&named(&current), &text()), &current),
        (signed_with(PREVIOUS, HEADER, &text()), &previous),
        (signed_with(PREVIOUS, &named(&previous), &text()), &previous),
        (signed(HEADER, &with("nbf", json!(NOW))), &current),
        (signed(HEADER, &with("unknown", json!({"a": 1}))), &current),
        (WORLD.ed25519_signed(&WORLD.ed25519_header(), &text()), &WORLD.ed25519_kid),
        (WORLD.p256_signed(&WORLD.p256_header(), &text()), &WORLD.p256_kid),
    ] {
        assert_eq!(WORLD.judge(&token), Ok(expected(key)), "{token}");
        assert_eq!(WORLD.judge(&token), Ok(expected(key)), "cached {token}");
    }
    for scheme in ["bearer", "BEARER", "bEaReR"] {
        assert_eq!(WORLD.ask(&[format!("{scheme} {}", good()).as_bytes()]), Ok(expected(&current)));
    }
}

#[test]
fn another_library_s_tokens_are_taken_and_takes_ours() {
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
    use p256::pkcs8::{EncodePrivateKey, LineEnding};
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(secret_kid());
    let token = encode(&header, &claims(), &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    assert_eq!(WORLD.judge(&token), Ok(expected(&secret_kid())));
    let pem = WORLD.p256.to_pkcs8_pem(LineEnding::LF).unwrap();
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(WORLD.p256_kid.clone());
    let token = encode(&header, &claims(), &EncodingKey::from_ec_pem(pem.as_bytes()).unwrap()).unwrap();
    assert_eq!(WORLD.judge(&token), Ok(expected(&WORLD.p256_kid)));

    // As a service would, from the published set alone.
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_slice(&WORLD.authenticator.key_set()).unwrap();
    for (algorithm, kid, token) in [
        (Algorithm::EdDSA, &WORLD.ed25519_kid, WORLD.ed25519_signed(&WORLD.ed25519_header(), &text())),
        (Algorithm::ES256, &WORLD.p256_kid, WORLD.p256_signed(&WORLD.p256_header(), &text())),
    ] {
        let key = DecodingKey::from_jwk(set.find(kid).unwrap()).unwrap();
        let mut validation = Validation::new(algorithm);
        (validation.validate_exp, validation.required_spec_claims) = (false, HashSet::new());
        let read = decode::<serde_json::Value>(&token, &key, &validation).unwrap();
        assert_eq!(read.claims, claims());
    }
}

#[test]
fn expiry_has_a_leeway_of_30_seconds_cached_or_not() {
    let bearer = |exp: i64| format!("Bearer {}", signed(HEADER, &with("exp", json!(exp))));
    assert!(WORLD.ask(&[bearer(NOW - 29).as_bytes()]).is_ok());
    assert_eq!(WORLD.ask(&[bearer(NOW - 30).as_bytes()]), Err(Rejection::TokenExpired));
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&bearer(NOW)).unwrap());
    let at = |now| WORLD.authenticator.authenticate(&headers, now);
    assert!(at(NOW).is_ok() && at(NOW + 29).is_ok());
    assert_eq!(at(NOW + 30), Err(Rejection::TokenExpired));
}

#[test]
fn a_cached_verdict_does_not_outlive_revocation() {
    let world = World::new();
    assert!(world.judge(&good()).is_ok());
    world.revocations.apply(&Revoked::Session(SessionId(SID.parse().unwrap())), NOW + 200);
    assert_eq!(world.judge(&good()), Err(Rejection::TokenRevoked));
    let other = |name: &str| signed(HEADER, &with(name, json!(Uuid::new_v4().to_string())));
    let of_session = other("sid");
    assert!(world.judge(&of_session).is_ok());
    world.revocations.apply(&Revoked::User(UserId(7), NOW - 100), NOW + 200);
    assert_eq!(world.judge(&of_session), Err(Rejection::TokenRevoked));
}

#[test]
fn a_revoked_key_takes_its_tokens_along_and_no_others() {
    let world = World::new();
    let token = world.ed25519_signed(&world.ed25519_header(), &text());
    assert!(world.judge(&token).is_ok());
    world.revocations.apply(&Revoked::Key(KeyId(world.ed25519_kid.as_str().into())), NOW + 200);
    assert_eq!(world.judge(&token), Err(Rejection::TokenRevoked));
    assert!(world.judge(&world.p256_signed(&world.p256_header(), &text())).is_ok());
}

#[test]
fn the_second_spelling_of_an_es256_token_is_revoked_with_the_first() {
    let world = World::new();
    let token = world.p256_signed(&world.p256_header(), &text());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let raw = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
    let (r, s) = p256::ecdsa::Signature::from_slice(&raw).unwrap().split_scalars();
    let other = format!("{message}.{}", b64(p256::ecdsa::Signature::from_scalars(r, -s).unwrap().to_bytes()));
    assert!(other != token && world.judge(&token).is_ok() && world.judge(&other).is_ok());
    world.revocations.apply(&Revoked::Token(JTI.parse().unwrap()), NOW + 200);
    assert_eq!(world.judge(&token), Err(Rejection::TokenRevoked));
    assert_eq!(world.judge(&other), Err(Rejection::TokenRevoked));
}

#[test]
fn a_cached_verdict_does_not_outlive_its_key() {
    let world = World::new();
    let (ed25519, p256) =
        (world.ed25519_signed(&world.ed25519_header(), &text()), world.p256_signed(&world.p256_header(), &text()));
    assert!(world.judge(&ed25519).is_ok() && world.judge(&p256).is_ok());
    assert!(!world.authenticator.install(world.source.load().unwrap()), "nothing changed");
    let now = jiff::Timestamp::from_second(NOW).unwrap();
    let gone = KeyChange::Remove(KeyId(world.ed25519_kid.as_str().into()));
    world.source.folder.change(&gone, KeyAlgorithm::EdDsa, std::time::Duration::ZERO, now).unwrap();
    assert!(world.judge(&ed25519).is_ok(), "until the ring is taken over");
    assert!(world.authenticator.install(world.source.load().unwrap()));
    assert_eq!(world.judge(&ed25519), Err(Rejection::InvalidToken));
    assert!(world.judge(&p256).is_ok() && world.judge(&good()).is_ok());
    // Another secret: what the old one signed is over, cached or not.
    assert!(world.authenticator.install("another secret".into()));
    assert_eq!(world.judge(&good()), Err(Rejection::InvalidToken));
}

proptest::proptest! {
    #[test]
    fn no_value_makes_it_panic_or_pass(value in proptest::collection::vec(0x20_u8..0x7f, 0..200)) {
        let bearer = [b"Bearer ".as_slice(), &value].concat();
        proptest::prop_assert!(WORLD.ask(&[&value]).is_err());
        proptest::prop_assert!(WORLD.ask(&[&bearer]).is_err());
    }

    #[test]
    fn no_changed_byte_passes(which in 0_usize..3, at in 0_usize..600, byte in 0x21_u8..0x7f) {
        let tokens = [
            good(),
            WORLD.ed25519_signed(&WORLD.ed25519_header(), &text()),
            WORLD.p256_signed(&WORLD.p256_header(), &text()),
        ];
        let mut token = tokens[which].clone().into_bytes();
        let at = at % token.len();
        proptest::prop_assume!(token[at] != byte);
        token[at] = byte;
        let refused = WORLD.judge(std::str::from_utf8(&token).unwrap());
        proptest::prop_assert!(matches!(refused, Err(Rejection::InvalidToken | Rejection::InvalidTokenFormat)));
    }
}
