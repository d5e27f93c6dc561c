//! Checks of `pools` and `cors`.

use std::collections::{HashMap, HashSet};

use super::balance;
use super::text::{is_name, origin_problem};
use super::transport;
use crate::config::report::Report;
use crate::config::spec::{ConcurrencySpec, PoolSpec, RoutesSpec};
use crate::model::endpoint::Endpoint;
use crate::model::units::{ONE_YEAR, Span};

/// Checks all pools.
pub(super) fn check(spec: &RoutesSpec, report: &mut Report) {
    let mut services: HashMap<String, &str> = HashMap::new();
    for (name, pool) in &spec.pools {
        let at = format!("pools.{name}");
        if !is_name(name, '-') {
            report.add(&*at, "a pool's name has lower-case letters, digits and `-`, at most 64");
        }
        let service = pool.service(name);
        if pool.service.is_some() && !is_name(&service, '_') {
            report.add(format!("{at}.service"), "a service's name has lower-case letters, digits and `_`, at most 64");
        }
        if let Some(other) = services.insert(service.clone(), name) {
            report.add(format!("{at}.service"), format!("the pool {other:?} is the service {service:?} already"));
        }
        targets(&at, pool, report);
        balance::check(&at, pool, report);
        transport::check(&at, pool, report);
        numbers(&at, pool, report);
        super::retries::check(&format!("{at}.retries"), &pool.retries, report);
    }
}

fn targets(at: &str, pool: &PoolSpec, report: &mut Report) {
    let at = format!("{at}.targets");
    if pool.targets.is_empty() {
        report.add(&*at, "a pool needs at least one target");
    }
    let mut seen = HashSet::new();
    for target in &pool.targets {
        let text = &target.url;
        if !(1..=MAX_WEIGHT).contains(&target.weight) {
            report.add(&*at, format!("{text:?}: a weight is 1 to {MAX_WEIGHT}"));
        }
        match text.parse::<Endpoint>() {
            Err(problem) => report.add(&*at, format!("{text:?}: {problem}")),
            Ok(target) => {
                if !seen.insert(target) {
                    report.add(&*at, format!("{text:?} stands here twice"));
                }
            }
        }
    }
}

/// Most that a target weighs.
const MAX_WEIGHT: u32 = 1_000;

fn numbers(at: &str, pool: &PoolSpec, report: &mut Report) {
    super::breaker::check(at, &pool.breaker, report);
    let timeouts = &pool.timeouts;
    for (key, span) in
        [("connect", timeouts.connect), ("read", timeouts.read), ("write", timeouts.write), ("idle", timeouts.idle)]
    {
        positive(format!("{at}.timeouts.{key}"), span, report);
    }
    positive(format!("{at}.resolve_every"), pool.resolve_every, report);
    if let Some(limits) = &pool.concurrency {
        concurrency(&format!("{at}.concurrency"), limits, report);
    }
}

/// Most requests that wait in one pool: each holds its connection and what it brought so far.
const MAX_QUEUE: u32 = 10_000;

fn concurrency(at: &str, limits: &ConcurrencySpec, report: &mut Report) {
    if limits.per_target == 0 && limits.per_pool == 0 {
        report.add(at, "give `per_target` or `per_pool`, or leave `concurrency` out");
    }
    if limits.queue > MAX_QUEUE {
        report.add(format!("{at}.queue"), format!("at most {MAX_QUEUE}"));
    }
    positive(format!("{at}.queue_timeout"), limits.queue_timeout, report);
}

/// A span of time that must not be zero.
pub(super) fn positive(path: String, span: Span, report: &mut Report) {
    if span.0.is_zero() {
        report.add(path, "must be longer than zero");
    } else if span.0 > ONE_YEAR {
        report.add(path, "must be at most 365d");
    }
}

/// A count that must not be zero.
pub(super) fn at_least_one(path: String, count: u32, report: &mut Report) {
    if count == 0 {
        report.add(path, "must be at least 1");
    }
}

/// Checks the cross-origin rules.
pub(super) fn check_cors(spec: &RoutesSpec, report: &mut Report) {
    let mut seen = HashSet::new();
    for origin in &spec.cors.origins {
        if let Some(problem) = origin_problem(origin) {
            report.add("cors.origins", format!("{origin:?}: {problem}"));
        } else if !seen.insert(origin) {
            report.add("cors.origins", format!("{origin:?} stands here twice"));
        }
    }
}
