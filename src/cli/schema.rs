//! `ssm-gateway schema`: prints the JSON Schema of `routes.yaml`.

use std::io::Write;
use std::process::ExitCode;

/// Prints the schema. Fails when the output is closed.
pub fn run() -> ExitCode {
    let printed = std::io::stdout().write_all(crate::config::schema::schema().as_bytes());
    if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
