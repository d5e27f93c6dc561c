//! What operators decided about single users and addresses, as kept: overrides of limits, and blocked addresses. All of
//! them end by themselves.

use async_trait::async_trait;
use ipnet::IpNet;

use super::StoreError;
use crate::model::identity::UserId;
use crate::model::units::Rate;

/// Most overrides that are kept at once: every gateway has all of them in memory.
pub const MAX_OVERRIDES: u32 = 10_000;
/// Most blocks that are kept at once.
pub const MAX_BLOCKS: u32 = 10_000;

/// Another rate for one account under one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitOverride {
    /// The account.
    pub user: UserId,
    /// Name of the policy; no table needs to have it.
    pub policy: String,
    /// The rate in the place of the policy's.
    pub rate: Rate,
    /// Requests on top of the rate; `None`: as many as the policy allows.
    pub burst: Option<u32>,
    /// Unix second at which it ends.
    pub until_s: i64,
    /// When it was made, in Unix milliseconds.
    pub made_at_ms: i64,
}

/// A network whose requests are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressBlock {
    /// The network, without host bits; one address is a network of its own.
    pub network: IpNet,
    /// Unix second at which it ends.
    pub until_s: i64,
    /// Why, for people.
    pub reason: Option<String>,
    /// When it was made, in Unix milliseconds.
    pub made_at_ms: i64,
}

/// Everything that operators decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRules {
    /// Another one after every change: a random number, so that a database that lost its last seconds does not give
    /// the same one for something else.
    pub stamp: i64,
    /// By account and policy.
    pub overrides: Vec<LimitOverride>,
    /// By when they were made.
    pub blocks: Vec<AddressBlock>,
}

impl LimitRules {
    /// Those that are in force at this Unix second.
    #[must_use]
    pub fn in_force(mut self, now_s: i64) -> LimitRules {
        self.overrides.retain(|each| each.until_s > now_s);
        self.blocks.retain(|each| each.until_s > now_s);
        self
    }
}

/// Overrides and blocks, kept.
#[async_trait]
pub trait LimitRuleStore: Send + Sync {
    /// Keeps an override, in the place of one of the same account and policy.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: there is no such account. [`StoreError::Full`]: [`MAX_OVERRIDES`] are in force.
    async fn put_override(&self, new: LimitOverride) -> Result<(), StoreError>;

    /// Takes an override away. `false`: there was none in force at `now_s`.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn remove_override(&self, user: UserId, policy: &str, now_s: i64) -> Result<bool, StoreError>;

    /// Keeps a block, in the place of one of the same network.
    ///
    /// # Errors
    /// [`StoreError::Full`]: [`MAX_BLOCKS`] are in force.
    async fn put_block(&self, new: AddressBlock) -> Result<(), StoreError>;

    /// Takes the block of exactly this network away. `false`: there was none in force at `now_s`.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn remove_block(&self, network: IpNet, now_s: i64) -> Result<bool, StoreError>;

    /// Everything that is kept, some of it over already: when that is, each reader's own clock says. `None`: nothing was
    /// changed since the stamp `known` was given.
    ///
    /// # Errors
    /// When the store does not answer, or keeps something that is no rule.
    async fn limit_rules(&self, known: Option<i64>) -> Result<Option<LimitRules>, StoreError>;
}
