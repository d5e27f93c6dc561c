//! From the earlier gateway's schema, with users in it.

use super::testing::{open, options};
use super::*;
use crate::model::role::Role;
use crate::testkit::servers::Database;

/// bcrypt of "correct horse battery", cost 4.
const HASH: &str = "$2b$04$Uqn3YPNcYPNcYPNcYPNcYOkd0rLDDwSkCL8i6bXG5nQvSwBJ8z3tu";

async fn with_tables(sql: &str) -> Database {
    let database = Database::create().await;
    database.execute(sql).await;
    database
}

async fn adopted(database: &Database) -> Adopted {
    let done = migrate(&options(&database.url()), &Clock::system()).await.unwrap();
    assert_eq!(done.from, 0);
    done.adopted.expect("accounts taken over")
}

async fn refusal(database: &Database) -> String {
    migrate(&options(&database.url()), &Clock::system()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn the_usual_schema_is_taken_over_whole() {
    let database = with_tables(&format!(
        "CREATE TABLE users (
             id SERIAL PRIMARY KEY, email VARCHAR(255) NOT NULL UNIQUE, full_name VARCHAR(255) NOT NULL,
             hashed_password VARCHAR(255) NOT NULL, role VARCHAR(20) NOT NULL DEFAULT 'candidat',
             is_active BOOLEAN DEFAULT true, created_at TIMESTAMP DEFAULT now(), updated_at TIMESTAMP, last_login TIMESTAMP);
         CREATE INDEX ix_users_email ON users (email);
         CREATE TABLE bookmarks (id SERIAL PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE);
         INSERT INTO users (id, email, full_name, hashed_password, role, is_active, created_at) VALUES
             (3, 'Anna.Müller@Example.com', 'Anna Müller', '{HASH}', 'candidat', true, '2024-05-06 07:08:09.5'),
             (9, 'root@example.com', 'Root', '{HASH}', 'ADMIN', true, '2023-01-01'),
             (11, 'gone@example.com', 'Gone', '{HASH}', 'recruteur', false, NULL);
         SELECT setval('users_id_seq', 40);
         INSERT INTO bookmarks (user_id) VALUES (3)"
    ))
    .await;
    assert_eq!(adopted(&database).await, Adopted { accounts: 3, without_password: vec![] });
    let store = open(&database.url()).await;
    let anna = store.credentials("anna.müller@example.com").await.unwrap().unwrap();
    assert_eq!((anna.user.id, anna.user.role, anna.password_hash.as_str()), (UserId(3), Role::Candidat, HASH));
    assert_eq!((anna.user.email.as_str(), anna.user.full_name.as_str()), ("Anna.Müller@Example.com", "Anna Müller"));
    assert_eq!((anna.user.created_at_ms, anna.user.is_active), (1_714_979_289_500, true));
    assert_eq!(store.user(UserId(9)).await.unwrap().unwrap().role, Role::Admin);
    let gone = store.user(UserId(11)).await.unwrap().unwrap();
    assert!(!gone.is_active && gone.created_at_ms > 1_700_000_000_000);
    // Numbers go on after the last that was ever given.
    let next = NewUser {
        email_key: "new@example.com".into(),
        email: "new@example.com".into(),
        full_name: "New".into(),
        role: Role::Candidat,
        password_hash: HASH.into(),
        created_at_ms: 1,
    };
    assert_eq!(store.insert_user(next).await.unwrap().id, UserId(41));
    // The old table is all there, and what refers to accounts refers to ours.
    assert_eq!(database.rows(&format!("SELECT count(*) FROM {KEPT_AS}")).await, [[Some("3".to_owned())]]);
    database.execute("INSERT INTO bookmarks (user_id) VALUES (41); DELETE FROM users WHERE id = 3").await;
    assert_eq!(database.rows("SELECT user_id FROM bookmarks").await, [[Some("41".to_owned())]]);
    assert_eq!(migrate(&options(&database.url()), &Clock::system()).await.unwrap().adopted, None);
}

#[tokio::test]
async fn an_odd_schema_is_taken_over_too() {
    let database = with_tables(
        "CREATE TYPE userrole AS ENUM ('CANDIDAT', 'RECRUTEUR', 'ADMIN');
         CREATE TABLE users (id BIGINT PRIMARY KEY, email TEXT, password_hash TEXT, role userrole,
             created_at TIMESTAMPTZ);
         INSERT INTO users VALUES (1, ' a@example.com', '$2b$12$x', 'RECRUTEUR', '2024-01-01 00:00:00+02'),
             (2, 'b@example.com', 'md5:1234', NULL, NULL), (7, 'c@example.com', NULL, 'ADMIN', NULL)",
    )
    .await;
    assert_eq!(adopted(&database).await, Adopted { accounts: 3, without_password: vec![2, 7] });
    let store = open(&database.url()).await;
    let first = store.user(UserId(1)).await.unwrap().unwrap();
    assert_eq!((first.email.as_str(), first.full_name.as_str()), ("a@example.com", "a"));
    assert_eq!((first.role, first.is_active, first.created_at_ms), (Role::Recruteur, true, 1_704_060_000_000));
    assert_eq!(store.user(UserId(2)).await.unwrap().unwrap().role, Role::Candidat);
}

#[tokio::test]
async fn an_empty_table_and_many_rows_are_taken_over() {
    let table =
        "CREATE TABLE users (id SERIAL PRIMARY KEY, email TEXT UNIQUE, hashed_password TEXT, is_active INTEGER);";
    let empty = with_tables(table).await;
    assert_eq!(adopted(&empty).await.accounts, 0);
    let many = format!(
        "{table} INSERT INTO users (email, hashed_password, is_active)
        SELECT 'u' || n || '@example.com', '{HASH}', n % 2 FROM generate_series(1, 2500) AS n"
    );
    let many = with_tables(&many).await;
    assert_eq!(adopted(&many).await.accounts, 2_500);
    assert_eq!(many.rows("SELECT count(*) FROM users WHERE is_active").await, [[Some("1250".to_owned())]]);
}

#[tokio::test]
async fn what_is_not_clear_is_refused_by_number_and_nothing_is_changed() {
    let table = "CREATE TABLE users (id SERIAL PRIMARY KEY, email TEXT, hashed_password TEXT, role TEXT);";
    for (rows, words) in [
        (
            "(1, 'anna@example.com', 'x', 'admin'), (2, 'b@example.com', 'x', 'admin'), (5, 'ANNA@example.com', 'x', 'admin')",
            "1 and 5 have one address",
        ),
        ("(1, 'anna@example.com', 'x', 'admin'), (4, 'ａnna@example.com', 'x', 'admin')", "1 and 4 have one address"),
        ("(3, 'anna@example.com', 'x', 'king')", "3 has a role"),
        ("(6, NULL, 'x', 'admin')", "6 has no address"),
    ] {
        let database = with_tables(&format!("{table} INSERT INTO users VALUES {rows}")).await;
        let said = refusal(&database).await;
        assert!(said.contains(words) && said.contains("nothing was changed") && !said.contains("anna@"), "{said}");
        let tables = "SELECT string_agg(relname, ',') FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
        assert_eq!(database.rows(tables).await, [[Some("users".to_owned())]]);
    }
    let foreign = with_tables("CREATE TABLE users (id UUID PRIMARY KEY, email TEXT, hashed_password TEXT)").await;
    assert!(refusal(&foreign).await.contains("not the earlier gateway's"));
}
