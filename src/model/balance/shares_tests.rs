//! What each algorithm promises about shares, keys and comparisons.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::testing::{Fake, NOW, pick, shares};
use super::{Algorithm, Ask, Member, Order, Plan, Turns};

const ALL: [Algorithm; 5] =
    [Algorithm::RoundRobin, Algorithm::LeastRequest, Algorithm::PeakEwma, Algorithm::Random, Algorithm::ConsistentHash];

/// Whether each count is within `tolerance` of its due part by `weights`.
fn near(counts: &[u64], weights: &[u32], tolerance: f64) -> bool {
    let (sum, picks) = (f64::from(weights.iter().sum::<u32>()), counts.iter().sum::<u64>() as f64);
    counts.iter().zip(weights).all(|(count, weight)| {
        let due = picks * f64::from(*weight) / sum;
        (*count as f64 - due).abs() <= due * tolerance
    })
}

#[test]
fn round_robin_is_exact_over_a_period_and_never_blocks() {
    let plan = Plan::new(Algorithm::RoundRobin, Fake::all(&[5, 1, 1]), Vec::new());
    assert_eq!(shares(&plan, 3, 700, |_| true), [500, 100, 100]);
    let turns = Turns::default();
    let order: Vec<_> = (0..7).filter_map(|_| pick(&plan, &turns, None, |_| true)).collect();
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn the_turns_of_one_that_is_out_spread_evenly() {
    let plan = Plan::new(Algorithm::RoundRobin, Fake::all(&[1, 1, 1, 1]), Vec::new());
    assert_eq!(shares(&plan, 4, 300, |fake| fake.name != 1), [100, 0, 100, 100]);
    let plan = Plan::new(Algorithm::RoundRobin, Fake::all(&[1_000, 30, 10]), Vec::new());
    let counts = shares(&plan, 3, 40_000, |fake| fake.name != 0);
    assert!(near(&counts[1..], &[30, 10], 0.05), "the heavy one is out: {counts:?}");
}

#[test]
fn shares_are_exact_when_many_ask_at_once() {
    let plan = Plan::new(Algorithm::RoundRobin, Fake::all(&[3, 1, 2]), Vec::new());
    let turns = Turns::default();
    let count = || (0..3_000).filter(|_| pick(&plan, &turns, None, |_| true) == Some(0)).count();
    let heavy: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(heavy, 6_000);
}

#[test]
fn where_most_are_out_nobody_gets_what_was_meant_for_all() {
    for algorithm in ALL {
        let plan = Plan::new(algorithm, Fake::all(&[1; 100]), Vec::new());
        let counts = shares(&plan, 100, 10_000, |fake| fake.name % 10 == 3);
        let used: Vec<u64> = counts.into_iter().filter(|count| *count > 0).collect();
        assert!(used.len() == 10 && used.iter().all(|count| (700..=1_300).contains(count)), "{algorithm:?}: {used:?}");
    }
}

#[test]
fn the_turn_goes_on_under_another_plan() {
    let turns = Turns::default();
    let before = Plan::new(Algorithm::RoundRobin, Fake::all(&[1, 1]), Vec::new());
    assert_eq!(pick(&before, &turns, None, |_| true), Some(0));
    let after = Plan::new(Algorithm::RoundRobin, Fake::all(&[1, 1, 1]), Vec::new());
    assert_eq!(pick(&after, &turns, None, |_| true), Some(1));
}

#[test]
fn shares_follow_weights_and_slow_start() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::Random, Algorithm::ConsistentHash] {
        let mut fakes = Fake::all(&[30, 10, 20]);
        let plan = Plan::new(algorithm, fakes.clone(), Vec::new());
        let counts = shares(&plan, 3, 60_000, |_| true);
        assert!(near(&counts, &[30, 10, 20], 0.03), "{algorithm:?}: {counts:?}");
        fakes[2].permille = 250;
        let plan = Plan::new(algorithm, fakes, Vec::new());
        let counts = shares(&plan, 3, 60_000, |_| true);
        assert!(near(&counts, &[30, 10, 5], 0.05), "{algorithm:?} in slow start: {counts:?}");
    }
}

#[test]
fn all_in_slow_start_share_as_ever() {
    let mut fakes = Fake::all(&[3, 1]);
    fakes.iter_mut().for_each(|fake| fake.permille = 100);
    let counts = shares(&Plan::new(Algorithm::RoundRobin, fakes, Vec::new()), 2, 40_000, |_| true);
    assert!(near(&counts, &[3, 1], 0.03), "{counts:?}");
}

#[test]
fn backups_come_last_and_share_by_weight_too() {
    for algorithm in ALL {
        let mut backups = Fake::all(&[1, 3]);
        backups.iter_mut().for_each(|fake| fake.name += 2);
        let plan = Plan::new(algorithm, Fake::all(&[1, 1]), backups);
        let primary = shares(&plan, 4, 1_000, |_| true);
        assert_eq!(primary[2..], [0, 0], "{algorithm:?}");
        assert_eq!(shares(&plan, 4, 1_000, |fake| fake.name != 0), [0, 1_000, 0, 0], "{algorithm:?}");
        let backup = shares(&plan, 4, 40_000, |fake| fake.name > 1);
        let by_weight = matches!(algorithm, Algorithm::RoundRobin | Algorithm::Random | Algorithm::ConsistentHash);
        assert!(!by_weight || near(&backup[2..], &[1, 3], 0.05), "{algorithm:?}: {backup:?}");
    }
}

#[test]
fn the_busier_of_two_is_never_taken_and_ties_are_even() {
    let mut fakes = Fake::all(&[2, 1]);
    fakes[0].in_flight = 3; // (3 + 1) / 2 against (2 + 1) / 1
    fakes[1].in_flight = 2;
    assert_eq!(shares(&Plan::new(Algorithm::LeastRequest, fakes.clone(), Vec::new()), 2, 1_000, |_| true), [1_000, 0]);
    fakes[0].in_flight = 6;
    assert_eq!(shares(&Plan::new(Algorithm::LeastRequest, fakes, Vec::new()), 2, 1_000, |_| true), [0, 1_000]);
    let idle = Plan::new(Algorithm::LeastRequest, Fake::all(&[1; 5]), Vec::new());
    let counts = shares(&idle, 5, 50_000, |_| true);
    assert!(near(&counts, &[1; 5], 0.05), "{counts:?}");
}

#[test]
fn the_slower_of_two_is_never_taken_and_who_was_never_measured_is() {
    let mut fakes = Fake::all(&[1, 1]);
    (fakes[0].latency, fakes[1].latency) = (Some(0.010), Some(0.011));
    let plan = |fakes: &[Fake]| Plan::new(Algorithm::PeakEwma, fakes.to_vec(), Vec::new());
    assert_eq!(shares(&plan(&fakes), 2, 100, |_| true), [100, 0]);
    fakes[0].in_flight = 1; // 20 ms against 11 ms
    assert_eq!(shares(&plan(&fakes), 2, 100, |_| true), [0, 100]);
    fakes[0].latency = None;
    assert_eq!(shares(&plan(&fakes), 2, 100, |_| true), [0, 100], "its first answer is on its way");
    fakes[0].in_flight = 0;
    assert_eq!(shares(&plan(&fakes), 2, 100, |_| true), [100, 0], "not measured yet");
}

#[test]
fn a_refused_one_leaves_a_true_comparison() {
    // Two of four are refused; of the other two the less busy one is always taken.
    let mut fakes = Fake::all(&[1; 4]);
    fakes[1].in_flight = 5;
    fakes[3].in_flight = 4;
    let plan = Plan::new(Algorithm::LeastRequest, fakes, Vec::new());
    assert_eq!(shares(&plan, 4, 10_000, |fake| fake.name % 2 == 1), [0, 0, 0, 10_000]);
}

/// Keys by which each of the fakes is chosen.
fn owners(fakes: &[Fake], keys: u64) -> Vec<usize> {
    let (plan, turns) = (Plan::new(Algorithm::ConsistentHash, fakes.to_vec(), Vec::new()), Turns::default());
    (0..keys).filter_map(|key| pick(&plan, &turns, Some(key), |_| true)).collect()
}

#[test]
fn without_a_key_the_hash_is_random() {
    let plan = Plan::new(Algorithm::ConsistentHash, Fake::all(&[1; 3]), Vec::new());
    let turns = Turns::default();
    let picked: BTreeSet<_> = (0..100).filter_map(|_| pick(&plan, &turns, None, |_| true)).collect();
    assert_eq!(picked.len(), 3);
}

#[test]
fn asks_survive_being_bytes() {
    for ask in [Ask { key: None, now: NOW }, Ask { key: Some(0), now: NOW }, Ask { key: Some(u64::MAX), now: NOW }] {
        assert_eq!(Ask::from_bytes(&ask.to_bytes()), ask);
    }
    assert_eq!(Ask::from_bytes(b"").key, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_target_that_goes_moves_only_its_own_keys(
        weights in proptest::collection::vec(1_u32..=10, 2..8),
        gone in any::<proptest::sample::Index>(),
    ) {
        let fakes = Fake::all(&weights);
        let gone = gone.index(fakes.len());
        let left: Vec<Fake> = fakes.iter().filter(|fake| fake.name != gone).cloned().collect();
        for (before, after) in owners(&fakes, 2_000).into_iter().zip(owners(&left, 2_000)) {
            prop_assert!(before == gone || before == after);
        }
    }

    #[test]
    fn a_refused_target_s_keys_go_where_they_would_go_without_it(
        weights in proptest::collection::vec(1_u32..=10, 2..8),
        out in any::<proptest::sample::Index>(),
    ) {
        let fakes = Fake::all(&weights);
        let out = out.index(fakes.len());
        let left: Vec<Fake> = fakes.iter().filter(|fake| fake.name != out).cloned().collect();
        let plan = Plan::new(Algorithm::ConsistentHash, fakes, Vec::new());
        let turns = Turns::default();
        for (key, owner) in owners(&left, 500).into_iter().enumerate() {
            prop_assert_eq!(pick(&plan, &turns, Some(key as u64), |fake| fake.name != out), Some(owner));
        }
    }

    #[test]
    fn everybody_is_named_once(
        primary in proptest::collection::vec((1_u32..=1_000, 1_u32..=1_000), 0..40),
        backups in 0_usize..200,
        key in any::<Option<u64>>(),
    ) {
        for algorithm in ALL {
            let mut fakes = Fake::all(&primary.iter().map(|(weight, _)| *weight).collect::<Vec<_>>());
            fakes.iter_mut().zip(&primary).for_each(|(fake, (_, permille))| fake.permille = *permille);
            let border = fakes.len();
            let plan = Plan::new(algorithm, fakes, Fake::all(&vec![1; backups]));
            let (turns, mut order) = (Turns::default(), Order::new(Ask { key, now: NOW }));
            let named: Vec<usize> = std::iter::from_fn(|| order.next(&plan, &turns)).collect();
            let all: BTreeSet<usize> = named.iter().copied().collect();
            prop_assert_eq!((named.len(), all.len()), (plan.len(), plan.len()));
            prop_assert!(named[..border].iter().all(|position| *position < border), "primaries first");
        }
    }

    #[test]
    fn of_a_drawn_pair_the_worse_is_never_named_first(
        fakes in proptest::collection::vec((1_u32..=1_000, 0_u64..50, 1_u32..1_000), 2..12),
    ) {
        let cost = |fake: &Fake| (fake.in_flight + 1) as f64 / f64::from(fake.weight);
        let mut all = Fake::all(&fakes.iter().map(|(weight, ..)| *weight).collect::<Vec<_>>());
        for (fake, (_, in_flight, millis)) in all.iter_mut().zip(&fakes) {
            (fake.in_flight, fake.latency) = (*in_flight, Some(f64::from(*millis) / 1_000.0));
        }
        let worst = |cost: &dyn Fn(&Fake) -> f64| all.iter().map(cost).fold(0.0, f64::max);
        let slowness = |fake: &Fake| cost(fake) * fake.latency(NOW).unwrap();
        for (algorithm, cost) in
            [(Algorithm::LeastRequest, &cost as &dyn Fn(&Fake) -> f64), (Algorithm::PeakEwma, &slowness)]
        {
            let (plan, turns) = (Plan::new(algorithm, all.clone(), Vec::new()), Turns::default());
            let ties = all.iter().filter(|fake| cost(fake) >= worst(cost) * 0.999_999).count();
            for _ in 0..50 {
                let picked = pick(&plan, &turns, None, |_| true).unwrap();
                prop_assert!(ties > 1 || cost(&all[picked]) < worst(cost) * 0.999_999, "the worst of all");
            }
        }
    }
}
