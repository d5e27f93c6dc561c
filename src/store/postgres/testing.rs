//! What tests of this store share.

use std::time::Duration;

use super::*;

/// Short waits: a test of an outage waits for their end.
pub(in crate::store) fn options(url: &str) -> PostgresOptions {
    PostgresOptions {
        url: SecretString::from(url),
        connections: 4,
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        start_wait: Duration::from_secs(5),
    }
}

/// The store in this database, with its tables.
pub(in crate::store) async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(&options(url), Tables::Migrate, &Clock::system()).await.unwrap()
}
