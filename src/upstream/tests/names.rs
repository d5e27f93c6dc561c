//! Discovery.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::spec::{BalanceSpec, BalanceWord};
use crate::model::endpoint::Address;
use crate::model::health::{Health, HealthView};
use crate::model::rejection::Rejection;
use crate::upstream::testing::{
    Names, Origin, Reply, checked, eventually, millis, put, registry, resolving, unchecked,
};
use crate::upstream::{Observed, Pool};

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unavailable_and_no_more() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let clock = Clock::system();
    // `.invalid` never resolves (RFC 6761 section 6.4).
    let pool = put(&registry, &checked(&["http://nobody.invalid:80".to_owned()]));
    eventually("the look-up is over", || registry.first_round_done()).await;
    let Err(Rejection::ServiceUnavailable(service, wait)) = pool.pick_any(clock.now()) else { panic!("picked") };
    assert_eq!(&*service, "p");
    assert!(wait.as_secs() >= 1);
    let target = registry.pools()[0].targets[0].clone();
    assert_eq!((target.health, &*target.address, &*target.label), (Health::Unknown, "nobody.invalid:80", "target-1"));
    assert_eq!(target.last_probe.unwrap().error.as_deref(), Some("the name does not resolve"));

    let pool = put(&registry, &checked(&["http://nobody.invalid:80".to_owned(), origin.url()]));
    eventually("the other target serves", || pool.pick_any(clock.now()).is_ok()).await;
    assert_eq!(&**pool.pick_any(clock.now()).unwrap().target().label(), "target-2");
}

#[tokio::test]
async fn localhost_resolves_in_the_background_and_host_is_the_name() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let clock = Clock::system();
    let mut spec = checked(&[format!("http://localhost:{}", origin.addr.port())]);
    spec.resolve_every = millis(20);
    let pool = put(&registry, &spec);
    eventually("available", || pool.pick_any(clock.now()).is_ok()).await;
    let attempt = pool.pick_any(clock.now()).unwrap();
    assert_eq!(attempt.target().socket(), origin.addr);
    let name = format!("localhost:{}", origin.addr.port());
    assert_eq!(attempt.target().authority(), name.as_str());
    assert_eq!(&**attempt.target().address(), format!("{name} ({})", origin.addr));
    assert!(origin.last().to_ascii_lowercase().contains(&format!("host: {name}\r\n")));

    // Looking up again and again changes nothing: the targets stay the same ones.
    let before = origin.count("/health");
    eventually("more probes", || origin.count("/health") > before + 10).await;
    assert_eq!(attempt.target().memory().load.in_flight(), 1);
    assert_eq!(registry.history().iter().filter(|change| change.health == Health::Healthy).count(), 1);
}

#[tokio::test]
async fn two_names_of_one_address_are_one_target() {
    let origin = Origin::start().await;
    let registry = registry(&Clock::system());
    let pool = put(&registry, &unchecked(&[origin.url(), format!(" {} ,{}", origin.url(), origin.url())]));
    assert!(pool.pick_any(Clock::system().now()).is_ok());
    assert_eq!(registry.pools()[0].targets.len(), 1);
}

/// Where requests go now.
fn used(pool: &Pool, clock: &Clock) -> BTreeSet<Address> {
    (0..40).filter_map(|_| pool.pick_any(clock.now()).ok()).map(|attempt| attempt.target().socket()).collect()
}

fn addresses(origins: &[&Origin]) -> BTreeSet<Address> {
    origins.iter().map(|origin| Address::Inet(origin.addr)).collect()
}

#[tokio::test]
async fn a_service_that_is_scaled_out_gets_traffic_after_its_first_check_and_drains_when_scaled_in() {
    let (one, two, three) = (Origin::start().await, Origin::start().await, Origin::start().await);
    let (clock, hand) = Clock::manual();
    let names = Arc::new(Names::default());
    names.set("api", &[&one, &two]);
    let registry = resolving(&clock, &names);
    let mut spec = checked(&["http://api:80".to_owned()]);
    spec.resolve_every = millis(20);
    spec.slow_start = millis(10_000);
    spec.health.as_mut().unwrap().timeout = millis(60_000);
    three.script("/health", Reply::Hang);
    let pool = put(&registry, &spec);
    eventually("both serve", || used(&pool, &clock) == addresses(&[&one, &two])).await;

    names.set("api", &[&one, &two, &three]);
    eventually("the third is being checked", || three.count("/health") == 1).await;
    assert_eq!(used(&pool, &clock), addresses(&[&one, &two]), "not checked yet");
    assert_eq!(registry.pools()[0].targets[2].health, Health::Unknown);
    three.script("/health", Reply::status(200));
    registry.probe_now();
    drop(three);
    let three = Origin::start().await;
    names.set("api", &[&one, &two, &three]);
    eventually("another third serves", || used(&pool, &clock) == addresses(&[&one, &two, &three])).await;
    let share = |origin: &Origin| {
        let picked = (0..1_000).filter(|_| pool.pick_any(clock.now()).unwrap().target().socket() == origin.addr);
        picked.count()
    };
    assert!((35..=70).contains(&share(&three)), "a tenth beside two whole ones: it joined late");
    hand.advance(Duration::from_secs(10));
    assert!((332..=335).contains(&share(&three)));

    let in_flight = loop {
        let attempt = pool.pick_any(clock.now()).unwrap();
        if attempt.target().socket() == one.addr {
            break attempt;
        }
    };
    names.set("api", &[&two, &three]);
    eventually("the first is gone", || used(&pool, &clock) == addresses(&[&two, &three])).await;
    assert_eq!(registry.pools()[0].targets.len(), 2);
    assert_eq!(in_flight.target().memory().load.in_flight(), 1, "its request goes on");
    let mut in_flight = in_flight;
    in_flight.observe(Observed::Success, clock.now());
}

#[tokio::test]
async fn names_that_resolve_one_after_the_other_at_the_start_have_whole_shares() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let (clock, _hand) = Clock::manual();
    let names = Arc::new(Names::default());
    names.set("late", &[&two]);
    let registry = resolving(&clock, &names);
    let mut spec = unchecked(&[one.url(), "http://late:80".to_owned()]);
    spec.slow_start = millis(10_000);
    let pool = put(&registry, &spec);
    eventually("both serve", || used(&pool, &clock) == addresses(&[&one, &two])).await;
    let picked = (0..100).filter(|_| pool.pick_any(clock.now()).unwrap().target().socket() == two.addr);
    assert_eq!(picked.count(), 50);
}

#[tokio::test]
async fn an_address_that_moves_to_another_name_is_another_target_for_the_balancer_too() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let (clock, _hand) = Clock::manual();
    let names = Arc::new(Names::default());
    names.set("a", &[&one]);
    names.set("b", &[&two]);
    let registry = resolving(&clock, &names);
    let mut spec = unchecked(&["http://a:80".to_owned(), "http://b:80".to_owned()]);
    spec.resolve_every = millis(20);
    spec.balance = BalanceSpec::Word(BalanceWord::LeastRequest);
    let pool = put(&registry, &spec);
    eventually("both serve", || used(&pool, &clock) == addresses(&[&one, &two])).await;
    names.set("a", &[&two]);
    names.set("b", &[&one]);
    let swapped = || {
        let targets = registry.pools()[0].targets.clone();
        targets[0].address.contains(&two.addr.to_string()) && targets[1].address.contains(&one.addr.to_string())
    };
    eventually("they swapped", swapped).await;
    // The balancer sees the load of those that are there now: whoever has more gets nothing.
    let balanced = || {
        let held: Vec<_> = (0..40).filter_map(|_| pool.pick_any(clock.now()).ok()).collect();
        held.chunks(2).all(|pair| pair.len() == 2 && pair[0].target().socket() != pair[1].target().socket())
    };
    eventually("the load is seen", balanced).await;
    assert!((0..20).all(|_| balanced()));
}
