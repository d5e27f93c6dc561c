//! The command line: one file per verb.

mod announce;
pub mod api_keys;
pub mod audit;
mod change;
pub mod check;
pub mod demo;
pub mod healthcheck;
pub mod keys;
pub mod limits;
pub mod migrate;
pub mod revoke;
pub mod run;
pub mod schema;
pub mod store;
pub mod users;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::env::Env;
use crate::config::problem::Problems;

/// The gateway in front of the SuperSmartMatch services.
#[derive(Debug, Parser)]
#[command(name = "ssm-gateway", version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the gateway (the default).
    Run(run::RunArgs),
    /// Check a table and print it compiled, or what is wrong with it.
    Check(check::CheckArgs),
    /// Run the gateway in front of demo services, with a fresh store and a user per role.
    Demo(demo::DemoArgs),
    /// Run only the demo services.
    DemoServices(demo::ServicesArgs),
    /// Manage accounts.
    Users(users::UsersArgs),
    /// Manage API keys of machine clients.
    ApiKeys(api_keys::ApiKeysArgs),
    /// Manage the keys of access tokens.
    Keys(keys::KeysArgs),
    /// Revoke a session, a token, or all tokens of an account or a key.
    Revoke(revoke::RevokeArgs),
    /// Show and reset the buckets of a user or an address; give a user another rate for a while; block addresses.
    Limits(limits::LimitsArgs),
    /// Make the store's tables, or bring them to this program's version.
    Migrate(migrate::MigrateArgs),
    /// Read the audit trail, or prove it.
    Audit(audit::AuditArgs),
    /// Ask a running gateway whether it is ready: exit code 0 or 1.
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Print the JSON schema of routes.yaml.
    Schema,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let env = Env::system();
    let cli = Cli::parse();
    let outcome = match cli.verb.unwrap_or(Verb::Run(cli.run)) {
        Verb::Run(args) => run::run(&args, env),
        Verb::Check(args) => return check::run(&args, &env),
        Verb::Demo(args) => demo::run(&args, env),
        Verb::DemoServices(args) => demo::serve(&args),
        Verb::Users(args) => users::run(args, &env),
        Verb::ApiKeys(args) => api_keys::run(args, &env),
        Verb::Keys(args) => keys::run(args, &env),
        Verb::Revoke(args) => revoke::run(args, &env),
        Verb::Limits(args) => limits::run(args, &env),
        Verb::Migrate(args) => migrate::run(&args, &env),
        Verb::Audit(args) => audit::run(&args, &env),
        Verb::Healthcheck(args) => healthcheck::run(&args),
        Verb::Schema => return schema::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ssm-gateway: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, in one line; the problems of a configuration in a line each, as `check` prints them.
fn describe(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Problems>() {
        Some(problems) => {
            let count = problems.0.len();
            format!("the configuration has {count} problem{}\n{problems}", if count == 1 { "" } else { "s" })
        }
        None => format!("{error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Settings;

    #[test]
    fn the_problems_of_a_configuration_have_a_line_each() {
        let env = Env::from_pairs([("PORT", "x"), ("DEBUG", "x")]);
        let error = anyhow::Error::new(Settings::parse("f", None, &env).unwrap_err()).context("start");
        assert_eq!(
            describe(&error),
            "the configuration has 2 problems\nenvironment: DEBUG: expected true or false\n\
             environment: PORT: expected a whole number from 1 to 65535"
        );
        assert_eq!(describe(&anyhow::anyhow!("inner").context("outer")), "outer: inner");
    }
}
