//! The load: connections that ask for the same all the time.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::talk::Talk;

const REQUEST: &str = "GET /measured HTTP/1.1\r\nHost: gateway.test\r\n\r\n";

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) seconds: u32,
    pub(crate) connections: u32,
    /// Requests per second of all; 0: as fast as answers come.
    pub(crate) offered: u32,
}

/// One answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) admitted: bool,
    /// When it was asked for and when it was there, since the start.
    pub(crate) sent: Duration,
    pub(crate) done: Duration,
}

/// Sends to all of `servers`.
pub(crate) async fn run(servers: &[SocketAddr], pace: Pace) -> Result<Vec<Answer>> {
    let mut talks = Vec::new();
    // Servers take turns, so that each is sent to all the time.
    for _ in 0..pace.connections {
        for server in servers {
            talks.push(Talk::open(*server).await?);
        }
    }
    let gap = match pace.offered {
        0 => Duration::ZERO,
        offered => Duration::from_secs_f64(talks.len() as f64 / f64::from(offered)),
    };
    let start = Instant::now();
    let (mut tasks, all) = (JoinSet::new(), u32::try_from(talks.len())?);
    for (index, mut talk) in (0..all).zip(talks) {
        tasks.spawn(async move {
            let (mut answers, end) = (Vec::new(), start + Duration::from_secs(pace.seconds.into()));
            let mut due = start + gap * index / all;
            while due < end && Instant::now() < end {
                sleep_until(due).await;
                let sent = start.elapsed();
                let (status, _) = talk.ask(REQUEST).await?;
                ensure!(status == 200 || status == 429, "status {status}");
                answers.push(Answer { admitted: status == 200, sent, done: start.elapsed() });
                due += gap;
            }
            anyhow::Ok(answers)
        });
    }
    let mut answers = Vec::new();
    while let Some(one) = tasks.join_next().await {
        answers.extend(one??);
    }
    Ok(answers)
}
