//! `run`: the gateway, until a signal ends it.

use std::path::PathBuf;

use clap::Args;

use crate::config::env::Env;
use crate::config::settings::Settings;
use crate::server::{self, SettingsFile, Start};

/// Where the gateway finds its files.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Process settings; default: conf/gateway.yaml, where it exists.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The table of routes.
    #[arg(long, value_name = "FILE", default_value = "routes.yaml")]
    pub routes: PathBuf,
    /// Folder of the embedded store, generated secrets and the last good table; made when absent. Default: DATA_DIR,
    /// then `data_dir` of the process settings, then data.
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Take the listening sockets over from the gateway that runs with the same data folder, once this one is ready and
    /// SIGQUIT was sent to that one; no connection is lost.
    #[arg(long)]
    pub upgrade: bool,
    /// When the table is bad, start with the last good one, which the data folder keeps.
    #[arg(long)]
    pub last_good: bool,
}

/// Runs the gateway.
pub fn run(args: &RunArgs, env: Env) -> anyhow::Result<()> {
    let read = Settings::load(args.config.as_deref(), &env)?;
    let mut settings = read.clone();
    if let Some(folder) = &args.data_dir {
        settings.data_dir.clone_from(folder);
    }
    server::run(Start {
        data_dir: settings.data_dir.clone(),
        settings,
        settings_file: SettingsFile { path: args.config.clone(), read },
        routes: args.routes.clone(),
        env,
        upgrade: args.upgrade,
        last_good: args.last_good,
        on_ready: None,
    })
}
