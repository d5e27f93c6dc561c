//! `api-keys`: API keys from the command line, on the store that `run` would use, also while gateways run: they learn of new
//! keys with their next pull, of revoked ones over Redis, where there is one.

use std::io::Write;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::audit::Note;
use super::change::Done;
use super::store::{Absent, StoreArgs};
use crate::accounts::ApiKeyRequest;
use crate::accounts::api_keys::{MAX_ROUTES, issue};
use crate::accounts::email::email_key;
use crate::accounts::revoked_until_s;
use crate::audit::{EventKind, Subject};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::model::identity::ApiKeyId;
use crate::model::role::Role;
use crate::store::{ApiKey, IdentityStore, Revoked};
use crate::telemetry::metrics::AuthEvent;

/// Keys that are read at once by `api-keys list`.
const PAGE: u32 = 500;

/// Makes, lists and revokes API keys.
#[derive(Debug, Args)]
pub struct ApiKeysArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(subcommand)]
    command: ApiKeysCommand,
}

#[derive(Debug, Subcommand)]
enum ApiKeysCommand {
    /// Make a key and print it: it cannot be shown again
    Create {
        /// Address of the account that it acts for
        #[arg(long)]
        email: String,
        /// Name for people
        #[arg(long)]
        name: String,
        /// Role that it acts with, not above the account's; default: the account's
        #[arg(long)]
        role: Option<Role>,
        /// Name of a route that it may call, again for more; default: every route that takes API keys
        #[arg(long = "route", value_name = "ROUTE")]
        routes: Vec<String>,
        /// When it ends, such as 2030-01-01T00:00:00Z; default: never
        #[arg(long, value_name = "TIME")]
        expires_at: Option<Timestamp>,
    },
    /// List all keys, without the keys themselves
    List,
    /// Revoke a key for good
    Revoke {
        /// Its number, as `list` shows it
        id: i64,
    },
}

/// Runs the command; what it says goes to the standard output.
pub fn run(args: ApiKeysArgs, env: &Env) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = args.store.open(env, Absent::Refuse).await?;
        let mut out = std::io::stdout().lock();
        let done = execute(&*store, args.command, Clock::system().wall(), &mut out).await?;
        done.tell(&args.store.settings(env)?.redis, &*store).await
    })
}

/// Does it; answers what is left to be told.
async fn execute(
    store: &dyn IdentityStore,
    command: ApiKeysCommand,
    now: Timestamp,
    out: &mut impl Write,
) -> anyhow::Result<Done> {
    match command {
        ApiKeysCommand::Create { email, name, role, routes, expires_at } => {
            if routes.len() > MAX_ROUTES {
                bail!("a key names at most {MAX_ROUTES} routes");
            }
            let found = store.credentials(&email_key(&email)).await?;
            let user = found.with_context(|| format!("no account has the address {email}"))?.user.id;
            let name = name.parse().map_err(|why| anyhow::anyhow!("--name {why}"))?;
            let expires_at_ms = expires_at.map(Timestamp::as_millisecond);
            let request = ApiKeyRequest { name, user, role, routes, expires_at_ms, created_by: None };
            let issued = issue(store, request, now.as_millisecond()).await?;
            writeln!(out, "{}\t{}", issued.key.id, issued.secret.expose_secret())?;
            let key = &issued.key;
            let details = format!("{}, for user:{}, role {}", key.prefix, key.user, key.role);
            let kind = EventKind::Auth(AuthEvent::ApiKeyCreated);
            let event = Note { kind, subject: Some(Subject::ApiKey(key.id)), details }.into_event();
            Ok(Done { facts: Vec::new(), events: vec![event] })
        }
        ApiKeysCommand::List => {
            list(store, now, out).await?;
            Ok(Done::default())
        }
        ApiKeysCommand::Revoke { id } => {
            let until_s = revoked_until_s(now.as_second());
            if !store.revoke_api_key(ApiKeyId(id), now.as_millisecond(), until_s).await? {
                bail!("there is no API key {id} that could be revoked; `api-keys list` shows them");
            }
            writeln!(out, "{id} revoked")?;
            let (kind, id) = (EventKind::Auth(AuthEvent::ApiKeyRevoked), ApiKeyId(id));
            let note = Note { kind, subject: Some(Subject::ApiKey(id)), details: "revoked for good".to_owned() };
            Ok(Done { facts: vec![(Revoked::ApiKey(id), until_s)], events: vec![note.into_event()] })
        }
    }
}

async fn list(store: &dyn IdentityStore, now: Timestamp, out: &mut impl Write) -> anyhow::Result<()> {
    let mut after = ApiKeyId(0);
    loop {
        let keys = store.api_keys(after, PAGE).await?;
        let Some(last) = keys.last() else { return Ok(()) };
        after = last.id;
        for key in &keys {
            let ApiKey { id, prefix, user, role, name, .. } = key;
            let routes = if key.routes.is_empty() { "*".to_owned() } else { key.routes.join(",") };
            let used = key.last_used_at_ms.map_or_else(|| Ok("never used".to_owned()), |ms| time("used", ms))?;
            writeln!(out, "{id}\t{prefix}\tuser {user}\t{role}\t{}\t{used}\t{routes}\t{name}", state(key, now)?)?;
        }
    }
}

fn state(key: &ApiKey, now: Timestamp) -> anyhow::Result<String> {
    match (key.revoked_at_ms, key.expires_at_ms) {
        (Some(revoked), _) => time("revoked", revoked),
        (None, Some(end)) if end <= now.as_millisecond() => time("expired", end),
        (None, Some(end)) => time("until", end),
        (None, None) => Ok("good".to_owned()),
    }
}

fn time(word: &str, at_ms: i64) -> anyhow::Result<String> {
    Ok(format!("{word} {}", Timestamp::from_millisecond(at_ms)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::UserId;
    use crate::store::embedded::{EmbeddedStore, FILE_NAME};
    use crate::store::{NewUser, User, UserStore};

    async fn store() -> (tempfile::TempDir, EmbeddedStore, User) {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join(FILE_NAME)).unwrap();
        let user = NewUser {
            email_key: "bot@example.com".into(),
            email: "Bot@example.com".into(),
            full_name: "Bot".into(),
            role: Role::Recruteur,
            password_hash: "$".into(),
            created_at_ms: 0,
        };
        let user = store.insert_user(user).await.unwrap();
        (folder, store, user)
    }

    fn create(name: &str, role: Option<Role>, expires_at: Option<&str>) -> ApiKeysCommand {
        ApiKeysCommand::Create {
            email: "BOT@example.com".into(),
            name: name.into(),
            role,
            routes: vec!["match".into()],
            expires_at: expires_at.map(|text| text.parse().unwrap()),
        }
    }

    async fn said(store: &EmbeddedStore, command: ApiKeysCommand) -> anyhow::Result<String> {
        let mut out = Vec::new();
        let _ = execute(store, command, "2026-01-01T00:00:00Z".parse().unwrap(), &mut out).await?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn a_key_is_made_listed_and_revoked() {
        let (_folder, store, user) = store().await;
        let made = said(&store, create("import", None, Some("2030-01-01T00:00:00Z"))).await.unwrap();
        let (id, key) = made.trim_end().split_once('\t').unwrap();
        assert_eq!((id, key.len(), user.id), ("1", 62, UserId(1)));
        let prefix = &key[4..12];
        let listed = said(&store, ApiKeysCommand::List).await.unwrap();
        let expected =
            format!("1\t{prefix}\tuser 1\trecruteur\tuntil 2030-01-01T00:00:00Z\tnever used\tmatch\timport\n");
        assert_eq!(listed, expected);
        assert_eq!(said(&store, ApiKeysCommand::Revoke { id: 1 }).await.unwrap(), "1 revoked\n");
        assert!(said(&store, ApiKeysCommand::List).await.unwrap().contains("\trevoked 2026-01-01T00:00:00Z\t"));
        let again = said(&store, ApiKeysCommand::Revoke { id: 1 }).await.unwrap_err().to_string();
        assert!(again.contains("api-keys list"), "{again}");
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let (_folder, store, _) = store().await;
        for (command, words) in [
            (create(" ", None, None), "--name"),
            (create("a\nb", None, None), "--name"),
            (create("a", Some(Role::Admin), None), "above the account's, which is recruteur"),
            (create("a", None, Some("2026-01-01T00:00:00Z")), "in the past"),
        ] {
            let error = said(&store, command).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let ApiKeysCommand::Create { name, role, routes, expires_at, .. } = create("a", None, None) else { return };
        let nobody = ApiKeysCommand::Create { email: "x@y.fr".into(), name, role, routes, expires_at };
        assert!(said(&store, nobody).await.unwrap_err().to_string().contains("x@y.fr"));
    }
}
