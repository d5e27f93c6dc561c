//! The verbs whose effect is a rule in the store, or a look at those: every gateway on the store pulls them within 5 s.

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use jiff::Timestamp;

use super::ask::{self, Answer};
use super::blocks::{self, BlockArgs, UnblockArgs};
use super::overrides::{self, OverrideArgs, OverridesArgs};
use crate::audit::{EventKind, Subject};
use crate::cli::audit::{self, Note};
use crate::cli::store::{Absent, StoreArgs};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::model::limits_view::{OVERRIDE_PATH, OverrideQuery, OverrideView};
use crate::model::units::{ONE_YEAR, Span};
use crate::store::{IdentityStore, LimitRules};

/// When a change is heard, for messages.
pub(super) const PULLED: &str = "within 5 s on every gateway";

#[derive(Debug, Subcommand)]
pub(super) enum RulesVerb {
    /// Give an account another rate under a policy, for a while
    Override(OverrideArgs),
    /// List the overrides that are in force
    Overrides(OverridesArgs),
    /// Refuse every request of an address or a network, for a while
    Block(BlockArgs),
    /// Let a blocked address or network in again
    Unblock(UnblockArgs),
    /// List the blocks that are in force
    Blocks,
}

/// What the audit trail is to have of a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RulesNote {
    pub(super) subject: Subject,
    pub(super) details: String,
}

/// Does it, and tells the audit trail what was changed.
pub(super) async fn run(args: &StoreArgs, verb: RulesVerb, env: &Env) -> anyhow::Result<()> {
    let store = args.open(env, Absent::Refuse).await?;
    let (now, mut out) = (Clock::system().wall(), std::io::stdout().lock());
    let note = match verb {
        RulesVerb::Override(change) => {
            let named = change.sets().map(str::to_owned);
            let note = overrides::change(&*store, change, now, &mut out).await?;
            if let Some(policy) = named {
                warn_of_no_effect(policy, &args.settings(env)?.data_dir, &mut out)?;
            }
            note
        }
        RulesVerb::Block(args) => blocks::block(&*store, args, now, &mut out).await?,
        RulesVerb::Unblock(args) => blocks::unblock(&*store, &args, now, &mut out).await?,
        RulesVerb::Overrides(args) => return overrides::list(&*store, args, now, &mut out).await,
        RulesVerb::Blocks => return blocks::list(&*store, now, &mut out).await,
    };
    let RulesNote { subject, details } = note;
    let note = Note { kind: EventKind::LimitsChanged, subject: Some(subject), details };
    audit::write(vec![note.into_event()], &*store).await
}

/// Says on which gateways of the data folder it has no effect, and why. There may be none on it: the store may be another
/// machine's, too.
fn warn_of_no_effect(policy: String, data_dir: &Path, out: &mut impl Write) -> std::io::Result<()> {
    let ask = OverrideQuery { policy };
    for Answer { pid, outcome } in ask::ask_all(data_dir, OVERRIDE_PATH, &ask).unwrap_or_default() {
        if let Ok(OverrideView { no_effect: Some(why) }) = outcome {
            writeln!(out, "warning: in the table of gateway {pid} {why}: the override does nothing there")?;
        }
    }
    Ok(())
}

/// What is in force in the store.
pub(super) async fn rules_in_force(store: &dyn IdentityStore, now: Timestamp) -> anyhow::Result<LimitRules> {
    let rules = store.limit_rules(None).await?.context("the store gave no rules")?;
    Ok(rules.in_force(now.as_second()))
}

/// The end of a rule.
#[derive(Debug)]
pub(super) struct Ends {
    /// As the store keeps it.
    pub(super) until_s: i64,
    /// For messages.
    pub(super) until: Timestamp,
}

/// The whole second at which what holds for `span` from now on ends: never earlier than that. A year at most: who wants it
/// for ever has the table of routes, and a firewall.
pub(super) fn ends(now: Timestamp, span: Span) -> anyhow::Result<Ends> {
    if span.0.is_zero() || span.0 > ONE_YEAR {
        bail!("--for: expected a time from 1s to 365d, not {span}");
    }
    let end = now.checked_add(span.0).context("--for")?;
    let until_s = end.as_second() + i64::from(end.subsec_nanosecond() > 0);
    Ok(Ends { until_s, until: Timestamp::from_second(until_s)? })
}
