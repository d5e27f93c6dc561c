//! The data-driven cases: `tests/config/{ok,bad}/*.yaml`. Files whose name begins with `gateway-` are settings,
//! the others tables.
//!
//! Comment lines at the head of a file: `# env: NAME=value` sets a variable, `# expect: …` is one line of problems,
//! without the file's name. A bad case must give exactly the expected lines, a good one none.

use std::path::{Path, PathBuf};

use super::env::Env;
use super::problem::Problems;
use super::settings::Settings;
use super::{routes, schema};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn head<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let start = format!("# {key}: ");
    text.lines().take_while(|line| line.starts_with('#')).filter_map(|line| line.strip_prefix(start.as_str())).collect()
}

fn problems_of(file: &Path, text: &str) -> Vec<String> {
    let env = Env::from_pairs(head(text, "env").into_iter().filter_map(|pair| pair.split_once('=')));
    let settings = file.file_name().unwrap().to_str().unwrap().starts_with("gateway");
    let result: Result<(), Problems> = if settings {
        Settings::parse("f", Some(text), &env).map(|_| ())
    } else {
        routes::parse("f", text, &env).map(|_| ())
    };
    let problems = result.err().unwrap_or_default();
    problems.0.iter().map(|problem| problem.to_string().trim_start_matches(['f', ':', ' ']).to_owned()).collect()
}

#[test]
fn bad_files_give_exactly_the_expected_problems() {
    let files = files("tests/config/bad");
    let mut wrong = String::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let (expected, actual) = (head(&text, "expect"), problems_of(file, &text));
        if expected != actual || expected.is_empty() {
            wrong.push_str(&format!("{}\n", file.display()));
            actual.iter().for_each(|line| wrong.push_str(&format!("# expect: {line}\n")));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(files.len() >= 40);
}

#[test]
fn good_files_and_examples_give_no_problem() {
    let mut all = files("tests/config/ok");
    assert!(all.len() >= 10);
    all.extend(files("conf/examples"));
    all.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/gateway.yaml"));
    all.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("routes.yaml"));
    for file in all {
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(problems_of(&file, &text), Vec::<String>::new(), "{}", file.display());
    }
}

/// Every key of the schema stands in some good file: a key that nobody tries is a key that may not work.
#[test]
fn every_key_of_the_schema_is_tried() {
    let mut all = files("tests/config/ok");
    all.extend(files("conf/examples"));
    all.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("routes.yaml"));
    let text: String = all.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let schema: serde_json::Value = serde_json::from_str(&schema::schema()).unwrap();
    let objects = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    let keys = objects.filter_map(|object| object["properties"].as_object()).flat_map(|map| map.keys());
    let missing: Vec<&String> = keys.filter(|key| !text.contains(&format!("{key}:"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
