//! Attacks by the claims. Every token here has a good signature: they say what is believed after it.

use serde_json::{Value, json};

use super::testing::*;
use crate::model::rejection::Rejection;

pub(super) fn cases() -> Vec<Case> {
    [missing(), values(), payloads(), kinds()].into_iter().flatten().collect()
}

fn missing() -> Vec<Case> {
    let names = ["exp", "iat", "sub", "jti", "sid", "type", "iss", "email", "role"];
    let cases = names.into_iter().flat_map(|name| {
        [
            invalid(format!("without {name}"), signed(HEADER, &without(name))),
            invalid(format!("{name} null"), signed(HEADER, &with(name, Value::Null))),
            invalid(format!("{name} array"), signed(HEADER, &with(name, json!([claims()[name]])))),
        ]
    });
    cases.collect()
}

#[allow(clippy::too_many_lines, reason = "one list")]
fn values() -> Vec<Case> {
    let values = [
        ("iss", json!("someone-else")),
        ("iss", json!("")),
        ("iss", json!(format!("{ISSUER}/"))),
        ("iss", json!(ISSUER.to_uppercase())),
        ("iss", json!({"a": ISSUER})),
        ("aud", json!("another-service")),
        ("aud", json!(ISSUER)),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("sub", json!(7)),
        ("sub", json!("")),
        ("sub", json!("0")),
        ("sub", json!("-1")),
        ("sub", json!("-7")),
        ("sub", json!("+7")),
        ("sub", json!("07")),
        ("sub", json!(" 7")),
        ("sub", json!("7 ")),
        ("sub", json!("7\n")),
        ("sub", json!("7.0")),
        ("sub", json!("7e0")),
        ("sub", json!("0x7")),
        ("sub", json!("\u{0667}")),
        ("sub", json!("7; DROP TABLE users")),
        ("sub", json!("9223372036854775808")),
        ("role", json!("")),
        ("role", json!("root")),
        ("role", json!("ADMIN")),
        ("role", json!("admin ")),
        ("role", json!(["candidat", "admin"])),
        ("role", json!({"admin": true})),
        ("role", json!(2)),
        ("sid", json!("")),
        ("sid", json!(SID.to_uppercase())),
        ("sid", json!(format!("{{{SID}}}"))),
        ("sid", json!(format!("urn:uuid:{SID}"))),
        ("sid", json!(SID.replace('-', ""))),
        ("sid", json!(format!("{SID} "))),
        ("jti", json!("")),
        ("jti", json!("1")),
        ("jti", json!(JTI.to_uppercase())),
        ("jti", json!(format!("{{{JTI}}}"))),
        ("jti", json!(JTI.replace('-', ""))),
        ("type", json!(1)),
        ("type", json!(true)),
        ("iat", json!(NOW + 31)),
        ("iat", json!("yesterday")),
        ("iat", json!(format!("{NOW}"))),
        ("iat", json!(1.5)),
        ("iat", json!(i64::MAX)),
        ("exp", json!(NOW - 100)),
        ("exp", json!(NOW - 101)),
        ("exp", json!(-1)),
        ("exp", json!("never")),
        ("exp", json!(format!("{}", NOW + 100))),
        ("exp", json!(1e300)),
        ("exp", json!(2_000_000_000.5)),
        ("exp", json!(i64::MAX)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(NOW + 40 * 86_400)),
        ("exp", json!(true)),
        ("nbf", json!(NOW + 31)),
        ("nbf", json!("now")),
        ("nbf", json!(1.5)),
        ("email", json!(7)),
    ];
    let cases = values
        .into_iter()
        .map(|(name, value)| invalid(format!("{name} is {value}"), signed(HEADER, &with(name, value))));
    cases.collect()
}

/// Payloads that readers take differently.
fn payloads() -> Vec<Case> {
    let text = text();
    let put = |member: &str| text.replacen('{', &format!("{{{member},"), 1);
    let nested = signed(HEADER, &text);
    let deep = put(&format!(r#""x":{}{}"#, "[".repeat(2000), "]".repeat(2000)));
    let forms = [
        ("role twice, admin first", put(r#""role":"admin""#)),
        ("role twice, admin last", text.replacen("\"type\"", "\"role\":\"admin\",\"type\"", 1)),
        ("role twice, one escaped", put(r#""\u0072ole":"admin""#)),
        ("sub twice", put(r#""sub":"1""#)),
        ("exp twice", put(&format!(r#""exp":{}"#, NOW + 1000))),
        ("type twice", put(r#""type":"refresh""#)),
        ("an unknown claim twice", put(r#""x":1,"x":2"#)),
        ("array", format!("[{text}]")),
        ("text", json!(text).to_string()),
        ("number", "7".to_owned()),
        ("null", "null".to_owned()),
        ("nothing in it", "{}".to_owned()),
        ("cut", text[..text.len() - 1].to_owned()),
        ("more after it", format!("{text}x")),
        ("two objects", format!("{text}{text}")),
        ("NUL after it", format!("{text}\0")),
        ("NUL alone", "\0".to_owned()),
        ("BOM", format!("\u{feff}{text}")),
        ("a comma too many", text.replace('}', ",}")),
        ("a comment", text.replace('}', "/**/}")),
        ("NaN", put(r#""x":NaN"#)),
        ("nested token", nested),
        ("deep", deep),
    ];
    let mut cases: Vec<Case> =
        forms.iter().map(|(name, payload)| invalid(format!("payload: {name}"), signed(HEADER, payload))).collect();
    // Bytes that are no UTF-8, in a text and outside of one.
    for (name, bytes) in [
        ("invalid UTF-8 in a claim", text.replace("a@b.fr", "\u{1}").into_bytes()),
        ("invalid UTF-8 outside", text.clone().into_bytes()),
    ] {
        let mut bytes: Vec<u8> = bytes.into_iter().map(|byte| if byte == 1 { 0xff } else { byte }).collect();
        if name.ends_with("outside") {
            bytes.push(0xff);
        }
        let message = format!("{}.{}", b64(HEADER), b64(bytes));
        cases.push(invalid(format!("payload: {name}"), format!("{message}.{}", b64(mac(SECRET, &message)))));
    }
    cases
}

/// Good tokens for something else, and those whose time is over.
fn kinds() -> Vec<Case> {
    let bearer = |token: String| format!("Bearer {token}");
    let world = &*WORLD;
    let late = with("exp", json!(NOW - 30));
    vec![
        case("type refresh", bearer(signed(HEADER, &with("type", json!("refresh")))), Rejection::WrongTokenType),
        case("type Access", bearer(signed(HEADER, &with("type", json!("Access")))), Rejection::WrongTokenType),
        case("type empty", bearer(signed(HEADER, &with("type", json!("")))), Rejection::WrongTokenType),
        case("expired", bearer(signed(HEADER, &late)), Rejection::TokenExpired),
        case("expired, Ed25519", bearer(world.ed25519_signed(&world.ed25519_header(), &late)), Rejection::TokenExpired),
        case("expired, P-256", bearer(world.p256_signed(&world.p256_header(), &late)), Rejection::TokenExpired),
    ]
}
