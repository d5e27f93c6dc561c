//! Whether TLS files hold what they should, before a listener needs them.

use std::path::Path;

use rustls_pki_types::pem::{Error, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Checks that a file holds at least one PEM certificate.
pub(super) fn certificates(path: &Path) -> Result<(), String> {
    let mut count = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| say(path, error, "certificate"))? {
        certificate.map_err(|error| say(path, error, "certificate"))?;
        count += 1;
    }
    if count == 0 {
        Err(format!("{} has no PEM certificate (-----BEGIN CERTIFICATE-----)", path.display()))
    } else {
        Ok(())
    }
}

/// Checks that a file holds a PEM private key.
pub(super) fn private_key(path: &Path) -> Result<(), String> {
    PrivateKeyDer::from_pem_file(path).map(|_| ()).map_err(|error| say(path, error, "private key"))
}

/// The library's own texts may show a part of the file; these do not.
pub(super) fn say(path: &Path, error: Error, what: &str) -> String {
    let path = path.display();
    match error {
        Error::Io(error) => format!("{path} cannot be read: {error}"),
        Error::NoItemsFound => format!("{path} has no PEM {what}"),
        _ => format!("{path} is no valid PEM file with a {what}"),
    }
}
