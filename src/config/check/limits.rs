//! Checks of `limits`, of the lists that name them, and of `limit_headers`.

use std::collections::HashSet;
use std::time::Duration;

use http::HeaderName;

use super::text::is_name;
use crate::config::report::Report;
use crate::config::spec::{
    Builtin, DEFAULT_BURST, LimitSpec, LimitUse, OnStoreFailure, RoleRates, RouteSpec, RoutesSpec, ScopeSpec, Sharing,
    SubjectSpec,
};
use crate::model::gcra::Quota;
use crate::model::lease;
use crate::model::role::Role;
use crate::model::units::{ONE_YEAR, Rate};

/// Most policies of one route.
const MAX_POLICIES: usize = 16;
/// Longest jitter: clients that are told to wait an hour more may as well be told the truth.
const LONGEST_JITTER: Duration = Duration::from_secs(3_600);

/// Whether a policy may have this name.
pub fn is_policy_name(text: &str) -> bool {
    is_name(text, '-')
}

/// Checks all policies, and how answers tell about them.
pub(super) fn check(spec: &RoutesSpec, report: &mut Report) {
    for (name, limit) in &spec.limits {
        policy(&format!("limits.{name}"), name, limit, report);
    }
    if spec.limit_headers.jitter.0 > LONGEST_JITTER {
        report.add("limit_headers.jitter", "must be at most 1h");
    }
}

fn policy(at: &str, name: &str, limit: &LimitSpec, report: &mut Report) {
    if !is_policy_name(name) {
        report.add(at, "a policy's name has lower-case letters, digits and `-`, at most 64");
    }
    match (&limit.rate, &limit.roles) {
        (Some(_), Some(_)) => report.add(at, "give `rate` or `roles`, not both"),
        (None, None) if limit.in_flight.is_none() => {
            report.add(at, "give `rate` (the same for everybody), `roles` (a rate per role), or `in_flight`");
        }
        _ => {}
    }
    if let SubjectSpec::Header(by) = &limit.by
        && HeaderName::from_bytes(by.header.as_bytes()).is_err()
    {
        report.add(format!("{at}.by.header"), "expected the name of a header, such as x-tenant");
    }
    if limit.roles.is_some() && !limit.by.has_one_role() {
        let message = "only `by: user`, `api_key` or `role`: callers of several roles would share a bucket";
        report.add(format!("{at}.roles"), message);
    }
    if limit.in_flight == Some(0) {
        report.add(format!("{at}.in_flight"), "must be at least 1");
    }
    if limit.cost > 1 && rates(limit).next().is_none() {
        report.add(format!("{at}.cost"), "the policy has no rate that a request could cost tokens of");
    } else {
        cost(format!("{at}.cost"), limit.cost, limit, report);
    }
    if rates(limit).next().is_none() {
        without_rate(at, limit, report);
    }
    let longest = rates(limit).map(|rate| Quota::new(rate, limit.burst).fill_time().micros).max();
    if longest.is_some_and(|micros| Duration::from_micros(micros) > ONE_YEAR) {
        report.add(format!("{at}.burst"), "an empty bucket would take more than 365d to fill");
    }
}

/// What speaks of a bucket has no effect where there is none. What is given as it would be without it is not seen.
fn without_rate(at: &str, limit: &LimitSpec, report: &mut Report) {
    let words = [
        ("burst", limit.burst != DEFAULT_BURST),
        ("sharing", limit.sharing != Sharing::default()),
        ("on_store_failure", limit.on_store_failure != OnStoreFailure::default()),
    ];
    for (key, _) in words.iter().filter(|(_, given)| *given) {
        report.add(format!("{at}.{key}"), "no effect on a policy without a rate: `in_flight` is each process's own");
    }
}

/// Every rate of a policy.
fn rates(limit: &LimitSpec) -> impl Iterator<Item = Rate> {
    let every = [None, Some(Role::Candidat), Some(Role::Recruteur), Some(Role::Admin)];
    let per_role = limit.roles.iter().flat_map(move |rates: &RoleRates| every.map(|role| rates.of(role)));
    limit.rate.into_iter().chain(per_role)
}

/// A cost that no bucket ever holds would refuse every request.
fn cost(at: String, cost: u32, limit: &LimitSpec, report: &mut Report) {
    let quota = |rate| {
        let quota = Quota::new(rate, limit.burst);
        if limit.sharing == Sharing::Lease { lease::reduced(quota) } else { quota }
    };
    let smallest = rates(limit).map(|rate| quota(rate).holds()).min();
    if cost == 0 {
        report.add(at, "must be at least 1");
    } else if let Some(smallest) = smallest.filter(|smallest| u64::from(cost) > *smallest) {
        report.add(at, format!("more than the bucket ever holds ({smallest}): no request could pass"));
    }
}

/// Warns about policies over groups on routes that are in none.
pub(super) fn without_group(spec: &RoutesSpec, report: &mut Report) {
    for (name, _) in spec.limits.iter().filter(|(_, limit)| limit.over == ScopeSpec::Group) {
        let has = |route: &&RouteSpec| {
            let uses = route.limits.as_ref().unwrap_or(&spec.defaults.limits);
            uses.iter().any(|each| each.policy() == name)
        };
        let mut users = spec.routes.iter().filter(has).peekable();
        if users.peek().is_some() && users.all(|route| route.group.is_none()) {
            let message = "no route with this policy has a `group`: each is counted on its own";
            report.add(format!("limits.{name}.over"), message);
        }
    }
}

/// Checks a list of policies.
pub(super) fn check_list(spec: &RoutesSpec, at: &str, uses: &[LimitUse], report: &mut Report) {
    let mut seen = HashSet::new();
    for (index, each) in uses.iter().enumerate() {
        let (at, name) = (format!("{at}[{index}]"), each.policy());
        let Some(limit) = spec.limits.get(name) else {
            report.unknown(at, ("limit", "limits"), name, spec.limits.keys().map(String::as_str));
            continue;
        };
        if !seen.insert(name) {
            report.add(at, format!("{name:?} stands here twice"));
        } else if let Some(tokens) = each.cost() {
            let at = format!("{at}.cost");
            match rates(limit).next() {
                Some(_) => cost(at, tokens, limit, report),
                None => report.add(at, format!("{name:?} has no rate that a request could cost tokens of")),
            }
        }
    }
    if uses.len() > MAX_POLICIES {
        report.add(at, format!("at most {MAX_POLICIES} policies"));
    }
}

/// Checks what a route says of limits, and what it inherits.
pub(super) fn check_route(spec: &RoutesSpec, route: &RouteSpec, at: &str, report: &mut Report) {
    if let Some(uses) = &route.limits {
        check_list(spec, &format!("{at}.limits"), uses, report);
    }
    if route.group.as_ref().is_some_and(|group| !is_name(group, '-')) {
        report.add(format!("{at}.group"), "a group's name has lower-case letters, digits and `-`, at most 64");
    }
    if !route.to.builtin.is_some_and(Builtin::takes_passwords) {
        return;
    }
    let open = |name: &&str| spec.limits.get(*name).is_some_and(|l| l.on_store_failure == OnStoreFailure::Allow);
    let uses = route.limits.as_ref().unwrap_or(&spec.defaults.limits);
    if let Some(name) = uses.iter().map(LimitUse::policy).find(open) {
        let message = format!("{name:?} lets everything pass when the store fails, and passwords are tried here");
        report.add(format!("{at}.limits"), message);
    }
}
