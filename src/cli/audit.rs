//! `audit`: reads the trail of the store that `run` would use and proves it, also while the gateway runs.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::store::{Absent, StoreArgs};
use crate::audit::{Actor, Event, EventKind, Subject, hex, line, verify};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::store::{AuditEntry, AuditHash, AuditRecord, AuditStore};

/// Records that are read at once.
const PAGE: u32 = 1_000;
/// How often `tail --follow` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Reads the audit trail, or proves it.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Print the last records
    Tail {
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: u32,
        /// Go on printing what is added, until interrupted
        #[arg(short, long)]
        follow: bool,
        /// Print them as the JSON lines that the gateway writes, hashes included
        #[arg(long)]
        json: bool,
    },
    /// Check every record from the first that is kept to the last; exit code 1 names the first that is not as it was
    Verify {
        /// Compare with JSON lines that were kept elsewhere, too
        #[arg(long, value_name = "FILE")]
        lines: Option<PathBuf>,
    },
}

/// Runs the command; what it says goes to the standard output.
pub fn run(args: &AuditArgs, env: &Env) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = io::stdout().lock();
    let done = runtime.block_on(async {
        let store = args.store.open(env, Absent::Refuse).await?;
        match &args.command {
            AuditCommand::Tail { lines, follow, json } => {
                let form = if *json { Form::Json } else { Form::Text };
                tail(&*store, *lines, *follow, form, &mut out).await
            }
            AuditCommand::Verify { lines } => prove(&*store, lines.as_deref(), &mut out).await,
        }
    });
    match done {
        // `audit tail | head` is no failure.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// What was done on the command line, for the audit trail.
pub(super) struct Note {
    pub(super) kind: EventKind,
    pub(super) subject: Option<Subject>,
    pub(super) details: String,
}

impl Note {
    /// Adds it to the trail of the store. The deed is done, and announced: a failure says so.
    pub(super) async fn write(self, store: &dyn AuditStore) -> anyhow::Result<()> {
        write(vec![self.into_event()], store).await
    }

    /// It as an event.
    pub(super) fn into_event(self) -> Event {
        let mut event = Event::new(self.kind).by(Actor::CommandLine).saying(self.details);
        event.subject = self.subject;
        event
    }
}

/// Adds events that happened now to the trail of the store. The deed is done, and announced: a failure says so.
pub(super) async fn write(events: Vec<Event>, store: &dyn AuditStore) -> anyhow::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let now_ms = Clock::system().wall().as_millisecond();
    let entries = events.into_iter().map(|event| event.into_entry(now_ms)).collect();
    let added = store.append_audit(entries).await;
    added.map(|_| ()).context("it was done, but the audit trail does not have it")
}

/// How records are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Text,
}

async fn tail(
    store: &dyn AuditStore,
    count: u32,
    follow: bool,
    form: Form,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let head = store.audit_head().await?;
    let mut seq = head.last_seq.saturating_sub(i64::from(count)).max(head.anchor_seq);
    let mut hash = hash_of(store, seq).await?.unwrap_or(head.anchor_hash);
    loop {
        let page = store.audit_since(seq, PAGE).await?;
        for record in &page {
            print(record, &hash, form, out)?;
            (seq, hash) = (record.seq, record.hash);
        }
        if !page.is_empty() {
            out.flush()?;
            continue;
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Hash of the record with this number; `None`: there is none.
async fn hash_of(store: &dyn AuditStore, seq: i64) -> anyhow::Result<Option<AuditHash>> {
    let found = store.audit_since(seq.saturating_sub(1), 1).await?;
    Ok(found.first().filter(|record| record.seq == seq).map(|record| record.hash))
}

fn print(record: &AuditRecord, previous: &AuditHash, form: Form, out: &mut impl Write) -> io::Result<()> {
    if form == Form::Json {
        return writeln!(out, "{}", line(record, previous));
    }
    let time = jiff::Timestamp::from_millisecond(record.at_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    write!(out, "{} {time}", record.seq)?;
    let Ok(entry) = serde_json::from_str::<AuditEntry>(&record.entry) else {
        return writeln!(out, " unreadable");
    };
    write!(out, " {}", printable(&entry.event))?;
    let AuditEntry { actor, subject, address, request_id, details, .. } = entry;
    let fields = [("by", actor), ("on", subject), ("from", address), ("request", request_id), ("details", details)];
    for (name, value) in fields {
        if let Some(value) = value {
            write!(out, " {name}={}", printable(&value))?;
        }
    }
    writeln!(out)
}

/// Without what a terminal would obey; in quotes when it has spaces.
fn printable(text: &str) -> String {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) { format!("{text:?}") } else { text.to_owned() }
}

async fn prove(store: &dyn AuditStore, kept: Option<&Path>, out: &mut impl Write) -> anyhow::Result<()> {
    let whole = verify::chain(store).await?;
    let verify::Whole { records, first, last, hash } = whole;
    let range = if records == 0 { format!("none after {last}") } else { format!("{first} to {last}") };
    writeln!(out, "ok: {records} records, {range}, last hash {}", hex(&hash))?;
    let Some(path) = kept else { return Ok(()) };
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let agreed = verify::lines(store, BufReader::new(file)).await?;
    let verify::Agreed { lines, older, others } = agreed;
    writeln!(
        out,
        "ok: {lines} lines of {} agree; {older} of records that were taken away, {others} that are no audit lines",
        path.display()
    )?;
    if lines == 0 {
        bail!("{} has no line of a record that is kept: it proves nothing", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::UserId;
    use crate::store::embedded::{EmbeddedStore, FILE_NAME};
    use crate::telemetry::metrics::AuthEvent;

    #[tokio::test]
    async fn records_are_printed_for_people_and_for_machines() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join(FILE_NAME)).unwrap();
        for (id, details) in [(1, "role=admin"), (2, "two words")] {
            let kind = EventKind::Auth(AuthEvent::UserCreated);
            let note = Note { kind, subject: Some(Subject::User(UserId(id))), details: details.to_owned() };
            note.write(&store).await.unwrap();
        }
        let print = async |count, form| {
            let mut out = Vec::new();
            tail(&store, count, false, form, &mut out).await.unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = print(5, Form::Text).await;
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 2 && lines[0].starts_with("1 20"), "{text}");
        assert!(lines[0].ends_with(" user_created by=command_line on=user:1 details=role=admin"), "{text}");
        assert!(lines[1].ends_with(" details=\"two words\""), "{text}");
        let json = print(1, Form::Json).await;
        assert!(json.starts_with("{\"seq\":2,") && json.lines().count() == 1, "{json}");
        let agreed = verify::lines(&store, print(9, Form::Json).await.as_bytes()).await.unwrap();
        assert_eq!((agreed.lines, print(0, Form::Text).await), (2, String::new()));
    }

    #[test]
    fn a_terminal_obeys_nothing() {
        assert_eq!(printable("\u{1b}[2J"), "\"\\u{1b}[2J\"");
        assert_eq!(printable("user:7"), "user:7");
    }
}
