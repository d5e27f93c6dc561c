//! `limits block`, `limits unblock`, `limits blocks`.

use std::io::Write;

use anyhow::{Context as _, bail};
use clap::Args;
use ipnet::IpNet;
use jiff::Timestamp;

use super::rules::{Ends, PULLED, RulesNote, ends, rules_in_force};
use super::table::{self, Column};
use crate::audit::Subject;
use crate::model::blockable::{check, network_meant};
use crate::model::units::Span;
use crate::store::{AddressBlock, IdentityStore};

/// Longest reason, in characters: as much as the audit trail keeps beside the rest.
const MAX_REASON_CHARS: usize = 160;

#[derive(Debug, Args)]
pub(super) struct BlockArgs {
    /// An address such as 192.0.2.7, or a network such as 192.0.2.0/24; of IPv6 the whole /64 is blocked at least
    #[arg(value_name = "ADDRESS|NETWORK")]
    network: String,
    /// How long it holds, such as 1h; at most 365d
    #[arg(id = "span", long = "for", value_name = "TIME")]
    span: Span,
    /// Why, for those who read the list; default: as it was when the network is blocked already
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Also a network wider than /8 (IPv4) or /16 (IPv6)
    #[arg(long)]
    wide: bool,
}

#[derive(Debug, Args)]
pub(super) struct UnblockArgs {
    /// As it was blocked, or as `limits blocks` shows it
    #[arg(value_name = "ADDRESS|NETWORK")]
    network: String,
}

/// Writes the block to the store; answers what the audit trail is to have of it.
pub(super) async fn block(
    store: &dyn IdentityStore,
    args: BlockArgs,
    now: Timestamp,
    out: &mut impl Write,
) -> anyhow::Result<RulesNote> {
    let network = meant(&args.network)?;
    check(network, args.wide).with_context(|| format!("{network} cannot be blocked"))?;
    let given = args.reason.map(|text| text.trim().to_owned());
    if let Some(reason) = &given {
        check_reason(reason)?;
    }
    let earlier = earlier(store, network, now).await?;
    let kept = || earlier.as_ref().and_then(|block| block.reason.clone());
    let reason = given.or_else(kept).filter(|text| !text.is_empty());
    let Ends { until_s, until } = ends(now, args.span)?;
    let details = match &reason {
        Some(reason) => format!("blocked until {until}: {reason}"),
        None => format!("blocked until {until}"),
    };
    store.put_block(AddressBlock { network, until_s, reason, made_at_ms: now.as_millisecond() }).await?;
    let note = if names_less(&args.network, network) { " (a subscriber has all of a /64)" } else { "" };
    writeln!(out, "{network}{note} is blocked until {until}, {PULLED}")?;
    if let Some(earlier) = earlier {
        writeln!(out, "it was blocked until {}{}", Timestamp::from_second(earlier.until_s)?, because(&earlier))?;
    }
    Ok(RulesNote { subject: Subject::Network(network), details })
}

/// The block of exactly this network that is in force.
async fn earlier(store: &dyn IdentityStore, network: IpNet, now: Timestamp) -> anyhow::Result<Option<AddressBlock>> {
    let rules = rules_in_force(store, now).await?;
    Ok(rules.blocks.into_iter().find(|block| block.network == network))
}

fn because(block: &AddressBlock) -> String {
    block.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"))
}

/// Takes the block away; answers what the audit trail is to have of it.
pub(super) async fn unblock(
    store: &dyn IdentityStore,
    args: &UnblockArgs,
    now: Timestamp,
    out: &mut impl Write,
) -> anyhow::Result<RulesNote> {
    let network = meant(&args.network)?;
    let within = |rules: &[AddressBlock]| {
        let wider = rules.iter().find(|block| block.network != network && block.network.contains(&network));
        wider.map(|block| block.network)
    };
    let gone = store.remove_block(network, now.as_second()).await?;
    let wider = within(&rules_in_force(store, now).await?.blocks);
    match (gone, wider) {
        (true, None) => writeln!(out, "{network} is not blocked any more, {PULLED}")?,
        (true, Some(wider)) => {
            writeln!(out, "{network} has no block of its own any more, still blocked as part of {wider}")?;
        }
        (false, Some(wider)) => bail!("{network} is blocked as part of {wider}; unblock that"),
        (false, None) => bail!("{network} is not blocked; `limits blocks` shows what is"),
    }
    Ok(RulesNote { subject: Subject::Network(network), details: "not blocked any more".to_owned() })
}

pub(super) async fn list(store: &dyn IdentityStore, now: Timestamp, out: &mut impl Write) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for block in rules_in_force(store, now).await?.blocks {
        let until = Timestamp::from_second(block.until_s)?;
        let made = Timestamp::from_millisecond(block.made_at_ms)?;
        let reason = block.reason.unwrap_or_else(|| "-".to_owned());
        rows.push([block.network.to_string(), until.to_string(), made.to_string(), reason]);
    }
    Ok(table::write(["NETWORK", "UNTIL", "MADE", "REASON"].map(Column::Left), &rows, out)?)
}

fn meant(text: &str) -> anyhow::Result<IpNet> {
    network_meant(text).with_context(|| format!("{text:?}"))
}

/// Whether less was named than is blocked.
fn names_less(text: &str, network: IpNet) -> bool {
    let longest = |prefix_len: u8| matches!(network, IpNet::V6(_)) && prefix_len > network.prefix_len();
    text.trim().parse::<IpNet>().map_or(longest(128), |named| longest(named.prefix_len()))
}

/// One line that a terminal can show.
fn check_reason(reason: &str) -> anyhow::Result<()> {
    // Line and paragraph separators, and what turns the direction of text around (Unicode UAX #9).
    let shows_as_another =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    if reason.chars().any(|c| c.is_control() || shows_as_another(c)) || reason.chars().count() > MAX_REASON_CHARS {
        bail!("--reason: expected one line of at most {MAX_REASON_CHARS} characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::{EmbeddedStore, FILE_NAME};

    fn store() -> (tempfile::TempDir, EmbeddedStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join(FILE_NAME)).unwrap();
        (folder, store)
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn args(network: &str) -> BlockArgs {
        BlockArgs { network: network.into(), span: "1h".parse().unwrap(), reason: None, wide: false }
    }

    async fn blocked(store: &EmbeddedStore, args: BlockArgs) -> anyhow::Result<(String, RulesNote)> {
        let mut out = Vec::new();
        let note = block(store, args, now(), &mut out).await?;
        Ok((String::from_utf8(out)?, note))
    }

    async fn unblocked(store: &EmbeddedStore, network: &str) -> anyhow::Result<String> {
        let mut out = Vec::new();
        unblock(store, &UnblockArgs { network: network.into() }, now(), &mut out).await?;
        Ok(String::from_utf8(out)?)
    }

    async fn listed(store: &EmbeddedStore) -> String {
        let mut out = Vec::new();
        list(store, now(), &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn a_block_is_made_listed_and_taken_away() {
        let (_folder, store) = store();
        let reason = Some(" guesses passwords ".to_owned());
        let (text, note) = blocked(&store, BlockArgs { reason, ..args("192.0.2.7") }).await.unwrap();
        assert!(text.starts_with("192.0.2.7/32 is blocked until 2026-01-01T01:00:00Z, "), "{text}");
        assert_eq!(note.subject.to_string(), "network:192.0.2.7/32");
        assert_eq!(note.details, "blocked until 2026-01-01T01:00:00Z: guesses passwords");
        let expected = "NETWORK       UNTIL                 MADE                  REASON\n\
            192.0.2.7/32  2026-01-01T01:00:00Z  2026-01-01T00:00:00Z  guesses passwords\n";
        assert_eq!(listed(&store).await, expected);
        assert!(
            unblocked(&store, "::ffff:192.0.2.7").await.unwrap().starts_with("192.0.2.7/32 is not blocked any more")
        );
        assert_eq!(listed(&store).await, "");
    }

    #[tokio::test]
    async fn of_ipv6_the_subscriber_is_meant_and_it_is_said() {
        let (_folder, store) = store();
        for named in ["2001:db8:1:2::9", "2001:db8:1:2:3::/96"] {
            let (text, _) = blocked(&store, args(named)).await.unwrap();
            assert!(text.starts_with("2001:db8:1:2::/64 (a subscriber has all of a /64) is blocked"), "{text}");
        }
        let (text, _) = blocked(&store, args("2001:db8:9::/64")).await.unwrap();
        assert!(text.starts_with("2001:db8:9::/64 is blocked"), "{text}");
        unblocked(&store, "2001:db8:1:2::ffff").await.unwrap();
        assert_eq!(listed(&store).await.lines().count(), 2);
    }

    #[tokio::test]
    async fn a_block_of_what_is_blocked_keeps_the_reason_unless_there_is_another() {
        let (_folder, store) = store();
        let again = async |reason: Option<&str>, span: &str| {
            let (reason, span) = (reason.map(str::to_owned), span.parse().unwrap());
            blocked(&store, BlockArgs { reason, span, ..args("192.0.2.7") }).await.unwrap()
        };
        let (text, _) = again(Some("guesses passwords"), "1h").await;
        assert!(!text.contains("it was blocked"), "{text}");
        let (text, note) = again(None, "2h").await;
        assert!(text.ends_with("it was blocked until 2026-01-01T01:00:00Z: guesses passwords\n"), "{text}");
        assert_eq!(note.details, "blocked until 2026-01-01T02:00:00Z: guesses passwords");
        assert_eq!(again(Some("scans"), "1h").await.1.details, "blocked until 2026-01-01T01:00:00Z: scans");
        let (text, note) = again(Some(" "), "1h").await;
        assert!(text.ends_with("it was blocked until 2026-01-01T01:00:00Z: scans\n"), "{text}");
        assert_eq!(note.details, "blocked until 2026-01-01T01:00:00Z");
        assert!(again(None, "1h").await.0.ends_with("it was blocked until 2026-01-01T01:00:00Z\n"));
    }

    #[tokio::test]
    async fn a_wider_block_is_named() {
        let (_folder, store) = store();
        blocked(&store, args("192.0.2.7")).await.unwrap();
        blocked(&store, args("192.0.2.0/24")).await.unwrap();
        let text = unblocked(&store, "192.0.2.7").await.unwrap();
        assert!(text.contains("any more, still blocked as part of 192.0.2.0/24"), "{text}");
        let error = unblocked(&store, "192.0.2.7").await.unwrap_err().to_string();
        assert!(error.contains("as part of 192.0.2.0/24"), "{error}");
        unblocked(&store, "192.0.2.0/24").await.unwrap();
        let error = unblocked(&store, "192.0.2.7").await.unwrap_err().to_string();
        assert!(error.contains("limits blocks"), "{error}");
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let (_folder, store) = store();
        let long = BlockArgs { span: "366d".parse().unwrap(), ..args("192.0.2.7") };
        let lines = BlockArgs { reason: Some("a\nb".into()), ..args("192.0.2.7") };
        for (args, words) in [
            (args("localhost"), "\"localhost\": expected an address"),
            (args("0.0.0.0/0"), "0.0.0.0/0 cannot be blocked: that is everybody"),
            (args("127.0.0.1"), "loopback"),
            (args("12.0.0.0/7"), "--wide"),
            (long, "365d"),
            (lines, "--reason"),
        ] {
            let error = format!("{:#}", blocked(&store, args).await.unwrap_err());
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(listed(&store).await, "");
        blocked(&store, BlockArgs { wide: true, ..args("12.0.0.0/7") }).await.unwrap();
    }

    #[test]
    fn a_reason_is_shown_as_it_is_written() {
        assert!(check_reason("guesses passwords, été 2026").is_ok());
        for hidden in ["a\nb", "a\u{2028}b", "\u{202e}txt", "\u{2066}x", "zero\u{200b}width"] {
            assert!(check_reason(hidden).is_err(), "{hidden:?}");
        }
    }
}
