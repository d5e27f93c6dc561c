//! `users`: accounts from the command line, on the store that `run` would use, also while the gateway runs.
//!
//! The only way to the first admin. Changes reach running gateways over Redis, where there is one, or with their next
//! pull of revocations.

use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};

use super::audit::Note;
use super::change::{Done, change};
use super::store::{Absent, StoreArgs};
use crate::accounts::{Email, FullName, HashCost, HashPool, NewPassword};
use crate::audit::{EventKind, Subject};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::model::identity::UserId;
use crate::model::role::Role;
use crate::store::embedded::{EmbeddedStore, FILE_NAME};
use crate::store::{IdentityStore, NewUser, StoreError, User, UserChange};
use crate::telemetry::metrics::AuthEvent;

/// Accounts that are read at once by `users list`.
const PAGE: u32 = 500;

/// Makes, lists and changes accounts.
#[derive(Debug, Args)]
pub struct UsersArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(subcommand)]
    command: UsersCommand,
}

#[derive(Debug, Subcommand)]
enum UsersCommand {
    /// Make an account; asks for its password
    Add {
        /// Its address
        #[arg(long)]
        email: String,
        /// candidat, recruteur or admin
        #[arg(long)]
        role: Role,
        /// Name for people; default: the part of the address before the @
        #[arg(long)]
        name: Option<String>,
        /// Read the password from the first line of the standard input instead of asking
        #[arg(long)]
        password_stdin: bool,
    },
    /// List all accounts
    List,
    /// Give an account another role; ends its sessions
    SetRole {
        /// Its address
        #[arg(long)]
        email: String,
        /// candidat, recruteur or admin
        #[arg(long)]
        role: Role,
    },
    /// Forbid an account to log in; ends its sessions
    Deactivate {
        /// Its address
        #[arg(long)]
        email: String,
    },
    /// Allow an account to log in again
    Activate {
        /// Its address
        #[arg(long)]
        email: String,
    },
    /// Give an account another password; asks for it; ends its sessions
    SetPassword {
        /// Its address
        #[arg(long)]
        email: String,
        /// Read the password from the first line of the standard input instead of asking
        #[arg(long)]
        password_stdin: bool,
    },
    /// End all sessions of an account
    SignOut {
        /// Its address
        #[arg(long)]
        email: String,
    },
}

/// Runs the command; what it says goes to the standard output.
pub fn run(args: UsersArgs, env: &Env) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Only `add` may start a store.
    let absent = if matches!(args.command, UsersCommand::Add { .. }) { Absent::Make } else { Absent::Refuse };
    runtime.block_on(async {
        let store = args.store.open(env, absent).await?;
        let mut out = std::io::stdout().lock();
        let done = execute(&*store, args.command, &mut out).await?;
        done.tell(&args.store.settings(env)?.redis, &*store).await
    })
}

/// Makes an account in the store of `data_dir`, outside of any runtime.
pub fn add_to(data_dir: &Path, email: &str, role: Role, password: SecretString) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = EmbeddedStore::open(&data_dir.join(FILE_NAME))?;
    runtime.block_on(add(&store, email, role, None, password)).map(|_| ())
}

/// Does it; answers what is left to be told.
async fn execute(store: &dyn IdentityStore, command: UsersCommand, out: &mut impl Write) -> anyhow::Result<Done> {
    Ok(match command {
        UsersCommand::Add { email, role, name, password_stdin } => {
            let user = add(store, &email, role, name.as_deref(), password(password_stdin)?).await?;
            writeln!(out, "{} {} {}", user.id, user.email, user.role)?;
            Done::default()
        }
        UsersCommand::List => {
            list(store, out).await?;
            Done::default()
        }
        UsersCommand::SetRole { email, role } => change(store, &email, UserChange::Role(role), out).await?,
        UsersCommand::Deactivate { email } => change(store, &email, UserChange::Active(false), out).await?,
        UsersCommand::Activate { email } => change(store, &email, UserChange::Active(true), out).await?,
        UsersCommand::SetPassword { email, password_stdin } => {
            set_password(store, &email, password(password_stdin)?, out).await?
        }
        UsersCommand::SignOut { email } => change(store, &email, UserChange::SignOut, out).await?,
    })
}

async fn add(
    store: &dyn IdentityStore,
    email: &str,
    role: Role,
    name: Option<&str>,
    password: SecretString,
) -> anyhow::Result<User> {
    let clock = Clock::system();
    let email: Email = email.parse().map_err(|why| anyhow::anyhow!("--email {why}"))?;
    let name: FullName =
        name.unwrap_or_else(|| email.local_part()).parse().map_err(|why| anyhow::anyhow!("--name {why}"))?;
    let password_hash = hash(password, Some(&email)).await?;
    let user = NewUser {
        email_key: email.key().to_owned(),
        email: email.as_str().to_owned(),
        full_name: name.as_str().to_owned(),
        role,
        password_hash,
        created_at_ms: clock.wall().as_millisecond(),
    };
    let user = store.insert_user(user).await.map_err(|error| match error {
        StoreError::Conflict => {
            anyhow::anyhow!("{} has an account already; `users set-role` changes it", email.as_str())
        }
        other => other.into(),
    })?;
    let (kind, subject) = (EventKind::Auth(AuthEvent::UserCreated), Some(Subject::User(user.id)));
    Note { kind, subject, details: format!("role {role}") }.write(store).await?;
    Ok(user)
}

/// The hash of a password that passed the rules for the account of `email`.
async fn hash(password: SecretString, email: Option<&Email>) -> anyhow::Result<String> {
    let password = NewPassword::parse(password, email).map_err(|why| anyhow::anyhow!("the password {why}"))?;
    let hashes = HashPool::new(HashCost::default(), 1, 1, Clock::system()).map_err(anyhow::Error::msg)?;
    let Ok(hash) = hashes.hash(password.into_secret()).await else { bail!("the password cannot be hashed") };
    Ok(hash)
}

async fn set_password(
    store: &dyn IdentityStore,
    email: &str,
    password: SecretString,
    out: &mut impl Write,
) -> anyhow::Result<Done> {
    let hash = hash(password, email.parse::<Email>().ok().as_ref()).await?;
    change(store, email, UserChange::Password { hash: SecretString::from(hash), proven_at: None }, out).await
}

async fn list(store: &dyn IdentityStore, out: &mut impl Write) -> anyhow::Result<()> {
    let mut after = UserId(0);
    loop {
        let users = store.users(after, PAGE).await?;
        let Some(last) = users.last() else { return Ok(()) };
        after = last.id;
        for user in &users {
            let state = if user.is_active { "active" } else { "inactive" };
            writeln!(out, "{}\t{}\t{}\t{state}\t{}", user.id, user.email, user.role, user.full_name)?;
        }
    }
}

fn password(from_stdin: bool) -> anyhow::Result<SecretString> {
    if from_stdin { password_from(std::io::stdin().lock()) } else { ask_password() }
}

fn ask_password() -> anyhow::Result<SecretString> {
    let first = SecretString::from(
        rpassword::prompt_password("Password: ").context("cannot ask for a password; use --password-stdin")?,
    );
    let second = SecretString::from(rpassword::prompt_password("Again: ")?);
    if first.expose_secret() != second.expose_secret() {
        bail!("the two passwords differ");
    }
    Ok(first)
}

fn password_from(mut input: impl BufRead) -> anyhow::Result<SecretString> {
    let mut line = String::new();
    input.read_line(&mut line).context("cannot read the password from the standard input")?;
    let password = line.strip_suffix('\n').map_or(line.as_str(), |rest| rest.strip_suffix('\r').unwrap_or(rest));
    Ok(SecretString::from(password))
}

#[cfg(test)]
mod tests {
    use super::super::audit;
    use super::*;
    use crate::store::{AuditStore, RevocationStore, Revoked, UserStore};

    fn store() -> (tempfile::TempDir, EmbeddedStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join(FILE_NAME)).unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn an_account_is_added_listed_and_changed() {
        let (_folder, store) = store();
        let password = || SecretString::from("a good long one");
        add(&store, "Root@example.com", Role::Admin, None, password()).await.unwrap();
        let again = add(&store, "root@EXAMPLE.com", Role::Admin, None, password()).await.unwrap_err();
        assert!(again.to_string().contains("already"), "{again}");
        let mut out = Vec::new();
        let email = || "ROOT@example.com".to_owned();
        for command in [
            UsersCommand::SetRole { email: email(), role: Role::Recruteur },
            UsersCommand::Deactivate { email: email() },
        ] {
            let done = execute(&store, command, &mut out).await.unwrap();
            audit::write(done.events, &store).await.unwrap();
        }
        out.clear();
        let _ = execute(&store, UsersCommand::List, &mut out).await.unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "1\tRoot@example.com\trecruteur\tinactive\troot\n");
        let facts = store.revocations_since(0, 100).await.unwrap();
        let not_before: Vec<i64> = facts
            .iter()
            .map(|fact| match &fact.revoked {
                Revoked::User(UserId(1), not_before) => *not_before,
                other => panic!("{other:?}"),
            })
            .collect();
        let told = store.audit_since(0, 10).await.unwrap();
        let told: Vec<&str> = told.iter().map(|record| record.entry.as_str()).collect();
        assert!(told[0].contains("user_created") && told[0].contains("role admin"), "{told:?}");
        assert!(told[2].contains("user_updated") && told[2].contains("role admin to recruteur"), "{told:?}");
        assert!(told[5].contains("command_line") && told[5].contains("deactivated") && told.len() == 7, "{told:?}");
        assert!(not_before.len() == 2 && not_before[0] < not_before[1], "{not_before:?}");
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_without_the_password() {
        let (_folder, store) = store();
        for (email, password, words) in [
            ("nobody", "a good long one", "--email"),
            ("a@b.fr", "short", "the password"),
            ("admin@b.fr", "xxadminxxxx", "the password"),
        ] {
            let error = add(&store, email, Role::Admin, None, password.into()).await.unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains(password), "{error}");
        }
        let error = execute(&store, UsersCommand::Activate { email: "x@y.fr".into() }, &mut Vec::new()).await;
        assert!(error.err().unwrap().to_string().contains("x@y.fr"));
    }

    #[tokio::test]
    async fn a_password_is_set_and_sessions_end() {
        let (_folder, store) = store();
        add(&store, "root@example.com", Role::Admin, None, "a good long one".into()).await.unwrap();
        let before = store.credentials("root@example.com").await.unwrap().unwrap();
        let mut out = Vec::new();
        let _ = set_password(&store, "ROOT@example.com", "an even better one".into(), &mut out).await.unwrap();
        let after = store.credentials("root@example.com").await.unwrap().unwrap();
        assert!(before.password_hash != after.password_hash && after.password_hash.starts_with("$argon2id$"));
        assert!(before.user.tokens_not_before_s < after.user.tokens_not_before_s);
        let _ = execute(&store, UsersCommand::SignOut { email: "root@example.com".into() }, &mut out).await.unwrap();
        let last = store.credentials("root@example.com").await.unwrap().unwrap();
        assert_eq!(last.password_hash, after.password_hash);
        assert!(after.user.tokens_not_before_s < last.user.tokens_not_before_s);
        let line = "1 root@example.com admin active; its sessions are ended\n";
        assert_eq!(String::from_utf8(out).unwrap(), line.repeat(2));
        for (email, password, words) in [
            ("root@example.com", "short", "the password"),
            ("root@example.com", "xx-root-xx", "the password"),
            ("nobody@example.com", "a good long one", "nobody@example.com"),
        ] {
            let error = set_password(&store, email, password.into(), &mut Vec::new()).await.err().unwrap().to_string();
            assert!(error.contains(words) && !error.contains(password), "{error}");
        }
    }

    #[test]
    fn the_password_is_the_first_line() {
        for (input, expected) in
            [("a b c\nrest", "a b c"), ("a b c\r\n", "a b c"), ("a b c", "a b c"), (" a \n", " a ")]
        {
            assert_eq!(password_from(input.as_bytes()).unwrap().expose_secret(), expected);
        }
    }
}
