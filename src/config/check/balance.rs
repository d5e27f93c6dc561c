//! Checks of how a pool chooses among its targets: `balance`, `slow_start`.

use http::HeaderName;

use crate::config::report::Report;
use crate::config::spec::{BalanceSpec, HashKeySpec, HashSpec, PoolSpec};
use crate::model::units::ONE_YEAR;

/// Checks one pool; `at` is its path.
pub(super) fn check(at: &str, pool: &PoolSpec, report: &mut Report) {
    if let BalanceSpec::Hash(HashSpec { consistent_hash: HashKeySpec::Header(key) }) = &pool.balance
        && HeaderName::from_bytes(key.header.as_bytes()).is_err()
    {
        report.add(format!("{at}.balance.consistent_hash.header"), "expected the name of a header, such as x-tenant");
    }
    if pool.slow_start.0 > ONE_YEAR {
        report.add(format!("{at}.slow_start"), "must be at most 365d");
    }
}
