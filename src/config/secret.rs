//! What may sign tokens: rules for `JWT_SECRET`. Never shows a secret.

use secrecy::{ExposeSecret, SecretString};

/// Shortest secret, in bytes: HMAC-SHA-256's output (RFC 7518 §3.2).
pub(super) const MIN_BYTES: usize = 32;

/// How ops make one; part of every refusal.
const HOW: &str = "make one with `openssl rand -base64 48`";

/// Parts of secrets that stand in examples and tutorials, lower case, letters and digits only. Eight characters or
/// more each, so that a random secret practically never has one.
const WELL_KNOWN: [&str; 16] = [
    "changeme",
    "changethis",
    "changeinproduction",
    "replaceme",
    "replacethis",
    "yoursecret",
    "yoursupersecret",
    "yourjwtsecret",
    "supersecret",
    "secretkey",
    "jwtsecret",
    "mysecret",
    "devsecret",
    "testsecret",
    "password",
    "supersmartmatch",
];

/// Why a secret cannot be used; `None` when it can.
pub(super) fn refusal(secret: &SecretString) -> Option<String> {
    let secret = secret.expose_secret();
    let plain: String = secret.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    if plain == "secret" || WELL_KNOWN.iter().any(|known| plain.contains(known)) {
        return Some(format!("is a well-known example, so anybody could sign tokens; {HOW}"));
    }
    if secret.len() < MIN_BYTES {
        return Some(format!("has {} bytes; at least {MIN_BYTES} are needed; {HOW}", secret.len()));
    }
    if repeats(secret.as_bytes()) {
        return Some(format!("repeats itself, so it can be guessed; {HOW}"));
    }
    None
}

/// What is said when there is none.
pub(super) fn missing(environment: &str) -> String {
    format!("is not set, and {environment} makes none of its own; {HOW}, or name a file in tokens.secret_file")
}

/// Whether a text is a short pattern over and over, or has hardly any different bytes.
fn repeats(bytes: &[u8]) -> bool {
    let mut distinct = bytes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let periodic = |period: usize| bytes.iter().zip(bytes.iter().skip(period)).all(|(a, b)| a == b);
    distinct.len() < 8 || (1..=16).any(periodic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<String> {
        refusal(&SecretString::from(text.to_owned()))
    }

    #[test]
    fn weak_secrets_are_refused_and_not_shown() {
        for text in [
            "secret",
            "changeme",
            "short-but-random-9f2k",
            "your-secret-key",
            "your-super-secret-jwt-key-change-in-production",
            "Your_Secret_Key_Change_In_Production_1234567890",
            "supersmartmatch-v2-production-signing-key-000",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "0123456789abcdef0123456789abcdef0123456789abcdef",
        ] {
            let message = refused(text).unwrap_or_else(|| panic!("{text} was accepted"));
            assert!(message.contains("openssl rand -base64 48") && !message.contains(text), "{message}");
        }
    }

    #[test]
    fn random_secrets_are_accepted() {
        for text in [
            "kX2v9Qm4Lr7TzBn1Wc8Yp5Hd3Jf6Gs0A",
            "6f1d3c9a0be2475881a7f4d05c3e9b26f0d1a8c47e",
            "q9J+3kZr0/7vYt2LhXw5NbQeUoPa1sDfGmCi8zKx4yRjTnVW6EuHlBpMSgOAcFdI",
        ] {
            assert_eq!(refused(text), None, "{text}");
        }
    }
}
