//! The shape of the house: who may import whom, where each package lives, how long a file may be.
//!
//! Reads the source as text, cut at the unit tests: those may reach further.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// For each room, the rooms it may import. `spec` is `config::spec`, the shape of the table: plain data, for all.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("model", &["clock"]),
    ("spec", &["model"]),
    ("telemetry", &["model", "clock", "spec"]),
    ("store", &["model", "clock"]),
    ("audit", &["model", "clock", "telemetry", "store"]),
    ("accounts", &["model", "clock", "telemetry", "store", "audit"]),
    ("upstream", &["model", "clock", "telemetry", "store", "spec"]),
    ("limits", &["model", "clock", "telemetry", "store", "spec"]),
    ("filters", &["model", "clock", "telemetry", "store", "accounts", "upstream", "limits", "spec"]),
    ("config", &["model", "clock", "spec"]),
    (
        "snapshot",
        &["model", "clock", "telemetry", "store", "accounts", "upstream", "limits", "filters", "config", "spec"],
    ),
    ("proxy", BELOW_SERVER),
    ("api", BELOW_SERVER),
    (
        "server",
        &[
            "model",
            "clock",
            "telemetry",
            "store",
            "audit",
            "accounts",
            "upstream",
            "limits",
            "filters",
            "config",
            "spec",
            "snapshot",
            "proxy",
            "api",
        ],
    ),
    ("demo", &[]),
    (
        "cli",
        &["model", "clock", "telemetry", "store", "audit", "accounts", "config", "spec", "snapshot", "server", "demo"],
    ),
    ("main", &["cli", "config", "server"]),
    ("lib", &[]),
    ("testkit", &[]),
];

/// What the two request-side rooms may use; neither uses the other.
const BELOW_SERVER: &[&str] = &[
    "model",
    "clock",
    "telemetry",
    "store",
    "audit",
    "accounts",
    "upstream",
    "limits",
    "filters",
    "config",
    "spec",
    "snapshot",
];

/// For each package, the places that may name it.
const HOMES: &[(&str, &[&str])] = &[
    ("pingora_load_balancing", &["upstream/"]),
    ("pingora_limits", &["limits/"]),
    ("pingora_proxy", &["proxy/", "server/"]),
    ("ed25519_dalek", &["accounts/keys/"]),
    ("p256", &["accounts/keys/"]),
    ("jsonwebtoken", &["accounts/"]),
    ("argon2", &["accounts/"]),
    ("bcrypt", &["accounts/"]),
    ("rustix", &["accounts/", "server/upgrade/"]),
    ("rusqlite", &["store/embedded"]),
    ("tokio_postgres", &["store/postgres"]),
    ("deadpool_postgres", &["store/postgres"]),
    ("redis", &["store/redis"]),
    ("serde_yaml", &["config/"]),
    ("saphyr_parser", &["config/"]),
    ("prometheus", &["telemetry/"]),
    ("clap", &["cli/", "main.rs"]),
    ("axum", &["api/", "server/", "demo/"]),
    ("utoipa", &["api/"]),
    ("rpassword", &["cli/"]),
    ("std::env::var", &["config/"]),
    ("Instant::now", &["clock.rs"]),
    ("SystemTime::now", &["clock.rs"]),
    ("Timestamp::now", &["clock.rs"]),
];

/// Most lines of a file.
const LONGEST: usize = 400;

fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((name(&root, &path), fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
    assert!(!found.is_empty());
    found.sort();
    found
}

fn name(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned()
}

/// The part of a file that ships: without comments and unit tests. Files that are only tests have none.
fn shipped(file: &str, text: &str) -> String {
    let stem = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".rs");
    if file.contains("/tests/") || stem == "tests" || stem == "testing" || stem.ends_with("_tests") || stem == "cases" {
        return String::new();
    }
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn room(file: &str) -> &str {
    match file {
        "config/spec.rs" => "spec",
        _ => file.split('/').next().unwrap_or(file).trim_end_matches(".rs"),
    }
}

/// The rooms that some code names by `crate::…`, braces included.
fn imports(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
        let named = match rest.strip_prefix('{') {
            Some(list) => top_level(list),
            None => vec![rest],
        };
        for path in named {
            let path = path.trim_start();
            let (first, after) = (word(path), path.split_once("::").map_or("", |(_, after)| after));
            let is_spec = first == "config" && (word(after) == "spec" || after.starts_with("{spec"));
            if first.starts_with(|c: char| c.is_ascii_lowercase()) {
                rooms.insert(if is_spec { "spec".to_owned() } else { first });
            }
        }
    }
    rooms
}

/// The items of a brace list whose opening brace is cut off.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            ',' if depth == 0 => {
                items.push(&list[start..at]);
                start = at + 1;
            }
            '}' if depth == 0 => {
                items.push(&list[start..at]);
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    items
}

#[test]
fn rooms_import_only_what_they_may() {
    let mut problems = Vec::new();
    for (file, text) in sources("src") {
        let own = room(&file);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(room, _)| *room == own) else {
            problems.push(format!("src/{file}: no rule for the room `{own}`"));
            continue;
        };
        // The program names its library from outside.
        let code = shipped(&file, &text).replace("ssm_gateway::", "crate::");
        for import in imports(&code) {
            let own_spec = own == "spec" && import == "config";
            if import != own && !own_spec && !allowed.contains(&import.as_str()) {
                problems.push(format!("src/{file}: `{own}` may not import `{import}`"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn each_package_has_one_home() {
    let mut problems = Vec::new();
    for (file, text) in sources("src") {
        let code = shipped(&file, &text);
        for (package, homes) in HOMES {
            let named = [format!("{package}::"), format!("{package}("), format!("use {package};")];
            let foreign = |at: usize| code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            let names_it = named.iter().any(|name| code.match_indices(name.as_str()).any(|(at, _)| !foreign(at)));
            if names_it && !homes.iter().any(|home| file.starts_with(home)) {
                problems.push(format!("src/{file}: `{package}` belongs to {homes:?}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn files_are_short_and_open_with_what_they_own() {
    let mut problems = Vec::new();
    for folder in ["src", "tests"] {
        for (file, text) in sources(folder) {
            let lines = text.lines().count();
            if lines > LONGEST {
                problems.push(format!("{folder}/{file}: {lines} lines, at most {LONGEST}"));
            }
            if !text.starts_with("//!") {
                problems.push(format!("{folder}/{file}: does not open with `//!`"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn imports_are_read_from_every_form() {
    let code = "use crate::model::{a, b};\nuse crate::{clock, config::spec::X, store::{y, z}};\nlet x = crate::api::f();\n\
        use crate::config::routes;\nuse crate::Thing;";
    let expected = ["api", "clock", "config", "model", "spec", "store"];
    assert_eq!(imports(code), expected.map(str::to_owned).into());
}
