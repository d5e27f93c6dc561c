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
use self::headers::{HeaderTemplate, Standing, unix_time};
use self::subjects::SubjectOf;
use super::exchange::LimitState;
use super::{Decision, Exchange, Filter};
use crate::config::spec::{LimitHeadersSpec, LimitSpec, ScopeSpec};
use crate::limits::{Check, Few, Limits, OwnOverrides, Policy, PolicyOptions, Scope, Subject, Tightest, Verdict};
use crate::model::gcra::{Outcome, Quota};
use crate::model::rejection::Rejection;
use crate::model::role::Role;
use crate::telemetry::metrics::LimitMetrics;

/// A policy on the route that a filter is made for.
#[derive(Debug, Clone)]
pub struct LimitOnRoute<'s> {
    /// Its name.
    pub name: &'s str,
    /// The policy.
    pub spec: &'s LimitSpec,
    /// Tokens that a request takes here.
    pub cost: u32,
    /// Where its decisions are counted.
    pub metrics: LimitMetrics,
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
    /// Its index in the route's list; [`Check::index`] counts the policies with a rate only.
    list_index: usize,
    metrics: LimitMetrics,
}

/// Charges the policies of one route.
pub struct RateLimit {
    policies: Box<[Rated]>,
    bounds: Box<[Bound]>,
    templates: PerRole<HeaderTemplate>,
    /// For the templates of users with overrides.
    headers: LimitHeadersSpec,
    /// Most time that is added to what refused clients are told to wait.
    jitter: Duration,
    limits: Arc<Limits>,
}

impl RateLimit {
    /// The policies of a route, each of another name.
    ///
    /// # Errors
    /// When a policy is none. The check of the table says it better, and for all at once.
    pub fn new(
        policies: &[LimitOnRoute<'_>],
        route: RouteNames<'_>,
        headers: &LimitHeadersSpec,
        limits: Arc<Limits>,
    ) -> Result<RateLimit, InvalidLimit> {
        let (mut compiled, mut bounds): (Vec<Rated>, Vec<Bound>) = Default::default();
        for (list_index, on_route) in policies.iter().enumerate() {
            let (rated, bound) = compile(list_index, on_route, route, &limits)?;
            compiled.extend(rated);
            bounds.extend(bound);
        }
        let templates =
            PerRole::of(|role| template_of(compiled.iter().map(|rated| (rated, *rated.quotas.get(role))), headers));
        if !bounds.is_empty() {
            limits.in_flight().prepare();
        }
        let (policies, bounds) = (compiled.into(), bounds.into());
        let (headers, jitter) = (headers.clone(), headers.jitter.0);
        Ok(RateLimit { policies, bounds, templates, headers, jitter, limits })
    }

    /// What is asked of each policy: the quota is that of the caller's role, unless an operator gave the user whose bucket
    /// it is another.
    fn checks(&self, exchange: &Exchange<'_>, overrides: Option<&OwnOverrides>) -> Few<Check<'_>> {
        let role = exchange.identity.as_ref().map(|identity| identity.role);
        let mut checks = Few::new();
        for (index, rated) in self.policies.iter().enumerate() {
            let (policy, subject) = (&rated.policy, rated.by.subject(exchange));
            let usual = Check { index, policy, subject, quota: *rated.quotas.get(role), cost: rated.cost };
            checks.push(match overrides {
                Some(own) if matches!(subject, Subject::User(_)) => self.overridden(usual, own),
                _ => usual,
            });
        }
        checks
    }

    fn overridden<'p>(&self, usual: Check<'p>, own: &OwnOverrides) -> Check<'p> {
        let quota = self.limits.quota_of(usual.policy, own.quota(&usual.policy.name, usual.quota));
        // The check of the table keeps costs within the table's buckets; an override's may be smaller.
        let cost = usual.cost.min(u32::try_from(quota.holds()).unwrap_or(u32::MAX));
        Check { quota, cost, ..usual }
    }

    /// A place under every bound of the route.
    fn take_places(&self, exchange: &Exchange<'_>) -> Result<Taken, Rejection> {
        if self.bounds.is_empty() {
            return Ok(Taken::default());
        }
        bounds::take(&self.bounds, exchange, self.limits.in_flight()).map_err(|bound| {
            bound.metrics.denied.inc();
            Rejection::ConcurrencyLimited
        })
    }

    /// Charges the buckets, and says in the exchange where the client stands.
    async fn charge(&self, exchange: &mut Exchange<'_>, taken: &Taken) -> Result<(), Rejection> {
        if self.policies.is_empty() {
            return Ok(());
        }
        let user = exchange.identity.as_ref().map(|identity| identity.user);
        let overrides = user.and_then(|user| self.limits.rules().overrides().of(user, exchange.unix_seconds()));
        let checks = self.checks(exchange, overrides.as_ref());
        let verdict = self.limits.decide(exchange.now, &checks).await.ok_or(Rejection::Internal)?;
        self.report(&verdict, taken);
        let Some(tightest) = verdict.tightest else { return Ok(()) };
        let wait = match tightest.decision.outcome {
            Outcome::Allowed(_) => None,
            Outcome::Denied(wait) => Some(wait.max(Duration::from_micros(1)).saturating_add(self.some_jitter())),
        };
        if overrides.is_some() {
            let policies = self.policies.iter().zip(checks.iter().map(|check| check.quota));
            self.write_headers(exchange, &tightest, wait, &template_of(policies, &self.headers));
        } else {
            let role = exchange.identity.as_ref().map(|identity| identity.role);
            self.write_headers(exchange, &tightest, wait, self.templates.get(role));
        }
        wait.map_or(Ok(()), |wait| Err(Rejection::RateLimited(wait)))
    }

    /// Writes the headers, and notes the limit for the access log. `wait`: what a refused client is told to wait.
    fn write_headers(
        &self,
        exchange: &mut Exchange<'_>,
        tightest: &Tightest,
        wait: Option<Duration>,
        template: &HeaderTemplate,
    ) {
        let standing = Standing::of(tightest, wait);
        let now = unix_time(exchange.started_at).saturating_add(self.limits.since(exchange.now));
        template.write(tightest.index, standing, now, &mut exchange.edits);
        let policy = self.policies.get(tightest.index).map(|rated| rated.policy.name.clone());
        exchange.limit = policy.map(|policy| LimitState { policy, remaining: standing.remaining });
    }

    /// Uniform between nothing and `jitter`, both included.
    fn some_jitter(&self) -> Duration {
        match u64::try_from(self.jitter.as_micros()).unwrap_or(u64::MAX) {
            0 => Duration::ZERO,
            most => Duration::from_micros(rand::random_range(0..=most)),
        }
    }

    /// Counts what each policy did. One that would have let a request pass which another refused is not counted.
    fn report(&self, verdict: &Verdict, taken: &Taken) {
        for (index, rated) in self.policies.iter().enumerate() {
            let refuses = verdict.refuses(index) || taken.over.contains(rated.list_index);
            match (verdict.is_allowed(), refuses, rated.policy.shadow) {
                (true, false, _) => rated.metrics.allowed.inc(),
                (true, true, _) => rated.metrics.would_deny.inc(),
                (false, true, false) => rated.metrics.denied.inc(),
                (false, ..) => {}
            }
        }
    }

    /// What the policies without a rate did about a request that passed.
    fn report_bounds(&self, taken: &Taken) {
        for bound in self.bounds.iter().filter(|bound| !bound.rated) {
            let over = taken.over.contains(bound.list_index);
            if over { bound.metrics.would_deny.inc() } else { bound.metrics.allowed.inc() }
        }
    }
}

/// What clients are told of these policies, each with its quota.
fn template_of<'r>(policies: impl Iterator<Item = (&'r Rated, Quota)>, headers: &LimitHeadersSpec) -> HeaderTemplate {
    let named = |(rated, quota): (&'r Rated, Quota)| (!rated.policy.shadow).then_some((&*rated.policy.name, quota));
    HeaderTemplate::new(policies.map(named), headers)
}

/// A policy's bucket on a route, and its bound: each where the policy has one.
fn compile(
    list_index: usize,
    LimitOnRoute { name, spec, cost, metrics }: &LimitOnRoute<'_>,
    route: RouteNames<'_>,
    limits: &Limits,
) -> Result<(Option<Rated>, Option<Bound>), InvalidLimit> {
    let wrong = |problem| InvalidLimit { policy: (*name).to_owned(), problem };
    let scope = match (spec.over, route.group) {
        (ScopeSpec::Route, _) | (ScopeSpec::Group, None) => Scope::Route(route.route),
        (ScopeSpec::Group, Some(group)) => Scope::Group(group),
        (ScopeSpec::AllRoutes, _) => Scope::AllRoutes,
    };
    let LimitSpec { shadow, sharing, on_store_failure, .. } = **spec;
    let policy = Policy::new(name, scope, PolicyOptions { shadow, sharing, on_store_failure }, limits.buckets());
    let quota = |rate| limits.quota_of(&policy, Quota::new(rate, spec.burst));
    let quotas = match (&spec.rate, &spec.roles) {
        (Some(rate), None) => Some(PerRole::of(|_| quota(*rate))),
        (None, Some(rates)) => Some(PerRole::of(|role| quota(rates.of(role)))),
        (None, None) if spec.in_flight.is_some() => None,
        _ => return Err(wrong("give either `rate` or `roles`")),
    };
    let by = SubjectOf::new(&spec.by).ok_or_else(|| wrong("`by` names no header"))?;
    let bound = spec.in_flight.map(|most| {
        let (policy, by, metrics) = (policy.clone(), by.clone(), metrics.clone());
        Bound { policy, by, most, list_index, rated: quotas.is_some(), metrics }
    });
    let metrics = metrics.clone();
    Ok((quotas.map(|quotas| Rated { policy, by, quotas, cost: *cost, list_index, metrics }), bound))
}

#[async_trait]
impl Filter for RateLimit {
    async fn on_request(&self, exchange: &mut Exchange<'_>) -> Result<Decision, Rejection> {
        let taken = self.take_places(exchange)?;
        self.charge(exchange, &taken).await?; // a refusal lets go of the places
        self.report_bounds(&taken);
        exchange.permits = taken.permits;
        Ok(Decision::Continue)
    }
}

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod tests;
