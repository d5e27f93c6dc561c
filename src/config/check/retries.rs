//! Checks of `retries`, of pools and of routes.

use crate::config::report::Report;
use crate::config::spec::{RetriesSpec, RouteSpec};
use crate::model::retry::MAX_RETRIES;

/// Most of a body that is kept for a retry, in bytes, and the least, which Pingora keeps of any.
const REPLAY: std::ops::RangeInclusive<u64> = 64 << 10..=2 << 20;
/// Most retries per second on top of the budget.
const MAX_FLOOR: u32 = 1_000;

/// Checks a pool's.
pub(super) fn check(at: &str, retries: &RetriesSpec, report: &mut Report) {
    count(format!("{at}.max"), retries.max, report);
    for (index, status) in retries.statuses.iter().enumerate() {
        if !(400..=599).contains(status) {
            report.add(format!("{at}.statuses[{index}]"), "a status to send again after is 400 to 599");
        }
    }
    if retries.longest_backoff.0 < retries.backoff.0 {
        report.add(format!("{at}.longest_backoff"), "must not be shorter than `backoff`");
    }
    super::pools::positive(format!("{at}.longest_backoff"), retries.longest_backoff, report);
    if retries.budget > 100 {
        report.add(format!("{at}.budget"), "is a percentage: 0 to 100");
    }
    if retries.floor > MAX_FLOOR {
        report.add(format!("{at}.floor"), format!("must be at most {MAX_FLOOR}"));
    }
    if !REPLAY.contains(&retries.replay.0) {
        report.add(format!("{at}.replay"), "must be from 64KiB (so much is always kept) to 2MiB");
    }
}

/// Checks a route's.
pub(super) fn check_route(route: &RouteSpec, at: &str, report: &mut Report) {
    let Some(retries) = route.retries else { return };
    count(format!("{at}.retries"), retries, report);
    if route.to.builtin.is_some() {
        report.add(format!("{at}.retries"), "the gateway's own pages are asked once");
    }
}

fn count(at: String, retries: u32, report: &mut Report) {
    if retries > MAX_RETRIES {
        report.add(at, format!("must be at most {MAX_RETRIES}"));
    }
}
