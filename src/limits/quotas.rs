//! The quotas of a shard's buckets, each kept once: there are few, and a number takes six times less than a quota.

use crate::model::gcra::Quota;

/// Quotas by their number. The number of one that is no longer used is given to another.
#[derive(Debug, Default)]
pub(super) struct Quotas(Vec<Option<Quota>>);

impl Quotas {
    /// Numbers given so far, those without a quota included.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The quota of a number.
    pub(super) fn get(&self, number: u32) -> Option<Quota> {
        usize::try_from(number).ok().and_then(|index| self.0.get(index).copied().flatten())
    }

    /// Something of each, by their numbers; the default where a number has none.
    pub(super) fn each<T: Default>(&self, of: impl Fn(Quota) -> T) -> Vec<T> {
        self.0.iter().map(|quota| quota.map_or_else(T::default, &of)).collect()
    }

    /// The number of a quota, when it has one.
    pub(super) fn find(&self, quota: Quota) -> Option<u32> {
        number(self.0.iter().position(|kept| *kept == Some(quota))?)
    }

    /// Gives a number to a quota that has none.
    pub(super) fn add(&mut self, quota: Quota) -> u32 {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        match self.0.get_mut(free) {
            Some(place) => *place = Some(quota),
            None => self.0.push(Some(quota)),
        }
        number(free).unwrap_or(u32::MAX)
    }

    /// Keeps those that these buckets use.
    pub(super) fn keep_only(&mut self, used_by: impl Iterator<Item = u32>) {
        let mut used = vec![false; self.0.len()];
        for number in used_by {
            if let Some(flag) = usize::try_from(number).ok().and_then(|index| used.get_mut(index)) {
                *flag = true;
            }
        }
        for (quota, used) in self.0.iter_mut().zip(used) {
            if !used {
                *quota = None;
            }
        }
        while self.0.last().is_some_and(Option::is_none) {
            self.0.pop();
        }
    }
}

fn number(index: usize) -> Option<u32> {
    u32::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::units::Rate;

    #[test]
    fn a_quota_keeps_its_number_until_nobody_uses_it() {
        let quota = |limit| Quota::new(Rate { limit, period: Duration::from_secs(1) }, 0);
        let mut quotas = Quotas::default();
        let numbers = [1, 2, 3].map(|limit| quotas.add(quota(limit)));
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(quotas.find(quota(2)), Some(1));
        quotas.keep_only([2, 2, 9].into_iter());
        assert_eq!((quotas.get(0), quotas.get(1), quotas.get(2)), (None, None, Some(quota(3))));
        assert_eq!((quotas.find(quota(2)), quotas.add(quota(4)), quotas.len()), (None, 0, 3));
        quotas.keep_only(std::iter::once(0));
        assert_eq!((quotas.len(), quotas.get(7)), (1, None));
    }
}
