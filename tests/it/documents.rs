//! The documents say what the program knows: every key, variable and error code is in them, and their links lead
//! somewhere. Reads files only.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use ssm_gateway::config::env::Env;
use ssm_gateway::config::routes;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Fails with everything of `wanted` that `text` does not have in backticks.
fn assert_documented(file: &str, wanted: impl IntoIterator<Item = String>) {
    let text = read(file);
    let wanted: BTreeSet<String> = wanted.into_iter().collect();
    assert!(!wanted.is_empty(), "nothing to look for in {file}");
    let missing: Vec<&String> = wanted.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in {file}: {missing:?}");
}

/// Names of properties, and the words that a property may be, anywhere in a JSON Schema.
fn schema_words(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                found.extend(properties.keys().cloned());
            }
            if let Some(Value::String(word)) = map.get("const") {
                found.insert(word.clone());
            }
            map.values().for_each(|value| schema_words(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| schema_words(value, found)),
        _ => {}
    }
}

/// `NAME_OF_CAPITALS` in double quotes, in the part of a source file that ships.
fn quoted_capitals(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let quoted = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    let is_name = |text: &&str| text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    quoted.filter(is_name).map(str::to_owned).collect()
}

/// Name and default of each `${NAME:-default}`.
fn substitutions(text: &str) -> Vec<(String, Option<String>)> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let inside = lines.flat_map(|line| line.split("${").skip(1)).filter_map(|rest| rest.split('}').next());
    inside
        .map(|inner| match inner.split_once(":-") {
            Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
            None => (inner.to_owned(), None),
        })
        .collect()
}

/// Every variable that the settings or the shipped table read.
fn variables() -> BTreeSet<String> {
    let mut names = quoted_capitals(&read("src/config/settings_check.rs"));
    names.extend(quoted_capitals(&read("src/config/token_settings.rs")));
    names.extend(quoted_capitals(&read("src/config/settings_database.rs")));
    names.extend(quoted_capitals(&read("src/config/settings_redis.rs")));
    assert!(names.contains("JWT_SECRET") && names.contains("PORT"), "{names:?}");
    names.extend(substitutions(&read("routes.yaml")).into_iter().map(|(name, _)| name));
    assert!(names.contains("CV_PARSER_URL"), "{names:?}");
    names
}

/// Names in `.env.example`, commented out or not.
fn example_variables() -> BTreeSet<String> {
    let name = |line: &str| {
        let (name, _) = line.trim_start_matches('#').split_once('=')?;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        is_name.then(|| name.to_owned())
    };
    read(".env.example").lines().filter_map(name).collect()
}

/// The text of each fenced block of `kind`.
fn fenced(text: &str, kind: &str) -> Vec<String> {
    let opening = format!("```{kind}\n");
    let blocks = text.split(&opening).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// The Markdown files of the project itself.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "docs", "assets/redoc"] {
        let entries = fs::read_dir(root().join(folder)).expect("a folder");
        found.extend(
            entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension() == Some("md".as_ref())),
        );
    }
    assert!(found.len() >= 9, "{found:?}");
    found
}

/// Targets of `[text](target)` outside of fenced blocks.
fn links(text: &str) -> Vec<String> {
    let prose = text.split("```").step_by(2);
    let targets = prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

#[test]
fn every_key_of_the_table_is_documented() {
    let schema: Value = serde_json::from_str(&read("conf/routes.schema.json")).expect("JSON");
    let mut words = BTreeSet::new();
    schema_words(&schema, &mut words);
    assert!(words.contains("flood_guard") && words.contains("report_part"), "{words:?}");
    assert_documented("docs/routes.md", words);
}

#[test]
fn every_setting_is_documented() {
    let text = read("docs/settings.md");
    let spec = read("src/config/settings_spec.rs");
    let fields = spec.lines().filter_map(|line| line.trim().strip_prefix("pub(super) ")?.split_once(": "));
    // A section is documented by its keys.
    let keys = fields.filter(|(_, kind)| !kind.ends_with("Spec,") && !kind.contains("TlsSpec")).map(|(name, _)| name);
    let keys: Vec<&str> = keys.collect();
    assert!(keys.contains(&"data_dir") && keys.contains(&"max_headers") && keys.contains(&"grace"), "{keys:?}");
    let missing: Vec<_> = keys
        .into_iter()
        .filter(|key| !text.contains(&format!("`{key}`")) && !text.contains(&format!(".{key}`")))
        .collect();
    assert!(missing.is_empty(), "not in docs/settings.md: {missing:?}");
}

#[test]
fn every_variable_is_documented() {
    let names = variables();
    let example = example_variables();
    let missing: Vec<_> = names.difference(&example).collect();
    assert!(missing.is_empty(), "not in .env.example: {missing:?}");
    assert_documented("docs/settings.md", names.into_iter().chain(example));
}

#[test]
fn the_documented_defaults_are_those_of_the_table() {
    let text = read("docs/settings.md");
    for (name, default) in substitutions(&read("routes.yaml")) {
        let default = default.unwrap_or_else(|| panic!("{name} has no default in routes.yaml"));
        let row = text.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("{name} has no row in docs/settings.md"));
        // Lists are described in words there.
        assert!(default.contains(',') || row.contains(&format!("| `{default}` |")), "{name}: {default} in {row}");
    }
}

#[test]
fn every_error_code_is_documented() {
    let codes = quoted_capitals(&read("src/model/rejection.rs"));
    assert!(codes.contains("NOT_FOUND") && codes.contains("CIRCUIT_OPEN"), "{codes:?}");
    assert_documented("docs/errors.md", codes);
}

#[test]
fn every_link_leads_to_a_file() {
    let mut dead = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document");
        let folder = document.parent().expect("a folder");
        for link in links(&text) {
            let file = link.split('#').next().unwrap_or_default();
            if !link.contains("://") && !file.is_empty() && !folder.join(file).exists() {
                dead.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn the_commands_of_the_readme_exist() {
    let (readme, makefile) = (read("README.md"), read("Makefile"));
    let in_code: String = readme.split('`').skip(1).step_by(2).map(|code| format!("{code}\n")).collect();
    let blocks = fenced(&readme, "sh").concat();
    let lines = in_code.lines().chain(blocks.lines());
    let targets: BTreeSet<&str> =
        lines.filter_map(|line| line.trim().strip_prefix("make ")?.split_whitespace().next()).collect();
    assert!(targets.contains("run") && targets.contains("test"), "{targets:?}");
    for target in targets {
        assert!(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))), "make {target}");
    }
}

#[test]
fn the_route_in_the_readme_fits_the_table() {
    let blocks = fenced(&read("README.md"), "yaml");
    let [route] = blocks.as_slice() else { panic!("one example is expected: {blocks:?}") };
    let text = format!("{}\n{route}", read("routes.yaml"));
    let checked = routes::parse("routes.yaml", &text, &Env::default()).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(checked.spec.routes.iter().any(|route| route.name == "salaries"));
}

#[test]
fn what_is_looked_for_is_found() {
    assert_eq!(quoted_capitals("f(\"PORT\", \"HS256\", \"a\"); // \"X_Y_Z\"\n/// \"NOT_THIS\"\n").len(), 2);
    assert_eq!(
        substitutions("a: \"${A:-http://x:1}\"\n# ${B}\nc: ${C}s"),
        [("A".to_owned(), Some("http://x:1".to_owned())), ("C".to_owned(), None)]
    );
    assert_eq!(links("[a](b.md#c) ```\n[x](y)\n``` [d](https://e)"), ["b.md#c", "https://e"]);
    assert_eq!(fenced("```sh\na\n```\nb\n```sh\nc\n```", "sh"), ["a\n", "c\n"]);
}
