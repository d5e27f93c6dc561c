//! Text to a typed value, with *all* shape problems at once.
//!
//! serde stops at its first error. So the error is recorded, the place is mended with a stand-in of the expected
//! kind, and the tree is decoded again, until it decodes. Values that came from the environment are never shown.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::env::{Env, Expanded};
use super::locate;
use super::problem::did_you_mean;
use super::report::Report;

/// Most shape problems reported, and most tries to decode: bounds the time for hopeless files.
const MAX_PROBLEMS: usize = 50;
const MAX_TRIES: usize = 200;

/// What became of a text.
#[derive(Debug)]
pub struct Decoded<T> {
    /// The value; with stand-ins where there were shape problems; `None` when it could not be read at all.
    pub value: Option<T>,
    /// The problems so far, ready to take more.
    pub report: Report,
}

/// Decodes the text of a file, environment substituted.
pub fn decode<T: DeserializeOwned>(file: &str, text: &str, env: &Env) -> Decoded<T> {
    let document = match locate::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let mut report = Report::new(file, locate::Lines::default());
            report.on_line("", error.line, error.message);
            return Decoded { value: None, report };
        }
    };
    let mut report = Report::new(file, document.lines);
    for (path, line) in document.duplicates {
        report.on_line(&path, Some(line), "the key stands here a second time".to_owned());
    }
    let mut tree = document.value;
    if !tree.is_object() {
        report.on_line("", None, "expected a mapping of keys at the top of the file".to_owned());
        return Decoded { value: None, report };
    }
    let mut substituted = HashMap::new();
    substitute(&mut tree, &mut String::new(), env, &mut substituted, &mut report);
    let mut decoder = Decoder { tree, substituted, tries: HashMap::new(), report };
    let value = decoder.run();
    if value.is_none() && decoder.report.is_empty() {
        decoder.report.shape("", "the file cannot be read".to_owned(), None);
    }
    Decoded { value, report: decoder.report }
}

/// Puts the environment into every text below `value`. Keys stay as they are.
fn substitute(
    value: &mut Value,
    path: &mut String,
    env: &Env,
    substituted: &mut HashMap<String, Expanded>,
    report: &mut Report,
) {
    let length = path.len();
    match value {
        Value::String(text) if text.contains('$') => match env.expand(text) {
            Ok(expanded) => {
                *value = typed(&expanded);
                if !expanded.names.is_empty() {
                    substituted.insert(path.clone(), expanded);
                }
            }
            Err(error) => {
                report.shape(path, error.to_string(), None);
                report.repaired(path.clone());
            }
        },
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{index}]"));
                substitute(item, path, env, substituted, report);
                path.truncate(length);
            }
        }
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(key);
                substitute(item, path, env, substituted, report);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// A whole `${…}` that reads as an integer or a boolean is one: `rise: ${RISE:-2}`.
fn typed(expanded: &Expanded) -> Value {
    fn read<T: DeserializeOwned + Into<Value>>(text: &str) -> Option<Value> {
        serde_yaml::from_str::<T>(text).ok().map(Into::into)
    }
    let text = expanded.text.as_str();
    let scalar = || read::<bool>(text).or_else(|| read::<u64>(text)).or_else(|| read::<i64>(text));
    let scalar = if expanded.whole { scalar() } else { None };
    scalar.unwrap_or_else(|| Value::from(text))
}

struct Decoder {
    tree: Value,
    substituted: HashMap<String, Expanded>,
    tries: HashMap<String, usize>,
    report: Report,
}

impl Decoder {
    fn run<T: DeserializeOwned>(&mut self) -> Option<T> {
        for _ in 0..MAX_TRIES {
            let error = match serde_path_to_error::deserialize(&self.tree) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let path = error.path().clone();
            if !self.mend(&path, &error.into_inner().to_string()) || self.report.len() >= MAX_PROBLEMS {
                return None;
            }
        }
        None
    }

    /// Records one error of serde and repairs its place. `false`: it cannot be repaired.
    fn mend(&mut self, path: &Path, message: &str) -> bool {
        let text = path.to_string();
        let text = if text == "." { String::new() } else { text };
        if let Some(field) = quoted_after(message, "missing field ") {
            let place = join(&text, field);
            self.report.shape(&text, format!("`{field}` is missing"), None);
            self.report.repaired(place);
            return insert(&mut self.tree, path, field);
        }
        if let Some(field) = quoted_after(message, "unknown field ") {
            let known = expected_names(message);
            let suggestion = did_you_mean(field, known.iter().copied());
            let place = if text.ends_with(field) { text } else { join(&text, field) };
            let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message =
                if suggestion.is_some() { "unknown key".into() } else { format!("unknown key; known: {list}") };
            self.report.shape(&place, message, suggestion);
            self.report.repaired(place);
            return remove(&mut self.tree, path, field);
        }
        self.replace(path, text, message)
    }

    /// Records a value of the wrong kind and puts a stand-in there.
    fn replace(&mut self, path: &Path, text: String, message: &str) -> bool {
        let Some(node) = find(&mut self.tree, path) else {
            self.report.shape(&text, message.to_owned(), None);
            return false;
        };
        let stand_in = stand_in(message);
        let origin = self.substituted.remove(&text);
        if let (Some(origin), Some(Value::String(_)), false) = (&origin, &stand_in, node.is_string()) {
            *node = Value::String(origin.text.clone()); // a number was read into a text: give the text back
            return true;
        }
        let (message, suggestion) = describe(message, origin.as_ref());
        self.report.shape(&text, message, suggestion);
        let tries = self.tries.entry(text.clone()).or_default();
        let next = stand_in.filter(|value| *value != *node).or_else(|| GENERIC.get(*tries).map(|make| make()));
        *tries += 1;
        self.report.repaired(text);
        match next {
            Some(value) if *tries <= GENERIC.len() => *node = value,
            _ => return false,
        }
        true
    }
}

const GENERIC: [fn() -> Value; 6] = [
    || Value::Null,
    || Value::from("x"),
    || Value::from(1),
    || Value::Array(Vec::new()),
    || Value::Object(serde_json::Map::new()),
    || Value::Bool(false),
];

/// A value of the kind that the message expects.
fn stand_in(message: &str) -> Option<Value> {
    if message.starts_with("unknown variant ") {
        return expected_names(message).first().map(|name| Value::from(*name));
    }
    let (_, expected) = message.rsplit_once("expected ")?;
    let kinds: [(&str, Value); 15] = [
        ("a duration", Value::from("1s")),
        ("a size", Value::from("1B")),
        ("a rate", Value::from("1/s")),
        ("a network", Value::from("127.0.0.1")),
        ("an address", Value::from("127.0.0.1:1")),
        ("a list", Value::Array(Vec::new())),
        ("a sequence", Value::Array(Vec::new())),
        ("struct", Value::Object(serde_json::Map::new())),
        ("a map", Value::Object(serde_json::Map::new())),
        ("`public`", Value::from("public")),
        ("a string", Value::from("x")),
        ("a boolean", Value::Bool(false)),
        ("u", Value::from(1)),
        ("a nonzero", Value::from(1)),
        ("path string", Value::from("x")),
    ];
    kinds.into_iter().find(|(start, _)| expected.starts_with(start)).map(|(_, value)| value)
}

/// The message for ops. Of a value from the environment only the variables' names are told.
fn describe(message: &str, origin: Option<&Expanded>) -> (String, Option<String>) {
    let expected = message.rsplit_once("expected ").map(|(_, expected)| expected);
    let plain = |kind: &str| {
        let kind = kind.strip_prefix("struct ").map_or(kind, |_| "a mapping of keys");
        match kind {
            "a map" => "a mapping of keys".to_owned(),
            "a string" => "a text".to_owned(),
            "a sequence" => "a list".to_owned(),
            "a boolean" => "true or false".to_owned(),
            _ if matches!(kind, "u16" | "u32" | "u64" | "usize") => format!("a whole number ({kind})"),
            _ => kind.replace('`', ""),
        }
    };
    if let Some(origin) = origin {
        let expected = expected.map_or("another value".to_owned(), plain);
        return (format!("expected {expected}; the value comes from {}", origin.names.join(", ")), None);
    }
    if let Some(variant) = quoted_after(message, "unknown variant ") {
        let known = expected_names(message);
        let suggestion = did_you_mean(variant, known.iter().copied());
        return (format!("{variant:?} is none of {}", known.join(", ")), suggestion);
    }
    match (message.split_once(", expected "), expected) {
        (Some((found, _)), Some(expected)) => {
            let found = found.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
            let found = match found {
                "sequence" => "a list",
                "map" => "a mapping of keys",
                _ if found.starts_with("invalid length") => "a list",
                _ => found,
            };
            (format!("expected {}, found {}", plain(expected), found.replace('`', "")), None)
        }
        _ => (message.to_owned(), None),
    }
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

fn quoted_after<'m>(message: &'m str, start: &str) -> Option<&'m str> {
    let rest = message.strip_prefix(start)?.strip_prefix('`')?;
    // The name may hold backticks itself; serde goes on with a comma, or ends.
    rest.split_once("`, ").map(|(name, _)| name).or_else(|| rest.strip_suffix('`'))
}

fn expected_names(message: &str) -> Vec<&str> {
    let Some((_, list)) = message.rsplit_once("expected ") else { return Vec::new() };
    list.split('`').skip(1).step_by(2).collect()
}

fn find<'t>(tree: &'t mut Value, path: &Path) -> Option<&'t mut Value> {
    walk(tree, path.iter())
}

fn walk<'t, 'p>(tree: &'t mut Value, segments: impl Iterator<Item = &'p Segment>) -> Option<&'t mut Value> {
    let mut node = tree;
    for segment in segments {
        node = match segment {
            Segment::Seq { index } => node.get_mut(index)?,
            Segment::Map { key } => node.get_mut(key)?,
            Segment::Enum { .. } => node,
            Segment::Unknown => return None,
        };
    }
    Some(node)
}

fn insert(tree: &mut Value, path: &Path, field: &str) -> bool {
    let Some(Value::Object(map)) = find(tree, path) else { return false };
    map.insert(field.to_owned(), Value::Null).is_none()
}

/// Takes the unknown key away; its path may or may not end with the key itself.
fn remove(tree: &mut Value, path: &Path, field: &str) -> bool {
    let depth = path.iter().count();
    let ends_with_key = matches!(path.iter().next_back(), Some(Segment::Map { key }) if key == field);
    let parent = path.iter().take(if ends_with_key { depth - 1 } else { depth });
    match walk(tree, parent) {
        Some(Value::Object(map)) => map.remove(field).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::units::Span;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // read by serde only
    struct Shape {
        name: String,
        count: u32,
        #[serde(default)]
        flag: bool,
        #[serde(default)]
        wait: Option<Span>,
        #[serde(default)]
        inner: Vec<Shape>,
    }

    fn problems(text: &str, env: &[(&str, &str)]) -> String {
        let env = Env::from_pairs(env.iter().copied());
        decode::<Shape>("f.yaml", text, &env).report.finish().to_string()
    }

    #[test]
    fn all_shape_problems_come_at_once() {
        let text =
            "name: [1]\ncuont: 3\nflag: 7\nwait: soon\ninner:\n  - name: a\n    count: -1\n  - {count: 1}\n  - x\n";
        assert_eq!(
            problems(text, &[]),
            "f.yaml: `count` is missing\n\
             f.yaml:1: name: expected a text, found a list\n\
             f.yaml:2: cuont: unknown key; did you mean \"count\"?\n\
             f.yaml:3: flag: expected true or false, found integer 7\n\
             f.yaml:4: wait: expected a duration such as 250ms, 30s, 5m, 2h or 1d\n\
             f.yaml:7: inner[0].count: expected a whole number (u32), found integer -1\n\
             f.yaml:8: inner[1]: `name` is missing\n\
             f.yaml:9: inner[2]: expected a mapping of keys, found string \"x\""
        );
    }

    #[test]
    fn a_stand_in_is_decoded_and_the_rest_is_kept() {
        let decoded = decode::<Shape>("f", "name: {}\ncount: 3\n", &Env::default());
        assert_eq!(decoded.value.map(|shape| shape.count), Some(3));
        assert_eq!(decoded.report.len(), 1);
    }

    #[test]
    fn variables_take_the_type_that_is_needed() {
        let env = Env::from_pairs([("N", "7")]);
        let text = "name: ${N}\ncount: ${N}\nflag: ${F:-true}\nwait: \"${N}s\"\n";
        let decoded = decode::<Shape>("f", text, &env);
        assert!(decoded.report.is_empty(), "{:?}", decoded.report);
        let shape = decoded.value.unwrap();
        assert_eq!((shape.name.as_str(), shape.count, shape.flag), ("7", 7, true));
    }

    #[test]
    fn values_from_the_environment_are_not_shown() {
        let shown = problems("name: n\ncount: ${S}\nflag: x${S}\nwait: ${S}", &[("S", "hunter2")]);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("f.yaml:2: count: expected a whole number (u32); the value comes from S"), "{shown}");
    }

    #[test]
    fn an_unset_variable_is_one_problem() {
        assert_eq!(
            problems("name: n\ncount: ${NONE}\n", &[]),
            "f.yaml:2: count: NONE is not set and has no default; set it, or write ${NONE:-default}"
        );
    }

    #[test]
    fn a_list_at_the_top_is_one_problem() {
        assert_eq!(problems("- a\n", &[]), "f.yaml: expected a mapping of keys at the top of the file");
    }
}
