//! Asks the running gateways of a data folder, each over its own Unix socket there.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// For each read and write; Redis may be asked meanwhile.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer: as many scopes as a table has, some 200 bytes each.
const MAX_ANSWER: u64 = 64 << 20;

/// The answer of one process.
#[derive(Debug)]
pub(super) struct Answer<A> {
    /// Its number.
    pub(super) pid: u32,
    /// What it said, or why it did not do it.
    pub(super) outcome: anyhow::Result<A>,
}

/// Asks every process that serves from the data folder, one that drains, too.
///
/// # Errors
/// When none runs there.
pub(super) fn ask_all<A: DeserializeOwned>(
    data_dir: &Path,
    path: &str,
    ask: &impl Serialize,
) -> anyhow::Result<Vec<Answer<A>>> {
    let body = serde_json::to_string(ask)?;
    let mut answers = Vec::new();
    for (pid, stream) in running(data_dir)? {
        answers.push(Answer { pid, outcome: exchange(stream, path, &body).with_context(|| format!("gateway {pid}")) });
    }
    if answers.is_empty() {
        bail!(
            "no gateway runs on the data folder {}; its folder is given with --data-dir, and where the gateway runs as another user, so must this command",
            data_dir.display()
        );
    }
    Ok(answers)
}

/// The processes that listen, oldest number first. A socket that refuses is one that a killed process left.
fn running(data_dir: &Path) -> anyhow::Result<Vec<(u32, UnixStream)>> {
    let entries = match std::fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("data folder {}", data_dir.display())),
    };
    let mut running = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("side-").and_then(|rest| rest.strip_suffix(".sock"));
        let Some(pid) = number.and_then(|number| number.parse().ok()) else { continue };
        match UnixStream::connect(&path) {
            Ok(stream) => running.push((pid, stream)),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("socket {}", path.display())),
        }
    }
    running.sort_unstable_by_key(|(pid, _)| *pid);
    Ok(running)
}

fn exchange<A: DeserializeOwned>(mut stream: UnixStream, path: &str, body: &str) -> anyhow::Result<A> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200 ") {
        return serde_json::from_str(body).context("it answers in words of another version");
    }
    let said = serde_json::from_str::<serde_json::Value>(body).ok();
    match said.as_ref().and_then(|said| said.get("error")?.as_str()) {
        Some(error) => bail!("{error}"),
        None => bail!("it does not know the question: {}", head.lines().next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::model::limits_view::{LimitsQuery, LimitsView, SHOW_PATH, Whose};

    #[test]
    fn a_socket_that_a_killed_gateway_left_is_no_gateway() {
        let folder = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(folder.path().join("side-7.sock")).unwrap());
        std::fs::write(folder.path().join("side-x.sock"), "").unwrap();
        let ask = LimitsQuery { whose: Whose::User(1), policy: None };
        for place in [folder.path().to_owned(), folder.path().join("missing")] {
            let error = ask_all::<LimitsView>(&place, SHOW_PATH, &ask).unwrap_err().to_string();
            assert!(error.starts_with("no gateway runs on the data folder /"), "{error}");
        }
    }
}
