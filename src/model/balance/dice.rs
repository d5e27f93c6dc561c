//! Random numbers for choices: quick, without state that outlives a request. Nothing secret may depend on them.

/// A sequence of numbers from one seed (SplitMix64: a counter and a mixer).
#[derive(Debug, Clone, Copy)]
pub(super) struct Dice(u64);

/// 2⁶⁴ divided by the golden ratio, made odd: its multiples spread evenly over all numbers.
pub(super) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes a number so that each of its bits changes about half of the result's (Stafford's variant 13).
pub(super) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(mix(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A position in a list of `length`; 0 when that is 0.
    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(below(self.next(), length as u64)).unwrap_or(0)
    }
}

/// A random number as one below `bound`; 0 when that is 0. Off from even by less than `bound` / 2⁶⁴.
pub(super) fn below(number: u64, bound: u64) -> u64 {
    let wide = u128::from(number) * u128::from(bound);
    u64::try_from(wide >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_even_from_neighbouring_seeds() {
        let mut counts = [0_u32; 10];
        for seed in 0..100_000 {
            counts[Dice::new(seed).index(10)] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..=10_400).contains(count)), "{counts:?}");
        assert_eq!(Dice::new(1).index(0), 0);
    }
}
