//! Smooth weighted round robin, worked out ahead: the order of turns in which nobody's turns come in a block.

/// Longest order. Weights whose sum, divided by what they have in common, is more are rounded to fit.
pub const LONGEST: u64 = 10_000;

/// The positions of `weights` in the order of their turns, each as often as its weight says.
///
/// Every step each position earns its weight, the richest has its turn and pays the sum of all: so it waits longest who
/// had a turn last, and turns of one position lie about sum/weight apart.
pub(super) fn smooth(weights: &[u32]) -> Box<[u32]> {
    let weights = shorten(weights);
    let sum: i64 = weights.iter().sum();
    let mut earned = vec![0_i64; weights.len()];
    let mut order = Vec::with_capacity(usize::try_from(sum).unwrap_or(0));
    for _ in 0..sum {
        let mut richest: Option<(usize, i64)> = None;
        for (position, (earned, weight)) in earned.iter_mut().zip(&weights).enumerate() {
            *earned += weight;
            if richest.is_none_or(|(_, most)| *earned > most) {
                richest = Some((position, *earned));
            }
        }
        let Some((position, _)) = richest else { break };
        if let Some(earned) = earned.get_mut(position) {
            *earned -= sum;
        }
        order.push(u32::try_from(position).unwrap_or(0));
    }
    order.into_boxed_slice()
}

/// The same proportions in small numbers, none below 1.
fn shorten(weights: &[u32]) -> Vec<i64> {
    let weights: Vec<u64> = weights.iter().map(|weight| u64::from((*weight).max(1))).collect();
    let common = weights.iter().copied().fold(0, divisor).max(1);
    let sum: u64 = weights.iter().sum::<u64>() / common;
    let fit = |weight: u64| {
        let weight = weight / common;
        if sum <= LONGEST { weight } else { ((weight * LONGEST + sum / 2) / sum).max(1) }
    };
    weights.into_iter().map(|weight| i64::try_from(fit(weight)).unwrap_or(1)).collect()
}

/// The greatest common divisor.
fn divisor(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn count(order: &[u32], position: usize) -> u64 {
        order.iter().filter(|turn| **turn as usize == position).count() as u64
    }

    /// The most steps between two turns of `position`, around the end too.
    fn widest_gap(order: &[u32], position: usize) -> usize {
        let turns: Vec<usize> =
            (0..order.len() * 2).filter(|at| order[at % order.len()] as usize == position).collect();
        turns.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(order.len())
    }

    fn longest_run(order: &[u32]) -> usize {
        let (mut longest, mut run) = (0, 0);
        for at in 1..order.len() * 2 {
            let same = order[at % order.len()] == order[(at - 1) % order.len()];
            run = if same { run + 1 } else { 0 };
            longest = longest.max(run + 1);
        }
        longest
    }

    #[test]
    fn known_orders() {
        for (weights, expected) in [
            (&[1][..], &[0][..]),
            (&[7], &[0]),
            (&[2, 2], &[0, 1]),
            (&[3, 1], &[0, 0, 1, 0]),
            (&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]),
            (&[], &[]),
        ] {
            assert_eq!(&*smooth(weights), expected, "{weights:?}");
        }
    }

    #[test]
    fn long_orders_are_rounded_and_leave_nobody_out() {
        let weights: Vec<u32> = (0..40).map(|n| 1_000 - n * 25).collect();
        let order = smooth(&weights);
        let sum = f64::from(weights.iter().sum::<u32>());
        assert!(order.len() as u64 <= LONGEST + 40, "{}", order.len());
        for (position, weight) in weights.iter().enumerate() {
            let (share, due) = (count(&order, position) as f64 / order.len() as f64, f64::from(*weight) / sum);
            assert!((share - due).abs() < 0.000_1, "{position}: {share} instead of {due}");
        }
    }

    proptest! {
        #[test]
        fn shares_are_exact_and_turns_evenly_spread(weights in proptest::collection::vec(1_u32..=60, 1..8)) {
            let order = smooth(&weights);
            let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            for (position, weight) in weights.iter().enumerate() {
                let due = u64::from(*weight) * order.len() as u64;
                prop_assert_eq!(count(&order, position) * sum, due);
                // Nobody waits longer than twice the distance of perfectly even turns.
                let even = sum as f64 / f64::from(*weight);
                prop_assert!(widest_gap(&order, position) as f64 <= (2.0 * even).ceil());
            }
            // Nobody has more than twice the run that perfectly even turns have.
            let heaviest = u64::from(*weights.iter().max().unwrap());
            if weights.len() > 1 {
                let bound = 2 * sum.div_ceil(sum - heaviest);
                prop_assert!(longest_run(&order) as u64 <= bound, "{:?}: {:?}", weights, order);
            }
        }
    }
}
