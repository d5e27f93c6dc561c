//! What the gateway costs on top of Pingora: CPU time per request of the real program with everything on, against a
//! bare pass-through (same Pingora, profile and allocator), in turns, before the same origin.
//!
//! Method and reading of the figures: docs/performance.md. Only loopback addresses are used.

#![allow(clippy::disallowed_methods)] // a benchmark reads the clock

mod bare;
mod callgrind;
mod client;
mod cpu;
mod gateway;
mod options;
mod origin;
mod report;
mod server;
mod turns;

use std::process::ExitCode;

use clap::Parser;

use options::{Command, Options};

/// The gateway's allocator, so that the pass-through has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.command {
        Some(Command::Bare { listen, origin }) => bare::run(*listen, *origin),
        None if options.callgrind => callgrind::run(&options),
        None => turns::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}
