//! Waiting for a condition. The only place of the tests with a sleep: what happens in another process cannot be
//! awaited, only looked at again.

use std::future::Future;
use std::time::Duration;

/// Long enough for a debug build on a busy machine; never reached when things work.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long to leave the other process alone between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `probe` finds something, and fails with `what` when it has not within `deadline`.
pub async fn until<T, F, Fut>(what: &str, deadline: Duration, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let look = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(deadline, look).await {
        Ok(found) => found,
        Err(_) => panic!("waited {deadline:?} in vain for: {what}"),
    }
}

/// Awaits something that must come within [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for: {what}"),
    }
}

#[tokio::test]
async fn a_condition_is_looked_at_until_it_holds() {
    let mut looks = 0;
    let found = until("three looks", PATIENCE, || {
        looks += 1;
        let result = (looks == 3).then_some(looks);
        async move { result }
    })
    .await;
    assert_eq!(found, 3);
}

#[tokio::test]
#[should_panic(expected = "in vain for: nothing")]
async fn a_deadline_ends_the_wait() {
    until("nothing", Duration::from_millis(30), || async { None::<()> }).await;
}
