//! Buckets of the rate limits over an orderly restart: a file in the data folder.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::whole_file;
use crate::clock::Clock;
use crate::limits::Limits;

/// Longest file that is read. A million buckets take 29 MB, and the names of scopes some more.
const MAX_BYTES: u64 = 64 << 20;

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("limits.kept")
}

/// Writes the buckets that are not full. What goes wrong is said in the log: the next start then begins anew.
pub fn keep(data_dir: &Path, limits: &Limits, clock: &Clock) {
    let file = file(data_dir);
    let kept = limits.keep(clock.now(), clock.wall());
    match whole_file::write(&file, &kept.bytes) {
        Ok(()) => tracing::info!(buckets = kept.buckets, file = %file.display(), "rate limits are kept"),
        Err(error) => tracing::error!(file = %file.display(), %error, "the rate limits could not be kept"),
    }
}

/// Takes in the buckets of the last run, if it left any, and removes the file: after a crash, it would say what was
/// long ago. One that cannot be used stays where it is, and is said in the log.
pub fn restore(data_dir: &Path, limits: &Limits, clock: &Clock) {
    let file = file(data_dir);
    let bytes = match read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::error!(file = %file.display(), %error, "the kept rate limits are left out");
            return;
        }
    };
    match limits.restore(&bytes, clock.now(), clock.wall()) {
        Ok(buckets) => {
            tracing::info!(buckets, "rate limits go on where the last run left them");
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::warn!(file = %file.display(), %error, "the kept rate limits could not be removed");
            }
        }
        Err(error) => tracing::error!(file = %file.display(), %error, "the kept rate limits are left out"),
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
