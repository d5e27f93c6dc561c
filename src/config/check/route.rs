//! Checks of one route on its own, and of `defaults`.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use http::HeaderValue;

use super::idempotency;
use super::pools::positive;
use super::text::{is_media_type, is_name};
use super::{destination, limits, path};
use crate::config::problem::did_you_mean;
use crate::config::report::Report;
use crate::config::spec::{AuthSpec, AuthWord, RevocationSpec, RouteSpec, RoutesSpec};
use crate::model::units::{ONE_YEAR, Span};

/// Methods that a route may serve.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// Shortest bound on the age of what is known of revocations: pulls are 5 s apart, and take some time.
const SHORTEST_BOUND: Duration = Duration::from_secs(6);

/// Checks `defaults`.
pub(super) fn check_defaults(spec: &RoutesSpec, report: &mut Report) {
    auth("defaults.auth", &spec.defaults.auth, report);
    limits::check_list(spec, "defaults.limits", &spec.defaults.limits, report);
    positive("defaults.timeout".to_owned(), spec.defaults.timeout, report);
}

/// Checks the names of all routes.
pub(super) fn check_names(spec: &RoutesSpec, report: &mut Report) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (index, route) in spec.routes.iter().enumerate() {
        let at = format!("routes[{index}].name");
        if !is_name(&route.name, '-') {
            report.add(&*at, "a route's name has lower-case letters, digits and `-`, at most 64");
        }
        match first.entry(&route.name) {
            Entry::Occupied(other) => {
                report.add(at, format!("routes[{}] has the name {:?} already", other.get(), route.name));
            }
            Entry::Vacant(free) => {
                free.insert(index);
            }
        }
    }
}

/// Checks one route.
pub(super) fn check(spec: &RoutesSpec, route: &RouteSpec, index: usize, report: &mut Report) {
    let at = format!("routes[{index}]");
    let parameters = match_path(&at, route, report);
    methods(&at, route, report);
    destination::check(spec, route, &parameters, &at, report);
    if let Some(spec) = &route.auth {
        auth(&format!("{at}.auth"), spec, report);
    }
    revocation(spec, route, &at, report);
    idempotency::check(route, &at, report);
    websocket(route, &at, report);
    limits::check_route(spec, route, &at, report);
    if let Some(timeout) = route.timeout {
        positive(format!("{at}.timeout"), timeout, report);
    }
    super::retries::check_route(route, &at, report);
    for (entry, media_type) in route.body.content_types.iter().enumerate() {
        if !is_media_type(media_type) {
            let message = format!("{media_type:?} is no media type such as application/json, without parameters");
            report.add(format!("{at}.body.content_types[{entry}]"), message);
        }
    }
    if route.allow_from.as_ref().is_some_and(|networks| networks.0.is_empty()) {
        report.add(format!("{at}.allow_from"), "names no network: nobody could call this route");
    }
    if let Some(value) = &route.cache_control
        && (value.trim().is_empty() || !value.is_ascii() || HeaderValue::from_str(value).is_err())
    {
        report.add(format!("{at}.cache_control"), "is no value for a Cache-Control header");
    }
}

/// Checks the path; gives its parameters.
fn match_path<'r>(at: &str, route: &'r RouteSpec, report: &mut Report) -> Vec<&'r str> {
    let (key, text) = match (&route.r#match.path, &route.r#match.prefix) {
        (Some(path), None) => ("path", path),
        (None, Some(prefix)) => ("prefix", prefix),
        (Some(_), Some(_)) => {
            report.add(format!("{at}.match"), "give `path` or `prefix`, not both");
            return Vec::new();
        }
        (None, None) => {
            report.add(format!("{at}.match"), "give `path` (the whole path) or `prefix` (everything below it)");
            return Vec::new();
        }
    };
    match path::parameters(text) {
        Ok(names) if key == "prefix" && !names.is_empty() => {
            report.add(format!("{at}.match.prefix"), "a prefix has no parameters");
            Vec::new()
        }
        Ok(names) => names,
        Err(problem) => {
            report.add(format!("{at}.match.{key}"), problem);
            Vec::new()
        }
    }
}

fn methods(at: &str, route: &RouteSpec, report: &mut Report) {
    let at = format!("{at}.match.methods");
    if route.r#match.methods.is_empty() {
        report.add(&*at, "name at least one method");
    }
    let mut seen = HashSet::new();
    for (index, method) in route.r#match.methods.iter().enumerate() {
        let at = format!("{at}[{index}]");
        match method.as_str() {
            "OPTIONS" => report.add(at, "OPTIONS is answered by the cross-origin rules on every route"),
            "CONNECT" | "TRACE" => report.add(at, format!("{method} is never served")),
            known if METHODS.contains(&known) => {
                if !seen.insert(known) {
                    report.add(at, format!("{method} stands here twice"));
                }
            }
            other => match did_you_mean(other, METHODS) {
                Some(_) => report.unknown(at, ("method", "routes"), other, METHODS),
                None => report.add(at, format!("{other:?} is none of {}", METHODS.join(", "))),
            },
        }
    }
}

fn auth(at: &str, auth: &AuthSpec, report: &mut Report) {
    let AuthSpec::Roles(roles) = auth else { return };
    if roles.roles.is_empty() {
        report.add(format!("{at}.roles"), "name at least one role: nobody could call this route");
    }
    let mut seen = HashSet::new();
    for (index, role) in roles.roles.iter().enumerate() {
        if !seen.insert(role) {
            report.add(format!("{at}.roles[{index}]"), format!("{role} stands here twice"));
        }
    }
}

fn revocation(spec: &RoutesSpec, route: &RouteSpec, at: &str, report: &mut Report) {
    let Some(RevocationSpec::Bounded(bound)) = &route.revocation else { return };
    let Span(longest) = bound.bounded;
    if longest < SHORTEST_BOUND || longest > ONE_YEAR {
        let message = "must be from 6s to 365d: what is revoked elsewhere is pulled every 5s";
        report.add(format!("{at}.revocation.bounded"), message);
    }
    if route.auth.as_ref().unwrap_or(&spec.defaults.auth) == &AuthSpec::Word(AuthWord::Public) {
        report.add(format!("{at}.revocation"), "nobody is proven on a public route: there is nothing to bound");
    }
}

fn websocket(route: &RouteSpec, at: &str, report: &mut Report) {
    let Some(spec) = &route.websocket else { return };
    if route.to.pool.is_none() || route.r#match.methods.iter().all(|method| method != "GET") {
        report.add(format!("{at}.websocket"), "only for GET routes to a pool: others are never upgraded");
    }
    positive(format!("{at}.websocket.idle"), spec.idle, report);
}
