//! The rate-limit policies of a route: all are decided at once, and when one refuses, none is charged. Before that the
//! request takes its places under the bounds on requests in flight; where there is none, no token is charged either.
//!
//! What the headers say, about the policy closest to exhaustion:
//! - `X-RateLimit-Limit`: the rate's count (`20` of `20/min`); `X-RateLimit-Window`: its period in seconds.
//! - `X-RateLimit-Remaining`: what is left of that count. The burst is a reserve on top that is never announced:
//!   `Remaining` goes from `Limit` to 0 as a client expects, and requests beyond 0 still pass until the burst is
//!   spent too. So it never promises more than there is, and never exceeds `Limit`.
//! - `X-RateLimit-Reset`: the Unix second at which the bucket is whole again; on a 429 the second at which the request can
//!   pass, the same moment as `Retry-After`. Rounded up: at that second it is true.
//! - Who has an override of an operator's is told of that.
//! - `RateLimit` says the same as `r` and `t` (seconds from now), `RateLimit-Policy` lists every policy of the route
//!   with its `q` and `w` (draft-ietf-httpapi-ratelimit-headers-10). The later form calls them `a` and `w`.
//! - Shadow policies and bounds on requests in flight are not told of.
//! - Jitter is drawn once for each refusal, and added to all the times that it tells.

mod bounds;
mod headers;
mod subjects;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::bounds::{Bound, Taken};
use self::headers::{Announcement, Standing};
use self::subjects::SubjectOf;
use super::exchange::LimitState;
use super::{Decision, Exchange, Filter};
use crate::config::spec::{LimitHeadersSpec, LimitSpec, Scope, Sharing};
use crate::limits::{Check, Limits, OwnOverrides, Policy, Reach, Subject, Verdict};
use crate::model::gcra::{Outcome, Quota};
use crate::model::rejection::Rejection;
use crate::model::role::Role;

/// What a policy did about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// It let the request pass and charged it.
    Allowed,
    /// It refused it.
    Denied,
    /// It would have refused it, but is a shadow.
    WouldDeny,
}

/// Is told every decision of every policy.
pub trait LimitObserver: Send + Sync {
    /// What the policy at this index of the list given to [`RateLimit::new`] did. A policy that would have let a request
    /// pass which another refused is not counted.
    fn decided(&self, policy: usize, decided: Decided);
}

/// A policy on the route that a filter is made for.
#[derive(Debug, Clone, Copy)]
pub struct LimitOnRoute<'s> {
    /// Its name.
    pub name: &'s str,
    /// The policy.
    pub spec: &'s LimitSpec,
    /// Tokens that a request takes here.
    pub cost: u32,
}

/// The route that a filter is made for.
#[derive(Debug, Clone, Copy)]
pub struct RouteNames<'s> {
    /// Its name.
    pub route: &'s str,
    /// Its group, where it has one.
    pub group: Option<&'s str>,
}

/// A policy that cannot be compiled; says which and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limits.{policy}: {problem}")]
pub struct InvalidLimit {
    /// Its name.
    pub policy: String,
    /// What is wrong.
    pub problem: &'static str,
}

/// One value for each role, and for callers without one.
#[derive(Debug)]
struct PerRole<T> {
    anonymous: T,
    candidat: T,
    recruteur: T,
    admin: T,
}

impl<T> PerRole<T> {
    fn of(each: impl Fn(Option<Role>) -> T) -> PerRole<T> {
        PerRole {
            anonymous: each(None),
            candidat: each(Some(Role::Candidat)),
            recruteur: each(Some(Role::Recruteur)),
            admin: each(Some(Role::Admin)),
        }
    }

    fn get(&self, role: Option<Role>) -> &T {
        match role {
            None => &self.anonymous,
            Some(Role::Candidat) => &self.candidat,
            Some(Role::Recruteur) => &self.recruteur,
            Some(Role::Admin) => &self.admin,
        }
    }
}

/// A policy's bucket on this route.
struct Rated {
    policy: Policy,
    by: SubjectOf,
    quotas: PerRole<Quota>,
    cost: u32,
    /// Its place in the list given to `new`, for the observer.
    index: usize,
}

/// Charges the policies of one route.
pub struct RateLimit {
    policies: Box<[Rated]>,
    bounds: Box<[Bound]>,
    announcements: PerRole<Announcement>,
    /// For announcements to users with overrides of their own.
    headers: LimitHeadersSpec,
    /// Most time that is added to what refused clients are told to wait.
    jitter: Duration,
    limits: Arc<Limits>,
    /// Whether every policy is counted in this process.
    here: bool,
    observer: Option<Arc<dyn LimitObserver>>,
}

impl RateLimit {
    /// The policies of a route, each of another name.
    pub fn new(
        policies: &[LimitOnRoute<'_>],
        route: RouteNames<'_>,
        headers: &LimitHeadersSpec,
        limits: Arc<Limits>,
        observer: Option<Arc<dyn LimitObserver>>,
    ) -> Result<RateLimit, InvalidLimit> {
        let (mut compiled, mut bounds): (Vec<Rated>, Vec<Bound>) = Default::default();
        for (index, on_route) in policies.iter().enumerate() {
            let (rated, bound) = compile(index, *on_route, route, &limits)?;
            compiled.extend(rated);
            bounds.extend(bound);
        }
        let announcements = PerRole::of(|role| announce(&compiled, headers, |rated| *rated.quotas.get(role)));
        if !bounds.is_empty() {
            limits.in_flight().prepare();
        }
        let here = compiled.iter().all(|rated| rated.policy.sharing == Sharing::None) || !limits.are_shared();
        let (policies, bounds) = (compiled.into(), bounds.into());
        let (headers, jitter) = (headers.clone(), headers.jitter.0);
        Ok(RateLimit { policies, bounds, announcements, headers, jitter, limits, here, observer })
    }

    fn checks<'s>(
        &'s self,
        exchange: &'s Exchange<'_>,
        overrides: Option<&'s OwnOverrides>,
    ) -> impl Iterator<Item = Check<'s>> {
        self.policies.iter().map(move |rated| {
            let (subject, quota) = (rated.by.subject(exchange), self.quota(rated, exchange, overrides));
            // No request costs more than a bucket holds; of an override's, only what is asked here tells.
            let most = overrides.map_or(u64::MAX, |_| quota.holds());
            let cost = rated.cost.min(u32::try_from(most).unwrap_or(u32::MAX));
            Check { policy: &rated.policy, subject, quota, cost }
        })
    }

    async fn decide(&self, exchange: &Exchange<'_>, overrides: Option<&OwnOverrides>) -> Option<Verdict> {
        if self.here {
            return self.limits.decide_here(exchange.now, self.checks(exchange, overrides));
        }
        let checks: Vec<Check<'_>> = self.checks(exchange, overrides).collect();
        self.limits.decide(exchange.now, &checks).await
    }

    /// The quota of a request: that of its caller's role, unless an operator gave the user whose bucket it is another.
    fn quota(&self, rated: &Rated, exchange: &Exchange<'_>, overrides: Option<&OwnOverrides>) -> Quota {
        let usual = *rated.quotas.get(exchange.identity.as_ref().map(|identity| identity.role));
        match overrides {
            Some(own) if matches!(rated.by.subject(exchange), Subject::User(_)) => {
                self.limits.quota_of(rated.policy.sharing, own.quota(&rated.policy.name, usual))
            }
            _ => usual,
        }
    }

    /// A place under every bound of the route.
    fn take_places(&self, exchange: &Exchange<'_>) -> Result<Taken, Rejection> {
        if self.bounds.is_empty() {
            return Ok(Taken::default());
        }
        bounds::take(&self.bounds, exchange, self.limits.in_flight()).map_err(|index| {
            self.tell(index, Decided::Denied);
            Rejection::ConcurrencyLimited
        })
    }

    /// Charges the buckets, and says in the exchange where the client stands.
    async fn charge(&self, exchange: &mut Exchange<'_>, taken: &Taken) -> Result<(), Rejection> {
        if self.policies.is_empty() {
            return Ok(());
        }
        let identity = exchange.identity.as_ref();
        let (role, user) = (identity.map(|identity| identity.role), identity.map(|identity| identity.user));
        let overrides = user.and_then(|user| self.limits.rules().overrides().of(user, exchange.started_at.as_second()));
        let overrides = overrides.as_ref();
        let verdict = self.decide(exchange, overrides).await.ok_or(Rejection::Internal)?;
        self.report(&verdict, taken);
        let Some((tightest, decision)) = verdict.tightest else { return Ok(()) };
        let Some(rated) = self.policies.get(tightest) else { return Err(Rejection::Internal) };
        let wait = match decision.outcome {
            Outcome::Allowed(_) => None,
            Outcome::Denied(wait) => Some(wait.max(Duration::from_micros(1)).saturating_add(self.some_jitter())),
        };
        let standing = Standing::of(self.quota(rated, exchange, overrides), &decision, wait);
        let own = overrides
            .map(|own| announce(&self.policies, &self.headers, |rated| self.quota(rated, exchange, Some(own))));
        let announcement = own.as_ref().unwrap_or_else(|| self.announcements.get(role));
        announcement.write(tightest, standing, exchange.started_at, &mut exchange.edits);
        exchange.limit = Some(LimitState { policy: rated.policy.name.clone(), remaining: standing.remaining });
        wait.map_or(Ok(()), |wait| Err(Rejection::RateLimited(wait)))
    }

    /// Uniform between nothing and `jitter`, both included.
    fn some_jitter(&self) -> Duration {
        match u64::try_from(self.jitter.as_micros()).unwrap_or(u64::MAX) {
            0 => Duration::ZERO,
            most => Duration::from_micros(rand::random_range(0..=most)),
        }
    }

    fn report(&self, verdict: &Verdict, taken: &Taken) {
        for (position, rated) in self.policies.iter().enumerate() {
            let refuses = verdict.refuses(position) || taken.is_over(rated.index);
            let decided = match (verdict.allowed, refuses, rated.policy.shadow) {
                (true, false, _) => Decided::Allowed,
                (true, true, _) => Decided::WouldDeny,
                (false, true, false) => Decided::Denied,
                (false, ..) => continue,
            };
            self.tell(rated.index, decided);
        }
    }

    /// What the policies without a rate did about a request that passed.
    fn report_bounds(&self, taken: &Taken) {
        for bound in self.bounds.iter().filter(|bound| !bound.rated) {
            self.tell(bound.index, if taken.is_over(bound.index) { Decided::WouldDeny } else { Decided::Allowed });
        }
    }

    fn tell(&self, index: usize, decided: Decided) {
        if let Some(observer) = &self.observer {
            observer.decided(index, decided);
        }
    }
}

/// What clients are told of these policies, each with its quota.
fn announce(policies: &[Rated], headers: &LimitHeadersSpec, quota: impl Fn(&Rated) -> Quota) -> Announcement {
    let named = policies.iter().map(|rated| (!rated.policy.shadow).then(|| (&*rated.policy.name, quota(rated))));
    Announcement::new(named, headers)
}

/// A policy's bucket on a route, and its bound: each where the policy has one.
fn compile(
    index: usize,
    LimitOnRoute { name, spec, cost }: LimitOnRoute<'_>,
    route: RouteNames<'_>,
    limits: &Limits,
) -> Result<(Option<Rated>, Option<Bound>), InvalidLimit> {
    let wrong = |problem| InvalidLimit { policy: name.to_owned(), problem };
    if !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(wrong("the name must be printable ASCII: it is shown in the RateLimit header"));
    }
    let quota = |rate| limits.quota_of(spec.sharing, Quota::new(rate, spec.burst));
    let quotas = match (&spec.rate, &spec.roles) {
        (Some(rate), None) => Some(PerRole::of(|_| quota(*rate))),
        (None, Some(rates)) => Some(PerRole::of(|role| quota(rates.of(role)))),
        (None, None) if spec.in_flight.is_some() => None,
        _ => return Err(wrong("give either `rate` or `roles`")),
    };
    let reach = match (spec.over, route.group) {
        (Scope::Route, _) | (Scope::Group, None) => Reach::Route(route.route),
        (Scope::Group, Some(group)) => Reach::Group(group),
        (Scope::AllRoutes, _) => Reach::AllRoutes,
    };
    let policy = Policy::new(name, reach, (spec.shadow, spec.sharing, spec.on_store_failure), limits.buckets());
    let by = SubjectOf::new(&spec.by).ok_or_else(|| wrong("`by` names no header"))?;
    let bound = spec.in_flight.map(|most| {
        let (policy, by) = (policy.clone(), by.clone());
        Bound { policy, by, most, index, rated: quotas.is_some() }
    });
    Ok((quotas.map(|quotas| Rated { policy, by, quotas, cost, index }), bound))
}

#[async_trait]
impl Filter for RateLimit {
    async fn on_request(&self, exchange: &mut Exchange<'_>) -> Result<Decision, Rejection> {
        let taken = self.take_places(exchange)?;
        self.charge(exchange, &taken).await?; // a refusal lets go of the places
        self.report_bounds(&taken);
        exchange.places = taken.places;
        Ok(Decision::Continue)
    }
}

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod tests;
