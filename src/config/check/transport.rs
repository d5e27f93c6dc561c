//! Checks of how a pool's targets are reached and probed: `tls`, `health`.

use super::pools::{at_least_one, positive};
use crate::config::report::Report;
use crate::config::spec::{HealthSpec, PoolSpec};
use crate::model::endpoint::Endpoint;
use crate::model::server_name::ServerName;

/// Checks one pool; `at` is its path. What cannot be parsed is told elsewhere.
pub(super) fn check(at: &str, pool: &PoolSpec, report: &mut Report) {
    let endpoints = || pool.targets.iter().filter_map(|target| target.url.parse::<Endpoint>().ok());
    let hosts = || endpoints().filter_map(|endpoint| if let Endpoint::Tls(at) = endpoint { Some(at) } else { None });
    if pool.tls.is_some() && hosts().next().is_none() && endpoints().next().is_some() {
        report.add(format!("{at}.tls"), "no target is reached over TLS; use https://host[:port], or leave `tls` out");
    }
    let named = pool.tls.as_ref().is_some_and(|tls| tls.server_name.is_some());
    for host in hosts().filter(|host| !named && host.host().parse::<ServerName>().is_err()) {
        let host = host.host();
        report.add(
            format!("{at}.targets"),
            format!("{host:?}: no certificate can be for such a name; give the certificate's in `tls.server_name`"),
        );
    }
    if let Some(health) = &pool.health {
        check_health(&format!("{at}.health"), health, report);
    }
}

fn check_health(at: &str, health: &HealthSpec, report: &mut Report) {
    match (&health.path, health.tcp) {
        (Some(_), true) => {
            report.add(at, "give `path` (an HTTP probe) or `tcp: true` (a connection is enough), not both")
        }
        (None, false) => report.add(at, "give `path` (an HTTP probe) or `tcp: true` (a connection is enough)"),
        (None, true) if health.statuses.is_some() => {
            report.add(format!("{at}.statuses"), "a `tcp` probe has no status; use `path`");
        }
        _ => {}
    }
    if health.statuses.as_ref().is_some_and(|statuses| statuses.is_empty()) {
        report.add(format!("{at}.statuses"), "no status would be healthy; give some, or leave the key out for 200-299");
    }
    match health.path.as_deref().map(super::path::parameters) {
        Some(Err(problem)) => report.add(format!("{at}.path"), problem),
        Some(Ok(names)) if !names.is_empty() => report.add(format!("{at}.path"), "a probe's path has no parameters"),
        _ => {}
    }
    positive(format!("{at}.every"), health.every, report);
    positive(format!("{at}.timeout"), health.timeout, report);
    for (key, count) in [("rise", health.rise), ("fall", health.fall)] {
        at_least_one(format!("{at}.{key}"), count, report);
    }
}
