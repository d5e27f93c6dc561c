//! Which buckets replicas may take tokens of ahead, how many, and what is held back for it. Why that admits no more
//! than the quota is said in `limits/leases.rs`.

use std::time::Duration;

use super::gcra::Quota;

/// [`LEASE`] in microseconds.
pub const LEASE_MICROS: u64 = 200_000;
/// How long tokens may be spent after they were taken ahead.
pub const LEASE: Duration = Duration::from_micros(LEASE_MICROS);

/// Most tokens that one call takes ahead. With the longest period, their time in units stays a whole number of a double,
/// which is what Redis' scripts count in.
pub const MAX_TOKENS_AHEAD: u64 = 10_000;

/// Quotas with less flowing in during a lease stay exact: below 20 per second.
const LEAST_FLOW: u64 = 4;

/// The quota of the shared bucket where replicas take tokens ahead: smaller by what flows in during a lease. Slow
/// quotas come back as they are, and no tokens are taken ahead of them. It does not depend on how many replicas there are.
pub fn reduced(quota: Quota) -> Quota {
    if quota.flow(LEASE) < LEAST_FLOW { quota } else { quota.holding_back(LEASE) }
}

/// Whether tokens are taken ahead of a bucket with this quota.
pub fn is_leased(quota: Quota) -> bool {
    quota.held_back() > Duration::ZERO
}

/// Most tokens that one of `replicas` has taken ahead of a bucket: what flows in during a lease, and all replicas
/// together at most a quarter of the bucket.
pub fn most_ahead(quota: Quota, replicas: u32) -> u32 {
    let share = quota.capacity() / (4 * u64::from(replicas.max(1)));
    u32::try_from(quota.flow(LEASE).min(share).min(MAX_TOKENS_AHEAD)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(rate: &str, burst: u32) -> Quota {
        Quota::new(rate.parse().unwrap(), burst)
    }

    #[test]
    fn slow_quotas_stay_exact() {
        for rate in ["1/s", "19/s", "20/min", "1199/min", "50000/h", "1000000/day"] {
            let quota = quota(rate, 20);
            assert_eq!(reduced(quota), quota, "{rate}");
            assert!(!is_leased(reduced(quota)), "{rate}");
        }
    }

    #[test]
    fn of_fast_ones_the_flow_of_a_lease_is_held_back() {
        for (rate, holds) in [("20/s", 36), ("2000/s", 1620), ("1200/min", 1216), ("1000000000/s", 800_000_020)] {
            let reduced = reduced(quota(rate, 20));
            assert!(is_leased(reduced), "{rate}");
            assert_eq!(reduced.holds(), holds, "{rate}");
            assert_eq!(super::reduced(reduced), reduced, "{rate}");
        }
    }

    #[test]
    fn a_replica_takes_its_share_of_a_quarter_at_most() {
        let fast = quota("2000/s", 20);
        assert_eq!([1, 2, 4, 100].map(|replicas| most_ahead(fast, replicas)), [400, 252, 126, 5]);
        assert_eq!(most_ahead(quota("20/s", 0), 4), 1);
        assert_eq!(most_ahead(quota("1000000000/s", 0), 1), 10_000);
    }
}
