//! YAML text to a tree of values and the line of each of its keys.
//!
//! The values are what `serde_yaml` reads. It gives no lines, takes a key that stands twice for granted and has no
//! tight bounds, so a pass over the parser's events comes first ([`Scan`]): it bounds size, depth and the number of
//! values (aliases counted as often as they are used), and builds none. Both passes must accept a text.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::Value;

/// Largest file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
const MAX_DEPTH: usize = 64;
const MAX_VALUES: usize = 100_000;
const MAX_PATH_BYTES: usize = 16 << 20;
const MAX_DUPLICATES: usize = 50;

/// A parsed text.
#[derive(Debug)]
pub struct Document {
    /// The tree, before substitution. The last of two equal keys wins.
    pub value: Value,
    /// Where its keys are.
    pub lines: Lines,
    /// Keys that stand twice in one mapping: path and line of the second.
    pub duplicates: Vec<(String, usize)>,
}

/// Line of each key and list item, by path (`routes[3].to.pool`).
#[derive(Debug, Clone, Default)]
pub struct Lines(HashMap<String, usize>);

/// Why a text is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line, from 1, when it has one.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl Lines {
    /// The line of a path, or of its nearest ancestor that stands in the text.
    pub fn of(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            path = path.get(..path.rfind(['.', '['])?)?;
        }
    }
}

/// Parses one YAML document; a merge key (`<<`) takes in the mappings that it names.
pub fn parse(text: &str) -> Result<Document, SyntaxError> {
    let scan = Scan::of(text)?;
    let mut value: Value = serde_yaml::from_str(text).map_err(|error| {
        let line = error.location().map(|place| place.line());
        at(line, format!("YAML error: {error}"))
    })?;
    if value.is_null() {
        return Err(at(None, "the file is empty"));
    }
    merge(&mut value);
    Ok(Document { value, lines: Lines(scan.lines), duplicates: scan.duplicates })
}

fn at(line: Option<usize>, message: impl Into<String>) -> SyntaxError {
    SyntaxError { line, message: message.into() }
}

/// Takes in what each `<<` names: a mapping, or a list of mappings; keys of the mapping itself win. Anything else
/// stays, and decoding will name it as an unknown key.
fn merge(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(merge),
        Value::Object(map) => {
            map.values_mut().for_each(merge);
            let Some(Value::Object(_) | Value::Array(_)) = map.get("<<") else { return };
            let sources = match map.remove("<<") {
                Some(Value::Array(sources)) => sources,
                source => source.into_iter().collect(),
            };
            for (key, value) in sources.into_iter().filter_map(|source| source.as_object().cloned()).flatten() {
                map.entry(key).or_insert(value);
            }
        }
        _ => {}
    }
}

/// What the pass over the events has seen so far.
#[derive(Default)]
struct Scan {
    documents: usize,
    open: Vec<Open>,
    path: String,
    lines: HashMap<String, usize>,
    path_bytes: usize,
    duplicates: Vec<(String, usize)>,
    /// How many values each finished anchor stands for.
    anchors: HashMap<usize, usize>,
    values: usize,
}

/// A collection whose end has not come yet.
struct Open {
    anchor: usize,
    path_length: usize,
    values_before: usize,
    inside: Inside,
}

enum Inside {
    /// Items so far.
    List(usize),
    Mapping {
        keys: HashSet<String>,
        key_next: bool,
    },
}

impl Scan {
    fn of(text: &str) -> Result<Scan, SyntaxError> {
        if text.len() > MAX_BYTES {
            return Err(at(None, format!("the file has {} bytes; the most is {MAX_BYTES} (1 MiB)", text.len())));
        }
        let mut scan = Scan::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let place = error.marker();
                let hint = match text.lines().nth(place.line().saturating_sub(1)) {
                    Some(line) if line.contains("${") => "; `${…}` between `{ }` or `[ ]` must stand in quotes",
                    _ => "",
                };
                let message = format!("YAML syntax error at column {}: {}{hint}", place.col() + 1, error.info());
                at(Some(place.line()), message)
            })?;
            let line = span.start.line();
            scan.event(event, span).map_err(|message| at(Some(line), message))?;
        }
        if scan.values == 0 { Err(at(None, "the file is empty")) } else { Ok(scan) }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err("a second document begins here; the file must hold one".to_owned());
                }
                Ok(())
            }
            Event::Scalar(.., Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                Err("tags (`!`) have no meaning here".to_owned())
            }
            Event::Scalar(text, style, anchor, None) => {
                self.anchors.insert(anchor, 1);
                if self.key_next() {
                    self.key(text.into_owned(), line);
                    return Ok(());
                }
                if style == ScalarStyle::Plain && is_no_json_number(&text) {
                    return Err(format!("{text} is no number that can be used here"));
                }
                self.enter(line, 1)
            }
            Event::Alias(anchor) => {
                self.refuse_as_key()?;
                let size = self.anchors.get(&anchor).copied();
                self.enter(line, size.ok_or("an alias (`*`) stands inside the value that it names")?)
            }
            Event::SequenceStart(anchor, None) => self.begin(anchor, Inside::List(0), line),
            Event::MappingStart(anchor, None) => {
                self.begin(anchor, Inside::Mapping { keys: HashSet::new(), key_next: true }, line)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.anchors.insert(open.anchor, self.values - open.values_before);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn key_next(&self) -> bool {
        matches!(self.open.last(), Some(Open { inside: Inside::Mapping { key_next: true, .. }, .. }))
    }

    fn refuse_as_key(&self) -> Result<(), String> {
        if self.key_next() { Err("a key must be plain text".to_owned()) } else { Ok(()) }
    }

    fn key(&mut self, text: String, line: usize) {
        self.path.truncate(self.open.last().map_or(0, |open| open.path_length));
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(&text);
        let Some(Open { inside: Inside::Mapping { keys, key_next }, .. }) = self.open.last_mut() else { return };
        *key_next = false;
        if keys.insert(text) {
            self.remember(line);
        } else if self.duplicates.len() < MAX_DUPLICATES {
            self.duplicates.push((self.path.clone(), line));
        }
    }

    /// Notes that a value of `size` values begins: its line, when it is a list's item, and the bound on their number.
    fn enter(&mut self, line: usize, size: usize) -> Result<(), String> {
        self.values += size;
        if self.values > MAX_VALUES {
            return Err(format!("the file has more than {MAX_VALUES} values, aliases counted where they are used"));
        }
        match self.open.last_mut() {
            Some(Open { inside: Inside::List(items), path_length, .. }) => {
                self.path.truncate(*path_length);
                self.path.push_str(&format!("[{items}]"));
                *items += 1;
                self.remember(line);
            }
            Some(Open { inside: Inside::Mapping { key_next, .. }, .. }) => *key_next = true,
            None => {}
        }
        Ok(())
    }

    fn begin(&mut self, anchor: usize, inside: Inside, line: usize) -> Result<(), String> {
        self.refuse_as_key()?;
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("values are nested deeper than {MAX_DEPTH} levels"));
        }
        let values_before = self.values;
        self.enter(line, 1)?;
        self.open.push(Open { anchor, path_length: self.path.len(), values_before, inside });
        Ok(())
    }

    /// Notes a line, until the paths take too much room: then problems name the nearest ancestor's line.
    fn remember(&mut self, line: usize) {
        self.path_bytes += self.path.len();
        if self.path_bytes <= MAX_PATH_BYTES {
            self.lines.insert(self.path.clone(), line);
        }
    }
}

/// Infinities and NaN (YAML 1.2.2 §10.3.2) would become null in the tree: "not given", which is not what they say.
fn is_no_json_number(text: &str) -> bool {
    matches!(text.trim_start_matches(['+', '-']).to_ascii_lowercase().as_str(), ".inf" | ".nan")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn every_key_has_its_line() {
        let text =
            "version: 1\npools:\n  a:\n    targets:\n      - x\n      - y\nroutes:\n  - name: r\n    to: {pool: a}\n";
        let document = parse(text).unwrap();
        let line = |path: &str| document.lines.of(path);
        assert_eq!((line("version"), line("pools.a.targets[1]")), (Some(1), Some(6)));
        assert_eq!((line("routes[0]"), line("routes[0].to.pool")), (Some(8), Some(9)));
        assert_eq!(line("routes[0].match.path"), Some(8), "the nearest ancestor");
        assert_eq!(line("nowhere"), None);
    }

    #[test]
    fn scalars_are_what_serde_yaml_reads() {
        let document =
            parse("[1, -2, 1.5, true, no, off, ~, '1', \"true\", 1s, 0x10, 1e3, +5, 007, http://x:1]").unwrap();
        let expected =
            json!([1, -2, 1.5, true, "no", "off", null, "1", "true", "1s", 16, 1000.0, 5, "007", "http://x:1"]);
        assert_eq!(document.value, expected);
    }

    #[test]
    fn anchors_aliases_and_merge_keys_work() {
        let text = "base: &b {x: 1, y: 2}\nuse: &u {<<: *b, y: 3}\nmore: [*b]\nboth: {<<: [*u, {z: 4}], x: 0}\n";
        let document = parse(text).unwrap();
        assert_eq!(document.value["use"], json!({"x": 1, "y": 3}));
        assert_eq!(document.value["both"], json!({"x": 0, "y": 3, "z": 4}));
        assert_eq!(document.value["more"], json!([{"x": 1, "y": 2}]));
    }

    #[test]
    fn duplicate_keys_are_noticed() {
        assert_eq!(parse("a: {b: 1,\n b: 2}\n").unwrap().duplicates, [("a.b".to_owned(), 2)]);
    }

    #[test]
    fn what_is_too_much_is_refused_quickly() {
        let bomb = (1..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
            let alias = format!("*a{}", n - 1);
            format!("{text}a{n}: &a{n} [{}]\n", vec![alias; 10].join(","))
        });
        for (text, expected) in [
            (bomb.as_str(), "more than 100000 values"),
            (&"[".repeat(100), "nested deeper"),
            (&"[".repeat(500_000), "recursion limit"),
            (&"- ".repeat(5_000), "nested deeper"),
            (
                &(0..5_000).map(|depth| format!("{}a:\n", " ".repeat(depth.min(180)))).collect::<String>(),
                "nested deeper",
            ),
            (&"x".repeat(MAX_BYTES + 1), "1 MiB"),
            (&"- a\n".repeat(120_000), "more than 100000 values"),
            ("", "empty"),
            ("# nothing\n", "empty"),
            ("a: [1", "syntax error"),
            ("a: &x [*x]", "alias"),
            ("a: 1\n---\nb: 2", "second document"),
            ("? [a]\n: b", "plain text"),
            ("a: !!binary x", "tags"),
            ("!a b: c", "tags"),
            ("a: -.INF", "no number"),
            ("a: \u{1}", "YAML error"),
            ("a: 99999999999999999999", "line 1 column 4"),
        ] {
            let message = parse(text).unwrap_err().message;
            assert!(message.contains(expected), "{message}");
        }
    }

    /// The number of values and the paths of a tree, as [`Scan`] counts and notes them.
    fn walk(value: &Value, path: &str, paths: &mut HashSet<String>) -> usize {
        let mut below = |value: &Value, path: String| {
            let count = walk(value, &path, paths);
            paths.insert(path);
            count
        };
        1 + match value {
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, item)| below(item, format!("{path}[{index}]"))).sum::<usize>()
            }
            Value::Object(map) => {
                let dot = if path.is_empty() { "" } else { "." };
                map.iter().map(|(key, item)| below(item, format!("{path}{dot}{key}"))).sum()
            }
            _ => 0,
        }
    }

    /// What both passes accept, they see the same way; what one refuses is an error with a text.
    fn agree(text: &str) {
        match (Scan::of(text), serde_yaml::from_str::<Value>(text)) {
            (Ok(scan), Ok(value)) => {
                let mut paths = HashSet::new();
                let count = walk(&value, "", &mut paths);
                assert!(!scan.duplicates.is_empty() || count == scan.values, "{text:?}: {value}, {}", scan.values);
                assert!(scan.lines.keys().all(|path| paths.contains(path)), "{text:?}: {value}, {:?}", scan.lines);
            }
            _ => assert!(!parse(text).unwrap_err().message.is_empty()),
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            agree(&text);
        }

        #[test]
        fn no_yaml_like_text_panics(text in "[a\\-:{}\\[\\],&*! \n<'\"|>#?%0-9]{0,80}") {
            agree(&text);
        }

        #[test]
        fn words_of_yaml_are_seen_the_same_way(
            words in prop::collection::vec(prop::sample::select(vec![
                "a: ", "b: ", "c", "1", "- ", "\n", "\n  ", "\n    ", "{", "}", "[", "]", ", ", "&x ", "*x", "'q'", "|\n  t\n", "# n\n",
            ]), 0..25)
        ) {
            agree(&words.concat());
        }
    }
}
