//! Buckets of the rate limits over an orderly restart: a file in the data folder.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::whole_file;
use crate::clock::Clock;
use crate::limits::Limits;

/// Longest file that is read. A million buckets take at most 36 MB, and the names of scopes some more.
const MAX_BYTES: u64 = 64 << 20;

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("limits.kept")
}

/// Writes the buckets that are not full. What goes wrong is said in the log: the next start then begins anew.
pub fn save(data_dir: &Path, limits: &Limits, clock: &Clock) {
    let file = file(data_dir);
    let saved = limits.save(clock.now(), clock.wall());
    match saved.and_then(|saved| whole_file::write(&file, &saved.bytes).map(|()| saved.buckets)) {
        Ok(buckets) => tracing::info!(buckets, file = %file.display(), "rate limits are kept"),
        Err(error) => tracing::error!(file = %file.display(), %error, "the rate limits could not be kept"),
    }
}

/// Takes in the buckets of the last run; whether it left any. What cannot be used is said in the log, and stays where
/// it is.
pub fn restore(data_dir: &Path, limits: &Limits, clock: &Clock) -> bool {
    let file = file(data_dir);
    let restored = match read(&file) {
        Ok(bytes) => limits.restore(&bytes, clock.now(), clock.wall()).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
        Err(error) => Err(error),
    };
    match &restored {
        Ok(buckets) => tracing::info!(buckets, "rate limits go on where the last run left them"),
        Err(error) => tracing::error!(file = %file.display(), %error, "the kept rate limits are left out"),
    }
    restored.is_ok()
}

/// Removes what was taken in: after a crash, it would say what was long ago. Not before the gateway is up, or a start that
/// fails would lose it.
pub fn discard(data_dir: &Path) {
    let file = file(data_dir);
    if let Err(error) = std::fs::remove_file(&file) {
        tracing::warn!(file = %file.display(), %error, "the kept rate limits could not be removed");
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is longer than 64 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Check, Policy, Subject};
    use crate::model::gcra::Quota;

    /// A start that fails in between must not have lost it.
    #[test]
    fn what_was_taken_in_stays_until_it_is_discarded() {
        let folder = tempfile::tempdir().unwrap();
        let (before, after, clock) = (Limits::local(100), Limits::local(100), Clock::manual().0);
        assert!(!restore(folder.path(), &after, &clock), "there is none");
        let policy = Policy::alone("p", before.buckets());
        let check = Check::single(&policy, Subject::Everyone, Quota::new("1/h".parse().unwrap(), 0), 1);
        before.buckets().decide_all(clock.now(), &[check]).unwrap();
        save(folder.path(), &before, &clock);
        assert!(restore(folder.path(), &after, &clock) && restore(folder.path(), &after, &clock));
        assert_eq!(after.buckets().len(), 1);
        discard(folder.path());
        assert!(!restore(folder.path(), &after, &clock));
    }
}
