//! `users`: accounts from the command line, on the embedded store, also while the gateway runs.
//!
//! The only way to the first admin. Changes reach a running gateway with its next pull of revocations.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};

use crate::accounts::{Email, FullName, HashCost, HashPool, LEEWAY_S, MAX_ACCESS_TTL, NewPassword, email::email_key};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::config::settings;
use crate::model::identity::UserId;
use crate::model::role::Role;
use crate::store::embedded::{EmbeddedStore, FILE_NAME};
use crate::store::{IdentityStore, NewUser, StoreError, User, UserChange};

/// Accounts that are read at once by `users list`.
const PAGE: u32 = 500;

/// Makes, lists and changes accounts.
#[derive(Debug, Args)]
pub struct UsersArgs {
    /// Folder of the embedded store; default: the one that `run` would take
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Process settings that may name this folder; default: conf/gateway.yaml, where it exists
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
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
}

/// Runs the command; what it says goes to the standard output.
pub fn run(args: UsersArgs, env: &Env) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = match args.data_dir {
        Some(folder) => folder,
        None => settings::data_dir(args.config.as_deref(), env)?,
    };
    let path = folder.join(FILE_NAME);
    // Only `add` may start a store: a mistyped folder must not look like a store without accounts.
    if !matches!(args.command, UsersCommand::Add { .. })
        && !path.try_exists().with_context(|| format!("identity store {}", path.display()))?
    {
        bail!("no identity store at {}; give its folder with --data-dir", path.display());
    }
    let store = EmbeddedStore::open(&path)?;
    let mut out = std::io::stdout().lock();
    runtime.block_on(execute(&store, args.command, &mut out))
}

/// Makes an account in the store of `data_dir`, outside of any runtime.
pub fn add_to(data_dir: &Path, email: &str, role: Role, password: SecretString) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = EmbeddedStore::open(&data_dir.join(FILE_NAME))?;
    runtime.block_on(add(&store, email, role, None, password)).map(|_| ())
}

async fn execute(store: &dyn IdentityStore, command: UsersCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        UsersCommand::Add { email, role, name, password_stdin } => {
            let password = if password_stdin { password_from(std::io::stdin().lock())? } else { ask_password()? };
            let user = add(store, &email, role, name.as_deref(), password).await?;
            writeln!(out, "{} {} {}", user.id, user.email, user.role)?;
        }
        UsersCommand::List => list(store, out).await?,
        UsersCommand::SetRole { email, role } => change(store, &email, UserChange::Role(role), out).await?,
        UsersCommand::Deactivate { email } => change(store, &email, UserChange::Active(false), out).await?,
        UsersCommand::Activate { email } => change(store, &email, UserChange::Active(true), out).await?,
    }
    Ok(())
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
    let password = NewPassword::parse(password, Some(&email)).map_err(|why| anyhow::anyhow!("the password {why}"))?;
    let hashes = HashPool::new(HashCost::default(), 1, 1, clock.clone()).map_err(anyhow::Error::msg)?;
    let Ok(password_hash) = hashes.hash(password.into_secret()).await else { bail!("the password cannot be hashed") };
    let user = NewUser {
        email_key: email.key().to_owned(),
        email: email.as_str().to_owned(),
        full_name: name.as_str().to_owned(),
        role,
        password_hash,
        created_at_ms: clock.wall().as_millisecond(),
    };
    store.insert_user(user).await.map_err(|error| match error {
        StoreError::Conflict => {
            anyhow::anyhow!("{} has an account already; `users set-role` changes it", email.as_str())
        }
        other => other.into(),
    })
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

async fn change(
    store: &dyn IdentityStore,
    email: &str,
    change: UserChange,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let found = store.credentials(&email_key(email)).await?;
    let id = found.with_context(|| format!("no account has the address {email}"))?.user.id;
    let now = Clock::system().wall();
    let longest = i64::try_from(MAX_ACCESS_TTL.as_secs()).unwrap_or(i64::MAX).saturating_add(LEEWAY_S + 1);
    let until_s = now.as_second().saturating_add(longest);
    let changed = store.change_user(id, change, now.as_millisecond(), until_s).await?;
    let user = changed.with_context(|| format!("the account of {email} is gone"))?;
    let state = if user.is_active { "active" } else { "inactive" };
    let ended = match change {
        UserChange::Role(_) | UserChange::Active(false) => "; its sessions are ended",
        UserChange::Active(true) => "",
    };
    writeln!(out, "{} {} {} {state}{ended}", user.id, user.email, user.role)?;
    Ok(())
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
    use super::*;
    use crate::store::Revoked;

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
        execute(&store, UsersCommand::SetRole { email: "ROOT@example.com".into(), role: Role::Recruteur }, &mut out)
            .await
            .unwrap();
        execute(&store, UsersCommand::Deactivate { email: "root@example.com".into() }, &mut out).await.unwrap();
        out.clear();
        execute(&store, UsersCommand::List, &mut out).await.unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "1\tRoot@example.com\trecruteur\tinactive\troot\n");
        let facts = store.revocations_since(0).await.unwrap();
        let not_before: Vec<i64> = facts
            .iter()
            .map(|fact| match fact.revoked {
                Revoked::User(UserId(1), not_before) => not_before,
                other => panic!("{other:?}"),
            })
            .collect();
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
        assert!(error.unwrap_err().to_string().contains("x@y.fr"));
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
