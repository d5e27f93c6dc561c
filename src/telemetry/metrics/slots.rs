//! A small table that is filled as keys are first seen, and read without a lock.

use std::sync::OnceLock;

/// Up to `N` values by key, in order of first use. Few keys are ever seen (statuses of one route), so a scan beats
/// a hash.
#[derive(Debug)]
pub(super) struct Slots<K, V, const N: usize>([OnceLock<(K, V)>; N]);

impl<K, V, const N: usize> Default for Slots<K, V, N> {
    fn default() -> Self {
        Slots(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl<K: PartialEq + Copy, V, const N: usize> Slots<K, V, N> {
    /// The value for `key`, made on first use; `None` when the table is full of other keys.
    pub(super) fn get(&self, key: K, make: impl Fn() -> V) -> Option<&V> {
        self.0.iter().find_map(|slot| {
            // Two threads may race for a free slot: the loser sees the winner's key and goes on to the next one.
            let (known, value) = slot.get_or_init(|| (key, make()));
            (*known == key).then_some(value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_made_once_and_a_full_table_says_so() {
        let slots: Slots<u16, u16, 2> = Slots::default();
        assert_eq!(slots.get(200, || 1), Some(&1));
        assert_eq!(slots.get(404, || 2), Some(&2));
        assert_eq!(slots.get(200, || 3), Some(&1));
        assert_eq!(slots.get(500, || 4), None);
    }
}
