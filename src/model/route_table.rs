//! The route table: path and method to a value, in time that does not grow with the number of routes.
//!
//! Exact beats parameter beats prefix, and of two prefixes the longer wins (radix trees, `matchit`).
//! A prefix matches whole segments: `/a` covers `/a`, `/a/` and `/a/b`, never `/ab`.

use http::{HeaderValue, Method};
use matchit::Router;

/// How a route matches paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// The whole path; segments `{name}` match any one segment. A trailing slash is the same path.
    Path(String),
    /// The path and everything below it, by whole segments.
    Prefix(String),
}

/// What a look-up found.
#[derive(Debug)]
pub enum Lookup<'t, 'p, T> {
    /// The value of the route, and its path parameters.
    Found(&'t T, matchit::Params<'t, 'p>),
    /// The path is known, the method is not; the value of `Allow`.
    WrongMethod(&'t HeaderValue),
    /// No route has this path.
    Unknown,
}

/// Why a route cannot join the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The same pattern already serves this method: one of the two could never be reached.
    #[error("{method} {pattern} is already served by another route, so one of the two can never be reached")]
    Overlap {
        /// The method served twice.
        method: Method,
        /// The pattern as written.
        pattern: String,
    },
    /// Two patterns differ only in the names of their parameters, or a pattern is malformed.
    #[error("{0}")]
    Pattern(String),
}

#[derive(Debug)]
struct Node<T> {
    pattern: PathPattern,
    methods: Vec<(Method, T)>,
    allow: HeaderValue,
}

/// An immutable table once built; see [`RouteTable::insert`].
#[derive(Debug)]
pub struct RouteTable<T> {
    paths: Router<usize>,
    prefixes: Router<usize>,
    nodes: Vec<Node<T>>,
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        RouteTable { paths: Router::new(), prefixes: Router::new(), nodes: Vec::new() }
    }
}

impl<T: Clone> RouteTable<T> {
    /// Adds a route for each of `methods`. `GET` also serves `HEAD`.
    pub fn insert(&mut self, pattern: &PathPattern, methods: &[Method], value: &T) -> Result<(), Conflict> {
        let index = self.node(pattern)?;
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        for method in methods {
            if node.methods.iter().any(|(known, _)| known == method) {
                return Err(Conflict::Overlap { method: method.clone(), pattern: text(pattern).to_owned() });
            }
            node.methods.push((method.clone(), value.clone()));
        }
        node.allow = allow(node.methods.iter().map(|(method, _)| method));
        Ok(())
    }

    fn node(&mut self, pattern: &PathPattern) -> Result<usize, Conflict> {
        if let Some(index) = self.nodes.iter().position(|node| node.pattern == *pattern) {
            return Ok(index);
        }
        let index = self.nodes.len();
        let base = trim(text(pattern));
        let inserted = match pattern {
            PathPattern::Path(_) => self.paths.insert(base, index),
            PathPattern::Prefix(_) => {
                // matchit's catch-all needs at least one character, so the prefix itself is a key of its own.
                let below = format!("{}/{{*rest}}", base.trim_end_matches('/'));
                self.prefixes.insert(base, index).and_then(|()| self.prefixes.insert(below, index))
            }
        };
        inserted.map_err(|error| Conflict::Pattern(error.to_string()))?;
        self.nodes.push(Node { pattern: pattern.clone(), methods: Vec::new(), allow: HeaderValue::from_static("") });
        Ok(index)
    }

    /// Finds the route for a canonical path.
    pub fn lookup<'p>(&self, method: &Method, path: &'p str) -> Lookup<'_, 'p, T> {
        let path = trim(path);
        let Ok(found) = self.paths.at(path).or_else(|_| self.prefixes.at(path)) else { return Lookup::Unknown };
        let Some(node) = self.nodes.get(*found.value) else { return Lookup::Unknown };
        let serves = |wanted: &Method| node.methods.iter().find(|(known, _)| known == wanted);
        let hit = serves(method).or_else(|| if method == Method::HEAD { serves(&Method::GET) } else { None });
        match hit {
            Some((_, value)) => Lookup::Found(value, found.params),
            None => Lookup::WrongMethod(&node.allow),
        }
    }
}

fn text(pattern: &PathPattern) -> &str {
    match pattern {
        PathPattern::Path(text) | PathPattern::Prefix(text) => text,
    }
}

fn trim(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(trimmed) => trimmed,
    }
}

fn allow<'m>(methods: impl Iterator<Item = &'m Method>) -> HeaderValue {
    let mut names: Vec<&str> = methods.map(Method::as_str).collect();
    if names.contains(&"GET") && !names.contains(&"HEAD") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.sort_unstable();
    names.dedup();
    HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static("OPTIONS"))
}
