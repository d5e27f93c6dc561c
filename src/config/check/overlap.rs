//! The table of paths, and the routes that hide each other in it.
//!
//! Two routes overlap when a request could match both and nothing ranks them: the same kind of pattern with the
//! same segments, parameters compared as such. Exact beats parameter beats prefix, so those never overlap.

use std::collections::HashMap;

use http::Method;

use crate::config::report::Report;
use crate::config::spec::{RouteSpec, RoutesSpec};
use crate::model::route_table::{PathPattern, RouteTable};

/// Builds the table and reports what cannot join it.
pub(super) fn table(spec: &RoutesSpec, report: &mut Report) -> RouteTable<usize> {
    let mut table = RouteTable::default();
    let mut patterns: HashMap<(bool, String), usize> = HashMap::new();
    let mut served: HashMap<(bool, String, &str), usize> = HashMap::new();
    for (index, route) in spec.routes.iter().enumerate() {
        let Some((key, pattern)) = pattern(route) else { continue };
        let (text, is_prefix) = match &pattern {
            PathPattern::Path(text) => (text, false),
            PathPattern::Prefix(text) => (text, true),
        };
        let shape = shape(text);
        let at = format!("routes[{index}].match.{key}");
        let first = *patterns.entry((is_prefix, shape.clone())).or_insert(index);
        let twin = spec.routes.get(first).filter(|_| first != index);
        if let Some(twin) = twin.filter(|twin| parameters_of(twin) != parameters_of(route)) {
            let message = format!(
                "{} has the same path with other names of parameters; use the same names",
                place(twin, first, report)
            );
            report.add(at, message);
            continue;
        }
        let mut methods = Vec::new();
        for method in &route.r#match.methods {
            match served.get(&(is_prefix, shape.clone(), method)) {
                Some(other) if *other == index => {}
                Some(other) => {
                    let Some(twin) = spec.routes.get(*other) else { continue };
                    let place = place(twin, *other, report);
                    report.add(
                        &*at,
                        format!("{method} {text} is served by {place} already: one of the two can never be reached"),
                    );
                }
                None => {
                    served.insert((is_prefix, shape.clone(), method), index);
                    methods.extend(Method::from_bytes(method.as_bytes()).ok());
                }
            }
        }
        if let Err(conflict) = table.insert(&canonical(pattern), &methods, &index) {
            report.add(at, conflict.to_string());
        }
    }
    table
}

fn pattern(route: &RouteSpec) -> Option<(&'static str, PathPattern)> {
    let checked = |text: &String| super::path::parameters(text).ok().map(|_| text.clone());
    match (&route.r#match.path, &route.r#match.prefix) {
        (Some(path), None) => Some(("path", PathPattern::Path(checked(path)?))),
        (None, Some(prefix)) if !prefix.contains('{') => Some(("prefix", PathPattern::Prefix(checked(prefix)?))),
        _ => None,
    }
}

/// The same pattern for every spelling of one path, so that `/a` and `/a/` share an entry of the table.
fn canonical(pattern: PathPattern) -> PathPattern {
    let trim = |text: String| if text.len() > 1 { text.trim_end_matches('/').to_owned() } else { text };
    match pattern {
        PathPattern::Path(text) => PathPattern::Path(trim(text)),
        PathPattern::Prefix(text) => PathPattern::Prefix(trim(text)),
    }
}

/// The path without a trailing slash and without the names of its parameters.
fn shape(text: &str) -> String {
    let segments = text.trim_end_matches('/').split('/');
    segments.map(|segment| if segment.starts_with('{') { "{}" } else { segment }).collect::<Vec<_>>().join("/")
}

fn parameters_of(route: &RouteSpec) -> Vec<&str> {
    route.r#match.path.as_deref().and_then(|path| super::path::parameters(path).ok()).unwrap_or_default()
}

fn place(route: &RouteSpec, index: usize, report: &Report) -> String {
    let line = report.line(&format!("routes[{index}]")).map_or(String::new(), |line| format!(", line {line}"));
    format!("routes[{index}] ({:?}{line})", route.name)
}
