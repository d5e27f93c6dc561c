//! The one writer: from the queue to the store, or to the spool and from there to the store. Keeps the order.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, Sleep, sleep, timeout};

use super::Desk;
use super::lines::Lines;
use super::slot::Slot;
use super::spool::Spool;
use crate::store::{AuditEntry, AuditHash, AuditRecord, AuditStore, StoreError};

/// Entries that are added at once.
const BATCH: usize = 256;
/// Records of the store that are searched for ids of the spool. More of them can only have come from other replicas
/// between an addition and the answer that was lost.
const RECENT: u32 = 5_000;

type Answer = Result<Vec<AuditRecord>, StoreError>;

/// How long the writer waits for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// An addition that takes longer goes to the spool as well, with all that comes behind it.
    pub(super) patience: Duration,
    /// Between a failure and the next try; doubles from the first to the last.
    pub(super) first_retry: Duration,
    pub(super) last_retry: Duration,
    /// How long an addition that hangs is waited for at the end.
    pub(super) farewell: Duration,
    /// How often floods are settled.
    pub(super) settle: Duration,
}

impl Pace {
    pub(super) const REAL: Pace = Pace {
        patience: Duration::from_millis(250),
        first_retry: Duration::from_secs(1),
        last_retry: Duration::from_secs(30),
        farewell: Duration::from_secs(1),
        settle: Duration::from_secs(1),
    };
}

pub(super) struct Writer {
    store: Arc<dyn AuditStore>,
    queue: mpsc::Receiver<AuditEntry>,
    desk: Arc<Desk>,
    pub(super) spool: Spool,
    /// Holds the spool against other processes; tests have none.
    slot: Option<Slot>,
    lines: Arc<Lines>,
    stop: Arc<Notify>,
    pace: Pace,
    /// Until when the store is left alone; `None`: it may be asked.
    pause: Option<Pin<Box<Sleep>>>,
    retry: Duration,
    /// Whether the spool may hold entries that the store has already.
    doubtful: bool,
    /// The last record that this process added.
    last: Option<(i64, AuditHash)>,
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn AuditStore>,
        queue: mpsc::Receiver<AuditEntry>,
        desk: Arc<Desk>,
        spool: Spool,
        lines: Arc<Lines>,
        stop: Arc<Notify>,
        pace: Pace,
    ) -> Writer {
        let retry = pace.first_retry;
        let slot = None;
        Writer { store, queue, desk, spool, slot, lines, stop, pace, pause: None, retry, doubtful: true, last: None }
    }

    /// The same, which holds its spool and empties those that nobody has.
    pub(super) fn adopting(self, slot: Slot) -> Writer {
        Writer { slot: Some(slot), ..self }
    }

    /// Writes until told to stop, or until nobody can record any more, and everything is in the store or the spool.
    pub(super) async fn run(mut self) {
        self.take_over();
        let mut settle = tokio::time::interval(self.pace.settle);
        settle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                count = self.queue.recv_many(&mut batch, BATCH) => match count {
                    0 => break,
                    _ => self.keep(std::mem::take(&mut batch)).await,
                },
                () = over(&mut self.pause), if self.spool.waiting() > 0 => self.drain().await,
                _ = settle.tick() => {
                    self.adopt();
                    self.keep(self.desk.flood.settle()).await;
                }
                () = stop.notified() => self.queue.close(),
            }
        }
        self.keep(self.desk.flood.settle()).await;
    }

    /// Counts what an earlier process left in the spool.
    pub(super) fn take_over(&mut self) {
        self.doubtful = true;
        match self.spool.take_over() {
            Ok(None) => {}
            Ok(Some(aside)) => {
                self.desk.loss.count(aside.lines);
                let file = aside.path.display();
                tracing::error!(lines = aside.lines, %file, "lines of the audit spool are no entries, as after a crash: they were set aside");
            }
            Err(error) => tracing::error!(%error, "the audit spool cannot be read; what is in it waits there"),
        }
        self.gauge();
        if self.spool.waiting() > 0 {
            tracing::info!(entries = self.spool.waiting(), "the audit spool has entries of before");
        }
    }

    /// Goes on with the spool of a process that has ended, once its own is empty.
    pub(super) fn adopt(&mut self) {
        if self.spool.waiting() > 0 {
            return;
        }
        if let Some(left) = self.slot.as_ref().and_then(Slot::orphan) {
            self.spool = self.spool.moved_to(left.path().to_owned());
            self.slot = Some(left);
            self.take_over();
        }
    }

    /// Sees to it that these entries are kept.
    pub(super) async fn keep(&mut self, batch: Vec<AuditEntry>) {
        if batch.is_empty() {
            return;
        }
        if self.spool.waiting() > 0 {
            return self.put_by(&batch);
        }
        let (answer, kept) = self.add(&batch, None).await;
        match (answer, kept) {
            (Some(Ok(records)), None) => self.added(&records).await,
            (Some(Ok(records)), Some(kept)) => {
                self.left(kept);
                self.added(&records).await;
            }
            (Some(Err(error)), None) => {
                self.failed(&error);
                self.put_by(&batch);
            }
            (Some(Err(error)), Some(kept)) => {
                self.failed(&error);
                self.desk.loss.of(batch.get(kept..).unwrap_or_default(), "neither store nor spool took them");
            }
            // It is in the spool; whether it is in the store as well, the next process will see.
            (None, _) => {}
        }
    }

    /// Moves one batch from the spool to the store.
    pub(super) async fn drain(&mut self) {
        if let Err(error) = self.drain_batch().await {
            self.failed(&error);
        }
    }

    async fn drain_batch(&mut self) -> Result<(), StoreError> {
        if self.doubtful {
            let limit = self.pace.last_retry;
            let slow = |_| StoreError::Unavailable("it does not answer in time".into());
            let ids = timeout(limit, recent_ids(&*self.store)).await.map_err(slow)??;
            let there = self.spool.skip_past(&ids).map_err(|error| {
                self.take_over();
                StoreError::Unavailable(format!("the spool cannot be read: {error}"))
            })?;
            if there > 0 {
                tracing::info!(entries = there, "entries of the audit spool are in the store already");
            }
            (self.doubtful, self.pause) = (false, None);
            self.gauge();
        }
        let batch = self.spool.peek(BATCH).unwrap_or_default();
        if batch.is_empty() {
            // Somebody else removed or changed the file: what is left of it is read anew, after a pause.
            self.take_over();
            return Err(StoreError::Unavailable("the spool is not as it was left".into()));
        }
        let (Some(answer), _) = self.add(&batch, Some(batch.len())).await else { return Ok(()) };
        let records = answer?;
        self.left(batch.len());
        self.added(&records).await;
        if self.spool.waiting() == 0 {
            tracing::info!("the audit spool is empty again");
        }
        Ok(())
    }

    /// Adds a batch to the store. While that takes long, the batch (unless so many of it are `spooled` already) and
    /// what comes behind it go to the spool. Answers what the store said, or nothing when the end came first, and how
    /// many of the batch are in the spool.
    async fn add(&mut self, batch: &[AuditEntry], spooled: Option<usize>) -> (Option<Answer>, Option<usize>) {
        let store = self.store.clone();
        let mut adding = store.append_audit(batch.to_vec());
        if let Ok(answer) = timeout(self.pace.patience, &mut adding).await {
            return (Some(answer), spooled);
        }
        let kept = spooled.unwrap_or_else(|| self.spool.push(batch).entries);
        self.gauge();
        let stop = self.stop.clone();
        let (mut more, mut ending) = (Vec::with_capacity(BATCH), false);
        loop {
            tokio::select! {
                answer = &mut adding => return (Some(answer), Some(kept)),
                count = self.queue.recv_many(&mut more, BATCH), if !ending => {
                    ending = count == 0;
                    self.put_by(&more);
                    more.clear();
                }
                () = stop.notified() => self.queue.close(),
                () = sleep(self.pace.farewell), if ending => {
                    self.desk.loss.of(batch.get(kept..).unwrap_or_default(), "neither store nor spool took them");
                    return (None, Some(kept));
                }
            }
        }
    }

    /// Puts entries into the spool; those that it does not take are lost.
    fn put_by(&mut self, entries: &[AuditEntry]) {
        if entries.is_empty() {
            return;
        }
        if !self.spool.is_known() {
            self.take_over();
        }
        let kept = self.spool.push(entries);
        if let Some(why) = kept.problem {
            self.desk.loss.of(entries.get(kept.entries..).unwrap_or_default(), &why);
        }
        self.gauge();
    }

    /// So many entries at the head of the spool are in the store.
    fn left(&mut self, entries: usize) {
        if let Err(error) = self.spool.advance(entries) {
            self.doubtful = true;
            tracing::error!(%error, "the audit spool cannot be shortened; its entries are compared with the store's");
        }
        self.gauge();
    }

    /// The store took them.
    async fn added(&mut self, records: &[AuditRecord]) {
        (self.retry, self.pause) = (self.pace.first_retry, None);
        self.desk.metrics.records.inc_by(records.len() as u64);
        let (Some(first), Some(end)) = (records.first(), records.last()) else { return };
        let last = self.last.replace((end.seq, end.hash));
        if !self.lines.is_on() {
            return;
        }
        let previous = match last {
            Some((seq, hash)) if seq == first.seq - 1 => Some(hash),
            _ => timeout(self.pace.last_retry, hash_of(&*self.store, first.seq - 1)).await.unwrap_or(None),
        };
        match previous.filter(|previous| first.follows(first.seq - 1, previous)) {
            Some(previous) => self.lines.write(previous, records),
            None => {
                self.lines.skip(records.len());
                tracing::warn!(
                    from = first.seq,
                    to = end.seq,
                    "audit lines are left out: the record before them cannot be read"
                );
            }
        }
    }

    /// The store did not answer as it should: it is left alone for a while.
    fn failed(&mut self, error: &StoreError) {
        if self.retry == self.pace.first_retry {
            tracing::error!(%error, "audit entries go to the spool until the store takes them");
        }
        self.doubtful = true;
        self.pause = Some(Box::pin(sleep(self.retry)));
        self.retry = (self.retry * 2).min(self.pace.last_retry);
    }

    fn gauge(&self) {
        self.desk.metrics.spooled.set(i64::try_from(self.spool.waiting()).unwrap_or(i64::MAX));
    }
}

/// Returns when the pause is over; at once when there is none.
async fn over(pause: &mut Option<Pin<Box<Sleep>>>) {
    if let Some(sleep) = pause {
        sleep.await;
    }
    *pause = None;
}

/// Ids of the last records of the store.
async fn recent_ids(store: &dyn AuditStore) -> Result<HashSet<String>, StoreError> {
    let head = store.audit_head().await?;
    let records = store.audit_since(head.last_seq.saturating_sub(i64::from(RECENT)), RECENT).await?;
    Ok(records.iter().filter_map(AuditRecord::id).collect())
}

/// Hash of the record with this number.
async fn hash_of(store: &dyn AuditStore, seq: i64) -> Option<AuditHash> {
    let found = store.audit_since(seq - 1, 1).await.ok()?.into_iter().next();
    match found {
        Some(record) if record.seq == seq => Some(record.hash),
        _ => {
            let head = store.audit_head().await.ok()?;
            (head.anchor_seq == seq).then_some(head.anchor_hash)
        }
    }
}
