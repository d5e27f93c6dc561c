//! CPU time of another process, and which core things run on.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

/// CPU time (user and system) that process `pid` has used so far.
///
/// The scheduler's own nanosecond count where the kernel keeps one (proc(5), `schedstat`), else the clock ticks
/// of `stat`, which are 10 ms.
pub(crate) fn used(pid: u32) -> Result<Duration> {
    match by_schedstat(pid) {
        Some(used) => Ok(used),
        None => by_stat(pid),
    }
}

fn by_schedstat(pid: u32) -> Option<Duration> {
    let mut nanos = 0_u64;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanos += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

fn by_stat(pid: u32) -> Result<Duration> {
    const TICK: Duration = Duration::from_millis(10); // USER_HZ is 100 on every Linux that runs this
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    // utime and stime are fields 14 and 15 of the line; the first one after the name is field 3.
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>();
    Ok(TICK * ticks.with_context(|| format!("utime and stime in {path}"))?)
}

/// The core that the servers run on, when there are two cores and `taskset` to keep them apart.
pub(crate) fn server_core() -> Option<&'static str> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores > 1 && taskset(&["--version"])).then_some("1")
}

/// Moves this process (load generator and origin) to core 0; threads started later follow.
pub(crate) fn pin_generator() -> bool {
    taskset(&["-apc", "0", &std::process::id().to_string()])
}

fn taskset(arguments: &[&str]) -> bool {
    let quiet = || Stdio::null();
    Command::new("taskset").args(arguments).stdout(quiet()).stderr(quiet()).status().is_ok_and(|s| s.success())
}
