//! The bench's command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Compares the gateway with a bare Pingora pass-through.
#[derive(Debug, Parser)]
#[command(name = "e2e")]
pub(crate) struct Options {
    /// Rounds; in each, every program gets one slice of each request kind.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Requests per slice.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) requests: u32,
    /// Keep-alive connections of the load generator.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// The gateway's program; default: the one built with this bench.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_ssm-gateway"))]
    pub(crate) gateway: PathBuf,
    /// Measures the pass-through against itself: the noise of this machine and method.
    #[arg(long)]
    pub(crate) self_test: bool,
    /// Counts user-space instructions per request under valgrind instead of CPU time.
    #[arg(long)]
    pub(crate) callgrind: bool,
    /// Prints one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Other things this program can be.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The bare pass-through; the bench starts it as a process of its own.
    #[command(hide = true)]
    Bare {
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
        /// Where it sends everything.
        #[arg(long)]
        origin: SocketAddr,
    },
}
