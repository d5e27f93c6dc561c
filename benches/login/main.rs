//! What log-ins tell and cost, on the real program: whether the time of a failure says why it failed, how many log-ins a
//! second pass, and what proxied requests feel of a flood of them.
//!
//! Method and reading of the figures: docs/performance.md. Only loopback addresses are used.

#![allow(clippy::disallowed_methods)] // a benchmark reads the clock

#[path = "../e2e/client.rs"]
#[allow(dead_code)] // the other bench uses the rest
mod client;
#[path = "../e2e/cpu.rs"]
#[allow(dead_code)]
mod cpu;
mod equal;
mod flood;
#[path = "../e2e/origin.rs"]
#[allow(dead_code)]
mod origin;
#[path = "../e2e/server.rs"]
#[allow(dead_code)]
mod server;
mod setup;
mod talk;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures log-ins.
#[derive(Debug, Parser)]
#[command(name = "login")]
struct Options {
    /// The gateway's program; default: the one built with this bench.
    #[arg(long, global = true, default_value = env!("CARGO_BIN_EXE_ssm-gateway"))]
    gateway: PathBuf,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Medians of failed log-ins by what is behind the address, in random order
    Equal {
        /// Log-ins of each kind.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=2000))]
        each: u32,
        /// Adds accounts with bcrypt hashes of this cost.
        #[arg(long, value_parser = clap::value_parser!(u32).range(4..=14))]
        bcrypt: Option<u32>,
    },
    /// Log-ins per second, and the latency of proxied requests with and without a flood of log-ins
    Flood {
        /// Log-ins per second that arrive.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rate: u32,
        /// Proxied requests per second that arrive.
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        proxied: u32,
        /// Rounds, each of a slice without log-ins and one with them.
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Seconds of a slice.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// Gives the hashing threads the priority of the others, to see what theirs is worth (needs `renice` and root).
        #[arg(long)]
        same_priority: bool,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let equal = Command::Equal { each: 200, bcrypt: None };
    let outcome = match options.command.clone().unwrap_or(equal) {
        Command::Equal { each, bcrypt } => equal::run(&options.gateway, each, bcrypt),
        Command::Flood { rate, proxied, rounds, seconds, same_priority } => {
            flood::run(&options.gateway, &flood::Plan { rate, proxied, rounds, seconds, same_priority })
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("login: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The value below which `share` of the sorted values lie.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let index = (values.len().saturating_sub(1) as f64 * share).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}
