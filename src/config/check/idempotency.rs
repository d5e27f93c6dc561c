//! Checks of `idempotency`.

use super::pools::positive;
use crate::config::report::Report;
use crate::config::spec::RouteSpec;
use crate::model::units::ByteSize;

/// Most bytes of an answer that may be kept: it is held in memory, or in Redis, which must hand it over in a moment.
const LARGEST_ANSWER: u64 = 4 << 20;

/// Checks one route.
pub(super) fn check(route: &RouteSpec, at: &str, report: &mut Report) {
    let Some(spec) = &route.idempotency else { return };
    if route.to.builtin.is_some() || route.to.aggregate.is_some() {
        report
            .add(format!("{at}.idempotency"), "only for routes to a pool: answers of the gateway itself are not kept");
    } else if route.r#match.methods.iter().all(|method| matches!(method.as_str(), "GET" | "HEAD")) {
        report.add(format!("{at}.idempotency"), "GET and HEAD need no key: repeating them changes nothing");
    }
    positive(format!("{at}.idempotency.ttl"), spec.ttl, report);
    let ByteSize(answer) = spec.max_answer;
    if answer == 0 || answer > LARGEST_ANSWER {
        report.add(format!("{at}.idempotency.max_answer"), "must be from 1B to 4MiB");
    }
}
