//! One fact as replicas tell it to each other: a small JSON object with the version of its form.
//!
//! Whoever can write to the channel can write such messages, so nothing in one is believed for longer than it could
//! be true, and nothing in one makes a token good.

use serde::{Deserialize, Serialize};

use crate::accounts::{LEEWAY_S, revoked_until_s};
use crate::model::identity::{ApiKeyId, KeyId, UserId};
use crate::store::Revoked;

/// The form that is written and read here.
const VERSION: u32 = 1;
/// No message of ours is longer, in bytes.
const LONGEST: usize = 512;
/// No key has a longer name, in bytes.
const LONGEST_KEY_ID: usize = 256;

#[derive(Debug, Serialize, Deserialize)]
struct Message {
    v: u32,
    kind: Kind,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before_s: Option<i64>,
    until_s: i64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Token,
    Session,
    User,
    Key,
    ApiKey,
}

/// The message that tells of a fact.
pub(super) fn write(revoked: &Revoked, until_s: i64) -> String {
    let (kind, id, not_before_s) = match revoked {
        Revoked::Token(token) => (Kind::Token, token.to_string(), None),
        Revoked::Session(sid) => (Kind::Session, sid.to_string(), None),
        Revoked::User(user, not_before_s) => (Kind::User, user.to_string(), Some(*not_before_s)),
        Revoked::Key(key) => (Kind::Key, key.to_string(), None),
        Revoked::ApiKey(id) => (Kind::ApiKey, id.to_string(), None),
    };
    // Texts and numbers only: this cannot fail.
    serde_json::to_string(&Message { v: VERSION, kind, id, not_before_s, until_s }).unwrap_or_default()
}

/// The fact that a message tells of at `now` (Unix seconds), cut to what can be true; `None` when it is none of ours, or
/// tells of what is long over.
pub(super) fn read(message: &[u8], now: i64) -> Option<(Revoked, i64)> {
    if message.len() > LONGEST {
        return None;
    }
    let Message { v, kind, id, not_before_s, until_s } = serde_json::from_slice(message).ok()?;
    if v != VERSION || until_s.saturating_add(LEEWAY_S) < now {
        return None;
    }
    let revoked = match kind {
        Kind::Token => Revoked::Token(id.parse().ok()?),
        Kind::Session => Revoked::Session(id.parse().ok()?),
        // Tokens of the future are not revoked yet, by nobody; the sender's clock may be a little ahead.
        Kind::User => Revoked::User(UserId(id.parse().ok()?), not_before_s?.min(now.saturating_add(LEEWAY_S))),
        Kind::Key if id.len() <= LONGEST_KEY_ID => Revoked::Key(KeyId(id.into())),
        Kind::Key => return None,
        Kind::ApiKey => Revoked::ApiKey(ApiKeyId(id.parse().ok()?)),
    };
    Some((revoked, until_s.min(revoked_until_s(now))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::{SessionId, TokenId};
    use proptest::prelude::*;
    use uuid::Uuid;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn what_is_written_is_read_back() {
        for revoked in [
            Revoked::Token(TokenId(Uuid::from_u128(1))),
            Revoked::Session(SessionId(Uuid::from_u128(2))),
            Revoked::User(UserId(3), NOW),
            Revoked::Key(KeyId("2026-11 \"main\"".into())),
            Revoked::ApiKey(ApiKeyId(4)),
        ] {
            let message = write(&revoked, NOW + 60);
            assert_eq!(read(message.as_bytes(), NOW), Some((revoked, NOW + 60)), "{message}");
        }
    }

    #[test]
    fn the_form_stays_as_it_is() {
        // Replicas of other builds read it: a change here needs another version.
        let user = write(&Revoked::User(UserId(3), 50), 60);
        assert_eq!(user, r#"{"v":1,"kind":"user","id":"3","not_before_s":50,"until_s":60}"#);
        assert_eq!(write(&Revoked::ApiKey(ApiKeyId(4)), 60), r#"{"v":1,"kind":"api_key","id":"4","until_s":60}"#);
    }

    #[test]
    fn nothing_is_believed_beyond_what_can_be_true() {
        let forever =
            r#"{"v":1,"kind":"user","id":"3","not_before_s":9223372036854775807,"until_s":9223372036854775807}"#;
        let longest = NOW + 30 * 86_400 + LEEWAY_S + 1;
        assert_eq!(read(forever.as_bytes(), NOW), Some((Revoked::User(UserId(3), NOW + LEEWAY_S), longest)));
    }

    #[test]
    fn everything_else_is_no_message() {
        let long = format!(r#"{{"v":1,"kind":"key","id":"{}","until_s":{NOW}}}"#, "k".repeat(300));
        let longer = format!("{}{}", " ".repeat(600), write(&Revoked::ApiKey(ApiKeyId(4)), NOW));
        for text in [
            "",
            "{}",
            "null",
            "\u{0}\u{1}",
            r#"{"v":2,"kind":"user","id":"3","not_before_s":1,"until_s":9000000000}"#,
            r#"{"v":1,"kind":"user","id":"3","until_s":9000000000}"#,
            r#"{"v":1,"kind":"user","id":"three","not_before_s":1,"until_s":9000000000}"#,
            r#"{"v":1,"kind":"session","id":"3","until_s":9000000000}"#,
            r#"{"v":1,"kind":"everything","id":"3","until_s":9000000000}"#,
            r#"{"v":1,"kind":"api_key","id":"3","until_s":17}"#,
            &long,
            &longer,
        ] {
            assert_eq!(read(text.as_bytes(), NOW), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_message_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), now in any::<i64>()) {
            let _ = read(&bytes, now);
        }
    }
}
