//! Reads the files of `pools.*.tls` with the table: what a connection to a target will need is checked before the table
//! is in force, and a reload sees changed files.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::report::Report;
use super::spec::{RoutesSpec, TlsFiles, UpstreamTlsSpec};
use super::tls::say;

/// Most bytes of such a file. The authorities of a whole system are a quarter of that.
const MAX_BYTES: u64 = 1 << 20;

/// Fills in what the files hold.
pub(super) fn read_files(spec: &mut RoutesSpec, report: &mut Report) {
    for (name, pool) in &mut spec.pools {
        if let Some(tls) = &mut pool.tls {
            tls.files = files(tls, &format!("pools.{name}.tls"), report);
        }
    }
}

fn files(tls: &UpstreamTlsSpec, at: &str, report: &mut Report) -> TlsFiles {
    let mut files = TlsFiles::default();
    let mut note = |key: &str, problem: String| report.add(format!("{at}.{key}"), problem);
    if let Some(path) = &tls.ca {
        match certificates(path).and_then(|found| authorities(path, &found).map(|()| found)) {
            Ok(found) => files.ca = found,
            Err(problem) => note("ca", problem),
        }
    }
    let (cert, key) = match (&tls.cert, &tls.key) {
        (None, None) => return files,
        (Some(_), None) => {
            note("cert", "give `key` with it, the file of its private key".to_owned());
            return files;
        }
        (None, Some(_)) => {
            note("key", "give `cert` with it, the file of the certificate".to_owned());
            return files;
        }
        (Some(cert), Some(key)) => (cert, key),
    };
    match (certificates(cert), private_key(key)) {
        (Ok(cert), Ok(key)) => match identity(&cert, &key) {
            Ok(()) => (files.cert, files.key) = (cert, key),
            Err(problem) => note("key", problem),
        },
        (cert, key) => {
            let _ = cert.map_err(|problem| note("cert", problem));
            let _ = key.map_err(|problem| note("key", problem));
        }
    }
    files
}

/// The certificates of a PEM file, at least one, DER.
fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let text = read(path)?;
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| say(path, error, "certificate"))?.to_vec();
        // Pingora reads them so, too, and would panic later on what fails here.
        if !X509Certificate::from_der(&certificate).is_ok_and(|(rest, _)| rest.is_empty()) {
            return Err(format!("{} holds a certificate that is none inside", path.display()));
        }
        found.push(certificate);
    }
    if found.is_empty() {
        return Err(format!("{} has no PEM certificate (-----BEGIN CERTIFICATE-----)", path.display()));
    }
    Ok(found)
}

/// Whether all can be trusted as authorities.
fn authorities(path: &Path, certificates: &[Vec<u8>]) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        let added = store.add(CertificateDer::from(certificate.as_slice()));
        added.map_err(|_| format!("{} holds a certificate that cannot be an authority's", path.display()))?;
    }
    Ok(())
}

/// The private key of a PEM file, DER.
fn private_key(path: &Path) -> Result<Vec<u8>, String> {
    let key = PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| say(path, error, "private key"))?;
    let der = key.secret_der().to_vec();
    // Pingora guesses the form from the bytes alone, and would panic when it cannot.
    if PrivateKeyDer::try_from(der.as_slice()).is_err() {
        return Err(format!("{} holds a private key of an unknown form", path.display()));
    }
    Ok(der)
}

/// Whether the key is that of the certificate.
fn identity(cert: &[Vec<u8>], key: &[u8]) -> Result<(), String> {
    let chain = cert.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::try_from(key.to_vec()).map_err(|_| "a private key of an unknown form".to_owned())?;
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_root_certificates(RootCertStore::empty()).with_client_auth_cert(chain, key))
        .map(|_| ())
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => "is not the private key of the certificate in `cert`".to_owned(),
            error => format!("TLS has no use for it, or for the certificate in `cert`: {error}"),
        })
}

/// A file's bytes. Nothing but a regular file (or a link to one) is opened: a FIFO would be waited on for ever.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unread = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let about = std::fs::metadata(path).map_err(unread)?;
    if !about.is_file() || about.len() > MAX_BYTES {
        return Err(format!("{} is not a regular file of at most 1 MiB", path.display()));
    }
    std::fs::read(path).map_err(unread)
}
