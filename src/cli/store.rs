//! The store that `run` would use, for commands that do not serve.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::clock::Clock;
use crate::config::env::Env;
use crate::config::settings::{Database, StoreSettings};
use crate::server::store;
use crate::store::IdentityStore;
use crate::store::embedded::FILE_NAME;
use crate::store::postgres::Tables;

/// Where the store is: that of DATABASE_URL, else the file in the data folder.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// Folder of the embedded store, when there is no DATABASE_URL; default: the one that `run` would take
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Process settings that may name the folder or the database; default: conf/gateway.yaml, where it exists
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What a command does when there is no store yet: no file of the embedded one, no tables in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Makes it: the file in a folder that exists or that the settings name, the tables in a database without any, unless
    /// INIT_DB forbids it.
    Make,
    /// Refuses: a mistyped folder or database must not look like a store without accounts.
    Refuse,
}

/// What a command does about a database: it never brings one to another version, nor takes one over.
fn tables(absent: Absent, database: Option<&Database>) -> Tables {
    match (absent, store::tables(database)) {
        (Absent::Refuse, _) => Tables::Use,
        (Absent::Make, Tables::Check) => Tables::Check,
        (Absent::Make, _) => Tables::Found,
    }
}

impl StoreArgs {
    /// The file of process settings that was named.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    #[cfg(test)]
    pub(super) fn in_folder(folder: &Path) -> StoreArgs {
        StoreArgs { data_dir: Some(folder.to_owned()), config: None }
    }

    /// The settings, with the folder of the command line.
    pub fn settings(&self, env: &Env) -> anyhow::Result<StoreSettings> {
        let mut settings = StoreSettings::load(self.config.as_deref(), env)?;
        if let Some(folder) = &self.data_dir {
            settings.data_dir.clone_from(folder);
        }
        Ok(settings)
    }

    /// Opens the store.
    pub async fn open(&self, env: &Env, absent: Absent) -> anyhow::Result<Arc<dyn IdentityStore>> {
        let settings = self.settings(env)?;
        if settings.database.is_none() {
            self.check_file(&settings, absent)?;
        }
        let database = settings.database.as_ref();
        Ok(store::open(&settings.data_dir, database, tables(absent, database), &Clock::system()).await?)
    }

    /// Refuses a file that is not there and may not be made.
    pub fn check_file(&self, settings: &StoreSettings, absent: Absent) -> anyhow::Result<()> {
        let file = settings.data_dir.join(FILE_NAME);
        if absent == Absent::Refuse
            && !file.try_exists().with_context(|| format!("identity store {}", file.display()))?
        {
            bail!("no identity store at {}; give its folder with --data-dir, or set DATABASE_URL", file.display());
        }
        if self.data_dir.is_some() && !settings.data_dir.is_dir() {
            bail!("there is no folder {}; make it first, or give another with --data-dir", settings.data_dir.display());
        }
        Ok(())
    }
}
