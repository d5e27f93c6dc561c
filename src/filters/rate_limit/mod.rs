//! The rate-limit policies of a route: all are decided at once, and when one refuses, none is charged.
//!
//! What the headers say, about the policy closest to exhaustion:
//! - `X-RateLimit-Limit`: the rate's count (`20` of `20/min`); `X-RateLimit-Window`: its period in seconds.
//! - `X-RateLimit-Remaining`: what is left of that count. The burst is a reserve on top that is never announced:
//!   `Remaining` goes from `Limit` to 0 as a client expects, and requests beyond 0 still pass until the burst is
//!   spent too. So it never promises more than there is, and never exceeds `Limit`.
//! - `X-RateLimit-Reset`: the Unix second at which the bucket is whole again; on a 429 the second at which the request can
//!   pass, the same moment as `Retry-After`.
//! - `RateLimit` says the same as `r` and `t` (seconds from now), `RateLimit-Policy` lists every policy of the route
//!   with its `q` and `w` (draft-ietf-httpapi-ratelimit-headers-10).

pub mod buckets;
mod headers;
mod shard;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::buckets::{Buckets, Check, Key, NameId, Subject as BucketOf, Verdict};
use self::headers::{Announcement, Standing};
use super::exchange::LimitState;
use super::{Decision, Exchange, Filter};
use crate::config::spec::{LimitSpec, Scope, Subject};
use crate::model::gcra::{Outcome, Quota};
use crate::model::identity::Identity;
use crate::model::rejection::Rejection;
use crate::model::role::Role;

/// Is told every decision of every policy.
pub trait LimitObserver: Send + Sync {
    /// The policy at this index of the list given to [`RateLimit::new`] let a request pass and charged it, or refused
    /// it. A policy that would have let a request pass which another refused is not counted.
    fn decided(&self, policy: usize, allowed: bool);
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

/// One value for each role.
#[derive(Debug)]
struct PerRole<T> {
    candidat: T,
    recruteur: T,
    admin: T,
}

impl<T> PerRole<T> {
    fn of(each: impl Fn(Role) -> T) -> PerRole<T> {
        PerRole { candidat: each(Role::Candidat), recruteur: each(Role::Recruteur), admin: each(Role::Admin) }
    }

    /// Anonymous callers have what `candidat` has.
    fn get(&self, role: Option<Role>) -> &T {
        match role {
            None | Some(Role::Candidat) => &self.candidat,
            Some(Role::Recruteur) => &self.recruteur,
            Some(Role::Admin) => &self.admin,
        }
    }
}

struct Policy {
    name: Arc<str>,
    /// Its place in the list given to `new`, for the observer.
    index: usize,
    id: NameId,
    route: Option<NameId>,
    by: Subject,
    quotas: PerRole<Quota>,
}

/// Charges the policies of one route.
pub struct RateLimit {
    policies: Box<[Policy]>,
    announcements: PerRole<Announcement>,
    buckets: Arc<Buckets>,
    observer: Option<Arc<dyn LimitObserver>>,
}

impl RateLimit {
    /// The policies of `route`, by name; a name given twice counts once.
    pub fn new(
        policies: &[(&str, &LimitSpec)],
        route: &str,
        buckets: Arc<Buckets>,
        observer: Option<Arc<dyn LimitObserver>>,
    ) -> Result<RateLimit, InvalidLimit> {
        let mut compiled: Vec<Policy> = Vec::with_capacity(policies.len());
        for (index, (name, spec)) in policies.iter().enumerate() {
            if compiled.iter().all(|known| *known.name != **name) {
                compiled.push(Policy::compile(index, name, spec, route, &buckets)?);
            }
        }
        let announcements = PerRole::of(|role| {
            Announcement::new(compiled.iter().map(|policy| (&*policy.name, *policy.quotas.get(Some(role)))))
        });
        Ok(RateLimit { policies: compiled.into(), announcements, buckets, observer })
    }

    fn checks<'s>(&'s self, exchange: &Exchange<'_>) -> impl Iterator<Item = Check> + Clone + use<'s> {
        let role = exchange.identity.as_ref().map(|identity| identity.role);
        let address = BucketOf::address(exchange.client.address);
        let user = exchange.identity.as_ref().map_or(address, |Identity { user, .. }| BucketOf::User(*user));
        self.policies.iter().map(move |policy| {
            let subject = match policy.by {
                Subject::User => user,
                Subject::Address => address,
            };
            let key = Key { policy: policy.id, route: policy.route, subject };
            Check { key, quota: *policy.quotas.get(role), cost: 1 }
        })
    }

    fn report(&self, verdict: &Verdict) {
        let Some(observer) = &self.observer else { return };
        for (position, policy) in self.policies.iter().enumerate() {
            let refused =
                u32::try_from(position).ok().and_then(|bit| verdict.refused.checked_shr(bit)).unwrap_or(0) & 1;
            if verdict.allowed || refused == 1 {
                observer.decided(policy.index, verdict.allowed);
            }
        }
    }
}

impl Policy {
    fn compile(
        index: usize,
        name: &str,
        spec: &LimitSpec,
        route: &str,
        buckets: &Buckets,
    ) -> Result<Policy, InvalidLimit> {
        let wrong = |problem| InvalidLimit { policy: name.to_owned(), problem };
        if !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(wrong("the name must be printable ASCII: it is shown in the RateLimit header"));
        }
        let quotas = match (&spec.rate, &spec.roles) {
            (Some(rate), None) => PerRole::of(|_| Quota::new(*rate, spec.burst)),
            (None, Some(rates)) => PerRole {
                candidat: Quota::new(rates.candidat, spec.burst),
                recruteur: Quota::new(rates.recruteur, spec.burst),
                admin: Quota::new(rates.admin, spec.burst),
            },
            _ => return Err(wrong("give either `rate` or `roles`")),
        };
        let route = match spec.over {
            Scope::Route => Some(buckets.intern(route)),
            Scope::AllRoutes => None,
        };
        Ok(Policy { name: name.into(), index, id: buckets.intern(name), route, by: spec.by, quotas })
    }
}

#[async_trait]
impl Filter for RateLimit {
    async fn on_request(&self, exchange: &mut Exchange<'_>) -> Result<Decision, Rejection> {
        let role = exchange.identity.as_ref().map(|identity| identity.role);
        if self.policies.is_empty() {
            return Ok(Decision::Continue);
        }
        let verdict = self.buckets.decide_all(exchange.now, self.checks(exchange)).ok_or(Rejection::Internal)?;
        self.report(&verdict);
        let Some(policy) = self.policies.get(verdict.tightest) else { return Err(Rejection::Internal) };
        let standing = Standing::of(*policy.quotas.get(role), &verdict.decision);
        let announcement = self.announcements.get(role);
        announcement.write(verdict.tightest, standing, exchange.unix_seconds, &mut exchange.edits);
        exchange.limit = Some(LimitState { policy: policy.name.clone(), remaining: standing.remaining });
        match verdict.decision.outcome {
            Outcome::Allowed(_) => Ok(Decision::Continue),
            Outcome::Denied(wait) => Err(Rejection::RateLimited(wait.max(Duration::from_micros(1)))),
        }
    }
}

#[cfg(test)]
mod tests;
