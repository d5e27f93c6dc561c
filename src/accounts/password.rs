//! Which passwords a new account may have. No rule of composition: length, and not easily guessed.

use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;

use super::common::is_common;
use super::email::{Email, email_key};

/// Fewest characters.
pub const MIN_CHARS: usize = 10;

/// Most characters.
pub const MAX_CHARS: usize = 128;

/// Most bytes: 128 characters of any script, with room for combining marks.
pub const MAX_BYTES: usize = 1024;

/// Local parts of addresses shorter than this are found in too many good passwords to mean anything.
const MIN_LOCAL_PART: usize = 4;

/// A password that passed the rules.
#[derive(Debug, Clone)]
pub struct NewPassword(SecretString);

impl NewPassword {
    /// Checks a password for the account of `email`; without one, that rule is left out. The error says what is
    /// wrong and never repeats the password.
    pub fn parse(password: SecretString, email: Option<&Email>) -> Result<NewPassword, &'static str> {
        check(password.expose_secret(), email)?;
        Ok(NewPassword(password))
    }

    /// Checks a password that takes the place of `current`: the same rules, and it must be another one.
    pub fn in_place_of(
        current: &SecretString,
        password: SecretString,
        email: Option<&Email>,
    ) -> Result<NewPassword, &'static str> {
        // Both came with one request: how long the comparison takes tells nothing.
        if canonical(current).expose_secret() == canonical(&password).expose_secret() {
            return Err("must differ from the current password");
        }
        NewPassword::parse(password, email)
    }

    /// The password.
    pub fn into_secret(self) -> SecretString {
        self.0
    }
}

fn check(password: &str, email: Option<&Email>) -> Result<(), &'static str> {
    let count = password.chars().count();
    if !(MIN_CHARS..=MAX_CHARS).contains(&count) || password.len() > MAX_BYTES {
        return Err("must have 10 to 128 characters");
    }
    let folded = email_key(password);
    if is_common(&folded) {
        return Err("is among the most common passwords");
    }
    let local = email.map_or("", Email::local_part);
    if local.chars().count() >= MIN_LOCAL_PART && folded.contains(local) {
        return Err("must not contain the e-mail address");
    }
    Ok(())
}

/// The bytes that are hashed: NFC (RFC 8265 §4.2.2), so that one password typed on two systems is one password.
pub(super) fn canonical(password: &SecretString) -> SecretString {
    SecretString::from(password.expose_secret().nfc().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(password: &str, email: &str) -> Result<(), &'static str> {
        check(password, email.parse().ok().as_ref())
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert!(judge("neuf-char", "a@b.fr").is_err());
        assert!(judge("dix-caract", "a@b.fr").is_ok());
        assert!(judge(&"é".repeat(10), "a@b.fr").is_ok());
        assert!(judge(&"é".repeat(9), "a@b.fr").is_err());
        assert!(judge(&"x".repeat(73), "a@b.fr").is_ok());
        assert!(judge(&"🦀".repeat(128), "a@b.fr").is_ok());
        assert!(judge(&"x".repeat(129), "a@b.fr").is_err());
    }

    #[test]
    fn the_address_and_common_passwords_are_refused() {
        assert!(judge("xx-DUPONT-xx", "dupont@b.fr").is_err());
        assert!(judge("xx-dup-xxxxx", "dup@b.fr").is_ok());
        assert!(judge("MotDePasse123", "a@b.fr").is_err());
        assert!(judge("Ａzertyuiop", "a@b.fr").is_err());
    }

    #[test]
    fn a_new_one_is_another_one_however_it_is_typed() {
        let judge = |current: &str, new: &str| NewPassword::in_place_of(&current.into(), new.into(), None).map(|_| ());
        assert_eq!(
            judge("caf\u{e9} cr\u{e8}me", "cafe\u{301} cre\u{300}me"),
            Err("must differ from the current password")
        );
        assert_eq!(judge("correct horse", "correct horse"), Err("must differ from the current password"));
        assert_eq!(judge("correct horse", "Correct horse"), Ok(()));
        assert!(judge("correct horse", "short").is_err());
    }

    #[test]
    fn nothing_prints_a_password() {
        let password = NewPassword::parse("correct horse battery".into(), None).unwrap();
        assert!(!format!("{password:?}").contains("horse"));
    }
}
