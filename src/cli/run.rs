//! `run`: the gateway, until a signal ends it.

use std::path::PathBuf;

use clap::Args;

use crate::config::env::Env;
use crate::config::settings::Settings;
use crate::server::{self, Start};

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
}

/// Runs the gateway.
pub fn run(args: &RunArgs, env: Env) -> anyhow::Result<()> {
    let mut settings = Settings::load(args.config.as_deref(), &env)?;
    if let Some(folder) = &args.data_dir {
        settings.data_dir.clone_from(folder);
    }
    let data_dir = settings.data_dir.clone();
    server::run(Start { settings, routes: args.routes.clone(), data_dir, env, on_ready: None })
}
