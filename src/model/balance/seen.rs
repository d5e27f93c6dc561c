//! A set of positions in a list, which allocates nothing for lists of up to 128.

/// The set.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    low: u128,
    /// From position 128 on, 64 to a word.
    high: Vec<u64>,
}

const LOW: usize = 128;

impl Seen {
    pub(super) fn contains(&self, position: usize) -> bool {
        match position.checked_sub(LOW) {
            None => self.low >> position & 1 == 1,
            Some(rest) => self.high.get(rest / 64).is_some_and(|word| word >> (rest % 64) & 1 == 1),
        }
    }

    pub(super) fn insert(&mut self, position: usize) {
        let Some(rest) = position.checked_sub(LOW) else {
            self.low |= 1 << position;
            return;
        };
        let word = rest / 64;
        if self.high.len() <= word {
            self.high.resize(word + 1, 0);
        }
        if let Some(word) = self.high.get_mut(word) {
            *word |= 1 << (rest % 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(positions in proptest::collection::vec(0_usize..400, 0..60)) {
            let (mut seen, expected) = (Seen::default(), positions.iter().copied().collect::<BTreeSet<_>>());
            positions.iter().for_each(|position| seen.insert(*position));
            for position in 0..500 {
                prop_assert_eq!(seen.contains(position), expected.contains(&position));
            }
        }
    }
}
