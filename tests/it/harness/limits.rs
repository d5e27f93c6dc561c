//! What cases about limits do with a gateway: spend a bucket, run the `limits` verbs, read what its metrics say of
//! decisions.

use std::process::Output;

use super::{Gateway, Got};

/// Runs a `limits` verb.
pub fn limits(gateway: &Gateway, verb: &[&str]) -> Output {
    gateway.run_verb(&[&["limits"], verb].concat())
}

/// A `limits` verb that must do its work; what it said.
pub fn operate(gateway: &Gateway, verb: &[&str]) -> String {
    let output = limits(gateway, verb);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{verb:?}: {said}");
    said
}

/// How many requests, one after the other, pass before a rate limit refuses one.
pub async fn passes_before_429(ask: impl AsyncFn() -> Got) -> usize {
    for passed in 0..50 {
        let got = ask().await;
        if got.status == 429 {
            assert_eq!(got.code(), "RATE_LIMIT_EXCEEDED");
            return passed;
        }
        got.expect(200);
    }
    panic!("50 requests passed");
}

/// How many requests a policy decided so.
pub async fn decisions(gateway: &Gateway, policy: &str, decision: &str) -> f64 {
    let labels = [("policy", policy), ("decision", decision)];
    gateway.metric("gateway_rate_limit_decisions_total", &labels).await.unwrap_or(0.0)
}
