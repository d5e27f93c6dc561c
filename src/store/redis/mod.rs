//! What replicas share beside the identity store: messages and counters, in Redis. Never the truth: all of
//! it may be lost at any moment, and whoever asks must know what to do without it.
//!
//! Everything that speaks to Redis lives here. The rest of the program sees [`SharedRedis`] and [`Subscription`].

mod backoff;
mod connection;
mod idempotency;
mod kept_answer;
mod kept_key;
mod limits;
mod subscription;
mod throttle;

#[cfg(test)]
mod tests;

pub use connection::{RedisProblem, SharedRedis};
pub use idempotency::RedisIdempotency;
pub use limits::RedisBucketStore;
pub use subscription::{Heard, Subscription};
pub use throttle::RedisThrottle;

/// Name of this store in metrics and readiness.
pub const NAME: &str = "redis";
