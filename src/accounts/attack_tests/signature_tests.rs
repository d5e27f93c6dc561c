//! Attacks by the signature: another key's, another message's, none, and every spelling but one.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::{Sha384, Sha512};

use super::testing::*;

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(super) fn cases() -> Vec<Case> {
    let world = &*WORLD;
    let mut cases = Vec::new();
    for (name, token, other) in [
        ("HS256", good(), signed(HEADER, &with("sub", json!("8")))),
        (
            "EdDSA",
            world.ed25519_signed(&world.ed25519_header(), &text()),
            world.ed25519_signed(&world.ed25519_header(), &with("sub", json!("8"))),
        ),
        (
            "ES256",
            world.p256_signed(&world.p256_header(), &text()),
            world.p256_signed(&world.p256_header(), &with("sub", json!("8"))),
        ),
    ] {
        cases.extend(of_any(name, &token, &other));
    }
    cases.extend(of_macs());
    cases.extend(of_es256());
    cases.extend(of_other_keys());
    cases
}

fn apart(token: &str) -> (&str, &str, Vec<u8>) {
    let (message, signature) = token.rsplit_once('.').unwrap();
    (message, signature, URL_SAFE_NO_PAD.decode(signature).unwrap())
}

/// `other`: a good token of the same key with other claims.
fn of_any(alg: &str, token: &str, other: &str) -> Vec<Case> {
    let (message, signature, raw) = apart(token);
    let (header, payload) = message.split_once('.').unwrap();
    let (_, others, _) = apart(other);
    let flip = |at: usize| {
        let mut changed = raw.clone();
        changed[at] ^= 1;
        format!("{message}.{}", b64(changed))
    };
    // 32 and 64 bytes leave spare bits in the last character: 2 and 4. They must be zero.
    let last = ALPHABET.find(signature.chars().last().unwrap()).unwrap();
    let second = ALPHABET.chars().nth(last + 1).unwrap();
    let swapped = format!("{}.{payload}.{signature}", other.split_once('.').unwrap().1.split_once('.').unwrap().0);
    let admin = b64(with("role", json!("admin")));
    let tokens = [
        ("signature of another token", format!("{message}.{others}")),
        ("claims changed", format!("{header}.{admin}.{signature}")),
        ("header spaced", format!("{}.{payload}.{signature}", b64(r#"{"alg": "HS256"}"#))),
        ("header and payload swapped", swapped),
        ("first bit", flip(0)),
        ("last bit", flip(raw.len() - 1)),
        ("one byte", format!("{message}.{}", b64(&raw[..1]))),
        ("half of it", format!("{message}.{}", b64(&raw[..raw.len() / 2]))),
        ("a byte less", format!("{message}.{}", b64(&raw[..raw.len() - 1]))),
        ("a byte more", format!("{message}.{}", b64([raw.as_slice(), &[0]].concat()))),
        ("twice", format!("{message}.{}", b64([raw.as_slice(), &raw].concat()))),
        ("all zero", format!("{message}.{}", b64(vec![0; raw.len()]))),
        ("all ones", format!("{message}.{}", b64(vec![0xff; raw.len()]))),
        ("reversed", format!("{message}.{}", b64(raw.iter().rev().copied().collect::<Vec<_>>()))),
        ("spare bits set", format!("{message}.{}{second}", &signature[..signature.len() - 1])),
        ("a character too many", format!("{message}.{signature}A")),
        ("hexadecimal", format!("{message}.{}", raw.iter().map(|byte| format!("{byte:02x}")).collect::<String>())),
        ("base64 of base64", format!("{message}.{}", b64(signature))),
        ("the message as signature", format!("{message}.{payload}")),
    ];
    let mut cases: Vec<Case> =
        tokens.iter().map(|(name, token)| invalid(format!("{alg} signature: {name}"), token)).collect();
    let padded = format!("Bearer {message}.{}", URL_SAFE.encode(&raw));
    cases.push(malformed(format!("{alg} signature: padded"), padded));
    cases.push(malformed(format!("{alg} signature: empty"), format!("Bearer {message}.")));
    cases.push(malformed(format!("{alg} signature: missing"), format!("Bearer {message}")));
    for (name, character) in [("plus", '+'), ("slash", '/'), ("percent", '%'), ("equals", '='), ("tilde", '~')] {
        let changed = format!("{}{character}{}", &signature[..5], &signature[6..]);
        cases.push(malformed(format!("{alg} signature: {name} inside"), format!("Bearer {message}.{changed}")));
    }
    for (name, character) in [("space", ' '), ("tab", '\t')] {
        let spaced = format!("Bearer {message}.{}{character}{}", &signature[..5], &signature[5..]);
        cases.push(malformed(format!("{alg} signature: {name} inside"), spaced));
    }
    cases
}

fn of_macs() -> Vec<Case> {
    let token = good();
    let (message, _, raw) = apart(&token);
    let with = |mac: Vec<u8>| format!("{message}.{}", b64(mac));
    let mac384 = Hmac::<Sha384>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(message).finalize();
    let mac512 = Hmac::<Sha512>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(message).finalize();
    let standard = STANDARD.encode(&raw).replace(['+', '/', '='], "A");
    let by = |secret: &str| signed_with(secret, HEADER, &text());
    vec![
        invalid("MAC: SHA-384", with(mac384.into_bytes().to_vec())),
        invalid("MAC: SHA-512", with(mac512.into_bytes().to_vec())),
        invalid("MAC: truncated to 128 bits", with(raw[..16].to_vec())),
        invalid("MAC: another secret", by("another secret")),
        invalid("MAC: the empty secret", by("")),
        invalid("MAC: the secret and a space", by(&format!("{SECRET} "))),
        invalid("MAC: the secret in base64", by(&STANDARD.encode(SECRET))),
        invalid("MAC: the secret's own name", by(&secret_kid())),
        invalid("MAC: standard alphabet, padding as letters", format!("{message}.{standard}")),
        invalid("MAC: over the payload alone", with(mac(SECRET, message.split_once('.').unwrap().1))),
        invalid("MAC: over the decoded message", with(mac(SECRET, &format!("{HEADER}.{}", text())))),
    ]
}

fn of_es256() -> Vec<Case> {
    let world = &*WORLD;
    let token = world.p256_signed(&world.p256_header(), &text());
    let (message, _, raw) = apart(&token);
    let with = |signature: &[u8]| format!("{message}.{}", b64(signature));
    let (r, s) = raw.split_at(32);
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let one = [&[0; 31][..], &[1]].concat();
    let der = p256::ecdsa::Signature::from_slice(&raw).unwrap().to_der();
    vec![
        invalid("ES256: DER instead of raw", with(der.as_bytes())),
        invalid("ES256: psychic, r and s zero", with(&[0; 64])),
        invalid("ES256: r zero", with(&[&[0; 32], s].concat())),
        invalid("ES256: s zero", with(&[r, &[0; 32]].concat())),
        invalid("ES256: r is the order", with(&[&order, s].concat())),
        invalid("ES256: s is the order", with(&[r, &order].concat())),
        invalid("ES256: r and s one", with(&[one.clone(), one].concat())),
        invalid("ES256: r above the order", with(&[&[0xff; 32], s].concat())),
        invalid("ES256: r and s swapped", with(&[s, r].concat())),
        invalid("ES256: each with a leading zero", with(&[&[0], r, &[0], s].concat())),
        invalid("ES256: a recovery byte", with(&[raw.as_slice(), &[27]].concat())),
        invalid("ES256: 96 bytes, as of P-384", with(&[0x42; 96])),
    ]
}

fn of_other_keys() -> Vec<Case> {
    use ed25519_dalek::Signer;
    let world = &*WORLD;
    let ed25519 = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let p256 = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let (ed_message, p_message) = (message(&world.ed25519_header(), &text()), message(&world.p256_header(), &text()));
    let p_signature: p256::ecdsa::Signature = p256.sign(p_message.as_bytes());
    let crossed: p256::ecdsa::Signature = world.p256.sign(ed_message.as_bytes());
    // An Ed25519 signature with R of order one and s zero: good for every message of a key of order one.
    let universal = [&[1][..], &[0; 63]].concat();
    vec![
        invalid("EdDSA: another key", format!("{ed_message}.{}", b64(ed25519.sign(ed_message.as_bytes()).to_bytes()))),
        invalid("EdDSA: the universal signature", format!("{ed_message}.{}", b64(universal))),
        invalid("EdDSA: signed by the P-256 key", format!("{ed_message}.{}", b64(crossed.to_bytes()))),
        invalid("ES256: another key", format!("{p_message}.{}", b64(p_signature.to_bytes()))),
        invalid(
            "ES256: signed by the Ed25519 key",
            format!("{p_message}.{}", b64(world.ed25519.sign(p_message.as_bytes()).to_bytes())),
        ),
    ]
}
