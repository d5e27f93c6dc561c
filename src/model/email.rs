//! When two spellings are one address.

use unicode_normalization::UnicodeNormalization;

/// What an address is compared by: NFKC, lower case. Total, so that a log-in can look up whatever was sent.
pub fn email_key(text: &str) -> String {
    let lower: String = text.nfkc().flat_map(char::to_lowercase).collect();
    // Lower case of a composed letter may decompose again.
    lower.nfkc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_key_is_its_own_key(text in "\\PC{0,40}") {
            let key = email_key(&text);
            proptest::prop_assert_eq!(email_key(&key), key);
        }
    }
}
