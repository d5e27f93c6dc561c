//! The table of rate-limit buckets with a million distinct keys: memory per key, and the time of single decisions while
//! it fills, when it is full of known keys, while spent buckets are given up, and after all have gone idle.
//!
//! `cargo bench --bench buckets`, or `-- --keys 100000` for another number of keys. It measures; what it found is in
//! docs/performance.md. Every decision is timed on its own, so the time of reading the clock, printed too, is in
//! every figure. The longest is whatever the machine did meanwhile: compare it with that of known keys, for which the
//! table does nothing that takes long. One decision in about 900 looks through a shard while unspent buckets are given
//! up, so p99.9 is what that takes.

#![allow(clippy::disallowed_methods)] // a benchmark measures real time
#![allow(clippy::unwrap_used, clippy::expect_used)] // a benchmark that cannot set up its input must stop
#![allow(clippy::indexing_slicing)]

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use ssm_gateway::clock::Tick;
use ssm_gateway::limits::{Buckets, Check, Policy, Subject};
use ssm_gateway::model::gcra::Quota;
use ssm_gateway::model::identity::UserId;
use ssm_gateway::model::units::Rate;

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: i64 = 1_000_000;
/// As the gateway bounds its table, for a million keys: 5 % more, because subjects do not spread evenly over shards.
const ROOM: (usize, usize) = (1 << 20, 1_000_000);
/// Coprime to any number of keys below it: takes each once, far from the one before.
const STRIDE: i64 = 7_368_787;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1)?.parse::<i64>().ok()
    };
    let keys = after("--keys").unwrap_or(KEYS);
    if let Some(threads) = after("--threads") {
        return run(keys, threads);
    }
    println!("{keys} keys; reading the clock takes {} ns", clock_ns());
    println!(
        "{:8} {:26} {:>7} {:>7} {:>7} {:>8} {:>8} {:>10}",
        "threads", "decisions, ns", "mean", "p50", "p99", "p99.9", "p99.99", "longest"
    );
    for threads in ["1", "2"] {
        // In a process of its own, whose memory nobody else has used.
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        let status = child.args(["--keys", &keys.to_string(), "--threads", threads]).status();
        assert!(status.expect("a child").success());
    }
}

fn run(keys: i64, threads: i64) {
    let mut times = vec![1_u32; usize::try_from(keys).unwrap()]; // written to: resident before memory is measured
    let before = resident();
    let buckets = Buckets::new(usize::try_from(keys).unwrap() * ROOM.0 / ROOM.1);
    let start = Tick(86_400_000_000);
    let mut phase = |name: &str, first: i64, at: Tick| {
        decide(&buckets, first, at, threads, &mut times);
        print(threads, name, &mut times);
        (buckets.len(), resident().saturating_sub(before), buckets.evicted_early())
    };
    let filled = phase("new keys", 0, start);
    phase("known keys", 0, start);
    let bound = phase("new keys, evicting unspent", keys, start);
    phase("new keys, evicting idle", 2 * keys, Tick(start.0 + 86_400_000_000));
    for (when, (held, bytes, early)) in [("filled", filled), ("at the bound", bound)] {
        println!(
            "{threads:8} {when}: {held} held, {:.1} MiB more resident, {:.1} bytes each; {early} given up before full",
            bytes as f64 / f64::from(1 << 20),
            bytes as f64 / held as f64,
        );
    }
}

/// As many decisions as there are places for their times, on keys from `first` on, each by its own.
fn decide(buckets: &Buckets, first: i64, at: Tick, threads: i64, times: &mut [u32]) {
    let policy = Policy::alone("per-user", buckets);
    let quota = Quota::new(Rate { limit: 50, period: Duration::from_secs(60) }, 20);
    let keys = i64::try_from(times.len()).unwrap();
    let chunk = times.len().div_ceil(usize::try_from(threads).unwrap());
    std::thread::scope(|scope| {
        for (part, times) in times.chunks_mut(chunk).enumerate() {
            let policy = &policy;
            scope.spawn(move || {
                let from = i64::try_from(part * chunk).unwrap();
                for (turn, time) in (from..).zip(times) {
                    let subject = Subject::User(UserId(first + turn * STRIDE % keys));
                    let checks = [Check::single(policy, subject, quota, 1)];
                    let started = Instant::now();
                    let verdict = black_box(buckets.decide_all(at, &checks));
                    *time = u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX);
                    assert!(
                        verdict.is_some_and(|verdict| verdict.is_allowed()),
                        "no key is asked more than four times"
                    );
                }
            });
        }
    });
}

fn print(threads: i64, name: &str, times: &mut [u32]) {
    times.sort_unstable();
    let mean = times.iter().map(|time| u64::from(*time)).sum::<u64>() / u64::try_from(times.len()).unwrap();
    let at = |of_10_000: usize| times[(times.len() - 1) * of_10_000 / 10_000];
    let [p50, p99, p999, p9999, longest] = [5_000, 9_900, 9_990, 9_999, 10_000].map(at);
    println!("{threads:8} {name:26} {mean:7} {p50:7} {p99:7} {p999:8} {p9999:8} {longest:10}");
}

fn clock_ns() -> u128 {
    let started = Instant::now();
    for _ in 0..1_000 {
        black_box(Instant::now());
    }
    started.elapsed().as_nanos() / 1_000
}

/// Resident memory of this process, in bytes (`/proc/self/status`).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}
