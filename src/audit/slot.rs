//! Which spool is whose. While a new process takes over from an old one, both may have entries that wait; two writers of
//! one file would break it. So a process has the first of a few files that no other one has locked, and empties those
//! that nobody has.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// More processes than this never have one data folder: one serves, the others drain.
const MOST: u32 = 16;

/// A spool that is this process's own, until dropped or until the process ends, however that comes.
#[derive(Debug)]
pub(super) struct Slot {
    first: PathBuf,
    path: PathBuf,
    _lock: File,
}

impl Slot {
    /// The first free one of `first`, `first.2`, `first.3` and so on.
    ///
    /// # Errors
    /// When the folder takes no lock file, or all are taken.
    pub(super) fn take(first: &Path) -> io::Result<Slot> {
        for number in 1..=MOST {
            if let Some(slot) = Slot::numbered(first, number)? {
                return Ok(slot);
            }
        }
        Err(io::Error::other(format!("{MOST} processes have a spool there")))
    }

    /// Another spool that has entries and belongs to nobody.
    pub(super) fn orphan(&self) -> Option<Slot> {
        let others =
            (1..=MOST).map(|number| (number, path(&self.first, number))).filter(|(_, path)| *path != self.path);
        let readable = |path: &Path| File::open(path).and_then(|file| file.metadata());
        let left = others.filter(|(_, path)| readable(path).is_ok_and(|found| found.len() > 0));
        left.filter_map(|(number, _)| Slot::numbered(&self.first, number).ok().flatten()).next()
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn numbered(first: &Path, number: u32) -> io::Result<Option<Slot>> {
        let path = path(first, number);
        let mut name = path.clone().into_os_string();
        name.push(".lock");
        // Beside the spool: that one is replaced by another file at times. Never removed, or two could have it.
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(PathBuf::from(name))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Slot { first: first.to_owned(), path, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn path(first: &Path, number: u32) -> PathBuf {
    let mut name = first.to_owned().into_os_string();
    if number > 1 {
        name.push(format!(".{number}"));
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_a_spool_twice_and_what_was_left_finds_somebody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.spool");
        let old = Slot::take(&file).unwrap();
        assert_eq!(old.path(), file);
        let new = Slot::take(&file).unwrap();
        assert_eq!(new.path(), folder.path().join("audit.spool.2"));
        std::fs::write(&file, "{}\n").unwrap();
        assert!(new.orphan().is_none(), "its process lives");
        drop(old);
        let adopted = new.orphan().unwrap();
        assert_eq!(adopted.path(), file);
        drop(new);
        assert!(adopted.orphan().is_none(), "nothing waits in the other");
        std::fs::write(folder.path().join("audit.spool.2"), "{}\n").unwrap();
        assert!(adopted.orphan().is_some());
    }
}
