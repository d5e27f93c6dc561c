//! `routes.yaml`: text to a checked table, or every problem that it has.
//!
//! Must not touch what runs: a reload calls [`load`], and on problems the table in force stays.

use std::path::Path;

use super::check;
use super::decode::decode;
use super::env::Env;
use super::locate::MAX_BYTES;
use super::problem::{Problem, Problems};
use super::spec::RoutesSpec;
use super::upstream_tls;
use crate::model::route_table::RouteTable;

/// A table without problems.
#[derive(Debug)]
pub struct Checked {
    /// As written, environment substituted, lists split.
    pub spec: RoutesSpec,
    /// Paths and methods to indices into `spec.routes`.
    pub table: RouteTable<usize>,
    /// What is not wrong, but probably not meant.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a file.
pub fn load(path: &Path, env: &Env) -> Result<Checked, Problems> {
    let name = path.display().to_string();
    parse(&name, &read(path, &name)?, env)
}

/// Checks a text; `file` is its name in problems.
pub fn parse(file: &str, text: &str, env: &Env) -> Result<Checked, Problems> {
    let mut decoded = decode::<RoutesSpec>(file, text, env);
    let Some(mut spec) = decoded.value else { return Err(decoded.report.finish()) };
    upstream_tls::read_files(&mut spec, &mut decoded.report);
    let table = check::check(&spec, &mut decoded.report);
    if !decoded.report.is_empty() {
        return Err(decoded.report.finish());
    }
    let mut warnings = decoded.report.beside();
    check::unused(&spec, &mut warnings);
    Ok(Checked { spec, table, warnings: warnings.finish().0 })
}

/// Reads a configuration file as text, at most [`MAX_BYTES`] of it. Nothing but a regular file (or a link to one) is
/// opened: a FIFO would be waited on for ever.
pub fn read(path: &Path, name: &str) -> Result<String, Problems> {
    use std::io::Read;

    let problem = |message: String| Problems::whole_file(name, message);
    let unopened = |error: std::io::Error| problem(format!("cannot be opened: {error}"));
    if !std::fs::metadata(path).map_err(unopened)?.is_file() {
        return Err(problem("is not a regular file, but a folder, a pipe or a device".to_owned()));
    }
    let file = std::fs::File::open(path).map_err(unopened)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| problem(format!("cannot be read: {error}")))?;
    if bytes.len() > MAX_BYTES {
        return Err(problem(format!("the file is larger than {MAX_BYTES} bytes (1 MiB)")));
    }
    String::from_utf8(bytes).map_err(|error| {
        problem(format!("the file is not UTF-8: see the byte at offset {}", error.utf8_error().valid_up_to()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::TargetSpec;
    use crate::model::route_table::Lookup;
    use http::Method;
    use proptest::prelude::*;

    const SHIPPED: &str = include_str!("../../routes.yaml");

    fn shipped(env: &Env) -> Checked {
        parse("routes.yaml", SHIPPED, env).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn the_shipped_table_is_good() {
        let checked = shipped(&Env::default());
        assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
        let services: Vec<String> = checked.spec.pools.iter().map(|(name, pool)| pool.service(name)).collect();
        assert_eq!(services, ["cv_parser", "job_parser", "matching"]);
    }

    #[test]
    fn the_shipped_table_finds_its_routes() {
        let checked = shipped(&Env::default());
        let find = |method: Method, path: &str| match checked.table.lookup(&method, path) {
            Lookup::Found(index, _) => checked.spec.routes[*index].name.clone(),
            Lookup::WrongMethod(allow) => format!("allow {}", allow.to_str().unwrap()),
            Lookup::Unknown => "unknown".to_owned(),
        };
        for (method, path, expected) in [
            (Method::GET, "/api/gateway/", "service-card"),
            (Method::HEAD, "/api/gateway", "service-card"),
            (Method::GET, "/health", "status-alias"),
            (Method::GET, "/api/gateway/health/", "health"),
            (Method::GET, "/api/gateway/health/cv_parser", "service-health"),
            (Method::GET, "/api/gateway/health/history", "health-history"),
            (Method::GET, "/api/gateway/health/detailed/all", "health-detailed"),
            (Method::POST, "/api/gateway/parse-cv/", "parse-cv"),
            (Method::GET, "/api/gateway/parse-cv", "allow OPTIONS, POST"),
            (Method::POST, "/api/gateway/match/similar-jobs", "match-similar-jobs"),
            (Method::GET, "/api/gateway/nothing", "unknown"),
            (Method::GET, "/", "unknown"),
        ] {
            assert_eq!(find(method, path), expected, "{path}");
        }
    }

    #[test]
    fn the_platforms_variables_reach_the_shipped_table() {
        let env = Env::from_pairs([
            ("CV_PARSER_URL", "http://a:1,http://b:2"),
            ("RATE_LIMIT_PER_MINUTE", "7"),
            ("RATE_LIMIT_BURST", "3"),
            ("ALLOWED_ORIGINS", "https://x.example, https://y.example"),
            ("HTTP_TIMEOUT", "9"),
            ("CIRCUIT_BREAKER_THRESHOLD", "2"),
            ("CIRCUIT_BREAKER_TIMEOUT", "8"),
            ("HEALTH_CHECK_INTERVAL", "6"),
            ("SERVICE_TIMEOUT", "4"),
        ]);
        let spec = shipped(&env).spec;
        let pool = &spec.pools["cv-parser"];
        assert_eq!(pool.targets, ["http://a:1", "http://b:2"].map(TargetSpec::at));
        assert_eq!((pool.breaker.failures, pool.breaker.open_for.to_string()), (2, "8s".to_owned()));
        let health = pool.health.clone().unwrap();
        assert_eq!((health.every.to_string(), health.timeout.to_string()), ("6s".to_owned(), "4s".to_owned()));
        let limit = &spec.limits["anonymous"];
        assert_eq!((limit.rate.map(|rate| rate.to_string()), limit.burst), (Some("7/min".to_owned()), 3));
        assert_eq!(spec.cors.origins, ["https://x.example", "https://y.example"]);
        assert_eq!(spec.defaults.timeout.to_string(), "9s");
        assert_eq!(spec.pools["matching"].health.clone().unwrap().path.as_deref(), Some("/api/v1/health"));
    }

    #[test]
    fn files_that_cannot_be_read_are_one_problem() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("routes.yaml");
        let message = || load(&file, &Env::default()).unwrap_err().to_string();
        assert!(message().contains("cannot be opened"));
        std::fs::write(&file, b"version: 1\nx: \xff\n").unwrap();
        assert!(message().ends_with("the file is not UTF-8: see the byte at offset 14"), "{}", message());
        std::fs::write(&file, vec![b'#'; MAX_BYTES + 1]).unwrap();
        assert!(message().contains("larger than 1048576 bytes"));
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, file, link) = (folder.path().join("fifo"), folder.path().join("file"), folder.path().join("link"));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for path in [fifo.as_path(), folder.path(), Path::new("/dev/null")] {
            let problem = read(path, "r.yaml").unwrap_err().to_string();
            assert_eq!(problem, "r.yaml: is not a regular file, but a folder, a pipe or a device");
        }
        std::fs::write(&file, "version: 1").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read(&link, "r.yaml").unwrap(), "version: 1");
    }

    #[test]
    fn hopeless_files_end_soon_and_with_problems() {
        let many_wrong = (0..2_000).map(|n| format!("  - {{ name: [{n}], x{n}: 1 }}\n")).collect::<String>();
        let problems = parse("f", &format!("version: 1\nroutes:\n{many_wrong}"), &Env::default()).unwrap_err();
        assert!((50..60).contains(&problems.0.len()), "{}", problems.0.len());
    }

    #[test]
    fn ten_thousand_routes_are_one_table() {
        let routes: String = (0..10_000)
            .map(|n| format!("- {{name: r{n}, match: {{path: '/p{n}/{{x}}', methods: [GET]}}, to: {{pool: a}}}}\n"))
            .collect();
        let text = format!("version: 1\npools: {{ a: {{ targets: ['http://a:1'] }} }}\nroutes:\n{routes}");
        let checked = parse("f", &text, &Env::default()).unwrap_or_else(|problems| panic!("{problems}"));
        let Lookup::Found(index, _) = checked.table.lookup(&Method::GET, "/p9999/1") else { panic!("not found") };
        assert_eq!(*index, 9_999);
    }

    #[test]
    fn unused_pools_and_limits_are_warnings() {
        let text = "version: 1\npools: { a: { targets: ['http://a:1'] } }\n\
                    limits: { l: { by: user, rate: 1/s } }\nroutes: []\n";
        let warnings: Vec<String> =
            parse("f", text, &Env::default()).unwrap().warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, ["f:2: pools.a: no route goes to this pool", "f:3: limits.l: no route has this policy"]);
    }

    #[test]
    fn policies_over_groups_that_no_route_is_in_are_warnings() {
        let warnings = |route: &str| -> Vec<String> {
            let text = format!(
                "version: 1\npools: {{ a: {{ targets: ['http://a:1'] }} }}\n\
                 limits: {{ l: {{ by: user, over: group, rate: 1/s }} }}\ndefaults: {{ limits: [l] }}\nroutes:\n\
                 - {{ name: one, match: {{ path: /1, methods: [GET] }}, to: {{ pool: a }}{route} }}\n\
                 - {{ name: two, match: {{ path: /2, methods: [GET] }}, to: {{ pool: a }}, group: g, limits: [] }}\n"
            );
            parse("f", &text, &Env::default()).unwrap().warnings.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            warnings(""),
            ["f:3: limits.l.over: no route with this policy has a `group`: each is counted on its own"]
        );
        assert!(warnings(", group: g").is_empty());
        assert!(warnings(", limits: []").is_empty(), "nothing to group");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            prop_assert!(parse("f", &text, &Env::default()).is_err());
        }

        /// The shipped table with one line replaced: any outcome but a panic or an error without a problem.
        #[test]
        fn no_edit_of_the_shipped_table_panics(line in 0_usize..300, edit in "[ a-z0-9:\\-\\[\\]{}&*'\"$/,.]{0,24}") {
            let text: String =
                SHIPPED.lines().enumerate().map(|(n, old)| format!("{}\n", if n == line { &edit } else { old })).collect();
            if let Err(problems) = parse("f", &text, &Env::default()) {
                prop_assert!(!problems.is_empty());
            }
        }
    }
}
