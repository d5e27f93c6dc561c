//! What the figures mean, and how they are printed.

use std::collections::BTreeMap;
use std::time::Duration;

use ssm_gateway::model::gcra::Quota;

use crate::Sharing;
use crate::load::Answer;

/// Requests sent before are not timed: connections, caches and scripts are new.
const WARM_UP: Duration = Duration::from_secs(1);
/// Width of the slices of time that windows are made of.
const SLICE: Duration = Duration::from_millis(100);

/// One run.
pub(crate) struct Case {
    pub(crate) sharing: Sharing,
    pub(crate) replicas: u32,
    pub(crate) quota: Quota,
    pub(crate) answered_by: BTreeMap<String, u64>,
    /// Scripts that Redis ran.
    pub(crate) calls: u64,
    pub(crate) answers: Vec<Answer>,
}

/// Times of admitted and refused requests, p50 and p99, in ms.
pub(crate) type Times = [(f64, f64); 2];

/// Says what is measured.
pub(crate) fn head(seconds: u32, replicas: u32, connections: u32, offered: u32) {
    let offered =
        if offered == 0 { "as fast as answers come".to_owned() } else { format!("{offered} requests/s in all") };
    println!("{seconds} s each; {replicas} replicas (embedded: 1) x {connections} connections, {offered}");
    if cfg!(debug_assertions) {
        println!("DEBUG BUILD: the times say little");
    }
    println!("times: of requests sent after the first second");
    println!("over: the most that any window (slices of 100 ms) had above capacity + rate * t; never above 0");
}

impl Case {
    /// Prints it; gives its times, or those of the embedded case that it is compared with.
    pub(crate) fn print(&self, embedded: Option<Times>) -> Times {
        let admitted = self.answers.iter().filter(|answer| answer.admitted).count();
        let lasted = self.answers.iter().map(|answer| answer.done).max().unwrap_or_default();
        let allowed = self.allowed(lasted);
        let (limit, period) = (self.quota.limit(), self.quota.period().as_secs());
        println!(
            "\n{:<9} {limit} per {period} s, burst {}, {} replica(s): {} requests, admitted {admitted} of {allowed:.0} ({:.1} %), over {:.0}",
            self.sharing.as_str(),
            self.quota.burst(),
            self.replicas,
            self.answers.len(),
            100.0 * admitted as f64 / allowed,
            self.worst_window(),
        );
        let all = self.answered_by.values().sum::<u64>().max(1) as f64;
        let share = |(by, count): (&String, &u64)| format!("{by} {:.2} %", 100.0 * *count as f64 / all);
        if self.sharing != Sharing::Embedded {
            let shares: Vec<_> = self.answered_by.iter().map(share).collect();
            let per_admitted = self.calls as f64 / admitted.max(1) as f64;
            println!("          answered by {}", shares.join(", "));
            println!("          {} script calls, {per_admitted:.3} per admitted request", self.calls);
        }
        let times = [true, false].map(|admitted| self.times(admitted));
        let base = embedded.unwrap_or(times);
        for (name, (p50, p99), (base50, base99)) in [("admitted", times[0], base[0]), ("refused", times[1], base[1])] {
            let added = (p50 - base50, p99 - base99);
            println!("          {name:<9} ms p50 {p50:.2} ({:+.2})  p99 {p99:.2} ({:+.2})", added.0, added.1);
        }
        base
    }

    fn allowed(&self, time: Duration) -> f64 {
        let rate = f64::from(self.quota.limit()) / self.quota.period().as_secs_f64();
        self.quota.capacity() as f64 + rate * time.as_secs_f64()
    }

    fn times(&self, admitted: bool) -> (f64, f64) {
        let timed = |answer: &&Answer| answer.admitted == admitted && answer.sent >= WARM_UP;
        let answers = self.answers.iter().filter(timed);
        let mut times: Vec<f64> = answers.map(|answer| (answer.done - answer.sent).as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let index = (times.len().saturating_sub(1) as f64 * share).round() as usize;
            times.get(index).copied().unwrap_or(f64::NAN)
        };
        (quantile(0.5), quantile(0.99))
    }

    /// Of a window only those count that were sent and answered in it: they were surely decided in it.
    fn worst_window(&self) -> f64 {
        let slice = |time: Duration| (time.as_nanos() / SLICE.as_nanos()) as usize;
        let slices = self.answers.iter().map(|answer| slice(answer.done)).max().unwrap_or(0) + 1;
        // counts[from] has, for each last slice, the admitted that were sent in `from`.
        let mut counts = vec![vec![0_u32; slices]; slices];
        for answer in self.answers.iter().filter(|answer| answer.admitted) {
            if let Some(count) = counts.get_mut(slice(answer.sent)).and_then(|row| row.get_mut(slice(answer.done))) {
                *count += 1;
            }
        }
        let mut worst = f64::NEG_INFINITY;
        let mut within = vec![0_u32; slices];
        for (from, row) in counts.iter().enumerate().rev() {
            let mut sum = 0;
            for (to, (within, count)) in within.iter_mut().zip(row).enumerate().skip(from) {
                sum += count;
                *within += sum;
                let length = SLICE * u32::try_from(to - from + 1).unwrap_or(u32::MAX);
                worst = worst.max(f64::from(*within) - self.allowed(length));
            }
        }
        worst
    }
}
