//! One compiled route.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;

use crate::config::spec::PartFailure;
use crate::filters::body::BodyRules;
use crate::filters::chain::Chain;
use crate::model::route_table::PathPattern;
use crate::telemetry::metrics::RouteMetrics;
use crate::upstream::Pool;

/// One compiled route.
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// Which paths it takes.
    pub pattern: PathPattern,
    /// Whether probes and collectors live on it: the flood guard leaves it alone.
    pub for_machines: bool,
    /// What a request must pass.
    pub chain: Chain,
    /// Where it goes then.
    pub destination: Destination,
    /// Longest a whole request may take.
    pub timeout: Duration,
    /// Longest silence of an upgraded connection.
    pub upgrade_idle: Duration,
    /// Most retries of one request, where the pool's number is not its own.
    pub retries: Option<u32>,
    /// What bodies it takes.
    pub body: BodyRules,
    /// Whether answers may be compressed.
    pub compress: bool,
    /// Its counters.
    pub metrics: Arc<RouteMetrics>,
}

/// Where admitted requests go.
pub enum Destination {
    /// To a target of a pool.
    Pool {
        /// The pool.
        pool: Arc<Pool>,
        /// The path there.
        path: UpstreamPath,
    },
    /// To one of the gateway's own pages, over the side-listener's socket.
    Builtin {
        /// Its path on the side-listener.
        uri: Uri,
    },
    /// To several pools at once.
    Aggregate(Aggregate),
}

/// Several calls in parallel, merged.
pub struct Aggregate {
    /// The calls, by the key of their answer.
    pub parts: Vec<Part>,
    /// What happens when one fails.
    pub on_failure: PartFailure,
}

/// One call of an aggregate.
pub struct Part {
    /// Key of its answer.
    pub key: String,
    /// Pool that is asked.
    pub pool: Arc<Pool>,
    /// Path there.
    pub path: String,
}

/// How the path towards an upstream is made.
#[derive(Debug, Clone)]
pub enum UpstreamPath {
    /// As the client's.
    Same,
    /// Always this one.
    Fixed(PathAndQuery),
    /// With the path parameters put in: literal text and names, alternating, starting with text.
    Template(Vec<String>),
    /// The first `strip` bytes of the client's path replaced.
    Prefix {
        /// Length of the public prefix, in bytes.
        strip: usize,
        /// What stands there instead.
        with: String,
    },
}

/// A route and the path parameters of one request.
#[derive(Clone)]
pub struct Matched {
    /// The route.
    pub route: Arc<Route>,
    /// Its path parameters; empty for most routes, and then nothing is allocated.
    pub params: Vec<(Box<str>, Box<str>)>,
}

impl Matched {
    pub(super) fn new(route: Arc<Route>, params: &matchit::Params<'_, '_>) -> Matched {
        let params = match route.pattern {
            PathPattern::Path(_) => params.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            PathPattern::Prefix(_) => Vec::new(),
        };
        Matched { route, params }
    }

    /// A path parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }
}

impl UpstreamPath {
    /// The path and query towards the upstream. `path` is canonical, so the result is a valid URI.
    pub fn uri(&self, matched: &Matched, path: &str, query: Option<&str>) -> Option<Uri> {
        let text = match (self, query) {
            (UpstreamPath::Fixed(fixed), None) => return Some(Uri::from(fixed.clone())),
            (UpstreamPath::Fixed(fixed), Some(_)) => fixed.as_str().to_owned(),
            (UpstreamPath::Same, _) => path.to_owned(),
            (UpstreamPath::Prefix { strip, with }, _) => {
                let rest = path.get(*strip..).unwrap_or_default();
                let joined = format!("{}{rest}", with.trim_end_matches('/'));
                if joined.is_empty() { "/".to_owned() } else { joined }
            }
            (UpstreamPath::Template(pieces), _) => {
                let values = pieces.iter().enumerate().map(|(index, piece)| match index % 2 {
                    0 => piece.as_str(),
                    _ => matched.param(piece).unwrap_or_default(),
                });
                values.collect()
            }
        };
        let text = match query {
            Some(query) => format!("{text}?{query}"),
            None => text,
        };
        PathAndQuery::from_maybe_shared(Bytes::from(text)).ok().map(Uri::from)
    }
}

impl Route {
    /// The public path of `path` at the pool named `pool`, when this route leads there.
    pub fn public_path(&self, pool: &str, path: &str) -> Option<String> {
        let Destination::Pool { pool: mine, path: upstream } = &self.destination else { return None };
        if &**mine.name() != pool {
            return None;
        }
        match (upstream, &self.pattern) {
            (UpstreamPath::Fixed(fixed), PathPattern::Path(public)) => {
                (fixed.path().trim_end_matches('/') == path.trim_end_matches('/')).then(|| public.clone())
            }
            (UpstreamPath::Prefix { with, .. }, PathPattern::Prefix(public)) => {
                let rest = path.strip_prefix(with.trim_end_matches('/'))?;
                let whole_segment = rest.is_empty() || rest.starts_with('/');
                whole_segment.then(|| format!("{}{rest}", public.trim_end_matches('/')))
            }
            (UpstreamPath::Same, PathPattern::Path(public)) => (public == path).then(|| public.clone()),
            _ => None,
        }
    }
}
