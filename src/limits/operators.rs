//! What operators see of one subject's buckets, and how they make them full again.

use super::flood_guard::FloodGuardState;
use super::policy::{self, FALLBACK};
use super::{Buckets, Key, Limits, ScopeId, Subject};
use crate::clock::Tick;
use crate::model::gcra::{Debt, Quota};
use crate::model::identity::UserId;
use crate::model::limits_view::{BucketView, CountedIn, LimitsQuery, LimitsView, Whose};
use crate::store::{SharedBucket, StoreError};

/// No policy has the name that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no policy has this name")]
pub struct UnknownPolicy;

impl Limits {
    /// The buckets of a subject that are not full, wherever they are counted, the flood guard's among them.
    ///
    /// # Errors
    /// When no policy has the name that was asked for.
    pub async fn show(
        &self,
        flood: &FloodGuardState,
        now: Tick,
        query: &LimitsQuery,
    ) -> Result<LimitsView, UnknownPolicy> {
        let local = local_locations(self, flood, query)?;
        let buckets = local.iter().filter_map(|location| location.view(now)).collect();
        let Some(distributed) = &self.distributed else { return Ok(LimitsView { buckets, missing: None }) };
        let shared = shared_locations(self, &local);
        let names: Vec<String> = shared.iter().map(BucketLocation::shared_name).collect();
        Ok(with_shared(buckets, &shared, distributed.peek(&names).await))
    }

    /// Makes the buckets of a subject full, wherever they are counted; answers how they were. What the flood guard's sieve
    /// has counted stays: its bucket begins with at most half of it missing.
    ///
    /// # Errors
    /// When no policy has the name that was asked for. Nothing is changed then.
    pub async fn reset(
        &self,
        flood: &FloodGuardState,
        now: Tick,
        query: &LimitsQuery,
    ) -> Result<LimitsView, UnknownPolicy> {
        let local = local_locations(self, flood, query)?;
        let buckets = local.iter().filter_map(|location| {
            let view = location.view(now);
            location.buckets.reset(now, location.key.scope, location.key.subject);
            view
        });
        let buckets = buckets.collect();
        let Some(distributed) = &self.distributed else { return Ok(LimitsView { buckets, missing: None }) };
        let shared = shared_locations(self, &local);
        let names: Vec<String> = shared.iter().map(BucketLocation::shared_name).collect();
        let keys: Vec<Key> = shared.iter().map(|location| location.key).collect();
        Ok(with_shared(buckets, &shared, distributed.reset(&names, &keys).await))
    }
}

/// With what the shared store kept at these locations.
fn with_shared(
    mut buckets: Vec<BucketView>,
    locations: &[BucketLocation<'_>],
    found: Result<Vec<Option<SharedBucket>>, StoreError>,
) -> LimitsView {
    let missing = found.as_ref().err().map(|error| format!("what is counted in Redis: {error}"));
    let found = locations.iter().zip(found.unwrap_or_default());
    let found = found.filter_map(|(location, bucket)| Some((location, bucket?)));
    buckets.extend(found.map(|(location, found)| view(&location.scope, found.debt, found.quota, CountedIn::Redis)));
    LimitsView { buckets, missing }
}

/// Where a bucket of the subject would be: in a table of this process, or under the same name in the shared store.
#[derive(Clone)]
struct BucketLocation<'b> {
    buckets: &'b Buckets,
    scope: Box<str>,
    key: Key,
}

impl BucketLocation<'_> {
    /// Name of the bucket in the shared store.
    fn shared_name(&self) -> String {
        policy::bucket_name(&self.scope, self.key.subject)
    }

    /// The bucket in this process, when it is not full.
    fn view(&self, now: Tick) -> Option<BucketView> {
        let (debt, quota) = self.buckets.peek(now, self.key.scope, self.key.subject)?;
        Some(view(&self.scope, debt, quota, CountedIn::Memory))
    }
}

/// Where buckets of the subject may be in this process.
///
/// # Errors
/// When a policy was named and there is none of that name.
fn local_locations<'b>(
    limits: &'b Limits,
    flood: &'b FloodGuardState,
    query: &LimitsQuery,
) -> Result<Vec<BucketLocation<'b>>, UnknownPolicy> {
    let subject = subject(query.whose);
    let flood = matches!(query.whose, Whose::Address(_)).then(|| flood.buckets());
    let tables = std::iter::once(limits.buckets()).chain(flood);
    let locations = tables.flat_map(|buckets| {
        let wanted = |(scope, _): &(Box<str>, ScopeId)| query.policy.as_ref().is_none_or(|name| is_of(scope, name));
        let scopes = buckets.scopes().into_iter().filter(wanted);
        scopes.map(move |(name, scope)| BucketLocation { buckets, scope: name, key: Key { scope, subject } })
    });
    let locations: Vec<_> = locations.collect();
    if locations.is_empty() && query.policy.is_some() { Err(UnknownPolicy) } else { Ok(locations) }
}

/// Those of them that may be in the shared store, too.
fn shared_locations<'b>(limits: &Limits, local: &[BucketLocation<'b>]) -> Vec<BucketLocation<'b>> {
    let of_policies = |location: &&BucketLocation<'_>| std::ptr::eq(location.buckets, limits.buckets());
    let shared = local.iter().filter(of_policies).filter(|location| !location.scope.starts_with(FALLBACK));
    shared.cloned().collect()
}

fn subject(whose: Whose) -> Subject {
    match whose {
        Whose::User(id) => Subject::User(UserId(id)),
        Whose::Address(address) => Subject::address(address),
    }
}

/// Whether a scope is one of the policy `name`.
fn is_of(scope: &str, name: &str) -> bool {
    let scope = scope.strip_prefix(FALLBACK).unwrap_or(scope);
    let rest = scope.strip_prefix(name);
    rest.is_some_and(|rest| rest == ":all" || rest.starts_with(":route:") || rest.starts_with(":group:"))
}

/// A bucket with this debt.
fn view(scope: &str, debt: Debt, quota: Quota, counted_in: CountedIn) -> BucketView {
    let millis = |time: std::time::Duration| u64::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
    BucketView {
        scope: scope.to_owned(),
        limit: quota.limit(),
        burst: quota.burst(),
        window_ms: millis(quota.period()),
        left: u64::from(debt.held(quota, u32::MAX)),
        full_in_ms: millis(debt.until_full()),
        counted_in,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::config::spec::Sharing;
    use crate::limits::{Check, Policy, PolicyOptions, Scope};
    use crate::model::units::Rate;

    const NOW: Tick = Tick(90_000_000);

    fn spent() -> (Limits, FloodGuardState) {
        let (limits, flood) = (Limits::local(1_000), FloodGuardState::new(1_000));
        let options = PolicyOptions { sharing: Sharing::None, ..PolicyOptions::default() };
        let quota = Quota::new(Rate { limit: 60, period: Duration::from_secs(60) }, 4);
        for (name, scope_of, cost) in [
            ("match", Scope::Route("match"), 64),
            ("match", Scope::Route("other"), 0),
            ("matching", Scope::AllRoutes, 2),
        ] {
            let policy = Policy::new(name, scope_of, options, limits.buckets());
            for subject in [Subject::User(UserId(7)), Subject::address("2001:db8::1".parse().unwrap())] {
                limits.buckets().decide_all(NOW, &[Check::single(&policy, subject, quota, cost)]);
            }
        }
        (limits, flood)
    }

    #[test]
    fn a_policy_may_have_any_name() {
        let (limits, flood) = (Limits::local(1_000), FloodGuardState::new(1_000));
        let options = PolicyOptions::default();
        let names = ["fallback", "all", "route"];
        let scopes: Vec<_> =
            names.map(|name| Policy::new(name, Scope::Route("all"), options, limits.buckets()).scope).into();
        for (name, scope) in names.iter().zip(scopes) {
            let local = local_locations(&limits, &flood, &ask(Whose::User(7), Some(name))).unwrap();
            let shared: Vec<Box<str>> =
                shared_locations(&limits, &local).into_iter().map(|location| location.scope).collect();
            assert_eq!(shared, [Box::from(&*scope)], "{name}");
            assert_eq!(local.len(), 2, "{name}: its own bucket and the one that stands in for it");
        }
    }

    fn ask(whose: Whose, policy: Option<&str>) -> LimitsQuery {
        LimitsQuery { whose, policy: policy.map(str::to_owned) }
    }

    fn shown(limits: &Limits, flood: &FloodGuardState, whose: Whose) -> Vec<(String, u64, u64)> {
        let view = limits.show(flood, NOW, &ask(whose, None)).now_or_never().unwrap().unwrap();
        assert!(view.buckets.iter().all(|one| (one.limit, one.burst, one.window_ms) == (60, 4, 60_000)));
        view.buckets.into_iter().map(|one| (one.scope, one.left, one.full_in_ms)).collect()
    }

    #[test]
    fn each_bucket_that_is_not_full_is_shown_and_reset_by_policy_or_altogether() {
        let (limits, flood) = spent();
        let reset = |whose, policy| {
            let view = limits.reset(&flood, NOW, &ask(whose, policy)).now_or_never().unwrap()?;
            Ok(view.buckets.into_iter().map(|one| one.scope).collect::<Vec<_>>())
        };
        let user = Whose::User(7);
        let neighbour = Whose::Address("2001:db8::ffff".parse().unwrap());
        let all = [("match:route:match".to_owned(), 0, 64_000), ("matching:all".to_owned(), 62, 2_000)];
        assert_eq!(shown(&limits, &flood, user), all);
        assert_eq!(shown(&limits, &flood, neighbour), all);
        assert!(shown(&limits, &flood, Whose::User(8)).is_empty());

        assert_eq!(reset(user, Some("match")), Ok(vec!["match:route:match".to_owned()]));
        assert_eq!(shown(&limits, &flood, user), all[1..]);
        assert_eq!(reset(user, None), Ok(vec!["matching:all".to_owned()]));
        assert_eq!(reset(user, None), Ok(Vec::new()));
        assert_eq!(shown(&limits, &flood, neighbour), all, "another subject's");
        assert_eq!(reset(user, Some("nobody")), Err(UnknownPolicy));
        assert_eq!(reset(user, Some("flood_guard")), Err(UnknownPolicy), "it counts addresses only");
        assert_eq!(reset(neighbour, Some("flood_guard")), Ok(Vec::new()));
        let none = Limits::local(1_000).show(&flood, NOW, &ask(user, None)).now_or_never().unwrap();
        assert_eq!(none, Ok(LimitsView { buckets: Vec::new(), missing: None }), "a table without policies");
    }
}
