//! What operators see of one subject's buckets, and how they make them full again.

use super::flood_guard::FloodGuardState;
use super::policy::{self, FALLBACK};
use super::{Buckets, Key, Limits, Slot, Subject};
use crate::clock::Tick;
use crate::model::gcra::{self, Quota, Tat};
use crate::model::identity::UserId;
use crate::model::limits_view::{AskLimits, BucketView, CountedIn, LimitsView, Whose};
use crate::store::{KeptBucket, StoreError};

/// No policy has the name that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no policy has this name")]
pub struct UnknownPolicy;

impl Limits {
    /// The buckets of a subject that are not full, wherever they are counted, the flood guard's among them.
    ///
    /// # Errors
    /// When no policy has the name that was asked for.
    pub async fn show(&self, flood: &FloodGuardState, now: Tick, ask: &AskLimits) -> Result<LimitsView, UnknownPolicy> {
        let here = places(self, flood, ask)?;
        let buckets = here.iter().filter_map(|place| place.view(now)).collect();
        let Some(shared) = &self.shared else { return Ok(LimitsView { buckets, missing: None }) };
        let there = there(self, &here);
        let names: Vec<String> = there.iter().map(Place::shared_name).collect();
        Ok(with_shared(buckets, &there, shared.look(&names).await))
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
        ask: &AskLimits,
    ) -> Result<LimitsView, UnknownPolicy> {
        let here = places(self, flood, ask)?;
        let buckets = here.iter().filter_map(|place| {
            let view = place.view(now);
            place.buckets.forget(now, place.slot, place.subject);
            view
        });
        let buckets = buckets.collect();
        let Some(shared) = &self.shared else { return Ok(LimitsView { buckets, missing: None }) };
        let there = there(self, &here);
        let names: Vec<String> = there.iter().map(Place::shared_name).collect();
        let keys: Vec<Key> = there.iter().map(|place| Key { slot: place.slot, subject: place.subject }).collect();
        Ok(with_shared(buckets, &there, shared.forget(&names, &keys).await))
    }
}

/// With what the shared store kept in these places.
fn with_shared(
    mut buckets: Vec<BucketView>,
    places: &[Place<'_>],
    kept: Result<Vec<Option<KeptBucket>>, StoreError>,
) -> LimitsView {
    let missing = kept.as_ref().err().map(|error| format!("what is counted in Redis: {error}"));
    let kept = places.iter().zip(kept.unwrap_or_default()).filter_map(|(place, kept)| Some((place, kept?)));
    buckets.extend(kept.map(|(place, kept)| view(&place.scope, kept.lacking, kept.quota, CountedIn::Redis)));
    LimitsView { buckets, missing }
}

/// Where buckets of the subject may be in the shared store, of those places.
fn there<'b>(limits: &'b Limits, here: &[Place<'b>]) -> Vec<Place<'b>> {
    let shared =
        |place: &&Place<'b>| std::ptr::eq(place.buckets, limits.buckets()) && !place.scope.starts_with(FALLBACK);
    here.iter().filter(shared).cloned().collect()
}

/// A place in a table of this process where a subject's bucket would be.
#[derive(Clone)]
struct Place<'b> {
    buckets: &'b Buckets,
    scope: Box<str>,
    slot: Slot,
    subject: Subject,
}

impl Place<'_> {
    /// Name of the bucket in the shared store.
    fn shared_name(&self) -> String {
        policy::bucket_name(&self.scope, self.subject)
    }

    fn view(&self, now: Tick) -> Option<BucketView> {
        let (lacking, quota) = self.buckets.look(now, self.slot, self.subject)?;
        Some(view(&self.scope, lacking, quota, CountedIn::Memory))
    }
}

/// Where buckets of the subject may be in this process.
fn here<'b>(limits: &'b Limits, flood: &'b FloodGuardState, ask: &AskLimits) -> Vec<Place<'b>> {
    let subject = subject(ask.whose);
    let flood = matches!(ask.whose, Whose::Address(_)).then(|| flood.buckets());
    let tables = std::iter::once(limits.buckets()).chain(flood);
    let places = tables.flat_map(|buckets| {
        let wanted = move |(scope, _): &(Box<str>, Slot)| ask.policy.as_ref().is_none_or(|name| is_of(scope, name));
        let scopes = buckets.scopes().into_iter().filter(wanted);
        scopes.map(move |(scope, slot)| Place { buckets, scope, slot, subject })
    });
    places.collect()
}

/// The same; an error when a policy was named and there is none of that name.
fn places<'b>(
    limits: &'b Limits,
    flood: &'b FloodGuardState,
    ask: &AskLimits,
) -> Result<Vec<Place<'b>>, UnknownPolicy> {
    let places = here(limits, flood, ask);
    if places.is_empty() && ask.policy.is_some() { Err(UnknownPolicy) } else { Ok(places) }
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

/// A bucket that lacks so much.
fn view(scope: &str, lacking: Tat, quota: Quota, counted_in: CountedIn) -> BucketView {
    let millis = |time: std::time::Duration| u64::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
    BucketView {
        scope: scope.to_owned(),
        limit: quota.limit(),
        burst: quota.burst(),
        window_ms: millis(quota.period()),
        left: u64::from(gcra::held(lacking, 0, quota, u32::MAX)),
        full_in_ms: millis(lacking.until_full(0)),
        counted_in,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::config::spec::{OnStoreFailure, Sharing};
    use crate::limits::{Check, Policy, Reach};
    use crate::model::units::Rate;

    const NOW: Tick = Tick(90_000_000);

    fn spent() -> (Limits, FloodGuardState) {
        let (limits, flood) = (Limits::local(1_000), FloodGuardState::new(1_000));
        let how = (false, Sharing::None, OnStoreFailure::Local);
        let quota = Quota::new(Rate { limit: 60, period: Duration::from_secs(60) }, 4);
        for (name, reach, cost) in [
            ("match", Reach::Route("match"), 64),
            ("match", Reach::Route("other"), 0),
            ("matching", Reach::AllRoutes, 2),
        ] {
            let policy = Policy::new(name, reach, how, limits.buckets());
            for subject in [Subject::User(UserId(7)), Subject::address("2001:db8::1".parse().unwrap())] {
                limits.decide_here(NOW, std::iter::once(Check { policy: &policy, subject, quota, cost }));
            }
        }
        (limits, flood)
    }

    #[test]
    fn a_policy_may_have_any_name() {
        let (limits, flood) = (Limits::local(1_000), FloodGuardState::new(1_000));
        let how = (false, Sharing::Exact, OnStoreFailure::Local);
        let names = ["fallback", "all", "route"];
        let scopes: Vec<_> =
            names.map(|name| Policy::new(name, Reach::Route("all"), how, limits.buckets()).scope).into();
        for (name, scope) in names.iter().zip(scopes) {
            let places = places(&limits, &flood, &ask(Whose::User(7), Some(name))).unwrap();
            let shared: Vec<Box<str>> = there(&limits, &places).into_iter().map(|place| place.scope).collect();
            assert_eq!(shared, [Box::from(&*scope)], "{name}");
            assert_eq!(places.len(), 2, "{name}: its own bucket and the one that stands in for it");
        }
    }

    fn ask(whose: Whose, policy: Option<&str>) -> AskLimits {
        AskLimits { whose, policy: policy.map(str::to_owned) }
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
