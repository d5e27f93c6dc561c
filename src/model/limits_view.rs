//! What operators ask a running gateway about limits, and what it answers: the words that `limits show`, `limits reset`
//! and `limits override` exchange with it.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::forwarded;

/// Whose buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Those of an account, by its number.
    User(i64),
    /// Those of a client address; of IPv6 those of its /64.
    Address(IpAddr),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whose::User(id) => write!(f, "user {id}"),
            Whose::Address(address) => match forwarded::subscriber(*address) {
                IpAddr::V4(v4) => write!(f, "address {v4}"),
                IpAddr::V6(v6) => write!(f, "address {v6}/64"),
            },
        }
    }
}

/// Where [`LimitsQuery`] is asked, to be answered by [`LimitsView`] and leave everything as it is.
pub const SHOW_PATH: &str = "/control/limits/show";
/// Where [`LimitsQuery`] is an order to make the buckets full, answered by how they were.
pub const RESET_PATH: &str = "/control/limits/reset";
/// Where [`OverrideQuery`] is asked, to be answered by [`OverrideView`].
pub const OVERRIDE_PATH: &str = "/control/limits/override";

/// The question whether an override of a policy has an effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideQuery {
    /// The policy's name.
    pub policy: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideView {
    /// Why it has none, as part of a sentence; `None`: it has.
    pub no_effect: Option<String>,
}

/// A question, or an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsQuery {
    /// Whose buckets.
    pub whose: Whose,
    /// Only those of this policy; without one those of all.
    #[serde(default)]
    pub policy: Option<String>,
}

/// Where a bucket is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountedIn {
    /// In the process that answers.
    Memory,
    /// In the Redis that replicas share.
    Redis,
}

/// A bucket that is not full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketView {
    /// The policy and what the bucket spans, such as `match:route:match`.
    pub scope: String,
    /// Tokens per window, of the quota that the bucket was last charged under.
    pub limit: u32,
    /// Tokens on top.
    pub burst: u32,
    /// The window, in milliseconds.
    pub window_ms: u64,
    /// Whole tokens left.
    pub left: u64,
    /// Milliseconds until it is full again, rounded up.
    pub full_in_ms: u64,
    /// Where it is counted.
    pub counted_in: CountedIn,
}

/// The answer to `show`, and to `reset` what was found before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsView {
    /// The buckets that are not full, or were not.
    pub buckets: Vec<BucketView>,
    /// What could not be asked, such as Redis.
    #[serde(default)]
    pub missing: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_meant_is_said_as_it_is_counted() {
        let of = |text: &str| Whose::Address(text.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.1"), "address 192.0.2.1");
        assert_eq!(of("::ffff:192.0.2.1"), "address 192.0.2.1");
        assert_eq!(of("2001:db8:1:2:3::4"), "address 2001:db8:1:2::/64");
        assert_eq!(Whose::User(7).to_string(), "user 7");
    }

    #[test]
    fn a_question_is_read_as_it_was_written() {
        for (ask, text) in [
            (LimitsQuery { whose: Whose::User(7), policy: None }, r#"{"whose":{"user":7},"policy":null}"#),
            (
                LimitsQuery { whose: Whose::Address("192.0.2.1".parse().unwrap()), policy: Some("match".to_owned()) },
                r#"{"whose":{"address":"192.0.2.1"},"policy":"match"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&ask).unwrap(), text);
            assert_eq!(serde_json::from_str::<LimitsQuery>(text).unwrap(), ask);
        }
        assert!(serde_json::from_str::<LimitsQuery>(r#"{"whose":{"user":7},"other":1}"#).is_err());
    }
}
