//! User-space instructions per request, counted by valgrind: repeatable whatever else the machine does.
//!
//! A program is run twice, with few and with many requests; the difference leaves start and stop out.

use anyhow::{Context, Result};

use crate::client::{Load, Request};
use crate::cpu;
use crate::options::Options;
use crate::report::{self, Figures, Row};
use crate::server::Contestant;
use crate::turns::{Bench, runtime};

const FEW: u32 = 500;
const MORE: u32 = 2000;

/// Counts for both programs and kinds, and prints the report.
pub(crate) fn run(options: &Options) -> Result<()> {
    let pinned = cpu::server_core().is_some() && cpu::pin_generator();
    runtime()?.block_on(async {
        let bench = Bench::prepare(options).await?;
        let [base, other] = &bench.contestants;
        let mut rows = Vec::new();
        for (kind, request) in &bench.kinds {
            let mut figures = [Figures::default(), Figures::default()];
            for (contestant, figures) in [base, other].into_iter().zip(&mut figures) {
                let few = count(options, contestant, request, FEW).await?;
                let many = count(options, contestant, request, FEW + MORE).await?;
                figures.push((many - few) / f64::from(MORE), None);
            }
            let [base, other] = figures;
            rows.push(Row { kind, base, other });
        }
        report::print(options, [base.name, other.name], "user instructions per request", pinned, &rows)
    })
}

/// All instructions of one run that answers `requests` requests.
async fn count(options: &Options, contestant: &Contestant, request: &Request, requests: u32) -> Result<f64> {
    let wrapper = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"];
    let server = contestant.start(&wrapper).await.context("under valgrind (is it installed?)")?;
    let load = Load::open(contestant.address, options.connections, request).await?;
    load.send(requests, request).await?;
    let printed = server.interrupt().await?;
    let collected = printed.lines().find_map(|line| line.split_once("Collected :"));
    let (_, number) = collected.with_context(|| format!("no count from valgrind:\n{printed}"))?;
    number.trim().parse().context("valgrind's count")
}
