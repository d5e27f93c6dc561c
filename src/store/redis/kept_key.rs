//! Keys of pseudonyms, for replicas that have no secret in common: random, left in Redis by the first of them. That keeps
//! subjects from eyes, not from whoever copies all of Redis.

use std::time::Duration;

use super::{RedisProblem, SharedRedis};
use crate::store::Pseudonyms;

/// The key of this name, which is made when there is none.
pub(super) async fn kept_key(redis: &SharedRedis, name: &str, within: Duration) -> Result<[u8; 32], RedisProblem> {
    let full = redis.key(name);
    let fresh = Pseudonyms::random_key().map_err(|error| RedisProblem::Failed(error.to_string()))?;
    let mut ask = redis::pipe();
    ask.cmd("SET").arg(&full).arg(&fresh[..]).arg("NX").ignore().cmd("GET").arg(&full);
    let call = redis.ask(within, |mut connection| async move { ask.query_async::<(Vec<u8>,)>(&mut connection).await });
    let (kept,) = call.await?;
    <[u8; 32]>::try_from(kept).map_err(|_| RedisProblem::Failed(format!("{name} is no key of 32 bytes")))
}
