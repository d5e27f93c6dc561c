//! Reading and writing single files so that nobody else may read them and a crash leaves the old or the new whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// No file of a key folder is longer.
const MAX_BYTES: u64 = 64 << 10;

/// Rights of others to read or write.
pub(super) const PRIVATE: u32 = 0o077;
/// Rights of others to write.
pub(super) const OWN: u32 = 0o022;

/// What ends the name of a file that is not yet complete.
pub(super) const ASIDE: &str = ".new";

/// The text of a regular file; `None` when there is none. Rights in `forbidden` are taken away first; where that
/// cannot be done, the file is refused.
pub(super) fn read(path: &Path, forbidden: u32) -> Result<Option<String>, String> {
    // Asked before it is opened: opening a pipe would wait for a writer.
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err("is no regular file".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {error}")),
    }
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mode = file.metadata().map_err(|error| format!("cannot be read: {error}"))?.permissions().mode() & 0o777;
    if mode & forbidden != 0 {
        file.set_permissions(Permissions::from_mode(mode & !forbidden)).map_err(|error| {
            format!("has mode {mode:04o}, so others may reach it, and that cannot be changed ({error}); chmod 600 it")
        })?;
        tracing::warn!(file = %path.display(), mode = format!("{mode:04o}"), "others could reach a key file: mode mended");
    }
    let mut text = String::new();
    let length =
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(length).is_ok_and(|length| length > MAX_BYTES) {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    Ok(Some(text))
}

/// Puts a file in its place in one step, mode 0600: written aside, flushed to the disk, renamed, and the folder flushed.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(ASIDE);
    let aside = Path::new(&aside);
    match fs::remove_file(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(aside, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
