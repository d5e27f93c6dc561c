//! One policy on one route, as decisions need it.

use std::sync::Arc;

use super::{Buckets, Slot, Subject};
use crate::config::spec::{OnStoreFailure, Sharing};

/// What a bucket of a policy spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach<'n> {
    /// One route.
    Route(&'n str),
    /// The routes of a group.
    Group(&'n str),
    /// All routes with the policy.
    AllRoutes,
}

/// One policy on one route.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name.
    pub name: Arc<str>,
    /// Name of its buckets, over all replicas and reloads: the policy and what they span.
    pub scope: Arc<str>,
    /// The same as a number of this process.
    pub slot: Slot,
    /// Whether it only counts.
    pub shadow: bool,
    /// How replicas count together.
    pub sharing: Sharing,
    /// What happens while the shared store does not answer.
    pub on_store_failure: OnStoreFailure,
    /// Where it is counted while the shared store does not answer: buckets of this process, apart from those above.
    /// `None` when it is not shared.
    pub fallback: Option<Arc<Policy>>,
}

impl Policy {
    /// A policy that refuses, counted by this process alone.
    pub fn alone(name: &str, buckets: &Buckets) -> Policy {
        Policy::new(name, Reach::AllRoutes, (false, Sharing::None, OnStoreFailure::Local), buckets)
    }

    /// The policy `name` where it reaches so far.
    pub fn new(
        name: &str,
        reach: Reach<'_>,
        (shadow, sharing, on_store_failure): (bool, Sharing, OnStoreFailure),
        buckets: &Buckets,
    ) -> Policy {
        let scope = match reach {
            Reach::Route(route) => format!("{name}:route:{route}"),
            Reach::Group(group) => format!("{name}:group:{group}"),
            Reach::AllRoutes => format!("{name}:all"),
        };
        let named = |scope: String| {
            let slot = buckets.slot(&scope);
            let (name, scope) = (name.into(), scope.into());
            Policy { name, scope, slot, shadow, sharing, on_store_failure, fallback: None }
        };
        let fallback = (sharing != Sharing::None).then(|| Arc::new(named(format!("{FALLBACK}{scope}"))));
        Policy { fallback, ..named(scope) }
    }

    /// Whether replicas count it together, where they count anything together.
    pub fn is_shared(&self) -> bool {
        self.sharing != Sharing::None
    }

    /// Name of a subject's bucket in the shared store.
    pub fn bucket_of(&self, subject: Subject) -> String {
        bucket_name(&self.scope, subject)
    }
}

/// Begins the scope of buckets of this process that stand in for shared ones; no policy's name does.
pub(super) const FALLBACK: &str = "~";

/// Name of a subject's bucket in the shared store.
pub(super) fn bucket_name(scope: &str, subject: Subject) -> String {
    format!("{scope}:{subject}")
}
