//! The program on each of its stores: one account per address, replicas on one database, tables and their versions.

use serde_json::json;

use crate::harness::gateway::{Folder, PASSWORD, run_in};
use crate::harness::table::unlimited;
use crate::harness::{Database, Gateway, GatewayConfig, Origin, Session, until};

/// A gateway's store.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Embedded,
    Postgres,
}

/// A gateway on a new store of this kind.
async fn start(kind: Kind, origin: &Origin) -> (Option<Database>, Gateway) {
    let config = unlimited(origin);
    match kind {
        Kind::Embedded => (None, Gateway::start(config).await),
        Kind::Postgres => {
            let database = Database::create().await;
            let gateway = Gateway::start(config.env("DATABASE_URL", &database.url())).await;
            (Some(database), gateway)
        }
    }
}

#[tokio::test]
async fn fifty_registrations_of_one_address_at_once_make_one_account() {
    for kind in [Kind::Embedded, Kind::Postgres] {
        let origin = Origin::start().await;
        let (_database, gateway) = start(kind, &origin).await;
        let spellings = [
            "anna.müller@example.com",
            "ANNA.MÜLLER@EXAMPLE.COM",
            "Anna.mu\u{308}ller@Example.com",
            "\u{ff41}\u{ff4e}\u{ff4e}\u{ff41}.müller@example.com",
            "ANNA.MU\u{308}LLER@example\u{ff0e}com",
        ];
        let mut registrations = tokio::task::JoinSet::new();
        for n in 0..50 {
            let (client, email) = (gateway.client.clone(), spellings[n % spellings.len()]);
            registrations.spawn(async move { client.register(email, PASSWORD, "candidat").await });
        }
        let answers = registrations.join_all().await;
        let made = answers.iter().filter(|got| got.status == 201).count();
        assert_eq!(made, 1, "{kind:?}");
        for got in answers.iter().filter(|got| got.status != 201) {
            assert_eq!(got.refusal(), (400, "EMAIL_ALREADY_USED".to_owned()), "{kind:?}");
        }
        for email in spellings {
            gateway.client.login(email, PASSWORD).await.expect(200);
        }
    }
}

/// Two gateways with one secret on one database.
async fn two_replicas(origin: &Origin) -> (Database, Gateway, Gateway) {
    let database = Database::create().await;
    let config = unlimited(origin).env("DATABASE_URL", &database.url());
    let (a, b) = tokio::join!(Gateway::start(config.clone()), Gateway::start(config));
    (database, a, b)
}

#[tokio::test]
async fn two_tabs_refresh_at_once_at_two_replicas_and_both_go_on() {
    let origin = Origin::start().await;
    let (_database, a, b) = two_replicas(&origin).await;
    let user = a.user("candidat").await;
    let mut refresh = user.refresh.clone();
    for round in 0..20 {
        let (first, second) = tokio::join!(a.client.refresh(&refresh), b.client.refresh(&refresh));
        let (first, second) = (Session::of(&first.expect(200), PASSWORD), Session::of(&second.expect(200), PASSWORD));
        assert_eq!(first.refresh, second.refresh, "both tabs have the token in force, round {round}");
        b.client.me(&first).await.expect(200);
        a.client.me(&second).await.expect(200);
        refresh = first.refresh;
    }
}

#[tokio::test]
async fn a_stolen_older_token_ends_the_session_at_both_replicas() {
    let origin = Origin::start().await;
    let (_database, a, b) = two_replicas(&origin).await;
    let first = a.user("candidat").await;
    let second = Session::of(&a.client.refresh(&first.refresh).await.expect(200), PASSWORD);
    let third = Session::of(&b.client.refresh(&second.refresh).await.expect(200), PASSWORD);
    assert_eq!(b.client.refresh(&first.refresh).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
    // At once where it was seen, and for refreshes everywhere; access tokens elsewhere with the next pull.
    assert_eq!(b.client.me(&third).await.refusal(), (401, "TOKEN_REVOKED".to_owned()));
    assert_eq!(a.client.refresh(&third.refresh).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
    until("the other replica to know", std::time::Duration::from_secs(6), || async {
        let got = a.client.me(&third).await;
        (got.status == 401).then(|| assert_eq!(got.code(), "TOKEN_REVOKED"))
    })
    .await;
    a.client.login(&first.email, PASSWORD).await.expect(200);
}

#[tokio::test]
async fn the_command_line_works_on_the_same_database() {
    let origin = Origin::start().await;
    let (_database, gateway) = start(Kind::Postgres, &origin).await;
    let admin = gateway.user("admin").await; // made by `users add`
    assert_eq!(gateway.client.me(&admin).await.expect(200).json()["role"], "admin");
    assert!(!gateway.data_dir().join("identity.db").exists());
}

#[tokio::test]
async fn a_mistyped_folder_does_not_become_a_store() {
    let config = GatewayConfig::table("");
    let folder = Folder::new(&config);
    let typo = folder.path("dta").display().to_string();
    let add = ["users", "add", "--email", "a@example.com", "--role", "admin", "--password-stdin", "--data-dir", &typo];
    for verb in [&add[..], &["users", "list", "--data-dir", &typo], &["migrate", "--data-dir", &typo]] {
        let refused = run_in(&folder, verb, &config);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("--data-dir") && !folder.path("dta").exists(), "{said}");
    }
    std::fs::create_dir(&typo).unwrap();
    let made = folder.add_user(&add[2..6], PASSWORD, &config.env);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr)); // the default folder may be made
    let made = folder.add_user(&[&add[2..6], &add[7..]].concat(), PASSWORD, &config.env);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test]
async fn without_init_db_the_tables_are_made_by_a_command() {
    let origin = Origin::start().await;
    let database = Database::create().await;
    let config = unlimited(&origin).env("DATABASE_URL", &database.url()).env("INIT_DB", "false");
    let folder = Folder::new(&config);
    let refused = run_in(&folder, &["run"], &config);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("has no tables of the gateway") && said.contains("ssm-gateway migrate"), "{said}");
    for expected in ["from version 0 to 2", "has version 2 already"] {
        let done = run_in(&folder, &["migrate"], &config);
        let told = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success() && told.contains(expected), "{told}{}", String::from_utf8_lossy(&done.stderr));
    }
    let gateway = Gateway::start(config).await;
    gateway.client.me(&gateway.user("candidat").await).await.expect(200);
}

/// Every command that opens the store, with what it needs besides.
const COMMANDS: [&[&str]; 5] = [
    &["audit", "tail"],
    &["users", "list"],
    &["users", "set-role", "--email", "a@example.com", "--role", "admin"],
    &["api-keys", "list"],
    &["revoke", "--user", "a@example.com"],
];

#[tokio::test]
async fn no_command_makes_tables_or_takes_a_database_over() {
    let tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    let add = ["--email", "a@example.com", "--role", "admin"];
    let refusal = |output: std::process::Output| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("ssm-gateway migrate"), "{said}");
        assert!(!said.contains("INIT_DB"), "{said}");
    };
    let empty = Database::create().await;
    let config = GatewayConfig::table("").env("DATABASE_URL", &empty.url());
    let folder = Folder::new(&config);
    for verb in COMMANDS {
        refusal(run_in(&folder, verb, &config));
    }
    assert!(empty.rows(tables).await.is_empty());
    let mut forbidden = config.env.clone();
    forbidden.insert("INIT_DB".to_owned(), "false".to_owned());
    let refused = folder.add_user(&add, PASSWORD, &forbidden);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("INIT_DB=false"));
    assert!(empty.rows(tables).await.is_empty());
    // Only the first account of an empty database makes them.
    let made = folder.add_user(&add, PASSWORD, &config.env);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let listed = run_in(&folder, &["users", "list"], &config);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("a@example.com"));

    let earlier = Database::create().await;
    earlier
        .execute(
            "CREATE TABLE users (id SERIAL PRIMARY KEY, email VARCHAR UNIQUE, hashed_password VARCHAR);
             INSERT INTO users VALUES (12, 'a@example.com', '$2b$12$KIXQwJ8pZ0wq0aKfZ8r6vO')",
        )
        .await;
    let config = GatewayConfig::table("").env("DATABASE_URL", &earlier.url());
    let folder = Folder::new(&config);
    for verb in COMMANDS {
        refusal(run_in(&folder, verb, &config));
    }
    refusal(folder.add_user(&add, PASSWORD, &config.env));
    assert_eq!(earlier.rows(tables).await, [[Some("users".to_owned())]]);
    let done = run_in(&folder, &["migrate"], &config);
    assert!(String::from_utf8_lossy(&done.stdout).contains("1 accounts of the earlier gateway"), "{done:?}");
    assert!(run_in(&folder, COMMANDS[1], &config).status.success());
}

#[tokio::test]
async fn accounts_of_the_earlier_gateway_are_there() {
    let origin = Origin::start().await;
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE users (id SERIAL PRIMARY KEY, email VARCHAR UNIQUE, full_name VARCHAR, hashed_password VARCHAR,
                 role VARCHAR, is_active BOOLEAN, created_at TIMESTAMP);
             INSERT INTO users VALUES (12, 'Anna@example.com', 'Anna', '$2b$12$KIXQwJ8pZ0wq0aKfZ8r6vO', 'recruteur', true, now())",
        )
        .await;
    let gateway = Gateway::start(unlimited(&origin).env("DATABASE_URL", &database.url())).await;
    let taken = gateway.client.register("anna@EXAMPLE.com", PASSWORD, "candidat").await;
    assert_eq!(taken.refusal(), (400, "EMAIL_ALREADY_USED".to_owned()));
    assert_eq!(gateway.client.login("anna@example.com", "not hers at all").await.status, 401);
    let new = gateway.user("candidat").await;
    assert!(gateway.client.me(&new).await.expect(200).json()["id"].as_i64() > Some(12));
    gateway.wait_said("accounts of the earlier gateway taken over").await;
}

#[tokio::test]
async fn a_database_that_is_not_there_ends_the_start_with_one_clear_line() {
    let origin = Origin::start().await;
    let nobody = crate::harness::servers::free_port();
    let url = format!("postgres://ssm:hunter2@127.0.0.1:{nobody}/ssm");
    let config = unlimited(&origin).env("DATABASE_URL", &url).setting("database", json!({"start_wait": "1s"}));
    let ended = run_in(&Folder::new(&config), &["run"], &config);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("waiting for the database"), "{said}");
    let last = said.trim_end().lines().last().unwrap_or_default();
    assert!(
        last.contains(&format!("127.0.0.1:{nobody}/ssm cannot be used")) && last.contains("DATABASE_URL"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
}
