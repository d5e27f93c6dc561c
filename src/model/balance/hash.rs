//! Numbers for texts, and how much a target likes a key. The same in every process and version: replicas agree.

use super::dice::mix;

/// What a request is told apart by, made of its parts one after the other (FNV-1a, 64 bits).
#[derive(Debug, Clone, Copy)]
pub struct Key(u64);

impl Key {
    /// The beginning of a key of one kind; keys of different kinds differ whatever is in them.
    pub fn of_kind(kind: &str) -> Key {
        Key(0xcbf2_9ce4_8422_2325).with(kind.as_bytes()).with(&[0xff])
    }

    /// The key with one more part.
    pub fn with(self, bytes: &[u8]) -> Key {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Key(bytes.iter().fold(self.0, step))
    }

    /// As a number.
    pub fn number(self) -> u64 {
        mix(self.0)
    }
}

/// The number of the target that is known by `name`.
pub fn identity(name: &str) -> u64 {
    Key::of_kind("target").with(name.as_bytes()).number()
}

/// How far a target of `weight` is from `key`: the least far one takes it (weighted rendezvous hashing). For each key
/// the distances are like waits for events at the rate of the weights: who comes first is a draw by weight, and one
/// that leaves changes nothing for the keys of the others.
pub(super) fn distance(key: u64, identity: u64, weight: f64) -> f64 {
    let drawn = mix(key ^ mix(identity)) >> 11;
    // In the middle of one of 2⁵³ steps from 0 to 1: never at either end.
    let even = (drawn as f64 + 0.5) / (1_u64 << 53) as f64;
    -even.ln() / weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_change() {
        assert_eq!(Key::of_kind("user").with(b"42").number(), 4_704_834_130_678_593_358);
        assert_eq!(identity("127.0.0.1:5060"), 18_210_771_189_255_272_519);
        assert_ne!(Key::of_kind("user").with(b"42").number(), Key::of_kind("user4").with(b"2").number());
    }

    #[test]
    fn distances_are_positive_numbers() {
        for key in 0..100_000 {
            let distance = distance(key, 7, 1.0);
            assert!(distance.is_finite() && distance > 0.0);
        }
    }
}
