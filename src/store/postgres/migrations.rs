//! The tables' versions: from nothing, from the earlier gateway's, or from an older version of ours.
//!
//! One transaction under one lock: of replicas that start at once one does the work, the others wait and find it
//! done; what fails leaves everything as it was.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, Transaction};

use super::super::StoreError;
use super::Tables;
use super::adopt::{self, Adopted};

/// `SSMGmigr`: the lock of those who change tables.
const LOCK: i64 = 0x5353_4D47_6D69_6772;

/// Longest wait for another replica's migration.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '120s'; SET LOCAL statement_timeout = 0";

/// In order; the first is version 1. Never edit one that was released.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/postgres/0001_identity.sql"),
    include_str!("../../../migrations/postgres/0002_limit_rules.sql"),
];

const RECORD: &str = "CREATE TABLE ssm_migrations (
    version    INTEGER     PRIMARY KEY,
    checksum   TEXT        NOT NULL, -- SHA-256 of the statements
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
)";

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Version before; 0: there were no tables of ours.
    pub from: usize,
    /// Version now.
    pub to: usize,
    /// What was taken over from the earlier gateway.
    pub adopted: Option<Adopted>,
}

/// Brings the tables to this program's version, or checks that they have it. `name` is the database, for messages.
pub(super) async fn bring(client: &mut Client, tables: Tables, name: &str) -> Result<Migrated, StoreError> {
    // Without the lock first: a database that is as it should be needs no right to change it.
    let transaction = client.transaction().await?;
    let from = version(&transaction, name).await?;
    drop(transaction);
    if from == MIGRATIONS.len() {
        return Ok(Migrated { from, to: from, adopted: None });
    }
    if matches!(tables, Tables::Check | Tables::Use) {
        return Err(refusal(tables, from, name));
    }
    let transaction = client.transaction().await?;
    let done = migrate(&transaction, tables, name).await.map_err(|error| explain(error, name))?;
    transaction.commit().await.map_err(|error| explain(error.into(), name))?;
    tracing::info!(database = name, from = done.from, to = done.to, "tables brought to this program's version");
    Ok(done)
}

/// Why tables that are missing or old stay as they are.
fn refusal(tables: Tables, from: usize, name: &str) -> StoreError {
    let state = match from {
        0 => "has no tables of the gateway".to_owned(),
        _ => format!("has version {from} of the tables"),
    };
    let (who, fix) = match tables {
        Tables::Check => (
            "INIT_DB=false forbids to make it",
            "run `ssm-gateway migrate` with a DATABASE_URL whose role may create tables, or set INIT_DB=true",
        ),
        _ => (
            "this command does not make it",
            "run `ssm-gateway migrate`, or start the gateway, if this is its database",
        ),
    };
    let needed = MIGRATIONS.len();
    StoreError::Database {
        why: format!("{name} {state}, this program needs version {needed}, and {who}"),
        fix: fix.to_owned(),
    }
}

/// Refuses, under the lock, what [`Tables::Found`] leaves alone.
async fn check_nothing_is_there(transaction: &Transaction<'_>, from: usize, name: &str) -> Result<(), StoreError> {
    if from > 0 {
        return Err(refusal(Tables::Found, from, name));
    }
    if adopt::is_there(transaction).await? {
        return Err(StoreError::Database {
            why: format!("{name} has accounts of the earlier gateway, and this command does not take them over"),
            fix: "run `ssm-gateway migrate`, or start the gateway, if it is to take them over".to_owned(),
        });
    }
    Ok(())
}

async fn migrate(transaction: &Transaction<'_>, tables: Tables, name: &str) -> Result<Migrated, StoreError> {
    transaction.batch_execute(LOCK_TIMEOUT).await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let from = version(transaction, name).await?;
    if tables == Tables::Found && from < MIGRATIONS.len() {
        check_nothing_is_there(transaction, from, name).await?;
    }
    let mut earlier = None;
    if from == 0 {
        check_encoding(transaction, name).await?;
        earlier = adopt::set_aside(transaction, name).await?;
        transaction.batch_execute(RECORD).await?;
    }
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(from) {
        transaction.batch_execute(migration).await?;
        let version = i32::try_from(at + 1).unwrap_or(i32::MAX);
        let record = "INSERT INTO ssm_migrations (version, checksum) VALUES ($1, $2)";
        transaction.execute(record, &[&version, &checksum(migration)]).await?;
    }
    let adopted = match earlier {
        Some(earlier) => Some(adopt::take_over(transaction, &earlier).await?),
        None => None,
    };
    Ok(Migrated { from, to: MIGRATIONS.len(), adopted })
}

/// How many migrations the database has had; each must be one that this program knows.
async fn version(transaction: &Transaction<'_>, name: &str) -> Result<usize, StoreError> {
    // Not to_regclass: that may answer from a cache which a wait for the lock does not refresh.
    let schema = "SELECT current_schema()::text, EXISTS (
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = current_schema() AND c.relname = 'ssm_migrations')";
    let row = transaction.query_one(schema, &[]).await?;
    if row.get::<_, Option<String>>(0).is_none() {
        return Err(StoreError::Database {
            why: format!("{name} has no schema that this role may use"),
            fix: "create the schema that its search_path names, and grant USAGE and CREATE on it".to_owned(),
        });
    }
    if !row.get::<_, bool>(1) {
        return Ok(0);
    }
    let rows = transaction.query("SELECT version, checksum FROM ssm_migrations ORDER BY version", &[]).await?;
    if rows.len() > MIGRATIONS.len() {
        return Err(StoreError::Database {
            why: format!(
                "{name} has version {} of the tables, this program knows up to {}",
                rows.len(),
                MIGRATIONS.len()
            ),
            fix: "run the newer program that made it, or restore a backup of before".to_owned(),
        });
    }
    for ((at, migration), row) in MIGRATIONS.iter().enumerate().zip(&rows) {
        let known = usize::try_from(row.get::<_, i32>(0)).is_ok_and(|version| version == at + 1);
        if !known || row.get::<_, String>(1) != checksum(migration) {
            return Err(StoreError::Database {
                why: format!("{name} has had another migration {} than this program's", at + 1),
                fix: "run the program that made its tables, or give this one a database of its own".to_owned(),
            });
        }
    }
    Ok(rows.len())
}

/// Names and addresses need every character.
async fn check_encoding(transaction: &Transaction<'_>, name: &str) -> Result<(), StoreError> {
    let encoding: String = transaction.query_one("SHOW server_encoding", &[]).await?.get(0);
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(StoreError::Database {
        why: format!("{name} has encoding {encoding}, not UTF8"),
        fix: "make it anew with ENCODING 'UTF8' TEMPLATE template0".to_owned(),
    })
}

fn checksum(migration: &str) -> String {
    Sha256::digest(migration.as_bytes()).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}

/// What a failed migration means to the operator.
fn explain(error: StoreError, name: &str) -> StoreError {
    let StoreError::Unavailable(why) = error else { return error };
    let fix = if why.ends_with("(42501)") {
        "run `ssm-gateway migrate` with a DATABASE_URL whose role may create tables, or grant CREATE on the schema"
    } else if why.ends_with("(42P07)") || why.ends_with("(42710)") {
        "it belongs to another program: give the gateway a database of its own, or a schema (options=-csearch_path%3Dssm)"
    } else if why.ends_with("(55P03)") {
        "another program holds its tables, or another replica is migrating: start again when that is done"
    } else {
        "nothing was changed; start again when the cause is mended"
    };
    StoreError::Database { why: format!("the tables of {name} could not be made: {why}"), fix: fix.to_owned() }
}
