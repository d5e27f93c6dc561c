//! Other rates for single users, as operators set them. Reads wait for nobody; who has none, which is nearly everybody,
//! costs a look into an empty or a small table.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use arc_swap::ArcSwap;

use crate::model::gcra::Quota;
use crate::model::identity::UserId;
use crate::store::LimitOverride;

/// The overrides that this process knows.
#[derive(Debug, Default)]
pub struct Overrides(ArcSwap<HashMap<UserId, Arc<[LimitOverride]>, RandomState>>);

impl Overrides {
    /// Takes these in the place of all that were known.
    pub fn set(&self, all: Vec<LimitOverride>) {
        let mut of_users: HashMap<UserId, Vec<LimitOverride>> = HashMap::new();
        for each in all {
            of_users.entry(each.user).or_default().push(each);
        }
        self.0.store(Arc::new(of_users.into_iter().map(|(user, own)| (user, own.into())).collect()));
    }

    /// How many are in force.
    pub(super) fn count(&self, unix_seconds: i64) -> usize {
        self.0.load().values().flat_map(|own| own.iter()).filter(|each| each.until_s > unix_seconds).count()
    }

    /// Those of a user; `None`: none is in force.
    pub fn of(&self, user: UserId, unix_seconds: i64) -> Option<OwnOverrides> {
        let all = self.0.load();
        if all.is_empty() {
            return None;
        }
        let own = all.get(&user).filter(|own| own.iter().any(|each| each.until_s > unix_seconds))?;
        Some(OwnOverrides { own: own.clone(), unix_seconds })
    }
}

/// The overrides of one user at one moment.
#[derive(Debug, Clone)]
pub struct OwnOverrides {
    own: Arc<[LimitOverride]>,
    unix_seconds: i64,
}

impl OwnOverrides {
    /// The user's quota under a policy that gives `usual` to others. An override without a burst keeps the usual one.
    pub fn quota(&self, policy: &str, usual: Quota) -> Quota {
        let found = self.own.iter().find(|each| each.policy == policy && each.until_s > self.unix_seconds);
        found.map_or(usual, |each| Quota::new(each.rate, each.burst.unwrap_or(usual.burst())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(user: i64, policy: &str, rate: &str, burst: Option<u32>, until_s: i64) -> LimitOverride {
        let rate = rate.parse().unwrap();
        LimitOverride { user: UserId(user), policy: policy.into(), rate, burst, until_s, made_at_ms: 0 }
    }

    #[test]
    fn a_user_has_another_quota_until_it_ends() {
        let overrides = Overrides::default();
        assert!(overrides.of(UserId(7), 0).is_none());
        overrides.set(vec![
            over(7, "match", "500/min", None, 100),
            over(7, "per-role", "1/h", Some(3), 200),
            over(8, "match", "9/s", None, 100),
        ]);
        let usual = Quota::new("20/min".parse().unwrap(), 5);
        let quota = |user, policy: &str, now| overrides.of(UserId(user), now).map(|own| own.quota(policy, usual));
        assert_eq!(quota(7, "match", 99), Some(Quota::new("500/min".parse().unwrap(), 5)));
        assert_eq!(quota(7, "per-role", 99), Some(Quota::new("1/h".parse().unwrap(), 3)));
        assert_eq!(quota(7, "another", 99), Some(usual));
        assert_eq!(quota(7, "match", 100), Some(usual), "ended while the other goes on");
        assert_eq!((quota(7, "match", 200), quota(9, "match", 0)), (None, None));
        assert_eq!((overrides.count(99), overrides.count(100), overrides.count(200)), (3, 1, 0));
        overrides.set(Vec::new());
        assert!(overrides.of(UserId(7), 0).is_none());
    }
}
