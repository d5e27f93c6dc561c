//! The shape of `tls` of a pool in `routes.yaml`, and what its files hold.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::server_name::ServerName;

/// Trust and identity towards the `https` targets of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTlsSpec {
    /// PEM file of the authorities whose certificates are accepted, in place of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of the gateway's own certificate and its intermediates, for targets that ask for one; with `key`.
    pub cert: Option<PathBuf>,
    /// PEM file of that certificate's private key.
    pub key: Option<PathBuf>,
    /// The name that the targets' certificates are for, where it is not their host.
    pub server_name: Option<ServerName>,
    /// What the files held when the table was read.
    #[serde(skip)]
    pub files: TlsFiles,
}

/// What the files of a [`UpstreamTlsSpec`] hold, checked. Two are equal when every byte is, so a change of a file is a
/// change of the table.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities, DER. Empty: the system's.
    pub ca: Vec<Vec<u8>>,
    /// The gateway's certificate and its intermediates, DER. Empty: none.
    pub cert: Vec<Vec<u8>>,
    /// Its private key, DER (PKCS#8, PKCS#1 or SEC1).
    pub key: Vec<u8>,
}

/// Without the key.
impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles").field("ca", &self.ca.len()).field("cert", &self.cert.len()).finish_non_exhaustive()
    }
}
