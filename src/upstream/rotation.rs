//! Round robin over a pool's addresses, in the form of Pingora's [`BackendSelection`].
//!
//! Pingora's own starts again at the first address whenever the set changes; here the position lives outside, so
//! it survives changes of the set and reloads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};

/// Whose turn it is; shared by all versions of a pool's set.
pub type Position = Arc<AtomicUsize>;

/// One version of the set.
pub struct Rotation {
    backends: Box<[Backend]>,
    position: Position,
}

impl BackendSelection for Rotation {
    type Iter = Turns;
    type Config = Position;

    fn build_with_config(backends: &BTreeSet<Backend>, position: &Position) -> Self {
        Rotation { backends: backends.iter().cloned().collect(), position: position.clone() }
    }

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Rotation::build_with_config(backends, &Position::default())
    }

    fn iter(self: &Arc<Self>, _key: &[u8]) -> Turns {
        Turns { rotation: self.clone(), at: 0, steps: 0 }
    }
}

/// The order in which one request asks the backends: every one comes up within twice their number of steps.
pub struct Turns {
    rotation: Arc<Rotation>,
    at: usize,
    steps: usize,
}

impl BackendIter for Turns {
    fn next(&mut self) -> Option<&Backend> {
        let count = self.rotation.backends.len();
        if self.steps >= count.saturating_mul(2) {
            return None;
        }
        // First by the common position, so that the turns of a target that is out spread evenly over the others;
        // other requests move it too, so that may skip some: a second round of our own leaves none out.
        self.at = if self.steps < count {
            self.rotation.position.fetch_add(1, Ordering::Relaxed)
        } else {
            self.at.wrapping_add(1)
        };
        self.steps += 1;
        self.rotation.backends.get(self.at % count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(count: u8) -> BTreeSet<Backend> {
        (1..=count).map(|n| Backend::new(&format!("127.0.0.{n}:80")).unwrap()).collect()
    }

    fn first_but(rotation: &Arc<Rotation>, out: &str) -> String {
        let mut turns = rotation.iter(b"");
        loop {
            let address = turns.next().unwrap().addr.to_string();
            if address != out {
                return address;
            }
        }
    }

    #[test]
    fn the_turns_of_a_target_that_is_out_spread_evenly() {
        let rotation = Arc::new(Rotation::build(&backends(4)));
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..300 {
            *counts.entry(first_but(&rotation, "127.0.0.2:80")).or_insert(0) += 1;
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [100, 100, 100]);
    }

    #[test]
    fn the_position_survives_a_change_of_the_set() {
        let position = Position::default();
        let before = Arc::new(Rotation::build_with_config(&backends(2), &position));
        assert_eq!(first_but(&before, ""), "127.0.0.1:80");
        let after = Arc::new(Rotation::build_with_config(&backends(3), &position));
        assert_eq!(first_but(&after, ""), "127.0.0.2:80");
    }

    #[test]
    fn every_backend_comes_up_even_when_others_move_the_position() {
        let rotation = Arc::new(Rotation::build(&backends(3)));
        let mut turns = rotation.iter(b"");
        let mut seen = BTreeSet::new();
        while let Some(backend) = turns.next() {
            seen.insert(backend.addr.to_string());
            rotation.position.fetch_add(2, Ordering::Relaxed);
        }
        assert_eq!(seen.len(), 3);
        assert!(Arc::new(Rotation::build(&backends(0))).iter(b"").next().is_none());
    }
}
