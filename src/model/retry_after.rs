//! `Retry-After` as services send it (RFC 9110 section 10.2.3): seconds, or a date.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// How long it asks to wait, at the wall-clock time `now`: zero for a date that is over, `None` when it is neither
/// seconds nor a date.
pub fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are as long as anybody can wait.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let now = Duration::try_from(now.as_duration()).unwrap_or_default();
    Some(date.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_dates_and_nothing_else() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        let seconds = |n| Some(Duration::from_secs(n));
        for (value, wait) in [
            ("120", seconds(120)),
            (" 0 ", seconds(0)),
            ("99999999999999999999", seconds(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", seconds(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", seconds(37)),
            ("Sun Nov  6 08:49:37 1994", seconds(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", seconds(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("+3", None),
            ("soon", None),
            ("1994-11-06T08:49:37Z", None),
        ] {
            assert_eq!(parse(value, now), wait, "{value:?}");
        }
    }
}
