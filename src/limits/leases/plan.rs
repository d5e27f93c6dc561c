//! What the simulation is drawn from.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::model::gcra::Quota;

/// What is drawn, or set, before a run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) quota: Quota,
    /// Of the shared bucket.
    pub(super) shared: Quota,
    pub(super) replicas: usize,
    /// The number that replicas believe.
    pub(super) believed: u32,
    /// Mean time between requests of one replica, µs.
    pub(super) gap: u64,
    pub(super) max_cost: u32,
    /// Requests come only in the first so many µs of each second.
    pub(super) awake: u64,
    /// Longest way to or from Redis, µs; one in a hundred takes twenty times as long.
    pub(super) way: u64,
    /// One in so many answers is lost.
    pub(super) loses: Option<u32>,
    /// Mean time between two deaths, µs.
    pub(super) dies: Option<u64>,
    /// Percent of paid requests that another policy refuses.
    pub(super) refunds: u32,
    pub(super) lasts: u64,
    /// Mean time between storms, µs.
    pub(super) storms: Option<u64>,
    /// Replicas take calls for sent so much later than they were: their leases end too late.
    pub(super) ends_late: Duration,
}

impl Plan {
    /// What is hardest on leases: replicas that know nothing of each other and are idle but for storms.
    pub(super) fn hard(seed: u64) -> Plan {
        let quota = quota(300, 1, 0);
        Plan {
            seed,
            quota,
            shared: crate::model::lease::reduced(quota),
            replicas: 6,
            believed: 1,
            gap: 5_000_000,
            max_cost: 1,
            awake: 1_000_000,
            way: 500,
            loses: None,
            dies: None,
            refunds: 0,
            lasts: 6_000_000,
            storms: Some(1_500_000),
            ends_late: Duration::ZERO,
        }
    }

    /// Anything.
    pub(super) fn drawn(seed: u64) -> Plan {
        let mut rng = StdRng::seed_from_u64(seed);
        let limit = [20, 50, 300, 1_000, 5_000][rng.random_range(0..5)] + rng.random_range(0..20);
        let seconds = [1, 1, 1, 60][rng.random_range(0..4)];
        let burst = [0, 1, limit / 2, 10 * limit][rng.random_range(0..4)];
        let quota = quota(limit * seconds, u64::from(seconds), burst);
        let replicas = rng.random_range(1..=6);
        let overload = [0.02, 0.3, 0.8, 1.2, 4.0][rng.random_range(0..5)];
        Plan {
            seed,
            quota,
            shared: crate::model::lease::reduced(quota),
            replicas,
            believed: rng.random_range(1..=6),
            gap: (1e6 * replicas as f64 / (f64::from(limit) * overload)) as u64 + 1,
            max_cost: [1, 1, 3][rng.random_range(0..3)],
            awake: [1_000_000, 1_000_000, 300_000, 50_000][rng.random_range(0..4)],
            way: [100, 1_000, 10_000, 60_000][rng.random_range(0..4)],
            loses: [None, Some(100), Some(5)][rng.random_range(0..3)],
            dies: [None, Some(2_000_000), Some(100_000)][rng.random_range(0..3)],
            refunds: [0, 5, 60][rng.random_range(0..3)],
            lasts: 3_000_000,
            storms: (quota.capacity() < 3_000).then_some([400_000, 2_000_000][rng.random_range(0..2)]),
            ends_late: Duration::ZERO,
        }
    }
}

pub(super) fn quota(limit: u32, seconds: u64, burst: u32) -> Quota {
    Quota::new(crate::model::units::Rate { limit, period: Duration::from_secs(seconds) }, burst)
}
