//! Which addresses a pool has: names are looked up in the background, the last known good answer is kept, and
//! targets that stay are the very same [`Target`]. Decides nothing about their health.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use async_trait::async_trait;
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::{Backend, Extensions};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::connection;
use super::memory::TargetMemory;
use super::resolver::Resolve;
use super::target::{Earlier, Settings, Share, Target};
use crate::clock::{Clock, Tick};
use crate::model::endpoint::{Address, Endpoint};
use crate::model::health::{Circuit, Health, Probe, TargetReport};

/// Longest a look-up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The addresses of a pool, as known now.
#[derive(Debug)]
pub(super) struct Targets {
    settings: Arc<Settings>,
    clock: Clock,
    set: ArcSwap<Set>,
    looked_up: AtomicBool,
    /// Whether the pool had another configuration before: then what is found first is no start-up.
    reloaded: bool,
    /// When names are looked up next, as a [`Tick`].
    pub(super) next_lookup: AtomicU64,
    /// Asks for a look-up before its time.
    pub(super) wake: Notify,
}

/// One version of the set.
#[derive(Debug, Default)]
pub(super) struct Set {
    entries: Vec<Entry>,
    by_addr: HashMap<Address, Arc<Target>>,
}

/// One target as configured.
#[derive(Debug, Clone)]
pub(super) struct Configured {
    /// Where it is.
    pub(super) endpoint: Endpoint,
    /// Its part in the pool.
    pub(super) share: Share,
}

/// One configured target and its addresses.
#[derive(Debug)]
struct Entry {
    configured: Configured,
    /// Empty when the name never resolved, or when an earlier entry has all its addresses.
    targets: Vec<Arc<Target>>,
    /// The look-up that failed last, if the last one did.
    failed: Option<Probe>,
    resolved: bool,
}

/// What is known about one endpoint's addresses; `Err` keeps the earlier ones.
type Found = Result<Vec<Address>, Option<Probe>>;

impl Set {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.entries.iter().flat_map(|entry| &entry.targets)
    }

    pub(super) fn get(&self, addr: &Address) -> Option<&Arc<Target>> {
        self.by_addr.get(addr)
    }

    pub(super) fn len(&self) -> usize {
        self.by_addr.len()
    }

    /// Whether some of it gets traffic.
    fn serves(&self) -> bool {
        self.iter().any(|target| target.verdict.is_healthy())
    }

    fn memories(&self) -> Vec<Arc<TargetMemory>> {
        self.iter().map(|target| target.memory().clone()).collect()
    }

    /// The entry of the same configured target: the one at `index`, or where the configuration moved it.
    fn entry(&self, index: usize, endpoint: &Endpoint) -> Option<&Entry> {
        let same = |entry: &&Entry| entry.configured.endpoint == *endpoint;
        self.entries.get(index).filter(same).or_else(|| self.entries.iter().find(same))
    }
}

impl Targets {
    /// What is known without any look-up: literal addresses, and what `earlier` knew of the same names.
    pub(super) fn new(
        configured: &[Configured],
        settings: Arc<Settings>,
        clock: Clock,
        earlier: Option<&Set>,
    ) -> Targets {
        let nothing = Set::default();
        let reloaded = earlier.is_some();
        let earlier = earlier.unwrap_or(&nothing);
        let found: Vec<Found> =
            configured.iter().map(|target| target.endpoint.literal().map(|addr| vec![addr]).ok_or(None)).collect();
        let now = clock.now();
        let set = place(configured.iter().cloned().zip(found), earlier, &settings, earlier.serves(), now);
        settings.ejections.over(set.memories());
        Targets {
            settings,
            reloaded,
            looked_up: AtomicBool::new(configured.iter().all(|target| target.endpoint.literal().is_some())),
            next_lookup: AtomicU64::new(now.0),
            wake: Notify::new(),
            set: ArcSwap::from_pointee(set),
            clock,
        }
    }

    pub(super) fn load(&self) -> Guard<Arc<Set>> {
        self.set.load()
    }

    /// Looks all names up, at the same time, and takes the answers over. Safe to drop half-way.
    pub(super) async fn look_up(&self, resolver: &Arc<dyn Resolve>) {
        let set = self.set.load_full();
        let mut found: Vec<(Configured, Found)> = Vec::with_capacity(set.entries.len());
        let mut lookups = JoinSet::new();
        for (index, entry) in set.entries.iter().enumerate() {
            let endpoint = &entry.configured.endpoint;
            match endpoint.literal() {
                Some(addr) => found.push((entry.configured.clone(), Ok(vec![addr]))),
                None => {
                    found.push((entry.configured.clone(), Err(None)));
                    let (endpoint, clock, resolver) = (endpoint.clone(), self.clock.clone(), resolver.clone());
                    lookups.spawn(async move { (index, addresses(&endpoint, &clock, &*resolver).await) });
                }
            }
        }
        while let Some(done) = lookups.join_next().await {
            if let Ok((index, answer)) = done
                && let Some((configured, slot)) = found.get_mut(index)
            {
                self.log_change(set.entries.get(index), &configured.endpoint, &answer);
                *slot = answer;
            }
        }
        let serves = (self.reloaded || self.looked_up.load(Ordering::Acquire)) && set.serves();
        let next = place(found.into_iter(), &set, &self.settings, serves, self.clock.now());
        self.settings.ejections.over(next.memories());
        self.set.store(Arc::new(next));
        self.looked_up.store(true, Ordering::Release);
    }

    fn log_change(&self, before: Option<&Entry>, endpoint: &Endpoint, answer: &Found) {
        let failed_before = before.is_some_and(|entry| entry.failed.is_some());
        let service = &*self.settings.service;
        match answer {
            Err(_) if !failed_before => {
                tracing::warn!(service, name = %endpoint, "name does not resolve; last known addresses stay in use");
            }
            Ok(found) if failed_before => {
                tracing::info!(service, name = %endpoint, addresses = found.len(), "name resolves again");
            }
            _ => {}
        }
    }

    /// Whether every name was looked up and every target that is there was probed, or need not be.
    pub(super) fn first_round_done(&self) -> bool {
        self.looked_up.load(Ordering::Acquire) && self.load().iter().all(|target| target.verdict.probed())
    }

    pub(super) fn lookup_wait(&self, now: Tick) -> Duration {
        Tick(self.next_lookup.load(Ordering::Relaxed)).since(now)
    }

    pub(super) fn reports(&self, now: Tick) -> Vec<TargetReport> {
        let set = self.load();
        let mut reports = Vec::with_capacity(set.len());
        for (index, entry) in set.entries.iter().enumerate() {
            reports.extend(entry.targets.iter().map(|target| target.report(now)));
            if entry.targets.is_empty() && !entry.resolved {
                reports.push(TargetReport {
                    label: Arc::from(label(index, 0)),
                    address: Arc::from(entry.configured.endpoint.to_string()),
                    health: Health::Unknown,
                    last_probe: entry.failed.clone(),
                    circuit: Circuit::Closed,
                    failures: 0,
                    in_flight: 0,
                    weight: entry.configured.share.weight,
                    backup: entry.configured.share.backup,
                    draining: entry.configured.share.drain,
                });
            }
        }
        reports
    }
}

/// The next version of the set. Targets of `earlier` with the same endpoint and address are taken over: as they
/// are when their settings are these, and else with what is known about them. `serves`: others get traffic already.
fn place(
    found: impl Iterator<Item = (Configured, Found)>,
    earlier: &Set,
    settings: &Arc<Settings>,
    serves: bool,
    now: Tick,
) -> Set {
    let mut set = Set::default();
    for (index, (configured, found)) in found.enumerate() {
        let before = earlier.entry(index, &configured.endpoint);
        let known = before.map_or(&[][..], |entry| &entry.targets);
        let (addresses, failed, resolved) = match found {
            Ok(addresses) => (addresses, None, true),
            Err(failed) => {
                let resolved = before.is_some_and(|entry| entry.resolved);
                (known.iter().map(|target| target.socket()).collect(), failed, resolved)
            }
        };
        let mut targets: Vec<Arc<Target>> = Vec::with_capacity(addresses.len());
        let fresh: BTreeSet<Address> = addresses.into_iter().filter(|addr| !set.by_addr.contains_key(addr)).collect();
        // Those that stay come first, so that their labels stay as well.
        let (stay, join): (Vec<_>, Vec<_>) =
            fresh.into_iter().partition(|addr| known.iter().any(|target| target.socket() == *addr));
        for addr in stay.into_iter().chain(join) {
            let before = known.iter().find(|target| target.socket() == addr);
            let target = match before {
                Some(same) if Arc::ptr_eq(same.settings(), settings) => same.clone(),
                _ => {
                    let label = free_label(index, &targets);
                    let earlier = Earlier { target: before.map(|target| &**target), serves };
                    Arc::new(Target::new(&configured, addr.clone(), label, settings, earlier, now))
                }
            };
            set.by_addr.insert(addr, target.clone());
            targets.push(target);
        }
        set.entries.push(Entry { configured, targets, failed, resolved });
    }
    set
}

/// The first label of an entry that none of its targets has.
fn free_label(index: usize, targets: &[Arc<Target>]) -> String {
    let taken = |label: &String| targets.iter().any(|target| **target.label() == **label);
    (0..=targets.len()).map(|ordinal| label(index, ordinal)).find(|label| !taken(label)).unwrap_or_default()
}

fn label(index: usize, ordinal: usize) -> String {
    let (entry, address) = (index + 1, ordinal + 1);
    if ordinal == 0 { format!("target-{entry}") } else { format!("target-{entry}-{address}") }
}

async fn addresses(endpoint: &Endpoint, clock: &Clock, resolver: &dyn Resolve) -> Found {
    let started = clock.now();
    let found: Vec<Address> = match endpoint.name() {
        Some(name) => match tokio::time::timeout(LOOKUP_TIMEOUT, resolver.addresses(name.0, name.1)).await {
            Ok(Ok(found)) => found.into_iter().map(Address::Inet).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        },
        None => endpoint.literal().into_iter().collect(),
    };
    if !found.is_empty() {
        return Ok(found);
    }
    Err(Some(Probe {
        at: clock.wall(),
        took: clock.now().since(started),
        status: None,
        error: Some(Arc::from("the name does not resolve")),
        version: None,
        uptime: None,
    }))
}

/// The set, as Pingora's load balancer asks for it; never waits, so its `update()` is done at the first poll.
pub(super) struct Discovered(pub(super) Arc<Targets>);

#[async_trait]
impl ServiceDiscovery for Discovered {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let set = self.0.load();
        // Pingora compares backends by address and weight, and uses the weight for nothing else here: so another
        // target at the same address is another set.
        let backend = |(addr, target): (&Address, &Arc<Target>)| Backend {
            addr: connection::socket_address(addr),
            weight: target.token(),
            ext: Extensions::new(),
        };
        Ok((set.by_addr.iter().map(backend).collect(), HashMap::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::{checked, millis};
    use std::net::SocketAddr;

    const NOW: Tick = Tick(0);

    fn settings(read: u64) -> Arc<Settings> {
        let mut spec = checked(&[]);
        spec.timeouts.read = millis(read);
        Arc::new(Settings::of("cv-parser", &spec, &crate::upstream::testing::metrics(), &Arc::default()))
    }

    fn ips(last: &[u8]) -> Found {
        Ok(last.iter().map(|n| Address::Inet(([10, 0, 0, *n], 80).into())).collect())
    }

    fn next(earlier: &Set, settings: &Arc<Settings>, found: Vec<(&str, Found)>) -> Set {
        let found = found.into_iter().map(|(name, found)| (at(&format!("http://{name}")), found));
        place(found, earlier, settings, false, NOW)
    }

    fn at(url: &str) -> Configured {
        Configured { endpoint: url.parse().unwrap(), share: Share { weight: 1, backup: false, drain: false } }
    }

    fn labels(set: &Set) -> Vec<(String, u8)> {
        let last = |target: &Arc<Target>| match target.socket().inet() {
            Some(SocketAddr::V4(addr)) => addr.ip().octets()[3],
            _ => 0,
        };
        set.iter().map(|target| (target.label().to_string(), last(target))).collect()
    }

    fn label_of(text: &str, last: u8) -> (String, u8) {
        (text.to_owned(), last)
    }

    #[test]
    fn a_failed_look_up_keeps_the_very_same_targets() {
        let settings = settings(1);
        let before = next(&Set::default(), &settings, vec![("a:80", ips(&[1, 2]))]);
        let after = next(&before, &settings, vec![("a:80", Err(None))]);
        assert_eq!(labels(&after), labels(&before));
        assert!(before.iter().zip(after.iter()).all(|(one, other)| Arc::ptr_eq(one, other)));
    }

    #[test]
    fn labels_stay_with_their_addresses_and_free_ones_are_given_again() {
        let settings = settings(1);
        let one = next(&Set::default(), &settings, vec![("a:80", ips(&[3, 4])), ("b:80", ips(&[9]))]);
        assert_eq!(labels(&one), [label_of("target-1", 3), label_of("target-1-2", 4), label_of("target-2", 9)]);
        let two = next(&one, &settings, vec![("a:80", ips(&[2, 4])), ("b:80", ips(&[9]))]);
        assert_eq!(labels(&two), [label_of("target-1-2", 4), label_of("target-1", 2), label_of("target-2", 9)]);
    }

    #[test]
    fn another_configuration_takes_over_addresses_and_circuits_of_the_same_names_wherever_they_moved() {
        let (old, new) = (settings(1), settings(2));
        let before = next(&Set::default(), &old, vec![("a:80", ips(&[1])), ("b:80", ips(&[2]))]);
        let after = next(&before, &new, vec![("c:80", Err(None)), ("b:80", Err(None)), ("a:80", Err(None))]);
        assert_eq!(labels(&after), [label_of("target-2", 2), label_of("target-3", 1)]);
        for target in after.iter() {
            let same = before.get(&target.socket()).unwrap();
            assert!(Arc::ptr_eq(same.memory(), target.memory()) && !Arc::ptr_eq(same, target));
        }
    }

    #[test]
    fn the_same_address_under_another_name_or_port_is_another_target() {
        let (old, new) = (settings(1), settings(2));
        let before = next(&Set::default(), &old, vec![("a:80", ips(&[1]))]);
        let after = next(&before, &new, vec![("b:80", ips(&[1]))]);
        let pair = before.iter().zip(after.iter()).next().unwrap();
        assert!(!Arc::ptr_eq(pair.0.memory(), pair.1.memory()));
    }
}
