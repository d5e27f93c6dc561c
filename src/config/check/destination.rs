//! Checks of a route's destination.

use super::path;
use crate::config::report::Report;
use crate::config::spec::{AggregateSpec, Audience, AuthSpec, AuthWord, Builtin, RouteSpec, RoutesSpec};
use crate::model::role::Role;

/// Checks `to`; `parameters` are those of the public path.
pub(super) fn check(spec: &RoutesSpec, route: &RouteSpec, parameters: &[&str], at: &str, report: &mut Report) {
    let to = &route.to;
    let given = [to.pool.is_some(), to.builtin.is_some(), to.aggregate.is_some()];
    match given.into_iter().filter(|given| *given).count() {
        1 => {}
        0 => report.add(format!("{at}.to"), "give one of `pool`, `builtin`, `aggregate`"),
        _ => report.add(format!("{at}.to"), "give only one of `pool`, `builtin`, `aggregate`"),
    }
    if let Some(pool) = &to.pool {
        known_pool(spec, pool, format!("{at}.to.pool"), report);
    }
    if let Some(text) = &to.path {
        if to.pool.is_none() {
            report.add(format!("{at}.to.path"), "`path` goes with `pool` only");
        }
        upstream_path(text, parameters, format!("{at}.to.path"), report);
    }
    if let Some(builtin) = to.builtin {
        page(spec, builtin, route, parameters, at, report);
    }
    if let Some(aggregate) = &to.aggregate {
        parts(spec, aggregate, route, parameters, at, report);
    }
}

fn known_pool(spec: &RoutesSpec, pool: &str, at: String, report: &mut Report) {
    if !spec.pools.contains_key(pool) {
        report.unknown(at, ("pool", "pools"), pool, spec.pools.keys().map(String::as_str));
    }
}

fn upstream_path(text: &str, parameters: &[&str], at: String, report: &mut Report) {
    match path::parameters(text) {
        Err(problem) => report.add(at, problem),
        Ok(names) => {
            for name in names.into_iter().filter(|name| !parameters.contains(name)) {
                report.add(&*at, format!("{{{name}}} is no parameter of this route's `match.path`"));
            }
        }
    }
}

fn page(spec: &RoutesSpec, builtin: Builtin, route: &RouteSpec, parameters: &[&str], at: &str, report: &mut Report) {
    let at = format!("{at}.to.builtin");
    for name in builtin.parameters().iter().filter(|name| !parameters.contains(name)) {
        report.add(&*at, format!("{} needs the parameter {{{name}}} in `match.path`", builtin.as_str()));
    }
    let auth = route.auth.as_ref().unwrap_or(&spec.defaults.auth);
    let open = matches!(auth, AuthSpec::Word(AuthWord::Public | AuthWord::Optional));
    if builtin.audience() == Audience::Users && open {
        report.add(&*at, "this page is about the caller's account: `auth` must be `required` or roles");
    }
    if builtin.audience() != Audience::Anybody && auth.takes_api_keys() {
        report.add(&*at, "this page is for people: give the route an `auth` without `api_keys`");
    }
    if builtin.audience() == Audience::Admins && !matches!(auth, AuthSpec::Roles(only) if only.roles == [Role::Admin]) {
        report.add(at, "this page is for admins: `auth` must be `{ roles: [admin] }`");
    }
}

fn parts(
    spec: &RoutesSpec,
    aggregate: &AggregateSpec,
    route: &RouteSpec,
    parameters: &[&str],
    at: &str,
    report: &mut Report,
) {
    let here = format!("{at}.to.aggregate.parts");
    if aggregate.parts.is_empty() {
        report.add(&*here, "name at least one part");
    }
    for (key, part) in &aggregate.parts {
        known_pool(spec, &part.pool, format!("{here}.{key}.pool"), report);
        upstream_path(&part.path, parameters, format!("{here}.{key}.path"), report);
    }
    if route.r#match.methods.iter().any(|method| !matches!(method.as_str(), "GET" | "HEAD")) {
        report.add(format!("{at}.match.methods"), "the calls of an aggregate are GET, so its route serves GET only");
    }
}
