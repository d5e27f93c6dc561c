//! `limits`: what operators do about single users and addresses, also while gateways run.
//!
//! One file per group of verbs: [`rules`] are those that are written to the store; `show` and `reset` [`ask`] the
//! gateways that run.

mod ask;
mod blocks;
mod overrides;
mod reset;
mod rules;
mod show;
mod table;
mod whose;

use clap::{Args, Subcommand};

use super::store::StoreArgs;
use crate::config::env::Env;

/// Rate limits of single users and addresses: see and refill their buckets, override them, block.
#[derive(Debug, Args)]
pub struct LimitsArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(subcommand)]
    command: LimitsCommand,
}

#[derive(Debug, Subcommand)]
enum LimitsCommand {
    /// Show the buckets of a user or an address that are not full, in the gateways that run here
    Show(show::ShowArgs),
    /// Make the buckets of a user or an address full, in the gateways that run here
    Reset(reset::ResetArgs),
    #[command(flatten)]
    Rules(rules::RulesVerb),
}

/// Runs the command; what it says goes to the standard output.
pub fn run(args: LimitsArgs, env: &Env) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let out = &mut std::io::stdout().lock();
        match args.command {
            LimitsCommand::Show(show) => show::run(&show, &args.store, env, out).await,
            LimitsCommand::Reset(reset) => reset::run(reset, &args.store, env, out).await,
            LimitsCommand::Rules(verb) => rules::run(&args.store, verb, env).await,
        }
    })
}
