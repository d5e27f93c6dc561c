//! Log-ins per second, and what proxied requests feel of a flood of log-ins.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::origin::Origin;
use crate::setup::{PASSWORD, Setup};
use crate::talk::{Talk, login, proxied};
use crate::{cpu, quantile};

/// Accounts that log in, in turns.
const ACCOUNTS: u32 = 500;
/// Whose token the proxied requests have. It logs in once: the eleventh log-in would end its session.
const READER: &str = "reader@example.com";
/// Connections of the flood: more than wait in the queue, so that the next log-in never waits for a free one.
const FLOOD_CONNECTIONS: u32 = 256;
/// Connections of the proxied requests.
const PROXIED_CONNECTIONS: u32 = 32;
/// Log-ins at once when the sustained rate is measured.
const AT_ONCE: u32 = 4;

/// What is sent.
pub(crate) struct Plan {
    pub(crate) rate: u32,
    pub(crate) proxied: u32,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) same_priority: bool,
}

/// Answers: by status, with the times from when a request was due, in ms.
type Answers = BTreeMap<u16, Vec<f64>>;

/// Measures and prints.
pub(crate) fn run(program: &Path, plan: &Plan) -> Result<()> {
    let pinned = cpu::server_core().is_some() && cpu::pin_generator();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let origin = Origin::start().await?;
        let setup = Setup::new(program, origin.address).await?;
        for n in 0..ACCOUNTS {
            setup.account(&email(n)).await?;
        }
        setup.account(READER).await?;
        let address = setup.contestant.address;
        let server = setup.contestant.start(&[]).await?;
        if plan.same_priority {
            same_priority(server.pid())?;
        }
        let mut talk = Talk::open(address).await?;
        let (status, _) = talk.ask(&login(READER, PASSWORD, 0)).await?;
        ensure!(status == 200, "the first log-in: {status}");
        let token = talk.token()?;

        let (alone, per_second) = sustained(address, plan.seconds).await?;
        println!(
            "gateway on {}; hashing threads {}",
            place(pinned),
            if plan.same_priority { "as the others" } else { "of low priority" }
        );
        println!("log-ins one after the other: median {alone:.1} ms; {AT_ONCE} at once: {per_second:.1} per second");

        let (mut quiet, mut flooded, mut flood) = (Answers::new(), Answers::new(), Answers::new());
        for round in 0..plan.rounds {
            merge(&mut quiet, requests(address, plan, &token).await?);
            let first = 1_000_000 + round * 100_000;
            let (with, logins) = tokio::try_join!(requests(address, plan, &token), logins(address, plan, first))?;
            merge(&mut flooded, with);
            merge(&mut flood, logins);
        }
        drop(server);
        print("proxied, no log-ins", &mut quiet);
        print(&format!("proxied, {} log-ins/s", plan.rate), &mut flooded);
        print("those log-ins", &mut flood);
        Ok(())
    })
}

fn email(n: u32) -> String {
    format!("load-{}@example.com", n % ACCOUNTS)
}

fn place(pinned: bool) -> &'static str {
    if pinned { "one core, generator on another" } else { "any core" }
}

/// The median time of a log-in alone, and how many pass in a second when some are always under way.
async fn sustained(address: SocketAddr, seconds: u32) -> Result<(f64, f64)> {
    let mut talk = Talk::open(address).await?;
    let mut alone = Vec::new();
    for n in 0..60 {
        let (status, took) = talk.ask(&login(&email(n), PASSWORD, 100_000 + n)).await?;
        ensure!(status == 200, "a log-in alone: {status}");
        alone.push(took.as_secs_f64() * 1e3);
    }
    let (mut tasks, started) = (JoinSet::new(), Instant::now());
    let end = started + Duration::from_secs(seconds.into());
    for task in 0..AT_ONCE {
        tasks.spawn(async move {
            let mut talk = Talk::open(address).await?;
            let mut done = 0_u32;
            while Instant::now() < end {
                let client = 200_000 + task * 50_000 + done;
                let (status, _) = talk.ask(&login(&email(task + AT_ONCE * done), PASSWORD, client)).await?;
                ensure!(status == 200, "a log-in among some: {status}");
                done += 1;
            }
            Ok(done)
        });
    }
    let mut done = 0;
    while let Some(one) = tasks.join_next().await {
        done += one??;
    }
    Ok((quantile(&mut alone, 0.5), f64::from(done) / started.elapsed().as_secs_f64()))
}

async fn requests(address: SocketAddr, plan: &Plan, token: &str) -> Result<Answers> {
    let request = proxied(token);
    open_loop(address, PROXIED_CONNECTIONS, plan.proxied, plan.seconds, move |_| request.clone()).await
}

async fn logins(address: SocketAddr, plan: &Plan, first: u32) -> Result<Answers> {
    let each = move |n: u32| login(&email(n), PASSWORD, first + n);
    open_loop(address, FLOOD_CONNECTIONS, plan.rate, plan.seconds, each).await
}

/// Sends so many requests per second, whatever the answers do. Times count from when a request was due, so a late start
/// is not forgiven.
async fn open_loop(
    address: SocketAddr,
    connections: u32,
    rate: u32,
    seconds: u32,
    request: impl Fn(u32) -> String + Clone + Send + 'static,
) -> Result<Answers> {
    let start = Instant::now() + Duration::from_millis(200);
    let mut tasks = JoinSet::new();
    for connection in 0..connections {
        let request = request.clone();
        tasks.spawn(async move {
            let (mut talk, mut answers) = (Talk::open(address).await?, Answers::new());
            for n in (connection..rate * seconds).step_by(usize::try_from(connections)?) {
                let due = start + Duration::from_secs_f64(f64::from(n) / f64::from(rate));
                sleep_until(due).await;
                let (status, _) = talk.ask(&request(n)).await?;
                answers.entry(status).or_default().push(due.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(answers)
        });
    }
    let mut all = Answers::new();
    while let Some(one) = tasks.join_next().await {
        merge(&mut all, one??);
    }
    Ok(all)
}

fn merge(all: &mut Answers, more: Answers) {
    for (status, times) in more {
        all.entry(status).or_default().extend(times);
    }
}

fn print(name: &str, answers: &mut Answers) {
    for (status, times) in answers {
        let [p50, p90, p99, p999, most] = [0.5, 0.9, 0.99, 0.999, 1.0].map(|share| quantile(times, share));
        println!(
            "{name:<26}{status:>5}{:>8}   ms p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {most:.2}",
            times.len()
        );
    }
}

/// Takes the low priority of the hashing threads away.
fn same_priority(pid: u32) -> Result<()> {
    let mut found = false;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        if fs::read_to_string(path.join("comm"))?.starts_with("hash-") {
            let id = path.file_name().context("a task's id")?.to_owned();
            let done = Command::new("renice").args(["-n", "0", "-p"]).arg(id).output()?;
            ensure!(done.status.success(), "renice: {}", String::from_utf8_lossy(&done.stderr));
            found = true;
        }
    }
    ensure!(found, "this build has no threads named hash-*");
    Ok(())
}
