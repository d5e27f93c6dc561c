//! `limits reset`.

use std::io::Write;

use anyhow::bail;
use clap::Args;

use super::ask::{Answer, ask_all};
use super::whose;
use crate::cli::store::StoreArgs;
use crate::config::env::Env;
use crate::model::limits_view::{LimitsQuery, LimitsView, RESET_PATH, Whose};

#[derive(Debug, Args)]
pub(super) struct ResetArgs {
    /// E-mail or number of an account, or a client address (of IPv6: its /64)
    #[arg(value_name = "USER|ADDRESS")]
    whose: String,
    /// Only the buckets of this policy; `flood_guard` is that of addresses
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
}

/// Makes the buckets full, in each gateway that runs on the data folder. Each writes it into the audit trail.
pub(super) async fn run(args: ResetArgs, store: &StoreArgs, env: &Env, out: &mut impl Write) -> anyhow::Result<()> {
    let whose = whose::find(&args.whose, store, env).await?;
    let data_dir = store.settings(env)?.data_dir;
    let mut failed = Ok(());
    for Answer { pid, outcome } in ask_all(&data_dir, RESET_PATH, &LimitsQuery { whose, policy: args.policy })? {
        let done = outcome.and_then(|view| {
            say(pid, whose, &view, out)?;
            view.missing.map_or(Ok(()), |missing| bail!("not every bucket could be reset: {missing}"))
        });
        failed = failed.and(done);
    }
    failed
}

fn say(pid: u32, whose: Whose, view: &LimitsView, out: &mut impl Write) -> std::io::Result<()> {
    let scopes: Vec<&str> = view.buckets.iter().map(|bucket| bucket.scope.as_str()).collect();
    match scopes.as_slice() {
        [] => writeln!(out, "gateway {pid}, {whose}: every bucket was full"),
        scopes => writeln!(out, "gateway {pid}, {whose}: made full: {}", scopes.join(", ")),
    }
}
