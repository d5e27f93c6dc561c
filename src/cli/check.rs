//! `ssm-gateway check`: reads `routes.yaml` and prints the table, or every problem it has.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::env::Env;
use crate::config::on_reload::{ROUTES, SETTINGS, describe as describe_reload};
use crate::config::routes::{self, Checked};
use crate::config::spec::{AuthSpec, AuthWord, LimitUse, RouteSpec, RoutesSpec};

/// Arguments of `check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// The file to check.
    #[arg(default_value = "routes.yaml")]
    pub file: PathBuf,
    /// Print what a reload (SIGHUP) does about each key of routes.yaml and gateway.yaml instead; checks nothing.
    #[arg(long)]
    pub reload: bool,
}

/// Checks the file. 0: it is good, and its table is on standard output; 1: its problems are on standard error.
pub fn run(args: &CheckArgs, env: &Env) -> ExitCode {
    if args.reload {
        let (routes, settings) = (describe_reload(ROUTES), describe_reload(SETTINGS));
        let printed = write!(std::io::stdout(), "routes.yaml\n\n{routes}\ngateway.yaml\n\n{settings}");
        return printed.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let printed = match routes::load(&args.file, env) {
        Ok(checked) => {
            let warnings =
                checked.warnings.iter().try_for_each(|problem| writeln!(std::io::stderr(), "warning: {problem}"));
            warnings.and_then(|()| write!(std::io::stdout(), "{}", describe(&checked))).map(|()| ExitCode::SUCCESS)
        }
        Err(problems) => writeln!(std::io::stderr(), "{problems}").map(|()| ExitCode::FAILURE),
    };
    printed.unwrap_or(ExitCode::FAILURE)
}

/// The table in aligned columns: method, path, route, destination, who may call, limits.
pub fn describe(checked: &Checked) -> String {
    let spec = &checked.spec;
    let head = ["METHOD", "PATH", "ROUTE", "DESTINATION", "AUTH", "LIMITS"].map(str::to_owned);
    let mut rows = vec![head];
    for route in &spec.routes {
        rows.push([
            route.r#match.methods.join(","),
            path(route),
            route.name.clone(),
            destination(route),
            auth(route.auth.as_ref().unwrap_or(&spec.defaults.auth)),
            limits(route, spec),
        ]);
    }
    let widths: [usize; 6] = std::array::from_fn(|column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out.push_str(&format!(
        "routes: {}, pools: {}, limits: {}\n",
        spec.routes.len(),
        spec.pools.len(),
        spec.limits.len()
    ));
    out
}

fn path(route: &RouteSpec) -> String {
    match (&route.r#match.path, &route.r#match.prefix) {
        (Some(path), _) => path.clone(),
        (None, Some(prefix)) => format!("{}/…", prefix.trim_end_matches('/')),
        (None, None) => String::new(),
    }
}

fn destination(route: &RouteSpec) -> String {
    let to = &route.to;
    if let Some(pool) = &to.pool {
        return format!("{pool} {}", to.path.clone().unwrap_or_else(|| path(route)));
    }
    if let Some(builtin) = to.builtin {
        return format!("builtin {}", builtin.as_str());
    }
    let parts = to.aggregate.iter().flat_map(|aggregate| aggregate.parts.values());
    format!("aggregate {}", parts.map(|part| part.pool.as_str()).collect::<Vec<_>>().join("+"))
}

fn auth(auth: &AuthSpec) -> String {
    match auth {
        AuthSpec::Word(AuthWord::Public) => "public".to_owned(),
        AuthSpec::Word(AuthWord::Optional) => "optional".to_owned(),
        AuthSpec::Word(AuthWord::Required) => "required".to_owned(),
        AuthSpec::Roles(only) => {
            let every = only.takes_every_role().then_some("required");
            let some = only.roles.iter().map(|role| role.as_str()).filter(|_| every.is_none());
            every.into_iter().chain(some).chain(only.api_keys.then_some("+api_keys")).collect::<Vec<_>>().join(",")
        }
    }
}

fn limits(route: &RouteSpec, spec: &RoutesSpec) -> String {
    let uses = route.limits.as_ref().unwrap_or(&spec.defaults.limits);
    let uses: Vec<String> = uses.iter().map(|each| limit(each, spec)).collect();
    if uses.is_empty() { "-".to_owned() } else { uses.join(",") }
}

/// A policy's name, and its cost here where that is not 1: `exports×5`.
fn limit(each: &LimitUse, spec: &RoutesSpec) -> String {
    let name = each.policy();
    match each.cost().or_else(|| spec.limits.get(name).map(|limit| limit.cost)) {
        None | Some(1) => name.to_owned(),
        Some(cost) => format!("{name}×{cost}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_printed_in_columns() {
        let text = "version: 1\npools: { a: { targets: ['http://a:1'] } }\nroutes:\n\
                    - { name: one, match: { path: /x, methods: [GET, POST] }, to: { pool: a, path: /y }, auth: public }\n\
                    - { name: card, match: { prefix: /cards/, methods: [GET] }, to: { builtin: service_card } }\n";
        let checked = routes::parse("f", text, &Env::default()).unwrap();
        let expected = "\
METHOD    PATH      ROUTE  DESTINATION           AUTH      LIMITS
GET,POST  /x        one    a /y                  public    -
GET       /cards/…  card   builtin service_card  required  -
routes: 2, pools: 1, limits: 0
";
        assert_eq!(describe(&checked), expected);
    }

    #[test]
    fn costs_are_shown_where_they_are_not_one() {
        let text = "version: 1\npools: { a: { targets: ['http://a:1'] } }\nlimits:\n  one: { by: user, rate: 9/s }\n  \
                    two: { by: user, rate: 9/s, cost: 2 }\ndefaults: { limits: [one, two] }\nroutes:\n\
                    - { name: plain, match: { path: /x, methods: [GET] }, to: { pool: a } }\n\
                    - { name: own, match: { path: /y, methods: [GET] }, to: { pool: a }, \
                    limits: [{ policy: one, cost: 5 }, { policy: two, cost: 1 }] }\n";
        let described = describe(&routes::parse("f", text, &Env::default()).unwrap());
        let limits: Vec<_> = described.lines().filter_map(|line| line.split_whitespace().nth(6)).collect();
        assert_eq!(limits, ["one,two×2", "one×5,two"], "{described}");
    }

    #[test]
    fn the_exit_code_tells_good_from_bad() {
        let folder = tempfile::tempdir().unwrap();
        let args = CheckArgs { file: folder.path().join("routes.yaml"), reload: false };
        assert_eq!(run(&args, &Env::default()), ExitCode::FAILURE);
        std::fs::write(&args.file, "version: 1\nroutes: []\n").unwrap();
        assert_eq!(run(&args, &Env::default()), ExitCode::SUCCESS);
    }
}
