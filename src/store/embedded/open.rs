//! Opening the file: permissions, pragmas, migrations, and clear words when it is not what it should be.

use std::fs::{self, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::super::StoreError;

/// `SSMG`, in the file's header: tells our file from any other SQLite file.
const APPLICATION_ID: i32 = 0x5353_4D47;

/// How long a call waits for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// In order; the file's `user_version` counts how many it has had. Never edit one that was released.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_identity.sql"),
    include_str!("../../../migrations/sqlite/0002_trust.sql"),
    include_str!("../../../migrations/sqlite/0003_limit_rules.sql"),
];

/// Opens or makes the file and brings it to the current version.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    prepare_file(path)?;
    let mut connection = Connection::open(path).map_err(|error| explain(path, &error))?;
    configure(&connection).map_err(|error| explain(path, &error))?;
    let check: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| explain(path, &error))?;
    if check != "ok" {
        return Err(damaged(path, check));
    }
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// Makes the file with mode 0600 before SQLite sees it; its `-wal` and `-shm` get the same mode from SQLite.
fn prepare_file(path: &Path) -> Result<(), StoreError> {
    let refuse = |why: String| StoreError::Open {
        path: path.to_owned(),
        why,
        fix: "give the gateway's user read and write access to the file and its folder",
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| refuse(format!("cannot make its folder: {error}")))?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(refuse(format!("cannot make it: {error}"))),
    }
    let file = OpenOptions::new().read(true).write(true).open(path);
    let mode = file
        .and_then(|file| file.metadata())
        .map_err(|error| refuse(format!("cannot open it for writing: {error}")))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|error| refuse(format!("others may read it and its mode cannot be set to 0600: {error}")))?;
    }
    Ok(())
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // FULL: a log-out that was confirmed survives a power cut. Writes are rare next to what a hash costs.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(())
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let explain = |error: rusqlite::Error| explain(path, &error);
    // Immediate: a second process waits here, and then finds the work done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
    let pragma = |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(explain);
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(explain)?;
    if application != APPLICATION_ID && (application != 0 || version != 0 || tables != 0) {
        return Err(StoreError::Open {
            path: path.to_owned(),
            why: "it is an SQLite file of another program".into(),
            fix: "point the data folder somewhere else",
        });
    }
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(StoreError::Open {
            path: path.to_owned(),
            why: format!("it has version {version}, this program knows up to {}", MIGRATIONS.len()),
            fix: "run the newer program that wrote it, or restore a backup of before",
        });
    }
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration).map_err(explain)?;
    }
    if done < MIGRATIONS.len() {
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(explain)?;
        transaction
            .pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))
            .map_err(explain)?;
    }
    transaction.commit().map_err(explain)
}

fn damaged(path: &Path, why: String) -> StoreError {
    StoreError::Open {
        path: path.to_owned(),
        why: format!("it is damaged: {why}"),
        fix: "restore a backup, or move it away to start with an empty store",
    }
}

fn explain(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => damaged(path, error.to_string()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Open {
            path: path.to_owned(),
            why: error.to_string(),
            fix: "another process keeps it locked; stop that one or wait",
        },
        _ => StoreError::Open {
            path: path.to_owned(),
            why: error.to_string(),
            fix: "check that the file and its folder are writable and the disk has room",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_file_is_private_and_opens_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/identity.db");
        drop(open(&path).unwrap());
        let connection = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.with_extension("db-wal")).unwrap().permissions().mode() & 0o777, 0o600);
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_file_that_others_could_read_is_closed_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.db");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_not_our_file_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let garbage = folder.path().join("garbage.db");
        fs::write(&garbage, "this is no database, but it is long enough to have a header".repeat(40)).unwrap();
        let foreign = folder.path().join("foreign.db");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        let newer = folder.path().join("newer.db");
        open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
        for (path, words) in [(&garbage, "damaged"), (&foreign, "another program"), (&newer, "version 99")] {
            let error = open(path).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(path.to_str().unwrap()), "{error}");
        }
        // A folder in the file's place cannot be opened for writing, whoever runs the test.
        let folder_there = folder.path().join("folder.db");
        fs::create_dir(&folder_there).unwrap();
        let error = open(&folder_there).unwrap_err().to_string();
        assert!(error.contains("for writing") && error.contains("folder.db"), "{error}");
    }

    #[test]
    fn damage_inside_the_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.db");
        drop(open(&path).unwrap());
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.len();
        bytes[4096..end].fill(0x5A);
        fs::write(&path, bytes).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
    }

    #[test]
    fn a_file_of_the_first_version_keeps_its_accounts_and_facts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.db");
        let first = Connection::open(&path).unwrap();
        first.execute_batch(MIGRATIONS[0]).unwrap();
        first.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        first.pragma_update(None, "user_version", 1).unwrap();
        first
            .execute_batch(
                "INSERT INTO users VALUES (4, 'anna@example.com', 'Anna@example.com', 'Anna', 'admin', '$argon2id$x', 1, 55, 1000);
                 INSERT INTO users VALUES (9, 'bob@example.com', 'bob@example.com', 'Bob', 'candidat', '$argon2id$y', 0, 0, 2000);
                 INSERT INTO sessions VALUES ('6f2e7b1c-2b0a-4f51-9d1b-0d6c1a2b3c4d', 4, 3, 1000, 2000, 9000, NULL);
                 INSERT INTO revocations VALUES (7, 'user', '4', 55, 9000);
                 DELETE FROM users WHERE id = 9",
            )
            .unwrap();
        drop(first);
        for _ in 0..2 {
            let now = open(&path).unwrap();
            let user: (i64, String, String, i64) = now
                .query_row("SELECT id, role, password_hash, tokens_not_before_s FROM users", [], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })
                .unwrap();
            assert_eq!(user, (4, "admin".to_owned(), "$argon2id$x".to_owned(), 55));
            let fact: (i64, String, i64) = now
                .query_row("SELECT revision, value, not_before_s FROM revocations", [], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .unwrap();
            assert_eq!(fact, (7, "4".to_owned(), 55));
            // Its sessions end: their refresh tokens were made with a key that is no longer used.
            assert_eq!(now.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        }
        let now = open(&path).unwrap();
        now.execute("INSERT INTO revocations (kind, value, until_s) VALUES ('key', 'k', 1)", []).unwrap();
        assert_eq!(now.last_insert_rowid(), 8, "revisions go on");
        now.execute(
            "INSERT INTO users (email_key, email, full_name, role, password_hash, created_at_ms)
             VALUES ('c', 'c', 'c', 'admin', 'x', 1)",
            [],
        )
        .unwrap();
        assert_eq!(now.last_insert_rowid(), 10, "numbers of deleted accounts are not given again");
    }
}
