//! One finished request as one line of JSON, written by hand: through a serialiser or `tracing` it would cost many
//! times as much, for every request. What is absent has no key.

use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::access::{AccessRecord, UpstreamRecord};
use crate::model::identity::{Credential, Identity};
use crate::telemetry::flags::Flag;

/// Room for a usual line, made at once.
const LINE: usize = 640;

/// Appends the line of `record`, with its line feed, to `out`. Pure ASCII: everything else is escaped.
pub(super) fn write(out: &mut Vec<u8>, record: &AccessRecord<'_>) {
    out.reserve(LINE);
    out.extend_from_slice(b"{\"ts\":\"");
    timestamp(out, record.started_at);
    out.push(b'"');
    text(out, b",\"request_id\":", record.request_id);
    optional(out, b",\"trace_id\":", record.trace_id);
    if let Some(address) = record.client {
        out.extend_from_slice(b",\"client\":\"");
        client(out, address);
        out.push(b'"');
    }
    text(out, b",\"method\":", record.method);
    optional(out, b",\"route\":", record.route);
    text(out, b",\"path\":", record.path);
    number(out, b",\"status\":", u64::from(record.status));
    optional(out, b",\"code\":", record.code);
    text(out, b",\"outcome\":", record.outcome.as_str());
    number(out, b",\"bytes_in\":", record.bytes_in);
    number(out, b",\"bytes_out\":", record.bytes_out);
    millis(out, b",\"duration_ms\":", record.duration);
    if let Some(first_byte) = record.first_byte {
        millis(out, b",\"first_byte_ms\":", first_byte);
    }
    if let Some(queue) = record.queue {
        millis(out, b",\"queue_ms\":", queue);
    }
    if let Some(used) = &record.upstream {
        upstream(out, used);
    }
    if let Some(known) = record.identity {
        identity(out, known);
    }
    if let Some(limit) = &record.limit {
        text(out, b",\"limit\":{\"policy\":", limit.policy);
        number(out, b",\"remaining\":", limit.remaining);
        out.push(b'}');
    }
    flags(out, record);
    out.extend_from_slice(b"}\n");
}

fn upstream(out: &mut Vec<u8>, used: &UpstreamRecord<'_>) {
    text(out, b",\"upstream\":{\"pool\":", used.pool);
    text(out, b",\"target\":", used.target);
    if let Some(status) = used.status {
        number(out, b",\"status\":", u64::from(status));
    }
    millis(out, b",\"ms\":", used.duration);
    number(out, b",\"attempts\":", u64::from(used.attempts));
    let mut before: &[u8] = b",\"tried\":[";
    for label in used.tried {
        text(out, before, label);
        before = b",";
    }
    if !used.tried.is_empty() {
        out.push(b']');
    }
    out.push(b'}');
}

fn identity(out: &mut Vec<u8>, known: &Identity) {
    out.extend_from_slice(b",\"user\":");
    if known.user.0 < 0 {
        out.push(b'-');
    }
    digits(out, known.user.0.unsigned_abs());
    text(out, b",\"role\":", known.role.as_str());
    match known.credential {
        Credential::Token { session, .. } => {
            // Eight digits tell sessions apart in a log; the whole id would name the session to whoever reads it.
            out.extend_from_slice(b",\"sid\":\"");
            let (first, ..) = session.0.as_fields();
            out.extend_from_slice(&[28, 24, 20, 16, 12, 8, 4, 0].map(|shift| hex(first >> shift)));
            out.push(b'"');
        }
        Credential::ApiKey(id) => number(out, b",\"api_key\":", id.0.unsigned_abs()),
    }
}

fn flags(out: &mut Vec<u8>, record: &AccessRecord<'_>) {
    let mut before: &[u8] = b",\"flags\":[\"";
    for flag in Flag::ALL.into_iter().filter(|flag| flag.applies(record)) {
        out.extend_from_slice(before);
        out.extend_from_slice(flag.as_str().as_bytes());
        out.push(b'"');
        before = b",\"";
    }
    if before == b",\"" {
        out.push(b']');
    }
}

fn optional(out: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        text(out, key, value);
    }
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    digits(out, value);
}

/// Milliseconds with three decimals.
fn millis(out: &mut Vec<u8>, key: &[u8], value: Duration) {
    let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    number(out, key, micros / 1000);
    out.extend_from_slice(&[b'.', digit(micros / 100), digit(micros / 10), digit(micros)]);
}

fn client(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            digits(out, u64::from(a));
            for octet in [b, c, d] {
                out.push(b'.');
                digits(out, u64::from(octet));
            }
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

/// A JSON string (RFC 8259 §7). Control characters and everything that is not ASCII are escaped, so that no
/// terminal, and no reader with another notion of a line's end, is fooled by what a client sent.
fn text(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    out.push(b'"');
    // No early exit: so the compiler looks at many bytes at once.
    if value.bytes().fold(true, |all, byte| all & plain(byte)) {
        out.extend_from_slice(value.as_bytes());
    } else {
        value.chars().for_each(|character| escaped(out, character));
    }
    out.push(b'"');
}

fn plain(byte: u8) -> bool {
    (0x20..=0x7e).contains(&byte) & (byte != b'"') & (byte != b'\\')
}

fn escaped(out: &mut Vec<u8>, character: char) {
    match character {
        '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
        ' '..='~' => out.push(character as u8),
        _ => {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                out.extend_from_slice(b"\\u");
                out.extend_from_slice(&[12, 8, 4, 0].map(|shift| hex(u32::from(*unit) >> shift)));
            }
        }
    }
}

/// The lowest four bits as a digit.
fn hex(value: u32) -> u8 {
    match (value & 0xf) as u8 {
        low @ 0..=9 => b'0' + low,
        high => b'a' + (high - 10),
    }
}

/// The lowest decimal digit.
fn digit(value: u64) -> u8 {
    b'0' + (value % 10) as u8
}

fn digits(out: &mut Vec<u8>, value: u64) {
    if value < 10 {
        return out.push(digit(value));
    }
    let mut buffer = [b'0'; 20]; // u64::MAX has 20 digits
    let mut rest = value;
    let mut used = 0;
    for slot in buffer.iter_mut().rev() {
        *slot = digit(rest);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(buffer.get(buffer.len() - used..).unwrap_or_default());
}

/// RFC 3339 in UTC with six decimals. The calendar from the days since 1970: H. Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn timestamp(out: &mut Vec<u8>, at: Timestamp) {
    let micros = at.as_microsecond();
    let (days, of_day) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000).unsigned_abs());
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (year, month, day) = (year.unsigned_abs(), month.unsigned_abs(), day.unsigned_abs());
    out.extend_from_slice(&[digit(year / 1000), digit(year / 100), digit(year / 10), digit(year)]);
    out.extend_from_slice(&[b'-', digit(month / 10), digit(month), b'-', digit(day / 10), digit(day)]);
    let second = of_day / 1_000_000;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    out.extend_from_slice(&[b'T', digit(hour / 10), digit(hour), b':', digit(minute / 10), digit(minute)]);
    out.extend_from_slice(&[b':', digit(second / 10), digit(second), b'.']);
    out.extend_from_slice(&[100_000, 10_000, 1_000, 100, 10, 1].map(|place| digit(of_day / place)));
    out.push(b'Z');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access::{LimitRecord, Outcome};
    use crate::model::identity::{KeyId, SessionId, TokenId, UserId};
    use crate::model::role::Role;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn record(path: &str) -> AccessRecord<'_> {
        AccessRecord {
            started_at: Timestamp::from_microsecond(1_767_225_600_123_456).unwrap(),
            request_id: "rid-12345678",
            trace_id: None,
            client: Some("192.0.2.7".parse().unwrap()),
            method: "GET",
            route: Some("match"),
            path,
            status: 200,
            code: None,
            outcome: Outcome::Complete,
            bytes_in: 0,
            bytes_out: 17,
            duration: Duration::from_micros(12_345),
            first_byte: None,
            queue: None,
            upstream: None,
            identity: None,
            limit: None,
        }
    }

    fn parsed(record: &AccessRecord<'_>) -> Value {
        let mut line = Vec::new();
        write(&mut line, record);
        assert_eq!(line.pop(), Some(b'\n'));
        assert!(line.iter().all(|byte| matches!(byte, 0x20..=0x7e)), "{line:?}");
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn a_plain_request_has_only_the_keys_that_are_known() {
        assert_eq!(
            parsed(&record("/api/gateway/match")),
            json!({"ts": "2026-01-01T00:00:00.123456Z", "request_id": "rid-12345678", "client": "192.0.2.7",
                "method": "GET", "route": "match", "path": "/api/gateway/match", "status": 200, "outcome": "complete",
                "bytes_in": 0, "bytes_out": 17, "duration_ms": 12.345})
        );
    }

    #[test]
    fn a_full_one_has_them_all() {
        let session = "0a1b2c3d-0000-4000-8000-000000000000".parse::<SessionId>().unwrap();
        let identity = Identity {
            user: UserId(42),
            email: "somebody@example.org".into(),
            role: Role::Recruteur,
            credential: Credential::Token { session, token: TokenId(session.0), key: KeyId("k".into()) },
            issued_at: 0,
            expires_at: 0,
        };
        let full = AccessRecord {
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
            client: Some("2001:db8::1".parse().unwrap()),
            status: 502,
            code: Some("BAD_GATEWAY"),
            outcome: Outcome::Truncated,
            bytes_in: (10 << 20) + 1,
            duration: Duration::from_millis(1001),
            first_byte: Some(Duration::from_micros(7)),
            queue: Some(Duration::from_micros(1_500)),
            upstream: Some(UpstreamRecord {
                pool: "matching",
                target: "192.0.2.9:5060",
                status: Some(200),
                duration: Duration::from_millis(3),
                attempts: 3,
                tried: &[Arc::from("target-1"), Arc::from("target-2")],
            }),
            identity: Some(&identity),
            limit: Some(LimitRecord { policy: "match", remaining: 41 }),
            ..record("/x")
        };
        let value = parsed(&full);
        assert_eq!(
            value["upstream"],
            json!({"pool": "matching", "target": "192.0.2.9:5060", "status": 200,
            "ms": 3.0, "attempts": 3, "tried": ["target-1", "target-2"]})
        );
        assert_eq!(value["queue_ms"], 1.5);
        assert_eq!(value["user"], 42);
        assert_eq!(value["role"], "recruteur");
        assert_eq!(value["sid"], "0a1b2c3d");
        assert_eq!(value["limit"], json!({"policy": "match", "remaining": 41}));
        assert_eq!(value["flags"], json!(["slow", "server_error", "large_upload"]));
        assert_eq!(value["client"], "2001:db8::1");
        assert!(!value.to_string().contains("somebody"));
    }

    proptest! {
        #[test]
        fn whatever_was_sent_is_read_back(path in any::<String>(), id in any::<String>(), bytes in any::<u64>()) {
            let sent = AccessRecord { path: &path, request_id: &id, bytes_out: bytes, method: &id, ..record("") };
            let value = parsed(&sent);
            prop_assert_eq!(&value["path"], &path);
            prop_assert_eq!(&value["request_id"], &id);
            prop_assert_eq!(&value["bytes_out"], bytes);
        }

        #[test]
        fn times_are_those_of_the_calendar(micros in -62_000_000_000_000_000_i64..250_000_000_000_000_000) {
            let at = Timestamp::from_microsecond(micros).unwrap();
            let mut line = Vec::new();
            timestamp(&mut line, at);
            prop_assert_eq!(String::from_utf8(line).unwrap().parse::<Timestamp>().unwrap(), at);
        }
    }
}
