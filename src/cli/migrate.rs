//! `migrate`: makes the store's tables, or brings them to this program's version. For databases where the gateway's
//! own role may not (`INIT_DB=false`).

use std::io::Write;

use clap::Args;

use super::store::{Absent, StoreArgs};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::server::store;
use crate::store::embedded::{EmbeddedStore, FILE_NAME};
use crate::store::postgres::{KEPT_AS, Migrated, migrate};

/// Brings the store to this program's version.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs the command, whatever INIT_DB says; what was done goes to the standard output.
pub fn run(args: &MigrateArgs, env: &Env) -> anyhow::Result<()> {
    let settings = args.store.settings(env)?;
    let mut out = std::io::stdout().lock();
    let Some(database) = &settings.database else {
        args.store.check_file(&settings, Absent::Make)?;
        let file = settings.data_dir.join(FILE_NAME);
        EmbeddedStore::open(&file)?;
        writeln!(out, "{} has this program's version", file.display())?;
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(migrate(&store::options(database), &Clock::system()))?;
    tell(&done, &mut out)
}

fn tell(done: &Migrated, out: &mut impl Write) -> anyhow::Result<()> {
    if done.from == done.to {
        writeln!(out, "the database has version {} already", done.to)?;
    } else {
        writeln!(out, "the database went from version {} to {}", done.from, done.to)?;
    }
    if let Some(adopted) = &done.adopted {
        writeln!(
            out,
            "{} accounts of the earlier gateway were taken over; its table is kept as {KEPT_AS}",
            adopted.accounts
        )?;
        for id in &adopted.without_password {
            writeln!(out, "account {id} cannot log in: its password hash is of no known kind")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::Adopted;

    #[test]
    fn what_was_done_is_told() {
        let told = |done: &Migrated| {
            let mut out = Vec::new();
            tell(done, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(told(&Migrated { from: 1, to: 1, adopted: None }), "the database has version 1 already\n");
        let adopted = Some(Adopted { accounts: 3, without_password: vec![7] });
        let lines = told(&Migrated { from: 0, to: 1, adopted });
        assert!(lines.contains("from version 0 to 1") && lines.contains("3 accounts") && lines.contains("account 7"));
    }
}
