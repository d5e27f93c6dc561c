//! Rate limits that replicas share, on the real program: what is admitted against what is allowed, who answers, and what
//! that costs in time, against one replica that counts alone.
//!
//! The policy has `on_store_failure: deny`, so that all that is admitted was decided together: a call that takes longer than
//! 25 ms refuses, and stands under `fallback`.
//!
//! Starts a `redis-server` of its own. Only loopback addresses are used.

#![allow(clippy::disallowed_methods)] // a benchmark reads the clock

#[path = "../e2e/client.rs"]
#[allow(dead_code)] // the other benches use the rest
mod client;
#[path = "../e2e/cpu.rs"]
#[allow(dead_code)]
mod cpu;
mod load;
#[path = "../e2e/origin.rs"]
#[allow(dead_code)]
mod origin;
mod redis;
mod report;
#[path = "../e2e/server.rs"]
#[allow(dead_code)]
mod server;
mod setup;
#[path = "../login/talk.rs"]
#[allow(dead_code)]
mod talk;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use ssm_gateway::model::gcra::Quota;
use ssm_gateway::model::units::Rate;

use crate::load::Pace;
use crate::report::Case;

/// Measures shared rate limits.
#[derive(Debug, Parser)]
#[command(name = "limits")]
struct Options {
    /// The gateway's program; default: the one built with this bench.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_ssm-gateway"))]
    gateway: PathBuf,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
    /// Seconds of load of each case.
    #[arg(long, env = "LIMITS_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Gateways beside each other.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    replicas: u32,
    /// Connections to each.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Requests per second over all replicas; 0: each connection sends again as soon as it has its answer. What the machine
    /// cannot carry makes calls to Redis time out.
    #[arg(long, default_value_t = 3000)]
    offered: u32,
    /// The limits that are measured, one after the other.
    #[arg(long, value_delimiter = ',', default_values = ["2000/s", "20/min"])]
    limits: Vec<Rate>,
}

/// How replicas count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// One replica, no Redis.
    Embedded,
    Exact,
    Lease,
}

impl Sharing {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Sharing::Embedded => "embedded",
            Sharing::Exact => "exact",
            Sharing::Lease => "lease",
        }
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(&Options::parse()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limits: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    let redis = redis::Redis::start().await?;
    let origin = origin::Origin::start().await?;
    report::head(options.seconds, options.replicas, options.connections, options.offered);
    for rate in &options.limits {
        let mut embedded = None;
        for sharing in [Sharing::Embedded, Sharing::Exact, Sharing::Lease] {
            let replicas = if sharing == Sharing::Embedded { 1 } else { options.replicas };
            let prefix = format!("{}-{}:", sharing.as_str(), rate.limit);
            let site = setup::Site::new(&options.gateway, origin.address, *rate, sharing, (&redis, &prefix), replicas);
            let site = site.await?;
            let calls = redis.script_calls().await?;
            let servers = site.start(&redis).await?;
            let pace = Pace { seconds: options.seconds, connections: options.connections, offered: options.offered };
            let answers = load::run(&site.addresses(), pace).await?;
            let case = Case {
                sharing,
                replicas,
                quota: Quota::new(*rate, setup::BURST),
                answered_by: site.answered_by().await?,
                calls: redis.script_calls().await? - calls,
                answers,
            };
            drop(servers);
            embedded = Some(case.print(embedded));
        }
    }
    Ok(())
}
