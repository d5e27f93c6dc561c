//! Keys that other processes made come in with each pull; when keys were used goes out.

use std::sync::atomic::Ordering;

use super::ApiKeys;
use super::table::MAX_KEYS;
use crate::accounts::Accounts;
use crate::model::identity::ApiKeyId;
use crate::store::StoreError;

/// Keys that are read at once.
const PAGE: u32 = 1_000;

/// Uses that are told in one transaction.
const TOLD_AT_ONCE: usize = 500;

/// Every so many pulls all keys are read anew: an hour.
const PULLS_PER_READING: u32 = 720;

impl ApiKeys {
    /// Must be called before the first fact is asked for. Until [`Accounts::pull_api_keys`] succeeds, the pull counts as
    /// broken off, and the next one reads all keys anew: revocations may have come and gone meanwhile.
    pub(in crate::accounts) fn pull_begins(&self) -> bool {
        let complete = self.complete.swap(false, Ordering::AcqRel);
        let turn = self.pulls.fetch_add(1, Ordering::Relaxed);
        !complete || turn.is_multiple_of(PULLS_PER_READING)
    }
}

impl Accounts {
    /// Takes in new keys, or `all`, and drops those that are over or revoked. Pulls must take turns.
    pub(in crate::accounts) async fn pull_api_keys(&self, all: bool) -> Result<(), StoreError> {
        let keys = &self.api_keys;
        let mut seen = ApiKeyId(if all { 0 } else { keys.seen.load(Ordering::Acquire) });
        let mut read = Vec::new();
        loop {
            let page = self.witness.saw(self.store.usable_api_keys_since(seen, self.now_ms(), PAGE).await)?;
            let more = u32::try_from(page.len()).is_ok_and(|count| count == PAGE);
            seen = page.last().map_or(seen, |last| last.key.id);
            read.extend(page);
            if !more || read.len() > MAX_KEYS {
                break;
            }
        }
        if all {
            keys.table.replace(read, seen);
        } else {
            keys.table.add(read);
        }
        keys.seen.store(seen.0, Ordering::Release);
        let now_ms = self.now_ms();
        keys.table.retain(|entry| !entry.is_over(now_ms) && !keys.revocations.keeps(&entry.identity));
        keys.complete.store(true, Ordering::Release);
        self.tell_uses().await;
        Ok(())
    }

    /// Tells the store when keys were used. What fails is told with the next pull: it is for people, nothing hangs on it.
    async fn tell_uses(&self) {
        for used in self.api_keys.table.used().chunks(TOLD_AT_ONCE) {
            let times: Vec<(ApiKeyId, i64)> = used.iter().map(|(entry, at_ms)| (entry.id, *at_ms)).collect();
            match self.witness.saw(self.store.touch_api_keys(&times).await) {
                Ok(()) => self.api_keys.table.told(used),
                Err(error) => {
                    tracing::warn!(%error, "when API keys were used could not be written down; trying again");
                    return;
                }
            }
        }
    }
}
