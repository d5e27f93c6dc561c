//! What an attacker may put into `Authorization`, case by case.

use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Sha256, Sha384, Sha512};
use uuid::Uuid;

use super::{Authenticator, Revocations};
use crate::model::identity::{Identity, SessionId, TokenId, UserId};
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::store::Revoked;

const SECRET: &str = "a secret for tests, long enough for HS256";
const ISSUER: &str = "supersmartmatch-gateway";
const NOW: i64 = 1_800_000_000;
const SID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";
const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

fn authenticator() -> (Authenticator, Arc<Revocations>) {
    let revocations = Arc::new(Revocations::new());
    (Authenticator::new(&SecretString::from(SECRET), ISSUER, revocations.clone()), revocations)
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "7", "email": "a@b.fr", "role": "recruteur", "sid": SID,
        "jti": "67e55044-10b1-426f-9247-bb680e5fe0c9", "iat": NOW - 100, "exp": NOW + 100, "type": "access"})
}

fn with(name: &str, value: Value) -> String {
    let mut claims = claims();
    claims[name] = value;
    claims.to_string()
}

fn without(name: &str) -> String {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims.to_string()
}

fn b64(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token with a good HS256 signature over whatever it says.
fn signed(header: &str, claims: &str) -> String {
    signed_with(SECRET, header, claims)
}

fn signed_with(secret: &str, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&message).finalize();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.into_bytes()))
}

fn good() -> String {
    signed(HEADER, &claims().to_string())
}

fn ask(authenticator: &Authenticator, values: &[&[u8]]) -> Result<Identity, Rejection> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
    }
    authenticator.authenticate(&headers, NOW)
}

fn judge(token: &str) -> Result<Identity, Rejection> {
    ask(&SHARED, &[format!("Bearer {token}").as_bytes()])
}

/// For cases that leave no trace.
static SHARED: LazyLock<Authenticator> = LazyLock::new(|| authenticator().0);

#[test]
fn a_good_token_proves_its_owner() {
    let expected = Identity {
        user: UserId(7),
        email: "a@b.fr".into(),
        role: Role::Recruteur,
        session: SessionId(SID.parse().unwrap()),
        token: TokenId("67e55044-10b1-426f-9247-bb680e5fe0c9".parse().unwrap()),
        issued_at: NOW - 100,
        expires_at: NOW + 100,
    };
    assert_eq!(judge(&good()), Ok(expected.clone()));
    let claims = claims().to_string();
    for header in [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","typ":"at+jwt"}"#] {
        assert_eq!(judge(&signed(header, &claims)), Ok(expected.clone()), "{header}");
    }
    assert_eq!(judge(&signed(HEADER, &with("nbf", json!(NOW)))), Ok(expected.clone()));
    assert_eq!(judge(&signed(HEADER, &with("unknown", json!({"a": 1})))), Ok(expected.clone()));
    let (authenticator, _) = authenticator();
    for scheme in ["bearer", "BEARER", "bEaReR"] {
        assert_eq!(ask(&authenticator, &[format!("{scheme} {}", good()).as_bytes()]), Ok(expected.clone()));
    }
}

#[test]
fn authorization_must_be_exactly_one_bearer_token() {
    let (authenticator, _) = authenticator();
    assert_eq!(ask(&authenticator, &[]), Err(Rejection::MissingToken));
    let good = good();
    let bearer = format!("Bearer {good}");
    let huge = format!("Bearer {}.a.a", "a".repeat(8 * 1024));
    let twice: [&[u8]; 2] = [bearer.as_bytes(), bearer.as_bytes()];
    assert_eq!(ask(&authenticator, &twice), Err(Rejection::InvalidTokenFormat));
    let forms = [
        String::new(),
        "Bearer".into(),
        "Bearer ".into(),
        good.clone(),
        format!("Bearer  {good}"),
        format!("Bearer\t{good}"),
        format!("Bearer {good} "),
        format!("Bearer {good}, Bearer {good}"),
        format!("Bearer: {good}"),
        format!("Bearer={good}"),
        format!("Bearer \"{good}\""),
        format!("Basic {good}"),
        format!("JWT {good}"),
        format!("Bearerer {good}"),
        format!("Token {good}"),
        "Bearer garbage".into(),
        "Bearer a.b".into(),
        "Bearer a.b.c.d".into(),
        "Bearer ..".into(),
        "Bearer a..c".into(),
        "Bearer .b.c".into(),
        "Bearer a.b.".into(),
        format!("Bearer {good}="),
        format!("Bearer {good}.{}", b64("x")),
        format!("Bearer {}", good.replacen('.', "+.", 1)),
        format!("Bearer {}", good.replacen('.', "/.", 1)),
        format!("Bearer {}", good.replacen('.', "%2e", 1)),
        huge,
    ];
    for form in forms {
        assert_eq!(ask(&authenticator, &[form.as_bytes()]), Err(Rejection::InvalidTokenFormat), "{form:.60}");
    }
    for bytes in [&b"Bearer a.\xff.c"[..], b"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", b"Bearer\xa0a.b.c"] {
        assert_eq!(ask(&authenticator, &[bytes]), Err(Rejection::InvalidTokenFormat));
    }
}

#[test]
fn header_tricks_are_refused() {
    let claims = claims().to_string();
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"typ":"JWT"}"#,
        r#"{}"#,
        r#"[]"#,
        r#""HS256""#,
        "not json",
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"JWE"}"#,
        r#"{"alg":"HS256","typ":7}"#,
        r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"HS256","kid":"../../../../dev/null"}"#,
        r#"{"alg":"HS256","kid":"' OR 1=1 --"}"#,
        r#"{"alg":"HS256","jku":"https://attacker.example/keys"}"#,
        r#"{"alg":"HS256","x5u":"https://attacker.example/cert"}"#,
        r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}"#,
        r#"{"alg":"HS256","x5c":["AAAA"]}"#,
        r#"{"alg":"HS256","zip":"DEF"}"#,
        r#"{"alg":"HS256","cty":"JWT"}"#,
        r#"{"alg":"HS256"} "trailing""#,
    ] {
        assert_eq!(judge(&signed(header, &claims)), Err(Rejection::InvalidToken), "{header}");
    }
}

#[test]
fn signature_tricks_are_refused() {
    let (good, text) = (good(), claims().to_string());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let standard = STANDARD.encode(URL_SAFE_NO_PAD.decode(signature).unwrap()).replace(['+', '/', '='], "A");
    let admin = with("role", json!("admin"));
    let mac384 = Hmac::<Sha384>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(message).finalize();
    let mac512 = Hmac::<Sha512>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(message).finalize();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut flipped = raw.clone();
    flipped[31] ^= 1;
    // The last character of 32 bytes carries 4 bits of them and 2 that must be zero.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let second_spelling = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    for (what, token) in [
        ("another key", signed_with("another secret", HEADER, &text)),
        ("the empty key", signed_with("", HEADER, &text)),
        ("changed claims", format!("{}.{}.{signature}", b64(HEADER), b64(&admin))),
        ("changed header", format!("{}.{}.{signature}", b64(r#"{"alg":"HS256"}"#), b64(&text))),
        ("none with a signature", format!("{}.{}.{signature}", b64(r#"{"alg":"none"}"#), b64(&text))),
        ("one bit", format!("{message}.{}", URL_SAFE_NO_PAD.encode(flipped))),
        ("cut", format!("{message}.{}", URL_SAFE_NO_PAD.encode(&raw[..16]))),
        ("one byte", format!("{message}.{}", URL_SAFE_NO_PAD.encode(&raw[..1]))),
        ("longer", format!("{message}.{}", URL_SAFE_NO_PAD.encode([raw.clone(), vec![0]].concat()))),
        ("HS384", format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac384.into_bytes()))),
        ("HS512", format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac512.into_bytes()))),
        ("second spelling", format!("{message}.{}{second_spelling}", &signature[..signature.len() - 1])),
        ("padding as letters", format!("{message}.{standard}")),
        ("half a byte", format!("{message}.{signature}A")),
    ] {
        assert_eq!(judge(&token), Err(Rejection::InvalidToken), "{what}");
    }
}

#[test]
fn claims_are_judged_strictly() {
    for name in ["exp", "iat", "sub", "jti", "sid", "type", "iss", "email", "role"] {
        assert_eq!(judge(&signed(HEADER, &without(name))), Err(Rejection::InvalidToken), "without {name}");
        assert_eq!(judge(&signed(HEADER, &with(name, Value::Null))), Err(Rejection::InvalidToken), "null {name}");
    }
    for (name, value) in [
        ("iss", json!("someone-else")),
        ("iss", json!([ISSUER])),
        ("aud", json!("another-service")),
        ("sub", json!(7)),
        ("sub", json!("0")),
        ("sub", json!("-7")),
        ("sub", json!("+7")),
        ("sub", json!("07")),
        ("sub", json!(" 7")),
        ("sub", json!("7; DROP TABLE users")),
        ("sub", json!("9223372036854775808")),
        ("role", json!("root")),
        ("role", json!("ADMIN")),
        ("role", json!(["admin"])),
        ("sid", json!("")),
        ("sid", json!(SID.to_uppercase())),
        ("sid", json!(format!("{{{SID}}}"))),
        ("jti", json!("1")),
        ("type", json!(1)),
        ("iat", json!(NOW + 31)),
        ("iat", json!("yesterday")),
        ("iat", json!(NOW + 200)),
        ("exp", json!(NOW - 100)),
        ("exp", json!(-1)),
        ("exp", json!("never")),
        ("exp", json!(1e300)),
        ("exp", json!(f64::from(2_000_000_000) + 0.5)),
        ("nbf", json!(NOW + 31)),
        ("nbf", json!("now")),
    ] {
        assert_eq!(judge(&signed(HEADER, &with(name, value.clone()))), Err(Rejection::InvalidToken), "{name} {value}");
    }
    let text = claims().to_string();
    let twice = text.replacen('{', r#"{"role":"admin","#, 1);
    let twice_unknown = text.replacen('{', r#"{"x":1,"x":2,"#, 1);
    let hidden = text.replacen('{', r#"{"\u0072ole":"admin","#, 1);
    for payload in [twice.as_str(), &twice_unknown, &hidden, "", "[]", "7", "null", "{", "\u{0}"] {
        let refused = judge(&signed(HEADER, payload));
        let expected = if payload.is_empty() { Rejection::InvalidTokenFormat } else { Rejection::InvalidToken };
        assert_eq!(refused, Err(expected), "{payload:.40}");
    }
    assert_eq!(judge(&signed(HEADER, &with("type", json!("refresh")))), Err(Rejection::WrongTokenType));
    assert_eq!(judge(&signed(HEADER, &with("type", json!("Access")))), Err(Rejection::WrongTokenType));
}

#[test]
fn expiry_has_a_leeway_of_30_seconds_cached_or_not() {
    let (authenticator, _) = authenticator();
    let bearer = |exp: i64| format!("Bearer {}", signed(HEADER, &with("exp", json!(exp))));
    assert!(ask(&authenticator, &[bearer(NOW - 29).as_bytes()]).is_ok());
    assert_eq!(ask(&authenticator, &[bearer(NOW - 30).as_bytes()]), Err(Rejection::TokenExpired));
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&bearer(NOW)).unwrap());
    assert!(authenticator.authenticate(&headers, NOW).is_ok());
    assert!(authenticator.authenticate(&headers, NOW + 29).is_ok());
    assert_eq!(authenticator.authenticate(&headers, NOW + 30), Err(Rejection::TokenExpired));
}

#[test]
fn a_cached_verdict_does_not_outlive_revocation() {
    let (authenticator, revocations) = authenticator();
    let bearer = format!("Bearer {}", good());
    assert!(ask(&authenticator, &[bearer.as_bytes()]).is_ok());
    revocations.apply(Revoked::Session(SessionId(SID.parse().unwrap())), NOW + 200);
    assert_eq!(ask(&authenticator, &[bearer.as_bytes()]), Err(Rejection::TokenRevoked));
    let other = format!("Bearer {}", signed(HEADER, &with("sid", json!(Uuid::new_v4().to_string()))));
    assert!(ask(&authenticator, &[other.as_bytes()]).is_ok());
    revocations.apply(Revoked::User(UserId(7), NOW - 100), NOW + 200);
    assert_eq!(ask(&authenticator, &[other.as_bytes()]), Err(Rejection::TokenRevoked));
}

#[test]
fn a_refresh_token_is_of_the_wrong_type() {
    let (authenticator, _) = authenticator();
    let refresh = authenticator.refresh.issue(SessionId(Uuid::new_v4()), 0);
    assert_eq!(ask(&authenticator, &[format!("Bearer {refresh}").as_bytes()]), Err(Rejection::WrongTokenType));
}

proptest::proptest! {
    #[test]
    fn no_value_makes_it_panic_or_pass(value in proptest::collection::vec(0x20_u8..0x7f, 0..200)) {
        let bearer = [b"Bearer ".as_slice(), &value].concat();
        proptest::prop_assert!(ask(&SHARED, &[&value]).is_err());
        proptest::prop_assert!(ask(&SHARED, &[&bearer]).is_err());
    }

    #[test]
    fn no_changed_byte_passes(at in 0_usize..400, byte in 0x21_u8..0x7f) {
        let mut token = good().into_bytes();
        let at = at % token.len();
        proptest::prop_assume!(token[at] != byte);
        token[at] = byte;
        let refused = judge(std::str::from_utf8(&token).unwrap());
        proptest::prop_assert!(matches!(refused, Err(Rejection::InvalidToken | Rejection::InvalidTokenFormat)));
    }
}
