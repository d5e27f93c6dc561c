//! Telling the other replicas at once of what was revoked, and listening to them, over Redis.
//!
//! A convenience: whatever is lost here, each replica finds in the store with its next pull.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{Hearing, Revocations, message};
use crate::accounts::Accounts;
use crate::clock::{Clock, Tick};
use crate::store::Revoked;
use crate::store::redis::{Heard, RedisProblem, SharedRedis, Subscription};
use crate::telemetry::metrics::{Metrics, RevocationMessage};

/// Name of the channel, without the prefix.
const CHANNEL: &str = "revocations";
/// Messages that may wait to be sent; more are dropped, and left to the pulls.
const OUTBOX: usize = 4_096;
/// Longest that one message may take.
const SEND_WITHIN: Duration = Duration::from_secs(1);
/// Between two log lines about messages that are none.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Messages on their way out.
pub(super) struct Outbox {
    queue: Sender<String>,
    metrics: Arc<Metrics>,
}

impl Outbox {
    /// Puts a fact on its way, or drops it when too many wait.
    pub(super) fn offer(&self, revoked: &Revoked, until_s: i64) {
        if self.queue.try_send(message::write(revoked, until_s)).is_err() {
            self.metrics.revocation_message(RevocationMessage::Dropped);
        }
    }
}

impl Accounts {
    /// From now on the other replicas are told of what is revoked here, and listened to. The tasks end with `runtime`.
    pub fn share_revocations(&self, redis: &Arc<SharedRedis>, runtime: &Handle) {
        let (queue, outbox) = mpsc::channel(OUTBOX);
        let metrics = self.witness.metrics().clone();
        if self.revocations.outbox.set(Outbox { queue, metrics: metrics.clone() }).is_err() {
            return; // shared already
        }
        runtime.spawn(send(redis.clone(), outbox, metrics.clone()));
        let (revocations, clock) = (self.revocations.clone(), self.clock.clone());
        let mut ear = Ear { revocations, metrics, clock, said_at: None };
        let mut subscription = Subscription::new(redis.clone(), CHANNEL);
        runtime.spawn(async move {
            loop {
                ear.take(subscription.next().await);
            }
        });
    }
}

async fn send(redis: Arc<SharedRedis>, mut outbox: Receiver<String>, metrics: Arc<Metrics>) {
    let channel = redis.key(CHANNEL);
    while let Some(message) = outbox.recv().await {
        let result = match redis.publish(&channel, &message, SEND_WITHIN).await {
            Ok(()) => RevocationMessage::Sent,
            Err(error) => {
                // The connection's own task has said that Redis is away.
                tracing::debug!(%error, "a revocation could not be pushed; replicas will pull it");
                RevocationMessage::Failed
            }
        };
        metrics.revocation_message(result);
    }
}

/// What listens.
struct Ear {
    revocations: Arc<Revocations>,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// When it was last said that a message was none.
    said_at: Option<Tick>,
}

impl Ear {
    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Subscribed => {
                self.metrics.revocations_subscribed(true);
                tracing::info!("revocations of other replicas are heard at once");
                // What was told before is lost here, and in the store.
                self.revocations.want_pull();
            }
            Heard::Lost(error) => {
                self.metrics.revocations_subscribed(false);
                tracing::warn!(%error, "revocations of other replicas are not heard, only pulled");
            }
            Heard::Message(bytes) => self.take_message(&bytes),
        }
    }

    fn take_message(&mut self, bytes: &[u8]) {
        let Some((revoked, until_s)) = message::read(bytes, self.clock.unix_seconds()) else {
            self.metrics.revocation_message(RevocationMessage::Ignored);
            let now = self.clock.now();
            if self.said_at.is_none_or(|at| now.since(at) >= SAY_EVERY) {
                self.said_at = Some(now);
                tracing::warn!(bytes = bytes.len(), "a message about revocations is none of this version; ignored");
            }
            return;
        };
        self.metrics.revocation_message(match self.revocations.hear(&revoked, until_s) {
            Hearing::Applied => RevocationMessage::Applied,
            Hearing::Known => RevocationMessage::Known,
            Hearing::Surplus => RevocationMessage::Surplus,
        });
    }
}

/// Tells all replicas of facts that the store has, from a process that does one thing and ends.
///
/// # Errors
/// When Redis did not take them all: replicas know with their next pull.
pub async fn announce_once(redis: &SharedRedis, facts: &[(Revoked, i64)]) -> Result<(), RedisProblem> {
    redis.connect().await?;
    let channel = redis.key(CHANNEL);
    for (revoked, until_s) in facts {
        redis.publish(&channel, &message::write(revoked, *until_s), SEND_WITHIN).await?;
    }
    Ok(())
}
