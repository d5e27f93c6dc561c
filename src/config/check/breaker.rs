//! Checks of `breaker` of a pool.

use super::pools::{at_least_one, positive};
use crate::config::report::Report;
use crate::config::spec::BreakerSpec;

/// Checks the breaker of the pool at `at`.
pub(super) fn check(at: &str, breaker: &BreakerSpec, report: &mut Report) {
    let at = |key: &str| format!("{at}.breaker.{key}");
    for (key, span) in
        [("window", breaker.window), ("open_for", breaker.open_for), ("longest_open", breaker.longest_open)]
    {
        positive(at(key), span, report);
    }
    for (key, count) in [("min_requests", breaker.min_requests), ("close_after", breaker.close_after)] {
        at_least_one(at(key), count, report);
    }
    if breaker.success_percent > 100 {
        report.add(at("success_percent"), "must be a percentage, 0 (off) to 100");
    }
    if !(1..=100).contains(&breaker.max_ejected) {
        report.add(at("max_ejected"), "must be a percentage, 1 to 100; `failures: 0` turns the breaker off");
    }
}
