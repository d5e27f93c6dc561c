//! What was revoked, in memory, asked on every request after the credential itself verified.
//!
//! The store is the truth; this is its small image. Facts come three ways: this process made them ([`Revocations::apply`]),
//! a pull found them in the store, or another replica told of them. What is only told is kept apart and forgotten as
//! soon as a later pull succeeds: by then the store has told it too, or it was never true.

mod facts;
mod message;
mod push;

#[cfg(test)]
mod tests;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::LEEWAY_S;
use crate::clock::Tick;
use crate::model::identity::{Identity, KeyId};
use crate::store::{Revocation, Revoked};
use facts::Facts;
use push::Outbox;
pub use push::announce_once;

/// Facts that are believed on another replica's word, at most: some 10 MiB. The store's own have no bound but their
/// number.
const MOST_HEARD: usize = 100_000;

/// Every fact known to this process.
pub struct Revocations {
    /// In the store.
    kept: Facts,
    /// Told by another replica, not yet seen in the store.
    heard: Facts,
    /// Pulls begun so far.
    pulls: AtomicU64,
    /// When the last pull that succeeded began; zero before the first one.
    fresh_at: AtomicU64,
    /// Asks for a pull now.
    wanted: Notify,
    /// Where others are told of what this process revokes.
    outbox: OnceLock<Outbox>,
}

/// What became of a fact that another replica told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    /// It is felt by the next request.
    Applied,
    /// It was known already.
    Known,
    /// There are too many such facts: left to the next pull.
    Surplus,
}

impl Revocations {
    /// Nothing is revoked, and nothing was pulled.
    pub fn new() -> Revocations {
        Revocations {
            kept: Facts::new(),
            heard: Facts::new(),
            pulls: AtomicU64::new(0),
            fresh_at: AtomicU64::new(0),
            wanted: Notify::new(),
            outbox: OnceLock::new(),
        }
    }

    /// Whether the credential that proved `identity` is revoked.
    pub fn covers(&self, identity: &Identity) -> bool {
        self.kept.cover(identity) || self.heard.cover(identity)
    }

    /// Whether the store itself says that the credential is revoked: told is not enough to forget it for.
    pub fn keeps(&self, identity: &Identity) -> bool {
        self.kept.cover(identity)
    }

    /// Whether this key is revoked, and so must not sign.
    pub fn has_key(&self, key: &KeyId) -> bool {
        self.kept.has_key(key) || self.heard.has_key(key)
    }

    /// Takes in a fact that this process wrote to the store: felt by the next request here, and told to the other
    /// replicas without waiting for them. Taking it in twice changes nothing.
    pub fn apply(&self, revoked: &Revoked, until_s: i64) {
        self.kept.put(revoked, until_s, 0);
        if let Some(outbox) = self.outbox.get() {
            outbox.offer(revoked, until_s);
        }
    }

    /// Takes in what the store tells; answers the last revision seen, `seen` when there was none.
    pub fn apply_all(&self, facts: &[Revocation], seen: i64) -> i64 {
        for fact in facts {
            self.kept.put(&fact.revoked, fact.until_s, 0);
        }
        facts.last().map_or(seen, |fact| fact.revision.max(seen))
    }

    /// Takes in what another replica told.
    fn hear(&self, revoked: &Revoked, until_s: i64) -> Hearing {
        if self.kept.know(revoked, until_s) || self.heard.know(revoked, until_s) {
            return Hearing::Known;
        }
        if self.heard.len() >= MOST_HEARD {
            return Hearing::Surplus;
        }
        self.heard.put(revoked, until_s, self.pulls.load(Ordering::Acquire));
        Hearing::Applied
    }

    /// A pull begins; its number, for [`Revocations::pulled`].
    pub fn pull_begins(&self) -> u64 {
        self.pulls.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    /// The pull with this number, which began at `began`, has taken in all that the store had then. So what was only
    /// told before it began is known by now, or was never true: facts are told after the store has them.
    pub fn pulled(&self, number: u64, began: Tick) {
        self.fresh_at.fetch_max(began.0, Ordering::AcqRel);
        self.heard.retain(|fact| fact.after_pull >= number);
    }

    /// How old at `now` what is known of the store's facts is. More than a day while none was ever pulled.
    pub fn age(&self, now: Tick) -> Duration {
        now.since(Tick(self.fresh_at.load(Ordering::Acquire)))
    }

    /// Asks for a pull now: facts may have been missed.
    pub(super) fn want_pull(&self) {
        self.wanted.notify_one();
    }

    /// Ends when a pull is asked for.
    pub(super) async fn pull_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Forgets what nothing alive can match any more.
    pub fn sweep(&self, now: i64) {
        self.kept.retain(|fact| fact.until_s.saturating_add(LEEWAY_S) >= now);
        self.heard.retain(|fact| fact.until_s.saturating_add(LEEWAY_S) >= now);
    }

    /// How many facts are held.
    pub fn len(&self) -> usize {
        self.kept.len().saturating_add(self.heard.len())
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Revocations {
    fn default() -> Self {
        Revocations::new()
    }
}
