//! Addresses and names of people, checked.

use std::str::FromStr;

use email_address::{EmailAddress, Options};
use unicode_normalization::UnicodeNormalization;

pub use crate::model::email::email_key;

/// Longest address, in bytes (RFC 5321 §4.5.3.1.3, less the angle brackets).
pub const MAX_EMAIL_BYTES: usize = 254;

/// Longest name, in Unicode scalar values.
pub const MAX_NAME_CHARS: usize = 200;

/// An e-mail address. Two spellings of one address have the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    address: String,
    key: String,
}

impl Email {
    /// The address, NFKC-normalised, with its own capitals.
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// What it is compared by.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The key's part before the last `@`.
    pub fn local_part(&self) -> &str {
        self.key.rsplit_once('@').map_or("", |(local, _)| local)
    }
}

impl FromStr for Email {
    /// What is wrong, without the value.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_EMAIL_BYTES {
            return Err("must be at most 254 bytes");
        }
        let address: String = text.nfkc().collect();
        if address.len() > MAX_EMAIL_BYTES {
            return Err("must be at most 254 bytes");
        }
        let plain = Options::default().without_display_text().without_domain_literal().with_required_tld();
        let odd = |c: char| c.is_control() || c.is_whitespace();
        if address.chars().any(odd) || EmailAddress::parse_with_options(&address, plain).is_err() {
            return Err("must be an e-mail address");
        }
        let key = email_key(&address);
        Ok(Email { address, key })
    }
}

/// A person's name: 1 to 200 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullName(String);

impl FullName {
    /// The name, without spaces around it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FullName {
    /// What is wrong, without the value.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters");
        }
        let name = text.trim();
        match name.chars().count() {
            1..=MAX_NAME_CHARS => Ok(FullName(name.to_owned())),
            _ => Err("must have 1 to 200 characters"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_have_one_key() {
        let keys: Vec<String> =
            ["Anna.Müller@Example.com", "anna.mu\u{308}ller@EXAMPLE.COM", "ａnna.müller@example.com"]
                .iter()
                .map(|text| text.parse::<Email>().unwrap().key().to_owned())
                .collect();
        assert!(keys.iter().all(|key| key == "anna.müller@example.com"), "{keys:?}");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.com", "a".repeat(250));
        for text in [
            "",
            "a",
            "@",
            "a@",
            "@b.fr",
            "a b@c.fr",
            "a@b",
            "a@b.fr\n",
            "a\u{0}@b.fr",
            "A <a@b.fr>",
            "a@[127.0.0.1]",
            &long,
        ] {
            assert!(text.parse::<Email>().is_err(), "{text:?}");
        }
        for text in ["a@b.fr", "prénom.nom+tag@sous.domaine.example", "x_y-z@example.co"] {
            assert!(text.parse::<Email>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn names_have_bounds() {
        assert_eq!("  Élodie Dupont ".parse::<FullName>().unwrap().as_str(), "Élodie Dupont");
        for text in ["", "   ", "a\u{7}", "a\nb", &"é".repeat(201)] {
            assert!(text.parse::<FullName>().is_err(), "{text:?}");
        }
        assert!("é".repeat(200).parse::<FullName>().is_ok());
    }
}
