//! The route table: path and method to a value, in time that does not grow with the number of routes.
//!
//! Exact beats parameter beats prefix, and of two prefixes the longer wins (radix trees, `matchit`). Where parameters
//! are involved, the first segment in which two patterns differ decides. The path alone selects: a method that
//! the winner does not serve is refused, not handed to a wider pattern.
//! A prefix matches whole segments: `/a` covers `/a`, `/a/` and `/a/b`, never `/ab`.

use std::collections::HashMap;

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
    /// Two patterns differ only in the names of their parameters, a prefix is followed by a parameter of another
    /// prefix (`/a` and `/a/{x}`), or a pattern is malformed.
    #[error("{0}")]
    Pattern(String),
}

#[derive(Debug)]
struct Node<T> {
    methods: Vec<(Method, T)>,
    allow: HeaderValue,
}

/// An immutable table once built; see [`RouteTable::insert`].
#[derive(Debug)]
pub struct RouteTable<T> {
    paths: Router<usize>,
    prefixes: Router<usize>,
    nodes: Vec<Node<T>>,
    /// Where each pattern's node is, written without a trailing slash; used while the table is built.
    known: HashMap<PathPattern, usize>,
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        RouteTable { paths: Router::new(), prefixes: Router::new(), nodes: Vec::new(), known: HashMap::new() }
    }
}

impl<T: Clone> RouteTable<T> {
    /// Adds a route for each of `methods`. `GET` also serves `HEAD`.
    pub fn insert(&mut self, pattern: &PathPattern, methods: &[Method], value: &T) -> Result<(), Conflict> {
        let index = self.node(pattern)?;
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        let served = |method: &&Method| node.methods.iter().any(|(known, _)| known == *method);
        if let Some(method) = methods.iter().find(served) {
            return Err(Conflict::Overlap { method: method.clone(), pattern: text(pattern).to_owned() });
        }
        node.methods.extend(methods.iter().map(|method| (method.clone(), value.clone())));
        node.allow = allow(node.methods.iter().map(|(method, _)| method));
        Ok(())
    }

    fn node(&mut self, pattern: &PathPattern) -> Result<usize, Conflict> {
        let base = trim(text(pattern));
        let key = match pattern {
            PathPattern::Path(_) => PathPattern::Path(base.to_owned()),
            PathPattern::Prefix(_) => PathPattern::Prefix(base.to_owned()),
        };
        if let Some(index) = self.known.get(&key) {
            return Ok(*index);
        }
        if !base.starts_with('/') || base.contains("{*") {
            return Err(Conflict::Pattern(format!("`{base}` must start with `/` and may not hold a catch-all")));
        }
        let index = self.nodes.len();
        let inserted = match pattern {
            PathPattern::Path(_) => self.paths.insert(base, index),
            PathPattern::Prefix(_) => {
                // matchit's catch-all needs at least one character, so the prefix itself is a key of its own.
                let below = format!("{}/{{*rest}}", base.trim_end_matches('/'));
                self.prefixes.insert(base, index).and_then(|()| {
                    // A half-inserted prefix would answer for the next pattern.
                    self.prefixes.insert(below, index).inspect_err(|_| {
                        self.prefixes.remove(base);
                    })
                })
            }
        };
        inserted.map_err(|error| Conflict::Pattern(error.to_string()))?;
        self.nodes.push(Node { methods: Vec::new(), allow: HeaderValue::from_static("") });
        self.known.insert(key, index);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> PathPattern {
        PathPattern::Path(text.to_owned())
    }

    fn prefix(text: &str) -> PathPattern {
        PathPattern::Prefix(text.to_owned())
    }

    /// A table in which every pattern serves GET, its value being its text.
    fn table(patterns: &[PathPattern]) -> RouteTable<String> {
        let mut table = RouteTable::default();
        for pattern in patterns {
            table.insert(pattern, &[Method::GET], &format!("{pattern:?}")).unwrap();
        }
        table
    }

    fn found(table: &RouteTable<String>, path: &str) -> Option<String> {
        match table.lookup(&Method::GET, path) {
            Lookup::Found(value, _) => Some(value.clone()),
            Lookup::WrongMethod(_) | Lookup::Unknown => None,
        }
    }

    #[test]
    fn exact_beats_parameter_beats_prefix_and_the_longer_prefix_wins() {
        let patterns = [
            path("/api/match"),
            path("/api/{name}"),
            path("/api/{name}/stats"),
            path("/api/match/batch"),
            prefix("/api"),
            prefix("/api/deep/er"),
            prefix("/api/deep"),
        ];
        let table = table(&patterns);
        for (path, expected) in [
            ("/api/match", Some(0)),
            ("/api/match/", Some(0)),
            ("/api/other", Some(1)),
            ("/api/other/", Some(1)),
            ("/api/match/stats", Some(2)),
            ("/api/match/batch", Some(3)),
            ("/api/match/batch/x", Some(4)),
            ("/api", Some(4)),
            ("/api/", Some(4)),
            ("/api/deep/x", Some(6)),
            ("/api/deep/er", Some(5)),
            ("/api/deep/er/", Some(5)),
            ("/api/deep/er/x/y", Some(5)),
            ("/api/deep/error", Some(6)),
            ("/apix", None),
            ("/", None),
            ("/Api/match", None),
        ] {
            let expected = expected.map(|index: usize| format!("{:?}", patterns[index]));
            assert_eq!(found(&table, path), expected, "{path}");
        }
    }

    #[test]
    fn a_parameter_is_one_segment_that_is_not_empty() {
        let table = table(&[path("/a/{x}"), path("/a/{x}/b/{y}")]);
        let Lookup::Found(_, params) = table.lookup(&Method::GET, "/a/1/b/caf%C3%A9") else { panic!("unknown") };
        assert_eq!((params.get("x"), params.get("y")), (Some("1"), Some("caf%C3%A9")));
        for path in ["/a", "/a/", "/a//", "/a//b/1", "/a/1/2", "/a/1/b", "/a/1/b/"] {
            assert_eq!(found(&table, path), None, "{path}");
        }
    }

    #[test]
    fn the_root_can_be_a_path_or_a_prefix() {
        assert!(found(&table(&[path("/")]), "/").is_some());
        assert!(found(&table(&[path("/")]), "/a").is_none());
        for under in ["/", "/a", "/a/b"] {
            assert!(found(&table(&[prefix("/")]), under).is_some(), "{under}");
        }
    }

    #[test]
    fn methods_share_a_path_and_get_serves_head() {
        let mut table = RouteTable::default();
        table.insert(&path("/a"), &[Method::GET], &1).unwrap();
        table.insert(&path("/a/"), &[Method::POST, Method::PUT], &2).unwrap();
        table.insert(&path("/b"), &[Method::POST], &3).unwrap();
        table.insert(&prefix("/"), &[Method::DELETE], &4).unwrap();
        for (method, expected) in [(Method::GET, 1), (Method::HEAD, 1), (Method::POST, 2), (Method::PUT, 2)] {
            assert!(matches!(table.lookup(&method, "/a"), Lookup::Found(value, _) if *value == expected), "{method}");
        }
        for (method, path, allow) in [
            (Method::DELETE, "/a", "GET, HEAD, OPTIONS, POST, PUT"),
            (Method::OPTIONS, "/a", "GET, HEAD, OPTIONS, POST, PUT"),
            (Method::HEAD, "/b", "OPTIONS, POST"),
        ] {
            let Lookup::WrongMethod(value) = table.lookup(&method, path) else { panic!("{method} {path}") };
            assert_eq!(value, allow);
        }
    }

    #[test]
    fn what_could_never_be_reached_is_a_conflict() {
        let mut table = RouteTable::default();
        table.insert(&path("/a/{x}"), &[Method::GET], &1).unwrap();
        let overlap = Conflict::Overlap { method: Method::GET, pattern: "/a/{x}/".to_owned() };
        assert_eq!(table.insert(&path("/a/{x}/"), &[Method::GET], &2), Err(overlap));
        let mut halves = RouteTable::default();
        halves.insert(&prefix("/{x}"), &[Method::GET], &1).unwrap();
        assert!(halves.insert(&prefix("/"), &[Method::GET], &2).is_err());
        halves.insert(&path("/a"), &[Method::GET], &3).unwrap();
        assert!(matches!(halves.lookup(&Method::GET, "/"), Lookup::Unknown), "nothing is left of a refused prefix");

        for wrong in [path("/a/{y}"), path("/a/{"), path("a"), path(""), path("/a/{*rest}"), prefix("/{*rest}")] {
            assert!(matches!(table.insert(&wrong, &[Method::POST], &2), Err(Conflict::Pattern(_))), "{wrong:?}");
        }
    }

    /// How well a pattern fits, segment by segment: 0 for the same text, 1 for a parameter, 2 where a prefix takes over.
    fn fit(pattern: &PathPattern, path: &str) -> Option<(bool, Vec<u8>)> {
        let segments = |text: &str| -> Vec<String> {
            trim(text).split('/').skip(1).filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
        };
        let (wanted, given) = (segments(text(pattern)), segments(path));
        let is_prefix = matches!(pattern, PathPattern::Prefix(_));
        if given.len() < wanted.len() || (!is_prefix && given.len() > wanted.len()) {
            return None;
        }
        let mut ranks = Vec::new();
        for (wanted, given) in wanted.iter().zip(&given) {
            ranks.push(if wanted == given {
                0
            } else if wanted.starts_with('{') {
                1
            } else {
                return None;
            });
        }
        if given.len() > wanted.len() {
            ranks.push(2);
        }
        Some((is_prefix, ranks))
    }

    fn texts(segments: Vec<&'static str>, max: usize) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(segments), 0..max)
            .prop_map(|segments| format!("/{}", segments.join("/")))
    }

    proptest! {
        #[test]
        fn finds_what_a_walk_over_all_patterns_finds(
            patterns in prop::collection::vec((texts(vec!["a", "b", "ab", "{p}"], 4), any::<bool>()), 0..10),
            paths in prop::collection::vec((texts(vec!["a", "b", "ab", "abc", "c"], 5), any::<bool>()), 1..20),
        ) {
            let mut table = RouteTable::default();
            let mut known = Vec::new();
            for (text, is_prefix) in patterns {
                // A name may stand only once in a pattern.
                let text = text.split("{p}").enumerate().map(|(i, part)| if i == 0 { part.to_owned() } else { format!("{{p{i}}}{part}") }).collect::<String>();
                let pattern = if is_prefix { prefix(&text) } else { path(&text) };
                if table.insert(&pattern, &[Method::GET], &format!("{pattern:?}")).is_ok() {
                    known.push(pattern);
                }
            }
            for (path, slash) in paths {
                let path = if slash && path != "/" { format!("{path}/") } else { path };
                let best = known.iter().filter_map(|pattern| Some((fit(pattern, &path)?, pattern))).min_by_key(|(fit, _)| fit.clone());
                prop_assert_eq!(found(&table, &path), best.map(|(_, pattern)| format!("{pattern:?}")), "{}", path);
            }
        }
    }
}
