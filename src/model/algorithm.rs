//! What may sign access tokens (RFC 7518 §3.1, RFC 8037 §3.1): a closed list, for there is nothing to negotiate.

use std::fmt;
use std::str::FromStr;

/// How a gateway signs access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenAlgorithm {
    /// HMAC-SHA-256 with a secret that everybody who verifies must have.
    #[default]
    Hs256,
    /// A private key in a file; others verify with its public key.
    KeyFile(KeyAlgorithm),
}

/// What a key file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// Ed25519 (RFC 8032).
    EdDsa,
    /// ECDSA with P-256 and SHA-256 (FIPS 186-5).
    Es256,
}

/// The text names no algorithm that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected HS256, EdDSA or ES256")]
pub struct UnknownAlgorithm;

impl TokenAlgorithm {
    /// Every algorithm.
    pub const ALL: [TokenAlgorithm; 3] = [
        TokenAlgorithm::Hs256,
        TokenAlgorithm::KeyFile(KeyAlgorithm::EdDsa),
        TokenAlgorithm::KeyFile(KeyAlgorithm::Es256),
    ];

    /// Its name in `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            TokenAlgorithm::Hs256 => "HS256",
            TokenAlgorithm::KeyFile(algorithm) => algorithm.as_str(),
        }
    }
}

impl KeyAlgorithm {
    /// Its name in `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeyAlgorithm::EdDsa => "EdDSA",
            KeyAlgorithm::Es256 => "ES256",
        }
    }
}

impl fmt::Display for TokenAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TokenAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        TokenAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or(UnknownAlgorithm)
    }
}

impl FromStr for KeyAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse()? {
            TokenAlgorithm::KeyFile(algorithm) => Ok(algorithm),
            TokenAlgorithm::Hs256 => Err(UnknownAlgorithm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for algorithm in TokenAlgorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
        for other in ["", "none", "hs256", "EDDSA", "ES384", "RS256", " HS256"] {
            assert_eq!(other.parse::<TokenAlgorithm>(), Err(UnknownAlgorithm), "{other}");
        }
        assert_eq!("HS256".parse::<KeyAlgorithm>(), Err(UnknownAlgorithm));
    }
}
