//! The text of an API key: `ssm_<prefix>_<secret><checksum>`, 62 letters and digits.
//!
//! The prefix is public and names the key. The secret has 43 random characters of 62 kinds: 256 bits. The checksum is
//! the CRC-32 (IEEE) of what stands before it, in base 62: a mistyped key is refused without a look-up, and a secret
//! scanner can tell a key from other text. It protects nothing.

use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::store::ApiKeyHash;

/// Says what the text is, for people and for secret scanners.
const MARK: &str = "ssm_";
const PREFIX_CHARS: usize = 8;
/// 43 · log2(62) = 256.03 bits.
const SECRET_CHARS: usize = 43;
/// 62⁶ is more than 2³².
const CHECK_CHARS: usize = 6;
const BODY_CHARS: usize = MARK.len() + PREFIX_CHARS + 1 + SECRET_CHARS;
const KEY_CHARS: usize = BODY_CHARS + CHECK_CHARS;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The largest multiple of 62 that a byte can count to: bytes from here on would make the first digits likelier.
const FAIR: u8 = 248;

/// The public part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Prefix([u8; PREFIX_CHARS]);

impl Prefix {
    /// A prefix as the store has it; `None` for what is none.
    pub(super) fn of(text: &str) -> Option<Prefix> {
        text.as_bytes().try_into().ok().map(Prefix)
    }
}

/// A key just made.
pub(super) struct Made {
    /// The whole key, to be shown once.
    pub(super) key: SecretString,
    /// Its public part.
    pub(super) prefix: String,
    /// What is kept of it.
    pub(super) hash: ApiKeyHash,
}

/// The system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers: {0}")]
pub struct NoRandom(String);

/// A new key from the system's random numbers.
pub(super) fn make() -> Result<Made, NoRandom> {
    let digits = random_digits(PREFIX_CHARS + SECRET_CHARS)?;
    let (prefix, secret) = digits.split_at_checked(PREFIX_CHARS).unwrap_or_default();
    let body = format!("{MARK}{prefix}_{secret}");
    let key = format!("{body}{}", checksum(body.as_bytes()));
    Ok(Made { prefix: prefix.to_owned(), hash: hash(key.as_bytes()), key: key.into() })
}

fn random_digits(count: usize) -> Result<String, NoRandom> {
    let mut digits = String::with_capacity(count);
    while digits.len() < count {
        let mut bytes = [0_u8; 64];
        SysRng.try_fill_bytes(&mut bytes).map_err(|error| NoRandom(error.to_string()))?;
        let fair = bytes.into_iter().filter(|byte| *byte < FAIR).map(|byte| digit(u32::from(byte)));
        digits.extend(fair.take(count - digits.len()));
    }
    Ok(digits)
}

/// The last base-62 digit of a number.
fn digit(number: u32) -> char {
    let at = usize::try_from(number % 62).unwrap_or_default();
    DIGITS.get(at).map_or('0', |digit| char::from(*digit))
}

pub(super) fn checksum(body: &[u8]) -> String {
    let mut rest = crc32fast::hash(body);
    let mut digits: Vec<char> = Vec::with_capacity(CHECK_CHARS);
    for _ in 0..CHECK_CHARS {
        digits.push(digit(rest));
        rest /= 62;
    }
    digits.into_iter().rev().collect()
}

fn hash(key: &[u8]) -> ApiKeyHash {
    Sha256::digest(key).into()
}

/// What has the form of a key. Nothing of it is proven.
pub(super) struct Presented {
    /// The key that it claims to be.
    pub(super) prefix: Prefix,
    /// Its hash, to be compared in constant time.
    pub(super) hash: ApiKeyHash,
}

impl Presented {
    /// Takes a key apart; `None` for what has another form or is mistyped.
    pub(super) fn parse(key: &[u8]) -> Option<Presented> {
        if key.len() != KEY_CHARS {
            return None;
        }
        let (body, check) = key.split_at_checked(BODY_CHARS)?;
        let (prefix, secret) = body.strip_prefix(MARK.as_bytes())?.split_at_checked(PREFIX_CHARS)?;
        let secret = secret.strip_prefix(b"_")?;
        let plain = prefix.iter().chain(secret).all(u8::is_ascii_alphanumeric);
        let known = plain && checksum(body).as_bytes() == check;
        known.then_some(Presented { prefix: Prefix(prefix.try_into().ok()?), hash: hash(key) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_made_key_has_the_form_and_is_read_back() {
        let mut seen = HashSet::new();
        for _ in 0..200 {
            let made = make().unwrap();
            let key = made.key.expose_secret();
            assert_eq!((key.len(), &key[..4], &key[12..13]), (62, "ssm_", "_"));
            assert_eq!(key[4..12], made.prefix);
            let presented = Presented::parse(key.as_bytes()).unwrap();
            assert_eq!((Some(presented.prefix), presented.hash), (Prefix::of(&made.prefix), made.hash));
            assert!(seen.insert(key.to_owned()));
        }
        // Every digit comes up: 200 keys of 51 digits leave one of 62 out with probability under 1e-60.
        let digits: HashSet<char> = seen.iter().flat_map(|key| key[4..56].chars()).filter(|c| *c != '_').collect();
        assert_eq!(digits.len(), 62);
    }

    /// The CRC-32 of "123456789" is 0xCBF43926 (the check value of every catalogue of CRCs): 3 421 780 262 in base 62.
    #[test]
    fn the_checksum_is_the_known_crc_in_six_digits() {
        let value = checksum(b"123456789").bytes().fold(0_u64, |value, digit| {
            value * 62 + u64::try_from(DIGITS.iter().position(|known| *known == digit).unwrap()).unwrap()
        });
        assert_eq!(value, 0xCBF4_3926);
        assert_eq!(checksum(b""), "000000");
        // Worked out with another program (Python's zlib).
        let body = format!("ssm_AAAAAAAA_{}", "A".repeat(43));
        assert_eq!(checksum(body.as_bytes()), "1hgyYC");
    }

    #[test]
    fn every_mistyped_character_is_noticed() {
        let key = make().unwrap().key.expose_secret().to_owned();
        for at in 0..key.len() {
            for other in [b'a', b'B', b'7', b'_', b' ', 0xC3] {
                let mut mistyped = key.clone().into_bytes();
                if mistyped[at] != other {
                    mistyped[at] = other;
                    assert!(Presented::parse(&mistyped).is_none(), "{at}");
                }
            }
        }
        for other in ["", "ssm_", &key[1..], &key[..61], &format!("{key}0"), &format!("{key} "), &key.to_uppercase()] {
            assert!(Presented::parse(other.as_bytes()).is_none(), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            proptest::prop_assert!(Presented::parse(&bytes).is_none());
        }
    }
}
