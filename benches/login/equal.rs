//! Whether the time of a failed log-in says why it failed.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use tokio::time::sleep;

use crate::origin::Origin;
use crate::quantile;
use crate::setup::{PASSWORD, Setup};
use crate::talk::{Talk, login};

/// What is behind an address. Each is measured with a wrong password, but the deactivated one with the right one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unknown,
    Wrong,
    Inactive,
    InactiveRight,
    /// After five failures, when the wait that they brought is over.
    AfterWait,
    Bcrypt,
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::Unknown, "unknown address"),
    (Kind::Wrong, "wrong password"),
    (Kind::Inactive, "inactive, wrong password"),
    (Kind::InactiveRight, "inactive, right password"),
    (Kind::AfterWait, "wrong, after a wait"),
    (Kind::Bcrypt, "wrong, bcrypt hash"),
];

/// Measures and prints.
pub(crate) fn run(program: &Path, each: u32, bcrypt: Option<u32>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let origin = Origin::start().await?;
        let setup = Setup::new(program, origin.address).await?;
        let kinds: Vec<_> = KINDS.into_iter().filter(|(kind, _)| *kind != Kind::Bcrypt || bcrypt.is_some()).collect();
        for (kind, _) in &kinds {
            for n in 0..each {
                prepare(&setup, *kind, n, bcrypt.unwrap_or(4)).await?;
            }
        }
        let server = setup.contestant.start(&[]).await?;
        let mut talk = Talk::open(setup.contestant.address).await?;
        let mut client = 0;
        for n in 0..each {
            for _ in 0..5 {
                client += 1;
                let (status, _) = talk.ask(&login(&email(Kind::AfterWait, n), "wrong", client)).await?;
                ensure!(status == 401, "the failures before the wait: {status}");
            }
        }
        sleep(Duration::from_millis(1500)).await; // the last wait is one of a second
        let mut order: Vec<(usize, u32)> =
            (0..kinds.len()).flat_map(|kind| (0..each).map(move |n| (kind, n))).collect();
        order.shuffle(&mut rand::rng());
        let mut times = vec![Vec::new(); kinds.len()];
        for (index, n) in order {
            let (Some((kind, name)), Some(times)) = (kinds.get(index), times.get_mut(index)) else { continue };
            let password = if *kind == Kind::InactiveRight { PASSWORD } else { "not the password" };
            client += 1;
            let (status, took) = talk.ask(&login(&email(*kind, n), password, client)).await?;
            ensure!(status == 401, "{name}: {status}");
            times.push(took.as_secs_f64() * 1e3);
        }
        drop(server);
        print(&kinds, &mut times);
        Ok(())
    })
}

fn email(kind: Kind, n: u32) -> String {
    format!("{kind:?}-{n}@example.com").to_lowercase()
}

async fn prepare(setup: &Setup, kind: Kind, n: u32, bcrypt: u32) -> Result<()> {
    let email = email(kind, n);
    match kind {
        Kind::Unknown => {}
        Kind::Wrong | Kind::AfterWait => drop(setup.account(&email).await?),
        Kind::Inactive | Kind::InactiveRight => setup.deactivate(setup.account(&email).await?).await?,
        Kind::Bcrypt => {
            // Nobody proves this one, so any hash of the cost will do.
            let hash = format!("$2b${bcrypt:02}$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i");
            setup.adopt(&email, &hash).await?;
        }
    }
    Ok(())
}

fn print(kinds: &[(Kind, &str)], times: &mut [Vec<f64>]) {
    let mut all: Vec<f64> = times.iter().flatten().copied().collect();
    let middle = quantile(&mut all, 0.5);
    println!("ms per failed log-in, one at a time, in random order; median of all {middle:.2}");
    println!("{:<28}{:>8}{:>10}{:>10}{:>10}{:>10}", "", "n", "p10", "median", "p90", "of all");
    for ((_, name), times) in kinds.iter().zip(times) {
        let (low, median, high) = (quantile(times, 0.1), quantile(times, 0.5), quantile(times, 0.9));
        let apart = (median / middle - 1.0) * 100.0;
        println!("{name:<28}{:>8}{low:>10.2}{median:>10.2}{high:>10.2}{apart:>+9.1}%", times.len());
    }
}
