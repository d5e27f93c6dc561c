//! Public vectors, driven through the one place that verifies: Wycheproof's sets, the examples of the RFCs, and
//! signatures that no honest signer makes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use wycheproof::{TestResult, ecdsa, eddsa, mac};

use super::jwk::Jwk;
use super::primitive::{MacKey, PrivateKey, PublicKey, SigningKey, VerifyingKey};
use crate::model::algorithm::KeyAlgorithm;

/// Checks one verdict after the other; answers how many were good and how many bad.
fn judge(cases: impl Iterator<Item = (usize, bool, bool)>) -> (usize, usize) {
    let (mut good, mut bad, mut wrong) = (0, 0, Vec::new());
    for (case, verdict, expected) in cases {
        if verdict != expected {
            wrong.push(format!("case {case}: {verdict} instead of {expected}"));
        }
        if expected { good += 1 } else { bad += 1 }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    (good, bad)
}

#[test]
fn wycheproof_ed25519() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let cases = set.test_groups.iter().flat_map(|group| {
        let key = VerifyingKey::Public(PublicKey::ed25519(&group.key.pk).unwrap());
        let case =
            move |test: &eddsa::Test| (test.tc_id, key.verify(&test.msg, &test.sig), test.result == TestResult::Valid);
        group.tests.iter().map(case).collect::<Vec<_>>()
    });
    assert_eq!(judge(cases), (88, 63));
}

#[test]
fn wycheproof_es256() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let cases = set.test_groups.iter().flat_map(|group| {
        let point = &group.key.key;
        assert_eq!((point.len(), point[0]), (65, 4));
        let key = VerifyingKey::Public(PublicKey::p256(&point[1..33], &point[33..]).unwrap());
        let case =
            move |test: &ecdsa::Test| (test.tc_id, key.verify(&test.msg, &test.sig), test.result == TestResult::Valid);
        group.tests.iter().map(case).collect::<Vec<_>>()
    });
    assert_eq!(judge(cases), (173, 89));
}

#[test]
fn wycheproof_hs256() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let cases = set.test_groups.iter().flat_map(|group| {
        let whole = group.tag_size == 256;
        let case = move |test: &mac::Test| {
            let verdict = VerifyingKey::Secret(MacKey::new(&test.key)).verify(&test.msg, &test.tag);
            // A shortened MAC is a good one there, and never one of ours (RFC 7518 §3.2).
            (test.tc_id, verdict, whole && test.result == TestResult::Valid)
        };
        group.tests.iter().map(case).collect::<Vec<_>>()
    });
    assert_eq!(judge(cases), (33, 141));
}

/// Signing input and signature of a compact JWS.
fn apart(token: &str) -> (&[u8], Vec<u8>) {
    let (message, signature) = token.rsplit_once('.').unwrap();
    (message.as_bytes(), URL_SAFE_NO_PAD.decode(signature).unwrap())
}

fn signed(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(key.sign(message).unwrap()).unwrap()
}

fn public(jwk: &str) -> VerifyingKey {
    VerifyingKey::Public(serde_json::from_str::<Jwk>(jwk).unwrap().key().unwrap())
}

#[test]
fn rfc_7515_a_1_hs256() {
    let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
                 cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let (message, signature) = apart(token);
    let key = MacKey::new(&URL_SAFE_NO_PAD.decode(key).unwrap());
    assert!(VerifyingKey::Secret(key.clone()).verify(message, &signature));
    assert_eq!(signed(&SigningKey::Secret(key), message), signature);
}

#[test]
fn rfc_7515_a_3_es256() {
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290\
                 Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let key = public(
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
    );
    let (message, signature) = apart(token);
    assert!(key.verify(message, &signature));
    assert!(!key.verify(&message[1..], &signature));
}

#[test]
fn rfc_8037_a_4_eddsa() {
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR\
                 4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let (message, signature) = apart(token);
    let key = public(r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#);
    assert!(key.verify(message, &signature));
    // A.1: the private key of the same pair, as PKCS#8.
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let der = [&b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..], &seed].concat();
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    let private = PrivateKey::from_pem(KeyAlgorithm::EdDsa, &pem).unwrap();
    assert_eq!(signed(&SigningKey::Private(private), message), signature);
}

#[test]
fn ed25519_has_one_spelling_and_no_small_orders() {
    use curve25519_dalek::edwards::EdwardsPoint;
    use curve25519_dalek::scalar::Scalar;
    use curve25519_dalek::traits::Identity;
    use ed25519_dalek::Verifier;
    use sha2::{Digest, Sha512};

    let secret = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let key = VerifyingKey::Public(PublicKey::ed25519(secret.verifying_key().as_bytes()).unwrap());
    let message = b"message";
    let honest = signed(&SigningKey::Private(PrivateKey::EdDsa(Box::new(secret.clone()))), message);
    assert!(key.verify(message, &honest));

    // s + L says the same as s to who does not look.
    let order: [u8; 32] = {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&0x14de_f9de_a2f7_9cd6_5812_631a_5cf5_d3ed_u128.to_le_bytes());
        bytes[31] = 0x10;
        bytes
    };
    let mut carry = 0_u16;
    let mut second = honest.clone();
    for (byte, add) in second[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert!(carry == 0 && !key.verify(message, &second));

    // R of order one: the equation holds, the strict rules do not.
    let r = EdwardsPoint::identity().compress();
    let hash = Sha512::new().chain_update(r.as_bytes());
    let hash = hash.chain_update(secret.verifying_key().as_bytes()).chain_update(message).finalize();
    let s = Scalar::from_bytes_mod_order_wide(&hash.into()) * secret.to_scalar();
    let small = [*r.as_bytes(), s.to_bytes()].concat();
    let loose = ed25519_dalek::Signature::from_slice(&small).unwrap();
    assert!(secret.verifying_key().verify(message, &loose).is_ok(), "not what this case is about");
    assert!(!key.verify(message, &small));
}

#[test]
fn es256_takes_both_signs_of_s_and_nothing_out_of_range() {
    let secret = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let public = PrivateKey::Es256(Box::new(secret)).public();
    let signing =
        SigningKey::Private(PrivateKey::Es256(Box::new(p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap())));
    let key = VerifyingKey::Public(public);
    let signature = signed(&signing, b"message");
    let parsed = p256::ecdsa::Signature::from_slice(&signature).unwrap();
    let (r, s) = parsed.split_scalars();
    let other = p256::ecdsa::Signature::from_scalars(r, -s).unwrap().to_bytes();
    assert!(key.verify(b"message", &signature) && key.verify(b"message", &other) && *other != *signature);

    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (r, s) = signature.split_at(32);
    for bad in [
        vec![0; 64],
        [r, &[0; 32]].concat(),
        [&[0; 32], s].concat(),
        [r, &order].concat(),
        [&order, s].concat(),
        [&[0xff; 32], s].concat(),
        parsed.to_der().as_bytes().to_vec(),
        signature[..63].to_vec(),
        [signature.as_slice(), &[0]].concat(),
        Vec::new(),
    ] {
        assert!(!key.verify(b"message", &bad), "{bad:x?}");
    }
}
