//! The handles of one route: looked up once, then counted on without label look-ups.

use std::sync::OnceLock;

use prometheus::{Histogram, IntCounter};

use super::families::Families;
use super::seconds;
use super::slots::Slots;
use crate::model::access::AccessRecord;
use crate::telemetry::flags::Flag;

/// Methods that have a label of their own (RFC 9110 §9, RFC 5789); all others share the last.
const METHODS: [&str; 10] = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "CONNECT", "TRACE", "OTHER"];

const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Label of a status outside 100–599.
const OTHER_STATUS: &str = "other";

/// Handles of one route, filled as they are first needed.
pub struct RouteMetrics {
    name: Box<str>,
    methods: [OnceLock<Box<MethodMetrics>>; METHODS.len()],
    rejections: Slots<&'static str, IntCounter, 16>,
    flags: Slots<&'static str, IntCounter, { Flag::ALL.len() }>,
    // A route has one pool, or, when it merges several calls, none that is worth keeping.
    pool: OnceLock<(Box<str>, Histogram)>,
}

#[derive(Default)]
struct MethodMetrics {
    statuses: Slots<u16, IntCounter, 16>,
    durations: [OnceLock<Histogram>; CLASSES.len()],
}

impl RouteMetrics {
    pub(super) fn new(name: &str) -> RouteMetrics {
        RouteMetrics {
            name: name.into(),
            methods: Default::default(),
            rejections: Slots::default(),
            flags: Slots::default(),
            pool: OnceLock::new(),
        }
    }

    /// Name of the route.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn record(&self, families: &Families, record: &AccessRecord<'_>) {
        let (method, label) = method(record.method);
        if let Some(slot) = self.methods.get(method) {
            self.count(families, slot.get_or_init(Box::default), label, record);
        }
        if let Some(code) = record.code {
            let make = || families.rejections.with_label_values(&[&*self.name, code]);
            increment(self.rejections.get(code, make), make);
        }
        for flag in Flag::ALL.into_iter().filter(|flag| flag.applies(record)) {
            let make = || families.flagged.with_label_values(&[&*self.name, flag.as_str()]);
            increment(self.flags.get(flag.as_str(), make), make);
        }
        if let Some(upstream) = &record.upstream {
            let make = || families.upstream_duration.with_label_values(&[upstream.pool]);
            let (pool, histogram) = self.pool.get_or_init(|| (upstream.pool.into(), make()));
            if **pool == *upstream.pool {
                histogram.observe(seconds(upstream.duration));
            } else {
                make().observe(seconds(upstream.duration));
            }
        }
    }

    fn count(&self, families: &Families, kept: &MethodMetrics, method: &str, record: &AccessRecord<'_>) {
        let make = || match record.status {
            100..=599 => families.requests.with_label_values(&[&*self.name, method, &record.status.to_string()]),
            _ => families.requests.with_label_values(&[&*self.name, method, OTHER_STATUS]),
        };
        increment(kept.statuses.get(record.status, make), make);
        let class = match record.status {
            status @ 100..=599 => usize::from(status / 100),
            _ => 0,
        };
        if let (Some(slot), Some(class)) = (kept.durations.get(class), CLASSES.get(class)) {
            slot.get_or_init(|| families.request_duration.with_label_values(&[method, &*self.name, *class]))
                .observe(seconds(record.duration));
        }
    }
}

fn increment(kept: Option<&IntCounter>, make: impl Fn() -> IntCounter) {
    match kept {
        Some(counter) => counter.inc(),
        None => make().inc(),
    }
}

fn method(sent: &str) -> (usize, &'static str) {
    let last = METHODS.len() - 1;
    METHODS
        .iter()
        .enumerate()
        .find(|(_, known)| **known == sent)
        .map_or((last, "OTHER"), |(index, known)| (index, *known))
}
