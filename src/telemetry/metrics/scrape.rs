//! Gauges about services, pools and targets, computed at each scrape from what the checks last saw. What was not
//! measured is absent.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result};

use super::seconds;
use crate::model::health::{Health, PoolReport, Probe};

const UP: &str = "supersmartmatch_gateway_up";
const SERVICE_UP: &str = "supersmartmatch_service_up";
const RESPONSE_TIME: &str = "supersmartmatch_service_response_time";
const CHECK_DURATION: &str = "supersmartmatch_gateway_health_check_duration";
const HEALTHY_RATIO: &str = "supersmartmatch_gateway_healthy_services_ratio";
const FAILURES: &str = "supersmartmatch_circuit_breaker_failures";
const TARGET_HEALTHY: &str = "gateway_target_healthy";
const CIRCUIT: &str = "gateway_circuit_state";
const IN_FLIGHT: &str = "gateway_in_flight";
const PANIC: &str = "gateway_pool_panic";
const QUEUE_DEPTH: &str = "gateway_queue_depth";

/// Names of all families made here.
pub(super) const NAMES: [&str; 11] = [
    UP,
    SERVICE_UP,
    RESPONSE_TIME,
    CHECK_DURATION,
    HEALTHY_RATIO,
    FAILURES,
    TARGET_HEALTHY,
    CIRCUIT,
    IN_FLIGHT,
    QUEUE_DEPTH,
    PANIC,
];

/// The families of this moment.
pub(super) fn gather(pools: &[PoolReport]) -> Result<Vec<MetricFamily>> {
    let registry = Registry::new();
    overall(&registry, pools)?;
    services(&registry, pools)?;
    targets(&registry, pools)?;
    Ok(registry.gather())
}

pub(super) fn keep<C: Collector + Clone + 'static>(registry: &Registry, made: Result<C>) -> Result<C> {
    let collector = made?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn overall(registry: &Registry, pools: &[PoolReport]) -> Result<()> {
    keep(registry, IntGauge::new(UP, "1 while the gateway serves."))?.set(1);
    if let Some(took) = PoolReport::slowest_probe(pools) {
        let help = "Seconds that the slowest target took to answer its last check.";
        keep(registry, Gauge::new(CHECK_DURATION, help))?.set(seconds(took));
    }
    if let Some(ratio) = PoolReport::healthy_ratio(pools) {
        let help = "Share of the services that have a healthy target.";
        keep(registry, Gauge::new(HEALTHY_RATIO, help))?.set(ratio);
    }
    Ok(())
}

fn services(registry: &Registry, pools: &[PoolReport]) -> Result<()> {
    let options = Opts::new(SERVICE_UP, "Whether the service has a healthy target.");
    let up = keep(registry, IntGaugeVec::new(options, &["service"]))?;
    let options = Opts::new(RESPONSE_TIME, "Seconds that the service took to answer its last check.");
    let response_time = keep(registry, GaugeVec::new(options, &["service"]))?;
    let options = Opts::new(IN_FLIGHT, "Requests that the pool's targets are working on.");
    let in_flight = keep(registry, IntGaugeVec::new(options, &["pool"]))?;
    let options = Opts::new(QUEUE_DEPTH, "Requests that wait for a place at a target of the pool.");
    let waiting = keep(registry, IntGaugeVec::new(options, &["pool"]))?;
    let options = Opts::new(PANIC, "Whether less than half of the targets of a pool of several is available.");
    let panic = keep(registry, IntGaugeVec::new(options, &["pool"]))?;
    for pool in pools {
        if let Some(requests) = pool.waiting {
            waiting.with_label_values(&[&*pool.pool]).set(i64::try_from(requests).unwrap_or(i64::MAX));
        }
        panic.with_label_values(&[&*pool.pool]).set(i64::from(pool.panic));
        up.with_label_values(&[&*pool.service]).set(i64::from(pool.is_healthy()));
        if let Some(Probe { took, status: Some(_), .. }) = pool.telling_probe() {
            response_time.with_label_values(&[&*pool.service]).set(seconds(*took));
        }
        let requests = pool.targets.iter().map(|target| target.in_flight).sum::<u64>();
        in_flight.with_label_values(&[&*pool.pool]).set(i64::try_from(requests).unwrap_or(i64::MAX));
    }
    Ok(())
}

fn targets(registry: &Registry, pools: &[PoolReport]) -> Result<()> {
    let options = Opts::new(FAILURES, "Failures counted by the target's circuit breaker.");
    let failures = keep(registry, IntCounterVec::new(options, &["service", "target"]))?;
    let options = Opts::new(TARGET_HEALTHY, "Whether the target passes its checks; absent before the first one.");
    let healthy = keep(registry, IntGaugeVec::new(options, &["pool", "target"]))?;
    let options = Opts::new(CIRCUIT, "State of the target's circuit: 0 closed, 1 half-open, 2 open.");
    let circuit = keep(registry, IntGaugeVec::new(options, &["pool", "target"]))?;
    for pool in pools {
        for target in &pool.targets {
            failures.with_label_values(&[&*pool.service, &*target.label]).inc_by(target.failures);
            circuit.with_label_values(&[&*pool.pool, &*target.label]).set(target.circuit.number());
            match target.health {
                Health::Unknown => {}
                verdict => {
                    healthy.with_label_values(&[&*pool.pool, &*target.label]).set(i64::from(verdict == Health::Healthy))
                }
            }
        }
    }
    Ok(())
}
