//! How full the tables of rate-limit buckets are, asked for at each scrape.

use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, Result};

use super::scrape;

const BUCKETS: &str = "gateway_rate_limit_buckets";
const EVICTED: &str = "gateway_rate_limit_buckets_evicted_total";

/// Names of all families made here.
pub(super) const NAMES: [&str; 2] = [BUCKETS, EVICTED];

/// A table of buckets at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketState {
    /// Whose it is.
    pub table: &'static str,
    /// Buckets in memory.
    pub buckets: usize,
    /// Buckets that were given up before they were full, since the start.
    pub evicted: u64,
}

/// Says how things are now. Must not block.
pub(super) type Read = Box<dyn Fn() -> Vec<BucketState> + Send + Sync>;

/// The families of this moment.
pub(super) fn gather(states: &[BucketState]) -> Result<Vec<MetricFamily>> {
    let registry = Registry::new();
    let options = Opts::new(BUCKETS, "Rate-limit buckets in the memory of this process.");
    let buckets = scrape::keep(&registry, IntGaugeVec::new(options, &["table"]))?;
    let help = "Rate-limit buckets that were given up before they were full, because the memory for them was full.";
    let evicted = scrape::keep(&registry, IntCounterVec::new(Opts::new(EVICTED, help), &["table"]))?;
    for state in states {
        buckets.with_label_values(&[state.table]).set(i64::try_from(state.buckets).unwrap_or(i64::MAX));
        evicted.with_label_values(&[state.table]).inc_by(state.evicted);
    }
    Ok(registry.gather())
}
