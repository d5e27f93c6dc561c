//! Versions of the tables, outages, and the order of facts.

use std::sync::Arc;
use std::time::Duration;

use super::testing::{open, options};
use super::*;
use crate::model::identity::TokenId;
use crate::model::role::Role;
use crate::testkit::relay::Relay;
use crate::testkit::servers::{Database, PrivatePostgres};
use crate::testkit::wait::{PATIENCE, until};

fn new_user(name: &str) -> NewUser {
    NewUser {
        email_key: format!("{name}@example.com"),
        email: format!("{name}@example.com"),
        full_name: name.to_owned(),
        role: Role::Candidat,
        password_hash: "$argon2id$x".to_owned(),
        created_at_ms: 1_000,
    }
}

async fn refusal(url: &str, tables: Tables) -> String {
    match PostgresStore::open(&options(url), tables, &Clock::system()).await {
        Err(error @ StoreError::Database { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it opened"),
    }
}

#[tokio::test]
async fn eight_replicas_migrate_an_empty_database_at_once() {
    let database = Database::create().await;
    let url = database.url();
    let mut replicas = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let url = url.clone();
        replicas.spawn(async move { migrate(&options(&url), &Clock::system()).await.unwrap() });
    }
    let done = replicas.join_all().await;
    assert_eq!(done.iter().filter(|one| one.from == 0).count(), 1, "{done:?}");
    let records = database.rows("SELECT version, length(checksum) FROM ssm_migrations").await;
    let record = |version: &str| [Some(version.to_owned()), Some("64".to_owned())];
    assert_eq!(records, [record("1"), record("2")]);
    open(&url).await.insert_user(new_user("anna")).await.unwrap();
}

#[tokio::test]
async fn init_db_false_runs_no_ddl() {
    let database = Database::private().await;
    let url = database.url();
    let said = refusal(&url, Tables::Check).await;
    assert!(said.contains("has no tables") && said.contains("ssm-gateway migrate"), "{said}");
    let count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(database.rows(count).await, [[Some("0".to_owned())]]);
    open(&url).await;
    // With the tables there, a role that may not make any is enough.
    let role = format!("ssm_test_{}", uuid::Uuid::new_v4().simple());
    let grants = format!(
        "CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
    );
    database.execute(&grants).await;
    let plain = url.replacen("postgres@", &format!("{role}@"), 1);
    for tables in [Tables::Check, Tables::Migrate] {
        let store = PostgresStore::open(&options(&plain), tables, &Clock::system()).await.unwrap();
        store.insert_user(new_user(&format!("{tables:?}").to_lowercase())).await.unwrap();
    }
    database.execute("DELETE FROM ssm_migrations; INSERT INTO ssm_migrations VALUES (1, 'other')").await;
    assert!(refusal(&url, Tables::Check).await.contains("another migration 1"));
    database.execute("INSERT INTO ssm_migrations VALUES (2, 'newer'), (3, 'newer')").await;
    for tables in [Tables::Check, Tables::Migrate] {
        let said = refusal(&url, tables).await;
        assert!(said.contains("has version 3") && said.contains("newer program"), "{said}");
    }
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_role_that_may_not_make_tables_is_told_so() {
    let database = Database::private().await;
    let role = format!("ssm_test_{}", uuid::Uuid::new_v4().simple());
    database.execute(&format!("CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")).await;
    let said = refusal(&database.url().replacen("postgres@", &format!("{role}@"), 1), Tables::Migrate).await;
    assert!(said.contains("could not be made") && said.contains("ssm-gateway migrate"), "{said}");
    database.execute(&format!("DROP ROLE {role}")).await;
}

#[tokio::test]
async fn tables_of_another_program_stop_the_start_and_nothing_is_changed() {
    let database = Database::private().await;
    database.execute("CREATE TABLE sessions (x int)").await;
    let said = refusal(&database.url(), Tables::Migrate).await;
    assert!(said.contains("sessions") && said.contains("a database of its own"), "{said}");
    let tables =
        database.rows("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace");
    assert_eq!(tables.await, [[Some("sessions".to_owned())]]);
    // A schema of its own is as good as a database.
    database.execute("CREATE SCHEMA ssm").await;
    open(&format!("{}?options=-csearch_path%3Dssm", database.url())).await.insert_user(new_user("a")).await.unwrap();
    assert_eq!(database.rows("SELECT count(*) FROM ssm.users").await, [[Some("1".to_owned())]]);
}

#[tokio::test]
async fn another_encoding_is_refused() {
    let database = Database::private().await;
    let name = format!("ssm_test_{}", uuid::Uuid::new_v4().simple());
    database.execute(&format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")).await;
    let (base, _) = database.url().rsplit_once('/').map(|(base, rest)| (base.to_owned(), rest.to_owned())).unwrap();
    let said = refusal(&format!("{base}/{name}"), Tables::Migrate).await;
    database.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
    assert!(said.contains("LATIN1"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_reached_or_refuses_is_said_without_the_password() {
    let server = PrivatePostgres::start().await;
    let closed = PrivatePostgres::start().await.url("postgres"); // dropped at once
    let impatient = |url: &str| PostgresOptions { start_wait: Duration::from_millis(1), ..options(url) };
    for (url, words) in [
        (closed.replacen("postgres@", "postgres:hunter2@", 1), "cannot be used"),
        (server.url("nowhere").replacen("postgres@", "postgres:hunter2@", 1), "does not exist (3D000)"),
        (server.url("postgres").replacen("postgres@", "nobody:hunter2@", 1), "(28000)"),
        (format!("{}?sslmode=require", server.url("postgres").replacen("postgres@", "postgres:hunter2@", 1)), "TLS"),
    ] {
        let Err(error) = PostgresStore::open(&impatient(&url), Tables::Migrate, &Clock::system()).await else {
            panic!("{url} was opened")
        };
        let said = error.to_string();
        assert!(said.contains(words) && said.contains("127.0.0.1:"), "{words}: {said}");
        assert!(!format!("{said} {error:?}").contains("hunter2"), "{said}");
        assert!(!said.contains("unavailable"), "{said}");
    }
}

#[tokio::test]
async fn a_database_that_comes_up_late_is_waited_for() {
    let mut server = PrivatePostgres::start().await;
    server.stop().await;
    let patient = PostgresOptions { start_wait: PATIENCE, ..options(&server.url("postgres")) };
    let opening = tokio::spawn(async move { PostgresStore::open(&patient, Tables::Migrate, &Clock::system()).await });
    server.start_again().await;
    opening.await.unwrap().unwrap().insert_user(new_user("anna")).await.unwrap();
}

#[tokio::test]
async fn a_stopped_server_is_unavailable_and_comes_back_without_a_restart() {
    let mut server = PrivatePostgres::start().await;
    let store = open(&server.url("postgres")).await;
    let anna = store.insert_user(new_user("anna")).await.unwrap();
    for crash in [false, true] {
        if crash {
            server.kill().await
        } else {
            server.stop().await
        }
        for _ in 0..8 {
            assert!(matches!(store.user(anna.id).await, Err(StoreError::Unavailable(_))));
        }
        server.start_again().await;
        until("the store", PATIENCE, || async { store.user(anna.id).await.ok().flatten() }).await;
    }
}

#[tokio::test]
async fn a_silent_server_is_unavailable_within_seconds() {
    let server = PrivatePostgres::start().await;
    let relay = Relay::to(server.address()).await;
    let url = format!("postgres://postgres@{}/postgres", relay.address());
    let brief = Duration::from_millis(300);
    let options = PostgresOptions { timeout: brief, connect_timeout: brief, ..options(&url) };
    let store = Arc::new(PostgresStore::open(&options, Tables::Migrate, &Clock::system()).await.unwrap());
    let anna = store.insert_user(new_user("anna")).await.unwrap();
    relay.freeze();
    // More than there are connections, so that some wait for one, too.
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        calls.spawn(async move { store.user(anna.id).await });
    }
    let answers = tokio::time::timeout(Duration::from_secs(5), calls.join_all()).await.expect("an end of all calls");
    for answer in answers {
        let error = answer.unwrap_err();
        assert!(
            matches!(&error, StoreError::Unavailable(why) if why.contains("300ms") || why.contains("imeout")),
            "{error}"
        );
    }
    relay.thaw();
    until("the store", PATIENCE, || async { store.user(anna.id).await.ok().flatten() }).await;
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_cut_its_call_short() {
    let database = Database::create().await;
    let store = open(&database.url()).await;
    for n in 0..20 {
        let call = store.revoke(Revoked::Token(TokenId(uuid::Uuid::from_u128(n))), 9_000);
        let _ = tokio::time::timeout(Duration::from_micros(200), call).await;
    }
    until("every fact", PATIENCE, || async {
        (store.revocations_since(0, 100).await.unwrap().len() == 20).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_text_that_postgres_cannot_hold_is_no_outage() {
    let database = Database::create().await;
    let store = open(&database.url()).await;
    assert!(store.credentials("a\0@example.com").await.unwrap().is_none());
    let odd = NewUser { full_name: "a\0b".to_owned(), ..new_user("anna") };
    assert!(matches!(store.insert_user(odd).await, Err(StoreError::Unreadable(_))));
}

#[tokio::test]
async fn tls_proves_what_the_url_asks() {
    let mut server = PrivatePostgres::start().await;
    let ca = server.make_certificates();
    server.stop().await;
    server.start_again().await;
    let other = PrivatePostgres::start().await;
    let other_ca = other.make_certificates();
    let port = server.address().port();
    let ours = format!("sslrootcert={}", ca.display());
    let theirs = format!("sslrootcert={}", other_ca.display());
    for (host, query, encrypted) in [
        ("localhost", "sslmode=disable".to_owned(), Some(false)),
        ("localhost", "sslmode=prefer".to_owned(), Some(true)),
        ("127.0.0.1", String::new(), Some(true)),
        ("localhost", format!("sslmode=verify-full&{ours}"), Some(true)),
        ("localhost", format!("sslmode=require&{ours}"), Some(true)),
        ("127.0.0.1", format!("sslmode=verify-ca&{ours}"), Some(true)),
        // Another name, another authority, an authority that the system does not know: no connection.
        ("127.0.0.1", format!("sslmode=verify-full&{ours}"), None),
        ("127.0.0.1", format!("sslmode=require&{ours}"), None),
        ("localhost", format!("sslmode=verify-ca&{theirs}"), None),
        ("localhost", format!("sslmode=verify-full&{theirs}"), None),
        ("localhost", "sslmode=require".to_owned(), None),
        ("localhost", "sslmode=verify-full&sslrootcert=/nonexistent.pem".to_owned(), None),
    ] {
        let url = format!("postgres://postgres@{host}:{port}/postgres?{query}");
        let told = match pool::connect(&options(&url)).await {
            Ok(client) => {
                let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
                Some(client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0))
            }
            // None of these is waited for.
            Err(NoConnection::Ever(_)) => None,
            Err(NoConnection::Yet(error)) => panic!("{host} {query}: {error}"),
        };
        assert_eq!(told, encrypted, "{host} {query}");
    }
}
