//! `revoke`: an operator takes back a session, a token, all tokens of an account or of a key, also while gateways run.

use std::io::Write;

use anyhow::{Context as _, bail};
use clap::Args;

use super::announce::announce;
use super::audit::Note;
use super::keys::REVOKED_FOR;
use super::store::{Absent, StoreArgs};
use crate::accounts::email::email_key;
use crate::accounts::{LEEWAY_S, MAX_ACCESS_TTL};
use crate::audit::{EventKind, Subject};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::model::identity::{KeyId, SessionId, TokenId};
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
    /// Refuse every access token signed with this key (`kid`), also those still to be made; `keys revoke` also takes its
    /// file away
    #[arg(long, value_name = "KID", allow_hyphen_values = true)]
    key: Option<KeyId>,
}

/// Runs the command; what it says goes to the standard output.
pub fn run(args: RevokeArgs, env: &Env) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = args.store.open(env, Absent::Refuse).await?;
        let fact = revoke(&*store, args.what, &mut std::io::stdout().lock()).await?;
        let note = note(&fact.0);
        announce(&args.store.settings(env)?.redis, &[fact]).await;
        note.write(&*store).await
    })
}

/// What the audit trail is told.
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

/// Writes the fact to the store; answers it, and until when it matters.
async fn revoke(store: &dyn IdentityStore, what: What, out: &mut impl Write) -> anyhow::Result<(Revoked, i64)> {
    let now = Clock::system().wall();
    // The command does not know how long the gateways' tokens live, only that none lives longer.
    let longest = i64::try_from(MAX_ACCESS_TTL.as_secs()).unwrap_or(i64::MAX).saturating_add(LEEWAY_S + 1);
    let until_s = now.as_second().saturating_add(longest);
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
        What { user: Some(email), .. } => {
            let found = store.credentials(&email_key(&email)).await?;
            let id = found.with_context(|| format!("no account has the address {email}"))?.user.id;
            let changed = store.change_user(id, UserChange::SignOut, now.as_millisecond(), until_s).await?;
            let user = changed.with_context(|| format!("the account of {email} is gone"))?;
            writeln!(out, "{} {}: every session is ended", user.id, user.email)?;
            Revoked::User(user.id, user.tokens_not_before_s)
        }
        What { key: Some(key), .. } => {
            // Who stole a key goes on making tokens with it: this must matter for as long as a gateway may hold the key.
            let until_s = now.as_second().saturating_add(i64::try_from(REVOKED_FOR.as_secs()).unwrap_or(i64::MAX));
            let revoked = Revoked::Key(key.clone());
            store.revoke(revoked.clone(), until_s).await?;
            writeln!(out, "key {key}: every token signed with it is revoked")?;
            return Ok((revoked, until_s));
        }
        What { session: None, token: None, user: None, key: None } => {
            bail!("give one of --session, --token, --user, --key")
        }
    };
    Ok((revoked, until_s))
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
        let (revoked, _) = revoke(store, what, &mut out).await?;
        Ok((revoked, String::from_utf8(out)?))
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
            (What { user: Some("a@B.fr".into()), ..What::default() }, "every session is ended"),
            (What { key: Some("k1".parse().unwrap()), ..What::default() }, "every token signed with it"),
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
