//! `limits override`, `limits overrides`.

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;

use super::rules::{Ends, PULLED, RulesNote, ends, rules_in_force};
use super::table::{self, Column};
use super::whose;
use crate::audit::Subject;
use crate::config::check::is_policy_name;
use crate::model::gcra::Quota;
use crate::model::units::{ONE_YEAR, Rate, Span};
use crate::store::{IdentityStore, LimitOverride, User};

/// Largest burst: what a rate may be.
const MAX_BURST: u32 = 1_000_000_000;

#[derive(Debug, Args)]
pub(super) struct OverrideArgs {
    /// E-mail or number of the account
    #[arg(value_name = "USER")]
    whose: String,
    /// Name of the policy, as the table of routes has it
    #[arg(long, value_name = "NAME")]
    policy: String,
    /// The rate in its place, such as 500/min
    #[arg(long, required_unless_present = "remove", requires = "span")]
    rate: Option<Rate>,
    /// Requests on top of the rate; default: the policy's own burst
    #[arg(long, value_name = "N", requires = "rate", value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_BURST)))]
    burst: Option<u32>,
    /// How long it holds, such as 2h; at most 365d
    #[arg(id = "span", long = "for", value_name = "TIME", requires = "rate")]
    span: Option<Span>,
    /// Take the account's override under the policy away
    #[arg(long, conflicts_with_all = ["rate", "burst", "span"])]
    remove: bool,
}

impl OverrideArgs {
    /// The policy, when an override is set and not taken away.
    pub(super) fn sets(&self) -> Option<&str> {
        self.rate.is_some().then_some(&self.policy)
    }
}

#[derive(Debug, Args)]
pub(super) struct OverridesArgs {
    /// E-mail or number of an account; default: all accounts
    #[arg(value_name = "USER")]
    whose: Option<String>,
}

/// As the table's own check: a bucket that never fills is a mistake in one of the numbers.
fn check_fills(rate: Rate, burst: Option<u32>) -> anyhow::Result<()> {
    let fills = Duration::from_micros(Quota::new(rate, burst.unwrap_or(0)).fill_time().micros);
    if fills > ONE_YEAR {
        bail!("--burst: an empty bucket would take more than 365d to fill");
    }
    Ok(())
}

/// Writes the override to the store, or takes it away; answers what the audit trail is to have of it.
pub(super) async fn change(
    store: &dyn IdentityStore,
    args: OverrideArgs,
    now: Timestamp,
    out: &mut impl Write,
) -> anyhow::Result<RulesNote> {
    let policy = args.policy;
    check_name(&policy)?;
    let User { id: user, email, .. } = whose::account(store, &args.whose).await?;
    let details = match (args.rate, args.span) {
        (Some(rate), Some(span)) => {
            check_fills(rate, args.burst)?;
            let Ends { until_s, until } = ends(now, span)?;
            let made_at_ms = now.as_millisecond();
            let new = LimitOverride { user, policy, rate, burst: args.burst, until_s, made_at_ms };
            let what = format!("{}: {}", new.policy, quota(&new));
            store.put_override(new).await?;
            writeln!(out, "{email} has {what} until {until}, {PULLED}, on every route whose table has that policy")?;
            format!("override of {what} until {until}")
        }
        _ if args.remove => {
            if !store.remove_override(user, &policy, now.as_second()).await? {
                bail!("{email} has no override of {policy}; `limits overrides` shows those that are in force");
            }
            writeln!(out, "{email} has no override of {policy} any more, {PULLED}")?;
            format!("override of {policy} taken away")
        }
        _ => bail!("give --rate with --for, or --remove"),
    };
    Ok(RulesNote { subject: Subject::User(user), details })
}

pub(super) async fn list(
    store: &dyn IdentityStore,
    args: OverridesArgs,
    now: Timestamp,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let only = match &args.whose {
        Some(whose) => Some(whose::account(store, whose).await?.id),
        None => None,
    };
    let all = rules_in_force(store, now).await?.overrides;
    let mut rows = Vec::new();
    for each in all.iter().filter(|each| only.is_none_or(|user| each.user == user)) {
        let email = store.user(each.user).await?.map_or_else(|| "-".to_owned(), |user| user.email);
        let until = Timestamp::from_second(each.until_s)?;
        let made = Timestamp::from_millisecond(each.made_at_ms)?;
        let (number, until, made) = (each.user.to_string(), until.to_string(), made.to_string());
        rows.push([number, email, each.policy.clone(), quota(each), until, made]);
    }
    let columns = ["USER", "E-MAIL", "POLICY", "LIMIT", "UNTIL", "MADE"].map(Column::Left);
    Ok(table::write(columns, &rows, out)?)
}

fn quota(of: &LimitOverride) -> String {
    match of.burst {
        Some(burst) => format!("{} burst {burst}", of.rate),
        None => of.rate.to_string(),
    }
}

/// Whether a table could have such a policy; the command does not know which tables there are.
fn check_name(policy: &str) -> anyhow::Result<()> {
    if !is_policy_name(policy) {
        bail!("--policy: no policy can be named {policy:?}: a name has lower-case letters, digits and `-`, at most 64");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::email::email_key;
    use crate::model::identity::UserId;
    use crate::model::role::Role;
    use crate::store::embedded::{EmbeddedStore, FILE_NAME};
    use crate::store::{NewUser, UserStore as _};

    async fn store() -> (tempfile::TempDir, EmbeddedStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join(FILE_NAME)).unwrap();
        for name in ["Anna", "Bob"] {
            let new = NewUser {
                email_key: email_key(&format!("{name}@example.com")),
                email: format!("{name}@example.com"),
                full_name: name.into(),
                role: Role::Candidat,
                password_hash: "x".into(),
                created_at_ms: 1,
            };
            store.insert_user(new).await.unwrap();
        }
        (folder, store)
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00.5Z".parse().unwrap()
    }

    fn set(whose: &str, policy: &str, rate: &str, burst: Option<u32>, span: &str) -> OverrideArgs {
        let (rate, span) = (Some(rate.parse().unwrap()), Some(span.parse().unwrap()));
        OverrideArgs { whose: whose.into(), policy: policy.into(), rate, burst, span, remove: false }
    }

    fn remove(whose: &str, policy: &str) -> OverrideArgs {
        OverrideArgs { rate: None, span: None, remove: true, ..set(whose, policy, "1/s", None, "1h") }
    }

    async fn said(store: &EmbeddedStore, args: OverrideArgs) -> anyhow::Result<(String, RulesNote)> {
        let mut out = Vec::new();
        let note = change(store, args, now(), &mut out).await?;
        Ok((String::from_utf8(out)?, note))
    }

    async fn listed(store: &EmbeddedStore, whose: Option<&str>) -> anyhow::Result<String> {
        let mut out = Vec::new();
        list(store, OverridesArgs { whose: whose.map(str::to_owned) }, now(), &mut out).await?;
        Ok(String::from_utf8(out)?)
    }

    #[tokio::test]
    async fn an_override_is_set_listed_and_taken_away() {
        let (_folder, store) = store().await;
        let (text, note) = said(&store, set("ANNA@example.com", "per-role", "500/min", Some(20), "2h")).await.unwrap();
        assert!(
            text.starts_with("Anna@example.com has per-role: 500/min burst 20 until 2026-01-01T02:00:01Z"),
            "{text}"
        );
        assert_eq!(note.subject, Subject::User(UserId(1)));
        assert_eq!(note.details, "override of per-role: 500/min burst 20 until 2026-01-01T02:00:01Z");
        said(&store, set("bob@example.com", "match", "5/day", None, "1s")).await.unwrap();
        let annas = "USER  E-MAIL            POLICY    LIMIT             UNTIL                 MADE\n\
            1     Anna@example.com  per-role  500/min burst 20  2026-01-01T02:00:01Z  2026-01-01T00:00:00.5Z\n";
        for whose in ["anna@example.com", "1"] {
            assert_eq!(listed(&store, Some(whose)).await.unwrap(), annas);
        }
        assert_eq!(listed(&store, None).await.unwrap().lines().count(), 3);
        let (text, note) = said(&store, remove("1", "per-role")).await.unwrap();
        assert!(text.contains("no override of per-role any more"), "{text}");
        assert_eq!(note.details, "override of per-role taken away");
        assert_eq!(listed(&store, Some("anna@example.com")).await.unwrap(), "");
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let (_folder, store) = store().await;
        let neither = OverrideArgs { remove: false, ..remove("anna@example.com", "p") };
        for (args, words) in [
            (set("x@y.fr", "per-role", "1/s", None, "1h"), "x@y.fr"),
            (set("9", "per-role", "1/s", None, "1h"), "no account has the number 9"),
            (set("192.0.2.1", "per-role", "1/s", None, "1h"), "neither the e-mail of an account nor its number"),
            (set("anna@example.com", "", "1/s", None, "1h"), "--policy"),
            (set("anna@example.com", "per role", "1/s", None, "1h"), "--policy"),
            (set("anna@example.com", "Per-Role", "1/s", None, "1h"), "--policy"),
            (set("anna@example.com", "p", "1/s", None, "366d"), "365d"),
            (set("anna@example.com", "p", "1/s", None, "0s"), "--for"),
            (remove("anna@example.com", "p"), "limits overrides"),
            (neither, "--rate"),
        ] {
            let error = said(&store, args).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(listed(&store, Some("x@y.fr")).await.unwrap_err().to_string().contains("x@y.fr"));
        assert_eq!(listed(&store, None).await.unwrap(), "");
    }

    #[test]
    fn a_bucket_that_never_fills_is_refused() {
        let rate = |text: &str| text.parse::<Rate>().unwrap();
        assert!(check_fills(rate("1/day"), Some(364)).is_ok() && check_fills(rate("1/day"), None).is_ok());
        assert!(check_fills(rate("1/day"), Some(365)).is_err());
    }
}
