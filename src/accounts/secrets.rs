//! The secret that signs tokens when none was configured: made once, kept beside the store, mode 0600.
//!
//! For development. Production brings its own and never comes here.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::SecretString;

/// Random bytes in a made secret.
const SECRET_BYTES: usize = 48;

/// A kept secret shorter than this was damaged or written by hand.
const MIN_SECRET_BYTES: usize = 32;

/// The secret, and where it came from.
#[derive(Debug)]
pub struct Secrets {
    /// Signs access tokens. Refresh tokens do not depend on it: each session has a key of its own.
    pub jwt: SecretString,
    /// Whether it was made by this very call; say so aloud.
    pub generated: bool,
    /// The file that keeps it.
    pub path: PathBuf,
}

/// The secret's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("token secret {}: {why}; set JWT_SECRET, or repair or remove the file", path.display())]
pub struct SecretError {
    path: PathBuf,
    why: String,
}

impl Secrets {
    /// The secret kept in `data_dir/jwt_secret`; made there first when there is none. Several processes may call
    /// this at once: all get the same.
    pub fn load_or_generate(data_dir: &Path) -> Result<Secrets, SecretError> {
        let path = data_dir.join("jwt_secret");
        let fail = |why: String| SecretError { path: path.clone(), why };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(|error| fail(format!("cannot make its folder: {error}")))?;
        let generated = if path.exists() { false } else { make(&path).map_err(|error| fail(error.to_string()))? };
        let text = fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
        if text.trim().len() < MIN_SECRET_BYTES {
            return Err(fail(format!("it is shorter than {MIN_SECRET_BYTES} bytes")));
        }
        let mode = fs::metadata(&path).map_err(|error| fail(error.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            fs::set_permissions(&path, Permissions::from_mode(0o600))
                .map_err(|error| fail(format!("others may read it and its mode cannot be set to 0600: {error}")))?;
        }
        Ok(Secrets { jwt: SecretString::from(text.trim()), generated, path })
    }
}

/// Writes a new secret aside and links it into place, so that a half-written one is never seen. `false`: another
/// process was first.
fn make(path: &Path) -> io::Result<bool> {
    let mut bytes = [0_u8; SECRET_BYTES];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let aside = path.with_extension(format!("{}.new", uuid::Uuid::new_v4().simple()));
    let written = write_synced(&aside, URL_SAFE_NO_PAD.encode(bytes).as_bytes());
    let linked = written.and_then(|()| match fs::hard_link(&aside, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    });
    // Best effort: what may stay behind is an unused secret, readable to us alone.
    let _ = fs::remove_file(&aside);
    linked
}

fn write_synced(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let (first, second) = (Secrets::load_or_generate(&data).unwrap(), Secrets::load_or_generate(&data).unwrap());
        assert!(first.generated && !second.generated);
        assert_eq!(first.jwt.expose_secret(), second.jwt.expose_secret());
        assert_eq!(first.jwt.expose_secret().len(), 64);
        assert_eq!(fs::metadata(&first.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
        assert!(!format!("{first:?}").contains(first.jwt.expose_secret()));
    }

    #[test]
    fn callers_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let made: Vec<(String, bool)> = std::thread::scope(|scope| {
            let calls: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Secrets::load_or_generate(folder.path()).unwrap())).collect();
            calls
                .into_iter()
                .map(|call| call.join().map(|s| (s.jwt.expose_secret().to_owned(), s.generated)).unwrap())
                .collect()
        });
        assert!(made.iter().all(|(secret, _)| *secret == made[0].0));
        assert_eq!(made.iter().filter(|(_, generated)| *generated).count(), 1);
    }

    #[test]
    fn a_short_one_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("jwt_secret"), "short").unwrap();
        let error = Secrets::load_or_generate(folder.path()).unwrap_err().to_string();
        assert!(error.contains("jwt_secret") && error.contains("JWT_SECRET") && !error.contains("short;"), "{error}");
    }
}
