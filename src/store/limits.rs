//! The buckets that replicas share. What is decided is `model::gcra`'s arithmetic; here is who keeps it.

use async_trait::async_trait;

use super::StoreError;
use crate::model::gcra::{Debt, Quota};

/// One bucket's part in a decision.
#[derive(Debug, Clone)]
pub struct Charge {
    /// Which bucket: a name that is the same on every replica.
    pub bucket: String,
    /// The quota in force. A bucket that was kept under another one is rescaled first.
    pub quota: Quota,
    /// Tokens that must be there.
    pub cost: u32,
    /// Tokens that are taken besides, as many as are there; only when all costs are paid.
    pub ahead: u32,
    /// Whether it has no say: it is charged when the others let the request pass and it has the tokens.
    pub shadow: bool,
}

/// What was found of one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it owed before the cost was taken. [`Debt::decide`] says what follows.
    pub debt: Debt,
    /// Tokens that were taken ahead.
    pub ahead: u32,
}

/// A bucket as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedBucket {
    /// What it owes.
    pub debt: Debt,
    /// The quota that it was last charged under.
    pub quota: Quota,
}

/// Keeps buckets for all replicas, on one clock.
#[async_trait]
pub trait BucketStore: Send + Sync {
    /// Whether the store is there, as far as is known without asking it.
    fn is_up(&self) -> bool;

    /// Decides by all buckets in one step: when one that is no shadow has too little, none is charged. Answers what it
    /// found of each, in their order; whether the request may pass follows from that.
    ///
    /// # Errors
    /// When the store did not answer in time. Whether it charged is not known then.
    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Found>, StoreError>;

    /// The buckets of these names, changing nothing; `None` for those that are full.
    ///
    /// # Errors
    /// When the store did not answer in time.
    async fn peek(&self, buckets: &[String]) -> Result<Vec<Option<SharedBucket>>, StoreError>;

    /// Makes these buckets full; answers how they were, as [`BucketStore::peek`].
    ///
    /// # Errors
    /// When the store did not answer in time. Whether they are full is not known then.
    async fn reset(&self, buckets: &[String]) -> Result<Vec<Option<SharedBucket>>, StoreError>;

    /// Says that this process is here; answers how many replicas said so lately, itself included.
    ///
    /// # Errors
    /// When the store did not answer in time.
    async fn heartbeat(&self) -> Result<u32, StoreError>;
}
