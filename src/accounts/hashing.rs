//! Password hashes on a bounded pool, away from the proxy's threads.
//!
//! So many at once, so many waiting; one more is refused with an honest `Retry-After`. A caller that leaves gives
//! its place in the queue free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use super::hash_threads::HashThreads;
use super::password::canonical;
use super::stored_hash::{Verdict, Work, bcrypt_cost, judge};
use crate::clock::Clock;
use crate::model::rejection::Rejection;

/// What one hash costs. The default is OWASP's second choice for Argon2id: 19 MiB, 2 passes, 1 lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl HashCost {
    /// Memory times passes: what time it takes goes with this.
    pub(super) fn work_kib(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }
}

impl Default for HashCost {
    fn default() -> Self {
        HashCost { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

/// Computes and checks password hashes.
pub struct HashPool {
    argon2: Argon2<'static>,
    cost: HashCost,
    /// The greatest cost among the bcrypt hashes that are left; 0: none.
    bcrypt_cost: AtomicU32,
    threads: HashThreads,
    /// Running and waiting.
    places: Semaphore,
    /// Running.
    cores: Arc<Semaphore>,
    parallel: u64,
    capacity: u64,
    /// How long the latest hash took.
    latest_micros: Arc<AtomicU64>,
    /// Checks done, so that tests can see that every log-in costs the same.
    checks: AtomicU64,
    clock: Clock,
}

impl HashPool {
    /// A pool of `parallel` hashes at once and `queue` waiting. The error says which cost is not possible.
    pub fn new(cost: HashCost, parallel: usize, queue: usize, clock: Clock) -> Result<HashPool, String> {
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None)
            .map_err(|error| format!("password hash cost {cost:?}: {error}"))?;
        let parallel = parallel.max(1);
        let capacity = parallel.saturating_add(queue).min(Semaphore::MAX_PERMITS);
        let threads = HashThreads::start(parallel).map_err(|error| format!("threads that hash passwords: {error}"))?;
        Ok(HashPool {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            cost,
            bcrypt_cost: AtomicU32::new(0),
            threads,
            places: Semaphore::new(capacity),
            cores: Arc::new(Semaphore::new(parallel)),
            parallel: u64::try_from(parallel).unwrap_or(u64::MAX),
            capacity: u64::try_from(capacity).unwrap_or(u64::MAX),
            latest_micros: Arc::new(AtomicU64::new(0)),
            checks: AtomicU64::new(0),
            clock,
        })
    }

    /// The PHC string of a password, with a fresh salt.
    pub async fn hash(&self, password: SecretString) -> Result<String, Rejection> {
        let argon2 = self.argon2.clone();
        self.run(move || {
            argon2.hash_password(canonical(&password).expose_secret().as_bytes()).map(|hash| hash.to_string())
        })
        .await?
        .map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            Rejection::Internal
        })
    }

    /// Whether `password` is the one of `hash`; without a hash it is not. Every failure costs the same, see
    /// `stored_hash`.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<Verdict, Rejection> {
        self.checks.fetch_add(1, Ordering::Relaxed);
        // One that nobody looked for yet, as when another process wrote it.
        let seen = hash.as_deref().and_then(bcrypt_cost).unwrap_or(0);
        let known = self.bcrypt_cost.fetch_max(seen, Ordering::Relaxed);
        let work = Work { argon2: self.cost, bcrypt: known.max(seen) };
        self.run(move || judge(&password, hash.as_deref(), work)).await
    }

    /// Tells the greatest cost among the bcrypt hashes that are left; 0: none.
    pub(super) fn set_bcrypt_cost(&self, cost: u32) {
        self.bcrypt_cost.store(cost, Ordering::Relaxed);
    }

    /// How many passwords were checked so far.
    pub fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Rejection> {
        let Ok(_place) = self.places.try_acquire() else { return Err(Rejection::Overloaded(self.full_queue())) };
        let core = self.cores.clone().acquire_owned().await.map_err(|_| Rejection::Internal)?;
        let (clock, latest) = (self.clock.clone(), self.latest_micros.clone());
        let timed = move || {
            // Moved in here: a caller that leaves does not free a core that is still computing.
            let _core = core;
            let started = clock.now();
            let result = work();
            let took = clock.now().since(started).as_micros();
            latest.store(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
            result
        };
        self.threads.run(timed).await.ok_or(Rejection::Internal)
    }

    /// How long a full queue takes to empty.
    fn full_queue(&self) -> Duration {
        let rounds = self.capacity.div_ceil(self.parallel);
        Duration::from_micros(self.latest_micros.load(Ordering::Relaxed).saturating_mul(rounds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap, so that tests are fast.
    pub(crate) const CHEAP: HashCost = HashCost { memory_kib: 8, passes: 1, lanes: 1 };

    fn pool(parallel: usize, queue: usize) -> HashPool {
        HashPool::new(CHEAP, parallel, queue, Clock::system()).unwrap()
    }

    #[tokio::test]
    async fn a_long_password_is_more_than_its_first_72_bytes() {
        let pool = pool(1, 4);
        let (long, other) = ("x".repeat(73), format!("{}y", "x".repeat(72)));
        let hash = pool.hash(long.clone().into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert_eq!(pool.verify(long.into(), Some(hash.clone())).await, Ok(Verdict::Right));
        assert_eq!(pool.verify(other.into(), Some(hash)).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn composed_and_decomposed_letters_are_one_password() {
        let pool = pool(1, 4);
        let hash = pool.hash("mot-de-passé-é".into()).await.unwrap();
        assert_eq!(pool.verify("mot-de-passe\u{301}-e\u{301}".into(), Some(hash)).await, Ok(Verdict::Right));
    }

    #[tokio::test]
    async fn a_damaged_hash_is_no_match() {
        assert_eq!(pool(1, 4).verify("whatever it is".into(), Some("nonsense".into())).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_leaves_no_trace() {
        let pool = Arc::new(pool(1, 1));
        let core = pool.cores.clone().acquire_owned().await.unwrap();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { pool.hash("long enough".into()).await })
            })
            .collect();
        while pool.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = pool.hash("long enough".into()).await;
        assert!(matches!(refused, Err(Rejection::Overloaded(_))), "{refused:?}");
        drop(core);
        for task in waiting {
            assert!(task.await.unwrap().is_ok());
        }
        assert_eq!(pool.places.available_permits(), 2);
    }
}
