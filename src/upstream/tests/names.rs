//! Discovery.

use crate::clock::Clock;
use crate::model::health::{Health, HealthView};
use crate::model::rejection::Rejection;
use crate::upstream::testing::{Origin, checked, eventually, millis, put, registry, unchecked};

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unavailable_and_no_more() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let clock = Clock::system();
    // `.invalid` never resolves (RFC 6761 section 6.4).
    let pool = put(&registry, &checked(&["http://nobody.invalid:80".to_owned()]));
    eventually("the look-up is over", || registry.first_round_done()).await;
    let Err(Rejection::ServiceUnavailable(service, wait)) = pool.pick(clock.now()) else { panic!("picked") };
    assert_eq!(&*service, "p");
    assert!(wait.as_secs() >= 1);
    let target = registry.pools()[0].targets[0].clone();
    assert_eq!((target.health, &*target.address, &*target.label), (Health::Unknown, "nobody.invalid:80", "target-1"));
    assert_eq!(target.last_probe.unwrap().error.as_deref(), Some("the name does not resolve"));

    let pool = put(&registry, &checked(&["http://nobody.invalid:80".to_owned(), origin.url()]));
    eventually("the other target serves", || pool.pick(clock.now()).is_ok()).await;
    assert_eq!(&**pool.pick(clock.now()).unwrap().target().label(), "target-2");
}

#[tokio::test]
async fn localhost_resolves_in_the_background_and_host_is_the_name() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let clock = Clock::system();
    let mut spec = checked(&[format!("http://localhost:{}", origin.addr.port())]);
    spec.resolve_every = millis(20);
    let pool = put(&registry, &spec);
    eventually("available", || pool.pick(clock.now()).is_ok()).await;
    let attempt = pool.pick(clock.now()).unwrap();
    assert_eq!(attempt.target().socket(), origin.addr);
    let name = format!("localhost:{}", origin.addr.port());
    assert_eq!(attempt.target().authority(), name.as_str());
    assert_eq!(&**attempt.target().address(), format!("{name} ({})", origin.addr));
    assert!(origin.last().to_ascii_lowercase().contains(&format!("host: {name}\r\n")));

    // Looking up again and again changes nothing: the targets stay the same ones.
    let before = origin.count("/health");
    eventually("more probes", || origin.count("/health") > before + 10).await;
    assert_eq!(attempt.target().circuit.in_flight(), 1);
    assert_eq!(registry.history().iter().filter(|change| change.health == Health::Healthy).count(), 1);
}

#[tokio::test]
async fn two_names_of_one_address_are_one_target() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let pool = put(&registry, &unchecked(&[origin.url(), format!(" {} ,{}", origin.url(), origin.url())]));
    assert!(pool.pick(Clock::system().now()).is_ok());
    assert_eq!(registry.pools()[0].targets.len(), 1);
}
