//! The comparison itself: short slices in turns, and before it what both modes share.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::client::{Load, Request};
use crate::options::Options;
use crate::origin::Origin;
use crate::report::{self, Figures, Row};
use crate::server::{Contestant, Server};
use crate::{cpu, gateway, server};

/// How long a server may go on working after its last answer (log lines, closing connections) at its slice's expense.
const SETTLE: Duration = Duration::from_millis(50);

/// What both modes need: the contestants (base first), the origin, and the requests by kind.
pub(crate) struct Bench {
    pub(crate) contestants: [Contestant; 2],
    pub(crate) origin: Origin,
    pub(crate) kinds: [(&'static str, Request); 2],
    _directory: TempDir,
}

impl Bench {
    /// Starts the origin, prepares both programs and logs in.
    pub(crate) async fn prepare(options: &Options) -> Result<Bench> {
        let directory = TempDir::new().context("a temporary folder")?;
        let path = directory.path();
        let origin = Origin::start().await?;
        let base = server::bare("bare", origin.address, path)?;
        let (other, token) = if options.self_test {
            (server::bare("bare-again", origin.address, path)?, "x".repeat(292))
        } else {
            let password = uuid::Uuid::new_v4().to_string();
            let other = gateway::prepare(&options.gateway, origin.address, path, &password)?;
            let running = other.start(&[]).await?;
            let token = gateway::log_in(&other, &password).await?;
            running.interrupt().await?;
            (other, token)
        };
        Ok(Bench { contestants: [base, other], origin, kinds: kinds(&token), _directory: directory })
    }
}

/// The two request kinds: a POST with a body of 227 bytes and a GET, both with the token.
fn kinds(token: &str) -> [(&'static str, Request); 2] {
    const SIZE: usize = 227;
    let open = r#"{"candidate":{"name":"Camille","skills":["rust","sql"]},"jobs":[{"title":""#;
    let close = r#""}]}"#;
    let body = format!("{open}{}{close}", "x".repeat(SIZE - open.len() - close.len()));
    [
        ("POST", Request::new("POST", "/api/gateway/match", Some(&body), Some(token))),
        ("GET", Request::new("GET", "/api/gateway/match/algorithms", None, Some(token))),
    ]
}

/// A runtime on one thread: generator and origin share a core, the server has the other.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Runs all rounds and prints the report.
pub(crate) fn run(options: &Options) -> Result<()> {
    let pinned = cpu::server_core().is_some() && cpu::pin_generator();
    runtime()?.block_on(async {
        let bench = Bench::prepare(options).await?;
        let mut servers = Vec::new();
        for contestant in &bench.contestants {
            servers.push(contestant.start(&[]).await?);
        }
        let mut rows = Vec::new();
        for (kind, request) in &bench.kinds {
            let mut figures = [Figures::default(), Figures::default()];
            for round in 0..=options.rounds {
                measure_round(options, &bench, &servers, request, round, &mut figures).await?;
            }
            let [base, other] = figures;
            rows.push(Row { kind, base, other });
        }
        let names = [bench.contestants[0].name, bench.contestants[1].name];
        report::print(options, names, "CPU µs per request", pinned, &rows)
    })
}

/// One slice for each server; which goes first alternates. Round 0 warms up and is not counted.
async fn measure_round(
    options: &Options,
    bench: &Bench,
    servers: &[Server],
    request: &Request,
    round: u32,
    figures: &mut [Figures; 2],
) -> Result<()> {
    let mut order = [0, 1];
    order.rotate_left(usize::from(round % 2 == 1));
    for index in order {
        let (Some(contestant), Some(server)) = (bench.contestants.get(index), servers.get(index)) else { continue };
        let (micros, busy) = slice(options, bench, contestant, server, request)
            .await
            .with_context(|| format!("a slice for {}", contestant.name))?;
        if let Some(figures) = figures.get_mut(index).filter(|_| round > 0) {
            figures.push(micros, Some(busy));
        }
    }
    Ok(())
}

/// CPU µs per request of one slice, and the share of the wall time that the server was on its core.
async fn slice(
    options: &Options,
    bench: &Bench,
    contestant: &Contestant,
    server: &Server,
    request: &Request,
) -> Result<(f64, f64)> {
    let load = Load::open(contestant.address, options.connections, request).await?;
    sleep(SETTLE).await;
    let (served, started, before) = (bench.origin.served(), Instant::now(), cpu::used(server.pid())?);
    let sent = load.send(options.requests, request).await?;
    let wall = started.elapsed();
    sleep(SETTLE).await;
    let used = cpu::used(server.pid())?.saturating_sub(before);
    ensure!(bench.origin.served() - served == u64::from(sent), "the origin did not see every request once");
    Ok((used.as_secs_f64() * 1e6 / f64::from(sent), (used.as_secs_f64() / wall.as_secs_f64()).min(1.0)))
}
