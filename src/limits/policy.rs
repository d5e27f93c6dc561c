//! One policy on one route, as decisions need it.

use std::sync::Arc;

use super::{Buckets, ScopeId, Subject};
use crate::config::spec::{OnStoreFailure, Sharing};

/// What a bucket of a policy spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'n> {
    /// One route.
    Route(&'n str),
    /// The routes of a group.
    Group(&'n str),
    /// All routes with the policy.
    AllRoutes,
}

/// What the table says of a policy besides its name, its subjects and its quotas.
#[derive(Debug, Clone, Copy, Default)]
pub struct PolicyOptions {
    /// Whether it only counts.
    pub shadow: bool,
    /// How replicas count together.
    pub sharing: Sharing,
    /// What happens while the shared store does not answer.
    pub on_store_failure: OnStoreFailure,
}

/// One policy on one route.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name.
    pub name: Arc<str>,
    /// Name of its buckets, over all replicas and reloads: the policy and what they span.
    pub scope: Arc<str>,
    /// The same as a number of this process.
    pub scope_id: ScopeId,
    /// Whether it only counts.
    pub shadow: bool,
    /// How replicas count it together, where they count anything together; `None`: each counts it alone.
    pub shared: Option<SharedCounting>,
}

/// How replicas count a policy together.
#[derive(Debug, Clone)]
pub struct SharedCounting {
    /// Whether replicas take tokens ahead.
    pub leased: bool,
    /// What happens while the shared store does not answer.
    pub on_store_failure: OnStoreFailure,
    /// Where this process counts alone while the shared store does not answer: buckets apart from all others.
    pub fallback: Arc<Policy>,
}

impl Policy {
    /// A policy that refuses, counted by this process alone.
    pub fn alone(name: &str, buckets: &Buckets) -> Policy {
        let options = PolicyOptions { sharing: Sharing::None, ..PolicyOptions::default() };
        Policy::new(name, Scope::AllRoutes, options, buckets)
    }

    /// The policy `name` with this scope.
    pub fn new(name: &str, scope: Scope<'_>, options: PolicyOptions, buckets: &Buckets) -> Policy {
        let scope = match scope {
            Scope::Route(route) => format!("{name}:route:{route}"),
            Scope::Group(group) => format!("{name}:group:{group}"),
            Scope::AllRoutes => format!("{name}:all"),
        };
        let counted_here = |scope: String| {
            let scope_id = buckets.scope_id(&scope);
            Policy { name: name.into(), scope: scope.into(), scope_id, shadow: options.shadow, shared: None }
        };
        let shared = (options.sharing != Sharing::None).then(|| SharedCounting {
            leased: options.sharing == Sharing::Lease,
            on_store_failure: options.on_store_failure,
            fallback: Arc::new(counted_here(format!("{FALLBACK}{scope}"))),
        });
        Policy { shared, ..counted_here(scope) }
    }

    /// Whether replicas count it together, where they count anything together.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
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
