//! The settings of what is written line by line: the access log and the audit trail.

use std::time::Duration;

use super::report::Report;
use super::settings::{Audit, LogSink};
use super::settings_spec::AuditSpec;
use crate::model::units::TEN_YEARS;

const DAY: Duration = Duration::from_secs(86_400);
/// Retention takes records away once a day; ten years are the longest span of any setting.
const RETENTION: std::ops::RangeInclusive<Duration> = DAY..=TEN_YEARS;
const SPOOL: std::ops::RangeInclusive<u64> = (1 << 20)..=(16 << 30);

/// Where the lines of `key` go; standard output when nothing is said.
pub(super) fn sink(key: &str, text: Option<&str>, report: &mut Report) -> LogSink {
    match text {
        None | Some("stdout") => LogSink::Stdout,
        Some("off") => LogSink::Off,
        Some(path) if path.contains('/') => LogSink::File(path.into()),
        Some(_) => {
            report.add(key, "expected stdout, off, or the path of a file, with a `/` in it");
            LogSink::Off
        }
    }
}

/// The audit trail.
pub(super) fn audit(spec: &AuditSpec, report: &mut Report) -> Audit {
    let retention = spec.retention.map_or(365 * DAY, |span| span.0);
    if !RETENTION.contains(&retention) {
        report.add("audit.retention", "must be from 1d to 3650d");
    }
    let spool_max = spec.spool_max.map_or(64 << 20, |size| size.0);
    if !SPOOL.contains(&spool_max) {
        report.add("audit.spool_max", "must be from 1MiB to 16GiB");
    }
    Audit { lines: sink("audit.lines", spec.lines.as_deref(), report), retention, spool_max }
}
