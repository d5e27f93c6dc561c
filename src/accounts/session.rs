//! What a presented refresh token means for its session: pure, decided from the stored row and the time.
//!
//! After RFC 9700 §4.14.2: each use rotates; a second use of a spent token is theft, unless it follows the
//! rotation so closely that it is a second tab or a lost answer.

use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;

use crate::model::rejection::Rejection;
use crate::store::{Session, SessionKey};

/// A spent token may be presented once more for so long after its rotation.
pub(super) const REUSE_WINDOW: Duration = Duration::from_secs(10);

/// What to do with a presented counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the one in force: go on to the next.
    Rotate,
    /// It was spent a moment ago: answer with the one in force.
    Repeat,
    /// The session is over.
    Over,
    /// Somebody has a copy: end the session and its access tokens.
    Theft,
}

pub(super) fn judge(session: &Session, presented: i64, now_ms: i64, idle: Duration) -> Verdict {
    let since_use = now_ms.saturating_sub(session.last_used_at_ms);
    if session.ended_at_ms.is_some() || now_ms >= session.ends_at_ms || since_use >= millis(idle) {
        return Verdict::Over;
    }
    match session.counter.checked_sub(presented) {
        Some(0) => Verdict::Rotate,
        Some(1) if since_use <= millis(REUSE_WINDOW) => Verdict::Repeat,
        _ => Verdict::Theft,
    }
}

/// A key for a new session, from the system's random numbers.
pub(super) fn session_key() -> Result<SessionKey, Rejection> {
    let mut key = [0; 32];
    SysRng.try_fill_bytes(&mut key).map_err(|error| {
        tracing::error!(%error, "the system gives no random numbers");
        Rejection::Internal
    })?;
    Ok(SessionKey(key))
}

/// Whole milliseconds.
pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::{SessionId, UserId};

    #[test]
    fn counters_and_time_decide() {
        let session = Session {
            sid: SessionId(uuid::Uuid::nil()),
            user: UserId(1),
            counter: 5,
            mac_key: SessionKey([0; 32]),
            created_at_ms: 0,
            last_used_at_ms: 100_000,
            ends_at_ms: 1_000_000,
            ended_at_ms: None,
            address: None,
            user_agent: None,
        };
        let idle = Duration::from_secs(600);
        for (presented, now_ms, expected) in [
            (5, 100_000, Verdict::Rotate),
            (5, 699_999, Verdict::Rotate),
            (5, 700_000, Verdict::Over),
            (4, 110_000, Verdict::Repeat),
            (4, 110_001, Verdict::Theft),
            (4, 99_000, Verdict::Repeat), // the clock went back
            (3, 100_001, Verdict::Theft),
            (6, 100_001, Verdict::Theft),
            (i64::MIN, 100_001, Verdict::Theft),
            (3, 700_000, Verdict::Over),
        ] {
            assert_eq!(judge(&session, presented, now_ms, idle), expected, "{presented} at {now_ms}");
        }
        let absolute = Session { last_used_at_ms: 999_000, ..session.clone() };
        assert_eq!(judge(&absolute, 5, 1_000_000, idle), Verdict::Over);
        let ended = Session { ended_at_ms: Some(1), ..session };
        assert_eq!(judge(&ended, 5, 100_000, idle), Verdict::Over);
    }
}
