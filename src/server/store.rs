//! Opens the identity store that the settings ask for.

use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::settings::Database;
use crate::store::embedded::{EmbeddedStore, FILE_NAME};
use crate::store::postgres::{PostgresOptions, PostgresStore, Tables};
use crate::store::{IdentityStore, StoreError};

/// What a start of the gateway does about tables that are missing or old.
pub fn tables(database: Option<&Database>) -> Tables {
    match database {
        Some(Database { init: false, .. }) => Tables::Check,
        _ => Tables::Migrate,
    }
}

/// The store of a database, or the embedded one in the data folder; `tables` is for the former.
pub async fn open(
    data_dir: &Path,
    database: Option<&Database>,
    tables: Tables,
    clock: &Clock,
) -> Result<Arc<dyn IdentityStore>, StoreError> {
    let Some(database) = database else { return Ok(Arc::new(EmbeddedStore::open(&data_dir.join(FILE_NAME))?)) };
    Ok(Arc::new(PostgresStore::open(&options(database), tables, clock).await?))
}

/// The settings in the store's own terms.
pub fn options(database: &Database) -> PostgresOptions {
    PostgresOptions {
        url: database.url.clone(),
        connections: database.connections,
        connect_timeout: database.connect_timeout,
        timeout: database.timeout,
        start_wait: database.start_wait,
    }
}
