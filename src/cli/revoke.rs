//! `revoke`: an operator takes back a session, a token, all tokens of an account or of a key, also while gateways run.

use std::io::Write;

use anyhow::bail;
use clap::Args;

use super::audit::Note;
use super::change::{Done, change};
use super::store::{Absent, StoreArgs};
use crate::accounts::revoked_until_s;
use crate::audit::{EventKind, Subject};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::model::identity::{SessionId, TokenId};
use crate::store::{IdentityStore, Revoked, UserChange};
use crate::telemetry::metrics::AuthEvent;

/// Takes back tokens before they end by themselves.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Clone, Default, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// End this session, with its tokens (claim `sid`)
    #[arg(long, value_name = "SID")]
    session: Option<SessionId>,
    /// Refuse this one access token (claim `jti`); its session goes on
    #[arg(long, value_name = "JTI")]
    token: Option<TokenId>,
    /// End every session of this account; it may log in again
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
}

/// Runs the command; what it says goes to the standard output.
pub fn run(args: RevokeArgs, env: &Env) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = args.store.open(env, Absent::Refuse).await?;
        let done = revoke(&*store, args.what, &mut std::io::stdout().lock()).await?;
        done.tell(&args.store.settings(env)?.redis, &*store).await
    })
}

/// A fact that was written to the store, until `until_s`, and what the audit trail is told of it.
fn done(revoked: Revoked, until_s: i64) -> Done {
    let event = note(&revoked).into_event();
    Done { facts: vec![(revoked, until_s)], events: vec![event] }
}

fn note(revoked: &Revoked) -> Note {
    let (subject, details) = match revoked {
        Revoked::Session(sid) => (Some(Subject::Session(*sid)), "session revoked".to_owned()),
        Revoked::Token(token) => (None, format!("token {token} revoked")),
        Revoked::User(id, _) => (Some(Subject::User(*id)), "every session ended".to_owned()),
        Revoked::Key(key) => (Some(Subject::Key(key.clone())), "every token of the key revoked".to_owned()),
        Revoked::ApiKey(id) => (Some(Subject::ApiKey(*id)), "API key revoked".to_owned()),
    };
    Note { kind: EventKind::Auth(AuthEvent::AuthzAdmin), subject, details }
}

/// Writes the fact to the store; answers what is left to be told.
async fn revoke(store: &dyn IdentityStore, what: What, out: &mut impl Write) -> anyhow::Result<Done> {
    let now = Clock::system().wall();
    // The command does not know how long the gateways' tokens live, only that none lives longer.
    let until_s = revoked_until_s(now.as_second());
    let revoked = match what {
        What { session: Some(sid), .. } => {
            let lived = store.end_session(sid, now.as_millisecond(), until_s).await?;
            let note =
                if lived { "is ended" } else { "is not known as a living one; its tokens are revoked all the same" };
            writeln!(out, "session {sid} {note}")?;
            Revoked::Session(sid)
        }
        What { token: Some(token), .. } => {
            let revoked = Revoked::Token(token);
            store.revoke(revoked.clone(), until_s).await?;
            writeln!(out, "token {token} is revoked")?;
            revoked
        }
        What { user: Some(email), .. } => return change(store, &email, UserChange::SignOut, out).await,
        What { session: None, token: None, user: None } => bail!("give one of --session, --token, --user"),
    };
    Ok(done(revoked, until_s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::UserId;
    use crate::model::role::Role;
    use crate::store::embedded::{EmbeddedStore, FILE_NAME};
    use crate::store::{NewUser, RevocationStore as _, UserStore as _};

    async fn said(store: &dyn IdentityStore, what: What) -> anyhow::Result<(Revoked, String)> {
        let mut out = Vec::new();
        let Done { mut facts, events } = revoke(store, what, &mut out).await?;
        assert!(facts.len() == 1 && !events.is_empty());
        Ok((facts.remove(0).0, String::from_utf8(out)?))
    }

    #[tokio::test]
    async fn each_kind_is_written_down_as_it_is_announced() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join(FILE_NAME)).unwrap();
        let new = NewUser {
            email_key: "a@b.fr".into(),
            email: "A@b.fr".into(),
            full_name: "A".into(),
            role: Role::Candidat,
            password_hash: "x".into(),
            created_at_ms: 1,
        };
        store.insert_user(new).await.unwrap();
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let cases = [
            (What { session: Some(id.parse().unwrap()), ..What::default() }, "is not known as a living one"),
            (What { token: Some(id.parse().unwrap()), ..What::default() }, "is revoked"),
            (What { user: Some("a@B.fr".into()), ..What::default() }, "its sessions are ended"),
        ];
        let mut announced = Vec::new();
        for (what, words) in cases {
            let (revoked, text) = said(&store, what).await.unwrap();
            assert!(text.contains(words), "{text}");
            announced.push(revoked);
        }
        let kept = store.revocations_since(0, 100).await.unwrap();
        assert_eq!(kept.into_iter().map(|fact| fact.revoked).collect::<Vec<_>>(), announced);
        assert!(matches!(announced[2], Revoked::User(UserId(1), not_before_s) if not_before_s > 0));
    }

    #[tokio::test]
    async fn what_cannot_be_revoked_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join(FILE_NAME)).unwrap();
        for (what, words) in
            [(What { user: Some("x@y.fr".into()), ..What::default() }, "x@y.fr"), (What::default(), "--session")]
        {
            let error = said(&store, what).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(store.revocations_since(0, 100).await.unwrap().is_empty());
    }
}
