//! Files that are whole or not there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes a file whole or not at all, and so that it survives a power cut; only this process's user may read it. Nothing
/// is done where it says so already.
///
/// # Errors
/// When it cannot be written. What stood there stays.
pub fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if std::fs::read(file).is_ok_and(|kept| kept == bytes) {
        return Ok(());
    }
    // Named by the process: another one may be taking over, with a table of its own.
    let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
    let written = (|| {
        let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        to.write_all(bytes)?;
        to.sync_all()?;
        std::fs::rename(&temporary, file)?;
        match file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_stays_behind() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("routes.last-good.yaml");
        for text in ["a long first text", "short", "short"] {
            write(&file, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("no/file"), b"x").is_err());
    }
}
