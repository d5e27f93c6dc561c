//! Telling running gateways at once of what a command revoked, where they share a Redis. The store has it already, so
//! a failure is said and is no failure of the command.

use crate::accounts::revocation::announce_once;
use crate::config::settings::Redis;
use crate::store::Revoked;
use crate::store::redis::SharedRedis;

/// Announces `facts`, each with the Unix second until which it matters; does nothing where no Redis is configured.
pub(super) async fn announce(redis: &Redis, facts: &[(Revoked, i64)]) {
    let Some(url) = &redis.url else { return };
    let announced = match SharedRedis::new(url, &redis.prefix) {
        Ok(shared) if !facts.is_empty() => announce_once(&shared, facts).await,
        Ok(_) => Ok(()),
        Err(problem) => Err(problem),
    };
    if let Err(why) = announced {
        eprintln!("ssm-gateway: it is revoked, and running gateways know within 6 s, but not at once: {why}");
    }
}
