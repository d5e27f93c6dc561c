//! Attacks by the form: of `Authorization`, and of the token in it.

use serde_json::json;

use super::testing::*;
use crate::model::rejection::Rejection;

pub(super) fn cases() -> Vec<Case> {
    let (schemes, tokens) = (schemes(), tokens());
    let mut cases: Vec<Case> = schemes.into_iter().chain(tokens).collect();
    cases.extend(parts());
    let refresh = crate::accounts::refresh::issue(
        &crate::store::SessionKey([7; 32]),
        crate::model::identity::SessionId(uuid::Uuid::nil()),
        0,
    );
    cases.push(case("a refresh token", format!("Bearer {refresh}"), Rejection::WrongTokenType));
    cases.push(malformed("a refresh token, padded", format!("Bearer {refresh}=")));
    cases.push(malformed("a refresh token, cut", format!("Bearer {}", &refresh[..40])));
    cases
}

/// What stands before the token, or around it.
fn schemes() -> Vec<Case> {
    let good = good();
    let bearer = format!("Bearer {good}");
    let mut cases = vec![
        malformed("empty", ""),
        malformed("scheme alone", "Bearer"),
        malformed("scheme and space", "Bearer "),
        malformed("no scheme", good.as_str()),
        malformed("two spaces", format!("Bearer  {good}")),
        malformed("a tab", format!("Bearer\t{good}")),
        malformed("space before", format!(" {bearer}")),
        malformed("tab before", format!("\t{bearer}")),
        malformed("space after", format!("{bearer} ")),
        malformed("tab after", format!("{bearer}\t")),
        malformed("twice with a comma", format!("{bearer}, {bearer}")),
        malformed("twice with a comma, no space", format!("{bearer},{bearer}")),
        malformed("two tokens", format!("{bearer} {good}")),
        malformed("a comma after", format!("{bearer},")),
        malformed("a semicolon after", format!("{bearer};")),
        malformed("colon", format!("Bearer: {good}")),
        malformed("equals", format!("Bearer={good}")),
        malformed("parameter", format!("Bearer token={good}")),
        malformed("quoted", format!("Bearer \"{good}\"")),
        malformed("angle brackets", format!("Bearer <{good}>")),
        malformed("Basic", format!("Basic {good}")),
        malformed("Basic with the token as password", format!("Basic {}", b64(format!("user:{good}")))),
        malformed("JWT", format!("JWT {good}")),
        malformed("Token", format!("Token {good}")),
        malformed("DPoP", format!("DPoP {good}")),
        malformed("Bearerer", format!("Bearerer {good}")),
        malformed("Bearer Bearer", format!("Bearer {bearer}")),
    ];
    for (name, bytes) in [
        ("a byte that is no UTF-8", &b"Bearer a.\xff.c"[..]),
        ("a no-break space", b"Bearer\xa0a.b.c"),
        ("letters that are not ASCII", b"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9 a.b.c"),
        ("a full-width dot", "Bearer a\u{ff0e}b\u{ff0e}c".as_bytes()),
        ("a BOM", "Bearer \u{feff}a.b.c".as_bytes()),
    ] {
        cases.push(malformed(name, bytes));
    }
    cases
}

/// Another number of parts, or other characters in them.
fn tokens() -> Vec<Case> {
    let good = good();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let json = json!({"payload": payload, "protected": header, "signature": signature}).to_string();
    let general =
        json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]}).to_string();
    let tokens = [
        ("one part", "garbage".to_owned()),
        ("two parts", "a.b".to_owned()),
        ("four parts", "a.b.c.d".to_owned()),
        ("five parts, as a JWE", "a.b.c.d.e".to_owned()),
        ("five parts, a good one in front", format!("{good}.{}.{}", b64("x"), b64("y"))),
        ("a part more", format!("{good}.{}", b64("x"))),
        ("only dots", "..".to_owned()),
        ("only dots, four", "....".to_owned()),
        ("no payload", format!("{header}..{signature}")),
        ("no header", format!(".{payload}.{signature}")),
        ("dot in front", format!(".{good}")),
        ("dot at the end", format!("{good}.")),
        ("padded", format!("{good}=")),
        ("padded header", format!("{header}=.{payload}.{signature}")),
        ("padded payload", format!("{header}.{payload}==.{signature}")),
        ("plus in the header", good.replacen('.', "+.", 1)),
        ("slash in the header", good.replacen('.', "/.", 1)),
        ("encoded dot", good.replacen('.', "%2e", 1)),
        ("encoded dots", good.replace('.', "%2E")),
        ("space in the payload", format!("{header}.{} {}.{signature}", &payload[..9], &payload[9..])),
        ("tab in the header", format!("{}\t{}.{payload}.{signature}", &header[..9], &header[9..])),
        ("JSON, flattened", json),
        ("JSON, general", general),
        ("raw header and claims", format!("{HEADER}.{}.{signature}", text())),
        ("hash sign", format!("{good}#x")),
        (
            "8 KiB and a byte",
            format!("{}.{payload}.{signature}", "A".repeat(8193 - payload.len() - signature.len() - 2)),
        ),
        ("huge", format!("{}.a.a", "a".repeat(64 * 1024))),
        ("many dots", ".".repeat(8000)),
    ];
    tokens.iter().map(|(name, token)| malformed(format!("token: {name}"), format!("Bearer {token}"))).collect()
}

/// Three parts of the right characters that say nothing, or say it in other bits.
fn parts() -> Vec<Case> {
    let good = good();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let remade = |header: &str, payload: &str| {
        let message = format!("{header}.{payload}");
        format!("{message}.{}", b64(mac(SECRET, &message)))
    };
    // A header of 27 bytes fills its characters, one of 28 leaves 4 spare bits, and one of 29 leaves 2.
    let (four, two) = (b64(r#"{"typ":"JWT", "alg":"HS256"}"#), b64(r#"{"typ":"JWT" , "alg":"HS256"}"#));
    let spare = |text: &str| format!("{}{}", &text[..text.len() - 1], next(text));
    vec![
        invalid("parts: letters", "a.b.c"),
        invalid("parts: 8 KiB of letters", format!("{}.a.a", "a".repeat(8 * 1024 - 4))),
        invalid("parts: header with spare bits, 4", remade(&spare(&four), payload)),
        invalid("parts: header with spare bits, 2", remade(&spare(&two), payload)),
        invalid("parts: payload with a character too many", remade(header, &format!("{payload}{}", tail(payload)))),
        invalid("parts: header twice encoded", remade(&b64(header), payload)),
        invalid("parts: payload twice encoded", remade(header, &b64(payload))),
        invalid("parts: header and payload swapped", remade(payload, header)),
        invalid("parts: signature in front", format!("{signature}.{header}.{payload}")),
    ]
}

/// The character after the last one: the same bits, and a spare one set.
fn next(text: &str) -> char {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = ALPHABET.find(text.chars().last().unwrap()).unwrap();
    ALPHABET.chars().nth(last + 1).unwrap()
}

/// So many characters that one is left over, which is half a byte.
fn tail(text: &str) -> &'static str {
    match text.len() % 4 {
        0 => "A",
        2 => "AAA",
        _ => "AA",
    }
}
