//! The trail as a whole: in order, once, whatever the store does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::testing::{Stub, entries, entry};
use super::*;
use crate::clock::Hand;
use crate::model::identity::UserId;
use crate::telemetry::metrics::AuthEvent;

/// Never reached when things work.
const PATIENCE: Duration = Duration::from_secs(20);

/// As fast as a test can be.
const FAST: Pace = Pace {
    patience: Duration::from_millis(5),
    first_retry: Duration::from_millis(1),
    last_retry: Duration::from_secs(5),
    farewell: Duration::from_millis(5),
    settle: Duration::from_millis(1),
};

struct World {
    store: Arc<Stub>,
    audit: Audit,
    metrics: AuditMetrics,
    hand: Hand,
    folder: tempfile::TempDir,
}

fn world() -> (World, Writer) {
    world_with(1 << 20, tempfile::tempdir().unwrap(), Arc::new(Stub::default()))
}

fn world_with(cap: u64, folder: tempfile::TempDir, store: Arc<Stub>) -> (World, Writer) {
    let (clock, hand) = Clock::manual();
    let registry = Metrics::new("1").unwrap();
    let (audit, queue) = Audit::in_memory(clock, &registry);
    let shared = audit.0.clone().unwrap();
    let spool = Spool::new(folder.path().join(SPOOL_NAME), cap);
    let mut writer =
        Writer::new(store.clone(), queue, shared.desk.clone(), spool, shared.lines.clone(), shared.stop.clone(), FAST);
    writer.take_over();
    (World { store, audit, metrics: registry.audit(), hand, folder }, writer)
}

impl World {
    fn counts(&self) -> (u64, i64, u64) {
        (self.metrics.records.get(), self.metrics.spooled.get(), self.metrics.dropped.get())
    }
}

fn ids(prefix: &str, count: usize) -> Vec<String> {
    entries(prefix, count).into_iter().map(|entry| entry.id).collect()
}

async fn until(holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("it holds in time");
}

#[tokio::test]
async fn a_store_that_was_down_gets_everything_once_and_in_order() {
    let (world, mut writer) = world();
    writer.keep(entries("a", 2)).await;
    world.store.down.store(true, Ordering::Release);
    writer.keep(entries("b", 600)).await;
    writer.keep(entries("c", 1)).await;
    writer.drain().await;
    assert_eq!(world.counts(), (2, 601, 0));
    world.store.down.store(false, Ordering::Release);
    // What comes while others wait goes behind them.
    writer.keep(entries("d", 1)).await;
    while writer.spool.waiting() > 0 {
        writer.drain().await;
    }
    writer.keep(entries("e", 1)).await;
    let expected = [ids("a", 2), ids("b", 600), ids("c", 1), ids("d", 1), ids("e", 1)].concat();
    assert_eq!(world.store.ids(), expected);
    assert_eq!(world.counts(), (605, 0, 0));
    verify::chain(&*world.store).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_was_lost_makes_no_record_twice() {
    let (world, mut writer) = world();
    world.store.mute.store(true, Ordering::Release);
    writer.keep(entries("a", 3)).await;
    world.store.mute.store(false, Ordering::Release);
    writer.keep(entries("b", 1)).await;
    assert_eq!((world.store.ids(), writer.spool.waiting()), (ids("a", 3), 4));
    while writer.spool.waiting() > 0 {
        writer.drain().await;
    }
    assert_eq!(world.store.ids(), [ids("a", 3), ids("b", 1)].concat());
}

#[tokio::test]
async fn what_a_killed_process_left_is_drained_and_nothing_twice() {
    let (world, mut writer) = world();
    world.store.down.store(true, Ordering::Release);
    writer.keep(entries("a", 600)).await;
    world.store.down.store(false, Ordering::Release);
    writer.drain().await; // one batch; then it is killed, before the spool is empty
    assert_eq!(world.store.ids().len(), 256);
    drop(writer);
    let path = world.folder.path().join(SPOOL_NAME);
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"event\":\"torn");
    std::fs::write(&path, text).unwrap();

    let (world, mut writer) = world_with(1 << 20, world.folder, world.store);
    assert_eq!(world.counts(), (0, 600, 1));
    writer.keep(entries("b", 1)).await;
    while writer.spool.waiting() > 0 {
        writer.drain().await;
    }
    assert_eq!(world.store.ids(), [ids("a", 600), ids("b", 1)].concat());
    assert_eq!(world.counts(), (345, 0, 1));
}

#[tokio::test]
async fn a_spool_that_somebody_else_changed_stops_nothing() {
    for change in [b"".as_slice(), b"nonsense\n"] {
        let (world, mut writer) = world();
        world.store.down.store(true, Ordering::Release);
        writer.keep(entries("a", 2)).await;
        world.store.down.store(false, Ordering::Release);
        std::fs::write(world.folder.path().join(SPOOL_NAME), change).unwrap();
        writer.drain().await;
        assert_eq!((writer.spool.waiting(), world.metrics.spooled.get()), (0, 0));
        writer.keep(entries("b", 1)).await;
        assert_eq!(world.store.ids(), ids("b", 1));
    }
}

#[tokio::test]
async fn while_an_addition_hangs_all_goes_to_the_disk() {
    let (world, writer) = world();
    world.store.hangs.store(true, Ordering::Release);
    let running = tokio::spawn(writer.run());
    let tell = |event| world.audit.record(Event::new(EventKind::Auth(event)));
    tell(AuthEvent::UserCreated);
    until(|| world.metrics.spooled.get() == 1).await;
    tell(AuthEvent::LoginSuccess);
    until(|| world.metrics.spooled.get() == 2).await;
    world.store.hangs.store(false, Ordering::Release);
    world.store.let_go.notify_one();
    until(|| world.counts() == (2, 0, 0)).await;
    tell(AuthEvent::PasswordChange);
    until(|| world.counts() == (3, 0, 0)).await;
    let events = world.store.chain.lock().records.iter().map(|record| record.entry.clone()).collect::<String>();
    let places = ["user_created", "authn_login_success", "authn_password_change"].map(|name| events.find(name));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{events}");
    assert!(world.audit.close(PATIENCE).await);
    running.await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_process_keeps_what_is_queued() {
    for hangs in [false, true] {
        let (world, writer) = world();
        world.store.hangs.store(hangs, Ordering::Release);
        for _ in 0..1_000 {
            world.audit.record(Event::new(EventKind::Auth(AuthEvent::TokenCreated)));
        }
        world.audit.close(PATIENCE).await;
        writer.run().await;
        let expected = if hangs { (0, 1_000, 0) } else { (1_000, 0, 0) };
        assert_eq!(world.counts(), expected);
        world.audit.record(Event::new(EventKind::Shutdown));
        assert_eq!(world.metrics.dropped.get(), 1, "too late, and counted");
    }
}

#[tokio::test]
async fn what_no_disk_takes_is_counted() {
    let one = serde_json::to_vec(&entry("a0")).unwrap().len() as u64 + 1;
    let (world, mut writer) = world_with(2 * one, tempfile::tempdir().unwrap(), Arc::new(Stub::default()));
    world.store.down.store(true, Ordering::Release);
    writer.keep(entries("a", 5)).await;
    assert_eq!(world.counts(), (0, 2, 3));
    writer.keep(entries("b", 1)).await;
    assert_eq!(world.counts(), (0, 2, 4));
}

#[tokio::test]
async fn a_full_queue_is_counted_and_nobody_waits() {
    let (world, writer) = world();
    for _ in 0..QUEUE + 10 {
        world.audit.record(Event::new(EventKind::Auth(AuthEvent::TokenCreated)));
    }
    assert_eq!(world.metrics.dropped.get(), 10);
    world.audit.close(PATIENCE).await;
    writer.run().await;
    assert_eq!(world.metrics.records.get(), QUEUE as u64);
}

#[tokio::test]
async fn a_flood_becomes_a_few_records_with_its_number() {
    let (world, writer) = world();
    let running = tokio::spawn(writer.run());
    for user in 0..500_u16 {
        let [high, low] = user.to_be_bytes();
        let fail = Event::new(EventKind::Auth(AuthEvent::LoginFail)).on(Subject::User(UserId(user.into())));
        world.audit.record(fail.from(Some([10, 0, high, low].into()), None));
    }
    world.hand.advance(Duration::from_secs(1));
    until(|| world.store.chain.lock().records.len() == 11).await;
    let last = world.store.chain.lock().records[10].entry.clone();
    assert!(last.contains("authn_login_fail") && last.contains("and 490 more until 2026-01-01T00:00:00Z"), "{last}");
    world.audit.close(PATIENCE).await;
    running.await.unwrap();
    assert_eq!(world.metrics.dropped.get(), 0);
}

#[tokio::test]
async fn the_thread_writes_records_and_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (store, registry, (clock, _)) = (Arc::new(Stub::default()), Metrics::new("1").unwrap(), Clock::manual());
    store.append_audit(entries("before", 1)).await.unwrap();
    let config = AuditConfig {
        spool: folder.path().join(SPOOL_NAME),
        spool_max: 1 << 20,
        lines: Sink::File(folder.path().join("audit.log")),
        retention: Duration::from_secs(100_000_000_000),
    };
    let audit = Audit::start(store.clone(), &config, clock, &registry, &Handle::current()).unwrap();
    audit.record(Event::new(EventKind::Startup).by(Actor::Gateway));
    audit.record(Event::new(EventKind::Auth(AuthEvent::LoginSuccess)).by(Actor::User(UserId(7))));
    assert!(audit.close(PATIENCE).await);
    let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    let agreed = verify::lines(&*store, text.as_bytes()).await.unwrap();
    assert_eq!((agreed.lines, agreed.others), (2, 0));
    assert_eq!(verify::chain(&*store).await.unwrap().records, 3);
}
