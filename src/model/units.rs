//! Quantities as ops write them: `10s`, `50MiB`, `20/min`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A duration: a whole number and a unit, `ms`, `s`, `m`, `h` or `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// An amount of bytes: a whole number and a unit, `B`, `KiB`, `MiB` or `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// So many requests per period: `20/min`. The count is at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Requests per period, 1 to 1 000 000 000.
    pub limit: u32,
    /// The period: one second, minute, hour or day.
    pub period: Duration,
}

/// A text that is not the quantity it should be; says what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(&'static str);

/// 365 days. Most that a span of the table, and of a rule that operators make, may be, so that sums of spans and clock
/// readings stay in range; a bucket that takes longer to fill is a mistake in one of its numbers.
pub const ONE_YEAR: Duration = Duration::from_secs(365 * 86_400);
/// 3650 days: most that a span of `gateway.yaml` may be.
pub const TEN_YEARS: Duration = Duration::from_secs(3_650 * 86_400);

const SPAN: UnitError = UnitError("expected a duration such as 250ms, 30s, 5m, 2h or 1d");
const BYTES: UnitError = UnitError("expected a size such as 512B, 64KiB, 50MiB or 1GiB");
const RATE: UnitError = UnitError("expected a rate such as 5/s, 20/min, 1000/h or 5000/day, at least 1");

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim()))
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text).ok_or(SPAN)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(SPAN),
        };
        number.checked_mul(millis).map(|total| Span(Duration::from_millis(total))).ok_or(SPAN)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
            .into_iter()
            .find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit))
        {
            Some((unit, name)) => write!(f, "{}{name}", millis / unit),
            None => write!(f, "{millis}ms"),
        }
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text).ok_or(BYTES)?;
        let factor: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(BYTES),
        };
        number.checked_mul(factor).map(ByteSize).ok_or(BYTES)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
            .into_iter()
            .find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit))
        {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (limit, unit) = text.trim().split_once('/').ok_or(RATE)?;
        let limit: u32 = limit.trim().parse().map_err(|_| RATE)?;
        let seconds = match unit.trim() {
            "s" | "sec" | "second" => 1,
            "m" | "min" | "minute" => 60,
            "h" | "hour" => 3_600,
            "d" | "day" => 86_400,
            _ => return Err(RATE),
        };
        if limit == 0 || limit > 1_000_000_000 {
            return Err(RATE);
        }
        Ok(Rate { limit, period: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "min",
            3_600 => "h",
            _ => "day",
        };
        write!(f, "{}/{unit}", self.limit)
    }
}

macro_rules! as_text {
    ($type:ident, $expected:literal, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(de::Error::custom)
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                // `${NAME:-default}` may stand for all or part of any value.
                json_schema!({ "type": "string", "description": $expected, "pattern": concat!($pattern, r"|\$\{") })
            }
        }
    };
}

as_text!(Span, "a duration such as 250ms, 30s, 5m, 2h or 1d", r"^\d+(ms|s|m|min|h|d)$");
as_text!(ByteSize, "a size such as 512B, 64KiB, 50MiB or 1GiB", r"^\d+(B|KiB|MiB|GiB)$");
as_text!(Rate, "a rate such as 5/s, 20/min, 1000/h or 5000/day", r"^\d+/(s|sec|second|m|min|minute|h|hour|d|day)$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_back_as_written() {
        for text in ["250ms", "30s", "5m", "2h", "1d"] {
            assert_eq!(text.parse::<Span>().map(|span| span.to_string()).as_deref(), Ok(text));
        }
        for text in ["512B", "64KiB", "50MiB", "1GiB"] {
            assert_eq!(text.parse::<ByteSize>().map(|size| size.to_string()).as_deref(), Ok(text));
        }
        for text in ["5/s", "20/min", "1000/h", "5000/day"] {
            assert_eq!(text.parse::<Rate>().map(|rate| rate.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "10", "s", "-1s", "1.5s", "10 parsecs", "99999999999999999999s", "18446744073709551615d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["", "10", "10MB", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in ["", "20", "0/min", "20/fortnight", "20/", "-1/s", "4294967296/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
