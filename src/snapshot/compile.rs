//! From the checked table to the compiled one. What the checks let pass compiles; if not, nothing is published.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Uri;
use http::uri::PathAndQuery;

use super::Snapshot;
use super::route::{Aggregate, Destination, Part, Route, UpstreamPath};
use crate::config::problem::{Problem, Problems};
use crate::config::routes::Checked;
use crate::config::spec::{Builtin, DefaultsSpec, DestinationSpec, PartSpec, PoolSpec, RouteSpec, RoutesSpec};
use crate::filters::body::BodyRules;
use crate::filters::catalog::{self, FilterHandles};
use crate::limits::flood_guard::{FloodGuard, FloodGuardState};
use crate::model::cors::CorsPolicy;
use crate::model::endpoint::Endpoint;
use crate::model::route_table::PathPattern;
use crate::telemetry::metrics::Metrics;
use crate::upstream::{Pool, Registry};

/// Process state that a compiled table refers to.
pub struct Handles {
    /// For the filters.
    pub filters: FilterHandles,
    /// What the flood guard remembers.
    pub flood: Arc<FloodGuardState>,
    /// For the pools.
    pub registry: Arc<Registry>,
    /// For the counters.
    pub metrics: Arc<Metrics>,
}

/// Compiles a checked table.
pub fn compile(file: &str, checked: Checked, generation: u64, handles: &Handles) -> Result<Snapshot, Problems> {
    let Checked { spec, table, .. } = checked;
    let problem = |path: String, message: String| {
        Problems(vec![Problem { file: file.to_owned(), path, line: None, message, suggestion: None }])
    };
    let cors = CorsPolicy::new(&spec.cors.origins, spec.cors.max_age.0)
        .map_err(|error| problem("cors.origins".to_owned(), error.to_string()))?;
    let flood_guard = spec.flood_guard.as_ref().map(|guard| FloodGuard::new(guard, handles.flood.clone()));
    let pools = handles.registry.build(&spec.pools);
    let mut routes = Vec::with_capacity(spec.routes.len());
    for (index, route) in spec.routes.iter().enumerate() {
        let compiled = compile_route(route, &spec, &pools, handles);
        routes.push(Arc::new(compiled.map_err(|message| problem(format!("routes[{index}]"), message))?));
    }
    let inside = addresses(&spec.pools);
    Ok(Snapshot { generation, flood_guard, cors, pools, routes, table, inside, spec })
}

/// Where targets are configured, for each the pool.
fn addresses(pools: &BTreeMap<String, PoolSpec>) -> BTreeMap<String, String> {
    let targets = pools.iter().flat_map(|(name, pool)| pool.targets.iter().map(move |target| (target, name)));
    let parsed = targets.filter_map(|(target, name)| Some((target.url.parse::<Endpoint>().ok()?, name)));
    parsed.filter_map(|(endpoint, name)| Some((endpoint.host_and_port()?.to_string(), name.clone()))).collect()
}

type Pools = BTreeMap<String, Arc<Pool>>;

fn compile_route(spec: &RouteSpec, table: &RoutesSpec, pools: &Pools, handles: &Handles) -> Result<Route, String> {
    let defaults = &table.defaults;
    let pattern = pattern(spec);
    let body = body_rules(spec, defaults);
    Ok(Route {
        name: Arc::from(spec.name.as_str()),
        destination: destination(&spec.to, &pattern, pools)?,
        pattern,
        for_machines: spec.to.builtin.is_some_and(Builtin::is_for_machines),
        chain: catalog::chain(spec, table, &body, &handles.filters)?,
        timeout: spec.timeout.unwrap_or(defaults.timeout).0,
        upgrade_idle: spec.websocket.unwrap_or_default().idle.0,
        retries: spec.retries,
        body,
        compress: spec.compress.unwrap_or(defaults.compress),
        metrics: handles.metrics.route(&spec.name),
    })
}

fn body_rules(spec: &RouteSpec, defaults: &DefaultsSpec) -> BodyRules {
    let max = spec.body.max.unwrap_or(defaults.max_body).0;
    BodyRules::new(max, &spec.body.content_types, spec.body.json, spec.body.json_max.0)
}

fn pattern(spec: &RouteSpec) -> PathPattern {
    match (&spec.r#match.path, &spec.r#match.prefix) {
        (_, Some(prefix)) => PathPattern::Prefix(prefix.clone()),
        (path, None) => PathPattern::Path(path.clone().unwrap_or_default()),
    }
}

fn destination(to: &DestinationSpec, pattern: &PathPattern, pools: &Pools) -> Result<Destination, String> {
    let pool = |name: &String| pools.get(name).cloned().ok_or_else(|| format!("to: no pool is named \"{name}\""));
    match (&to.pool, &to.aggregate, to.builtin) {
        (Some(name), None, None) => {
            Ok(Destination::Pool { pool: pool(name)?, path: upstream_path(to.path.as_deref(), pattern) })
        }
        (None, Some(aggregate), None) => {
            let part = |(key, part): (&String, &PartSpec)| {
                Ok::<_, String>(Part { key: key.clone(), pool: pool(&part.pool)?, path: part.path.clone() })
            };
            let parts = aggregate.parts.iter().map(part).collect::<Result<_, _>>()?;
            Ok(Destination::Aggregate(Aggregate { parts, on_failure: aggregate.on_failure }))
        }
        (None, None, Some(page)) => {
            let path = format!("/builtin/{}", page.as_str());
            let uri = Uri::try_from(path).map_err(|error| format!("to.builtin: {error}"))?;
            Ok(Destination::Builtin { uri })
        }
        _ => Err("to: give one of pool, builtin, aggregate".to_owned()),
    }
}

fn upstream_path(path: Option<&str>, pattern: &PathPattern) -> UpstreamPath {
    match (path, pattern) {
        (None, _) => UpstreamPath::Same,
        (Some(with), PathPattern::Prefix(prefix)) => {
            UpstreamPath::Prefix { strip: prefix.trim_end_matches('/').len(), with: with.to_owned() }
        }
        (Some(path), PathPattern::Path(_)) if path.contains('{') => {
            UpstreamPath::Template(path.split(['{', '}']).map(str::to_owned).collect())
        }
        (Some(path), PathPattern::Path(_)) => {
            PathAndQuery::try_from(path).map_or(UpstreamPath::Same, UpstreamPath::Fixed)
        }
    }
}
